"""`marketprism status`: the numbers of a running pipeline, and of one that stands still."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from marketprism_consumer.commands.exits import Exit
from marketprism_consumer.commands.status import age
from marketprism_consumer.operations.history import last_hour
from marketprism_consumer.operations.status import status
from marketprism_consumer.tiering.job import job_of
from marketprism_consumer.tiering.run import Migration
from marketprism_consumer.worker import Worker
from tests.operations.cli import alone, cli, cli_json
from tests.pipelines import Pipeline, trade
from tests.waiting import PATIENCE, free_port, until

SUBJECT = "trade.binance_spot.spot.BTC-USDT"


async def send(pipeline: Pipeline, count: int, first: int = 0) -> None:
    for number in range(first, first + count):
        await pipeline.send(SUBJECT, msgspec.json.encode(trade(trade_id=str(number))))


async def of_trades(pipeline: Pipeline) -> dict[str, object]:
    _, told = await cli_json(pipeline, "status")
    found: dict[str, object] = next(one for one in told["types"] if one["dataType"] == "trade")
    return found


async def test_what_waits_and_what_was_stored(pipeline: Pipeline) -> None:
    await send(pipeline, 30)
    found = await of_trades(pipeline)
    assert (found["state"], found["lag"], found["age"]) == ("nobody reads", 30, None)
    await pipeline.send(SUBJECT, b"{")
    await pipeline.ingest()
    await send(pipeline, 7, first=100)
    found = await of_trades(pipeline)
    assert (found["state"], found["lag"], found["setAside"], found["deadLetters"]) == ("nobody reads", 7, 0, 1)
    assert (found["hot"]["rows"], found["rate"]) == (30, 0.5)  # type: ignore[index]
    assert 0 <= found["age"] < 60  # type: ignore[operator]
    code, text = await cli(pipeline, "status")
    assert (code, "nobody reads" in text, "no migration yet" in text) == (1, True, True)


@pytest.mark.parametrize("command", [("status",), ("audit",), ("validate", "--since", "1h")])
async def test_a_replica_that_is_away_is_passed_over(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...]
) -> None:
    """By what looks once and gives up; `export` and `query` do so themselves."""
    await send(pipeline, 3)
    await pipeline.ingest()
    expected, _ = await cli(pipeline, *command)
    alive = pipeline.environ["CLICKHOUSE_HTTP_URL"]
    monkeypatch.setenv("CLICKHOUSE_HTTP_URL", f"http://127.0.0.1:{free_port()},{alive}")
    code, text = await cli(pipeline, *command)
    assert (code, "MP4001" in text) == (expected, False), text
    assert code in (Exit.OK, Exit.FINDINGS)


async def test_the_last_hour_by_minute(pipeline: Pipeline) -> None:
    earlier = int(time.time() * 1000) - 30 * 60_000
    for number in range(18):
        sent = trade(trade_id=str(number), ts_ms=earlier, trade_ts_ms=earlier)
        await pipeline.send(SUBJECT, msgspec.json.encode(sent))
    await pipeline.ingest()
    for when, which in (("timestamp + INTERVAL 4 SECOND", "< 12"), ("timestamp - INTERVAL 1 HOUR", ">= 12")):
        await pipeline.change(
            "ALTER TABLE {hot}.trades UPDATE created_at = "
            + when
            + f" WHERE toUInt8(trade_id) {which} SETTINGS mutations_sync = 2"
        )
    await send(pipeline, 30, first=100)
    await pipeline.ingest()
    found = await status(pipeline.settings, pipeline.broker, pipeline.store, pipeline.store)
    hours = await last_hour(pipeline.settings, pipeline.store, found)
    assert list(hours) == ["trade"], "of what has rows"
    hour = hours["trade"]
    assert (hour.rates[-1], sum(hour.rates)) == (0.5, pytest.approx(0.7)), "what is older than an hour is not counted"
    (then,) = (at for at, rate in enumerate(hour.rates[:-1]) if rate)
    assert (then in (29, 30), hour.rates[then], hour.delays[then]) == (True, pytest.approx(0.2), 4.0)
    assert "last hour" not in (await cli(pipeline, "status"))[1], "it is no terminal"
    code, text = await cli(pipeline, "status", "--history", "--output", "json")
    assert (code, "--history" in text) == (2, True)
    text = await asyncio.to_thread(in_a_terminal, pipeline, "latin-1")
    (line,) = (line for line in text.splitlines() if line.startswith("trade ") and "0.5" in line and "#" in line)
    assert line.isascii()
    assert "█" in await asyncio.to_thread(in_a_terminal, pipeline, "utf-8")


def in_a_terminal(pipeline: Pipeline, encoding: str) -> str:
    """What `marketprism status` shows in one that has this encoding."""
    master, slave = pty.openpty()
    command = [sys.executable, "-m", "marketprism_consumer.cli", "status", "-f", str(pipeline.file)]
    environ = {**os.environ, **pipeline.environ, "PYTHONIOENCODING": encoding, "COLUMNS": "100"}
    with (
        os.fdopen(master, "rb", buffering=0) as screen,
        subprocess.Popen(command, env=environ, stdout=slave, stdin=subprocess.DEVNULL),
    ):
        os.close(slave)
        shown = b""
        with suppress(OSError):  # Linux's word for the end of a terminal
            while part := screen.read(65536):
                shown += part
    return shown.decode(encoding)


async def test_while_it_runs_it_is_read(pipeline: Pipeline) -> None:
    worker = Worker(pipeline.settings, list(pipeline.settings.data_types), pipeline.environ)
    running = asyncio.create_task(worker.run())

    async def read() -> bool:
        return not worker.not_ready() and (await cli(pipeline, "status"))[0] == 0

    try:
        await until(read, "status says that all is well")
    finally:
        worker.stop()
        await running


async def test_both_tiers_and_the_last_migration(pipeline: Pipeline) -> None:
    await send(pipeline, 20)
    await pipeline.ingest()
    # Of blocks that may still be sent again the parts stay, with no rows to be seen.
    await pipeline.change(
        "ALTER TABLE {hot}.trades UPDATE created_at = created_at - INTERVAL 2 MINUTE WHERE 1 SETTINGS mutations_sync = 2"
    )
    job = replace(job_of(pipeline.settings, None), older_than=0.0, tables=("trades",))
    done = await Migration(job).run()
    assert done.ok, done.failures
    _, told = await cli_json(pipeline, "status")
    found = next(one for one in told["types"] if one["dataType"] == "trade")
    assert (found["hot"]["rows"], found["cold"]["rows"], found["rate"], found["age"]) == (0, 20, 0.0, None)
    assert (told["lastMigration"]["table"], told["lastMigration"]["rows"]) == ("trades", 20)
    assert "last migration" in (await cli(pipeline, "status"))[1]


async def test_the_last_validation(pipeline: Pipeline) -> None:
    assert "no validation yet" in (await cli(pipeline, "status"))[1]
    await send(pipeline, 20)
    await pipeline.ingest()
    code, text = await alone(pipeline, "validate", "--symbol", "BTC-USDT")
    assert code == 0, text
    code, text = await cli(pipeline, "status")
    assert "FINE: nothing wrong in 20 rows" in text
    assert "(only BTC-USDT)" in text
    _, told = await cli_json(pipeline, "status")
    found = told["lastValidation"]
    assert (found["ok"], found["rows"], found["scope"]) == (True, 20, "BTC-USDT")


async def test_a_verdict_that_cannot_be_kept_is_a_verdict_all_the_same(pipeline: Pipeline) -> None:
    await pipeline.change("CREATE TABLE {hot}._validations (at UInt8) ENGINE = MergeTree ORDER BY at")
    await send(pipeline, 20)
    await pipeline.ingest()
    code, text = await alone(pipeline, "validate", "--type", "trade")
    assert (code, "FINE" in text, "will not show this verdict" in text) == (0, True, True), text


async def test_a_missing_stream_is_told(pipeline: Pipeline) -> None:
    await pipeline.client.jetstream().delete_stream("ORDERBOOK_SNAP")
    code, told = await cli_json(pipeline, "status")
    assert (code, told["ok"]) == (1, False)
    assert {one["dataType"] for one in told["types"] if one["state"] == "no stream"} == {"orderbook"}


async def test_watch_goes_on_until_it_is_ended(pipeline: Pipeline) -> None:
    command = [sys.executable, "-m", "marketprism_consumer.cli", "status", "-f", str(pipeline.file)]
    with subprocess.Popen(
        [*command, "--watch", "--every", "100ms", "--output", "json"],
        env={**os.environ, **pipeline.environ},
        stdout=subprocess.PIPE,
        text=True,
    ) as child:
        try:
            assert child.stdout is not None
            for _ in range(3):
                line = await asyncio.to_thread(child.stdout.readline)
                assert len(json.loads(line)["types"]) == 3
            child.send_signal(signal.SIGINT)
            assert await asyncio.to_thread(child.wait, PATIENCE) in (0, 130)
        finally:
            child.kill()


async def test_usage(pipeline: Pipeline, tmp_path: Path) -> None:
    assert (await cli(pipeline, "status", "--every", "often"))[0] == 2
    file = tmp_path / "wrong.yaml"
    file.write_text("kind: StoragePipeline")
    pipeline.file = file
    assert (await cli(pipeline, "status"))[0] == 2


def test_ages_are_short() -> None:
    assert [age(one) for one in (0.04, 119, 180, 7200, 200_000)] == ["0.0 s", "119.0 s", "3 min", "2 h", "2 d"]
