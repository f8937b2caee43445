"""A stretch of a stream stored again, against a real NATS and ClickHouse: what is there is skipped, what is missing comes back."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import msgspec
import pytest
from typer.testing import CliRunner

from marketprism_consumer.cli import app
from marketprism_consumer.commands.common import moment
from marketprism_consumer.commands.replay import chosen, stretch_of
from marketprism_consumer.jetstream.stream_reader import StreamReader
from marketprism_consumer.operations.audit import audit
from marketprism_consumer.operations.replay import Stretch
from tests.pipelines import Pipeline, trade

NOW = 1_790_000_000.0


async def cli(pipeline: Pipeline, *arguments: str) -> tuple[int, Any]:
    result = await asyncio.to_thread(
        CliRunner().invoke, app, ["replay", *arguments, "-f", str(pipeline.file), "-o", "json"]
    )
    return result.exit_code, json.loads(result.stdout) if result.exit_code == 0 else result.output


async def publish(pipeline: Pipeline, count: int) -> None:
    for number in range(count):
        await pipeline.send("trade.okx.spot.BTC-USDT", msgspec.json.encode(trade(trade_id=str(number))))


async def holds(pipeline: Pipeline) -> bool:
    report = await audit(pipeline.settings, pipeline.store, pipeline.client, data_types=["trade"])
    return report.holds


async def test_what_was_lost_comes_back_and_nothing_else_does(pipeline: Pipeline) -> None:
    await publish(pipeline, 20)
    await pipeline.send("trade.okx.spot.BTC-USDT", b"not JSON")
    await pipeline.ingest()
    await pipeline.change("ALTER TABLE {hot}.trades DELETE WHERE _seq BETWEEN 5 AND 14")
    assert not await holds(pipeline)

    code, told = await cli(pipeline, "--from-seq", "1", "--type", "trade", "--dry-run")
    assert code == 0, told
    assert (code, told["tables"]["trades"]["stored"], await pipeline.count("trades")) == (0, 10, 10)
    code, told = await cli(pipeline, "--from-seq", "1", "--type", "trade")
    assert (code, told["dryRun"]) == (0, False)
    assert told["tables"]["trades"] | {"read": 21, "stored": 10, "storedBefore": 10} == told["tables"]["trades"]
    assert list(told["tables"]["trades"]["bad"].values()) == [1]
    assert await holds(pipeline)
    code, told = await cli(pipeline, "--from-time", "1h", "--subject", "trade.okx.>")
    assert (told["tables"]["trades"]["stored"], told["tables"]["trades"]["storedBefore"]) == (0, 20)
    assert await pipeline.count("trades") == 20


async def test_what_is_in_cold_is_there(pipeline: Pipeline) -> None:
    await publish(pipeline, 4)
    await pipeline.ingest()
    await pipeline.change("INSERT INTO {cold}.trades SELECT * FROM {hot}.trades WHERE _seq <= 2")
    await pipeline.change("ALTER TABLE {hot}.trades DELETE WHERE _seq <= 3")
    _, told = await cli(pipeline, "--from-seq", "1", "--type", "trade")
    assert (told["tables"]["trades"]["stored"], told["tables"]["trades"]["storedBefore"]) == (1, 3)


async def test_a_stretch_ends_where_it_is_told_to(pipeline: Pipeline) -> None:
    await publish(pipeline, 10)
    await pipeline.ingest()
    await pipeline.change("TRUNCATE TABLE {hot}.trades")
    _, told = await cli(pipeline, "--type", "trade", "--from-seq", "3", "--until", "5")
    assert told["tables"]["trades"]["stored"] == 3
    assert await pipeline.clickhouse.query(f"SELECT _seq FROM {pipeline.hot}.trades ORDER BY _seq") == [
        (3,),
        (4,),
        (5,),
    ]
    _, told = await cli(pipeline, "--type", "trade", "--from-time", "1h", "--until", "30m")
    assert told["tables"]["trades"]["read"] == 0
    _, told = await cli(pipeline, "--subject", "*.okx.>", "--from-time", "1h")
    assert told["tables"]["trades"]["stored"] == 7


async def test_what_ingest_has_in_hand_is_left_to_it(pipeline: Pipeline) -> None:
    await publish(pipeline, 3)
    await pipeline.ingest()
    await publish(pipeline, 3)
    _, told = await cli(pipeline, "--type", "trade", "--from-seq", "1")
    assert told["tables"]["trades"] | {"read": 3, "stored": 0} == told["tables"]["trades"]
    assert await pipeline.count("trades") == 3


async def test_a_stream_of_another_name_is_read_where_ingest_reads_it(pipeline: Pipeline) -> None:
    stream = pipeline.client.jetstream()
    await stream.delete_stream("MARKET_DATA")
    await stream.add_stream(name="ELSEWHERE", subjects=["trade.>", "lsr_top_position.>"])
    try:
        await pipeline.begin()
        await publish(pipeline, 3)
        await pipeline.ingest()
        await pipeline.change("TRUNCATE TABLE {hot}.trades")
        code, told = await cli(pipeline, "--type", "trade", "--from-seq", "1")
        assert (code, told["tables"]["trades"]["stored"]) == (0, 3)
        assert await holds(pipeline)
    finally:
        await stream.delete_stream("ELSEWHERE")


async def test_before_ingest_has_ever_run_there_is_nothing_to_replay(pipeline: Pipeline) -> None:
    await publish(pipeline, 1)
    await pipeline.forget_records()
    code, said = await cli(pipeline, "--type", "trade", "--from-seq", "1")
    assert (code, "it stores everything" in said) == (1, True)


async def test_one_replay_of_a_data_type_at_a_time(pipeline: Pipeline) -> None:
    await publish(pipeline, 1)
    await pipeline.ingest()
    async with StreamReader(pipeline.broker, "MARKET_DATA", ["trade.>"], name="marketprism-replay-trade"):
        code, said = await cli(pipeline, "--type", "trade", "--from-seq", "1")
    assert (code, "another marketprism-replay-trade" in said) == (1, True)


# --- what is asked for ------------------------------------------------------------------------------------------------


def test_a_time_is_utc_unless_it_says_otherwise_and_a_duration_is_before_now() -> None:
    assert moment("2026-11-23T07:00", NOW) == 1_795_417_200_000_000
    assert moment("2026-11-23 08:00:00+01:00", NOW) == 1_795_417_200_000_000
    assert moment("2h", NOW) == int((NOW - 7200) * 1e6)
    with pytest.raises(ValueError, match="'soon' is neither a time"):
        moment("soon", NOW)


def test_a_stretch_begins_at_one_thing() -> None:
    assert stretch_of(7, "", "9", NOW) == Stretch(first=7, last=9)
    assert stretch_of(0, "1h", "30m", NOW) == Stretch(since=int((NOW - 3600) * 1e6), until=int((NOW - 1800) * 1e6))
    for seq, at in ((0, ""), (1, "1h")):
        with pytest.raises(ValueError, match="exactly one"):
            stretch_of(seq, at, "", NOW)


async def test_type_and_subject_choose_what_is_replayed(pipeline: Pipeline) -> None:
    settings = pipeline.settings
    assert chosen(settings, list(settings.data_types), "orderbook.>") == ["orderbook"]
    assert chosen(settings, list(settings.data_types), "") == list(settings.data_types)
    with pytest.raises(ValueError, match="fit none"):
        chosen(settings, ["trade"], "orderbook.>")


async def test_a_sequence_means_one_stream(pipeline: Pipeline) -> None:
    code, said = await cli(pipeline, "--from-seq", "1")
    assert (code, "each stream has sequences of its own" in said) == (2, True)
