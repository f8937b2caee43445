"""`marketprism lanes`: what a record says, for people and programs, and a record begun again."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import msgspec
import pytest
from msgspec.structs import replace
from typer.testing import CliRunner

from marketprism_consumer.cli import app
from marketprism_consumer.commands.lanes import lines
from marketprism_consumer.ingest.record import Claim, Cut, Record, dump
from marketprism_consumer.operations import lanes
from marketprism_consumer.operations.audit import audit
from marketprism_consumer.operations.lanes import FoundLane
from tests.operations.cli import alone, cli, cli_json
from tests.pipelines import Pipeline, trade
from tests.waiting import PATIENCE, until

SUBJECT = "trade.binance_spot.spot.BTC-USDT"


async def send(pipeline: Pipeline, count: int) -> None:
    for number in range(count):
        await pipeline.send(SUBJECT, msgspec.json.encode(trade(trade_id=str(number))))


async def write(pipeline: Pipeline, *claims: Claim, done: int = 0, begin: int = 0) -> FoundLane:
    """A record of trades by hand."""
    found = await pipeline.lane()
    assert found.id
    record = replace(found.id.empty_record(), done=done, begin=begin, claims=claims)
    await pipeline.records.write(found.key, dump(record), found.revision)
    return await pipeline.lane()


async def of_trades(pipeline: Pipeline) -> dict[str, object]:
    _, told = await cli_json(pipeline, "lanes", "list")
    return next(one for one in told["lanes"] if one["dataType"] == "trade")  # type: ignore[no-any-return]


@contextmanager
def consumer(pipeline: Pipeline) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-m", "marketprism_consumer.cli", "ingest", "-f", str(pipeline.file), "--port", "0"]
    with subprocess.Popen(command, env={**os.environ, **pipeline.environ}, stderr=subprocess.DEVNULL) as child:
        try:
            yield child
        finally:
            child.terminate()
            try:
                child.wait(PATIENCE)
            finally:
                child.kill()


async def test_before_and_after_a_consumer(pipeline: Pipeline) -> None:
    await send(pipeline, 9)
    found = await of_trades(pipeline)
    assert (found["done"], found["end"], found["lag"], found["tail"], found["problem"]) == (0, 0, 9, "", "")
    await pipeline.ingest()
    await send(pipeline, 2)
    found = await of_trades(pipeline)
    assert (found["lag"], found["setAside"], found["tail"]) == (2, 0, "")
    code, text = await cli(pipeline, "lanes", "list")
    assert (code, "nobody" in text) == (0, True)
    await pipeline.forget_records()
    code, text = await cli(pipeline, "lanes", "list")
    assert (code, "no record yet" in text) == (1, True)
    assert (await cli(pipeline, "lanes", "show", "trade"))[0] == 1
    assert (await cli(pipeline, "lanes", "show", "liquidation"))[0] == 2
    await pipeline.client.jetstream().delete_stream("MARKET_DATA")
    assert "no stream holds trade.>" in (await cli(pipeline, "lanes", "show", "trade"))[1]


async def test_what_waits_is_counted_by_stretches(pipeline: Pipeline) -> None:
    await send(pipeline, 100)
    cut = Cut(60, 1, 2_000_000_000, 1, 1, "t")
    lane = await write(
        pipeline,
        Claim("a", 10, 30, 20, after=2_000_000_000),
        Claim("b", 30, 50, 45, owner="me"),
        Claim("c", 50, 60, 50, cut=cut),
        Claim("d", 60, None, 90, owner="you"),
        done=10,
    )
    assert await lanes.backlog(pipeline.broker, lane) == lanes.Backlog(lag=5 + 10, set_aside=10 + 10)
    found = await of_trades(pipeline)
    assert (found["done"], found["end"], found["lag"], found["setAside"], found["tail"]) == (20, 90, 15, 20, "you")
    assert (found["inHand"], found["inDoubt"], found["unfinished"]) == (2, 2, 0)
    # Nothing is stored: what the record calls done is missing, and the rest pending.
    (one,) = (await audit(pipeline.settings, pipeline.store, pipeline.client, data_types=["trade"])).types
    assert (one.missing.count, one.pending) == (10 + 10 + 15 + 30, 35)
    code, text = await cli(pipeline, "lanes", "show", "trade")
    assert code == 0
    assert "11…30  done to 20, nobody has it  in doubt until 2033-05-18 03:33:20" in text
    assert "51…60  done to 50, nobody has it  cut to 60, refused after 2033-05-18 03:33:20, epoch 1" in text
    assert "61…  done to 90, owner you" in text
    _, told = await cli_json(pipeline, "lanes", "show", "trade")
    assert [claim["id"] for claim in told["record"]["claims"]] == ["a", "b", "c", "d"]


async def test_only_an_owner_that_is_heard_reads(pipeline: Pipeline) -> None:
    await write(pipeline, Claim("t", 0, None, 0, owner="gone"))
    code, told = await cli_json(pipeline, "status")
    assert (code, {one["state"] for one in told["types"]}) == (1, {"nobody reads"})
    with consumer(pipeline):

        async def read() -> bool:
            return (await cli(pipeline, "status"))[0] == 0

        await until(read, "another has taken over")
        assert (await of_trades(pipeline))["tail"] != "gone"


async def test_a_reset_says_what_it_will_do_and_asks(pipeline: Pipeline) -> None:
    await send(pipeline, 20)
    before = await write(pipeline, Claim("t", 10, None, 12, owner="me", cut=Cut(14, 1, 1, 0, 1, "t")), done=10)

    async def asked(to: int) -> str:
        arguments = ["lanes", "reset", "trade", "--to", str(to), "-f", str(pipeline.file)]
        result = await asyncio.to_thread(CliRunner().invoke, app, arguments, input="n\n")
        assert result.exit_code == 1
        return result.output

    text = await asked(5)
    assert "MARKET_DATA holds 15 messages behind 5" in text
    assert "begun after 60 s" in text
    assert "rows that are stored are not sent again" in text
    assert "GIVEN UP" not in text
    text = await asked(18)
    assert "2 before it are in hand and not known to be stored: they are GIVEN UP" in text
    assert "4 before it were never read: they are SKIPPED" in text
    assert "it is beyond" not in text
    assert "--to 21 is beyond it" in await asked(21)
    assert await pipeline.lane() == before


async def test_what_was_lost_is_stored_again_under_running_consumers(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MARKETPRISM_TEST_VALID", "3")
    await send(pipeline, 20)
    await pipeline.ingest()
    await pipeline.change("ALTER TABLE {hot}.trades DELETE WHERE _seq BETWEEN 5 AND 14")
    with consumer(pipeline):

        async def reads() -> bool:
            return (await of_trades(pipeline))["tail"] != ""

        await until(reads, "the tail has an owner")
        code, text = await alone(pipeline, "lanes", "reset", "trade", "--to", "0", "--yes")
        assert code == 0, text
        await send(pipeline, 5)

        async def whole() -> bool:
            return await pipeline.count("trades") == 25

        await until(whole, "all is stored")
    report = await audit(pipeline.settings, pipeline.store, pipeline.client, data_types=["trade"])
    assert report.holds, report["trade"].findings


async def test_a_value_that_is_no_record_is_told_and_replaced(pipeline: Pipeline) -> None:
    await send(pipeline, 3)
    await pipeline.ingest()
    lane = await pipeline.lane()
    await pipeline.records.write(lane.key, b'{"version": 99}', lane.revision)
    for command in (("lanes", "list"), ("lanes", "show", "trade")):
        code, text = await cli(pipeline, *command)
        assert (code, "MP3010" in text, "lanes reset" in text) == (1, True, True)
    code, told = await cli_json(pipeline, "lanes", "reset", "trade", "--to", "0", "--yes")
    assert (code, told["inDoubt"], told["last"]) == (0, 3, 3)
    record = (await pipeline.lane()).record
    assert record
    assert [(claim.start, claim.end, claim.after) for claim in record.claims] == [(0, 3, told["after"])]


@pytest.mark.parametrize("moved", [False, True], ids=["no row anywhere", "rows in cold"])
async def test_the_record_of_a_table_that_is_made_again_is_left_to_ingest(pipeline: Pipeline, moved: bool) -> None:
    """Who wrote into the one that is gone may not know yet, and would send rows into this one."""
    await send(pipeline, 3)
    await pipeline.ingest()
    before = await pipeline.lane()
    if moved:
        await pipeline.change("INSERT INTO {cold}.trades SELECT * FROM {hot}.trades")
    await pipeline.change("DROP TABLE {hot}.trades SYNC")
    code, text = await cli(pipeline, "schema", "apply")
    assert code == 0, text
    found = await pipeline.lane()
    assert found.key != before.key
    assert found.record is None


def test_a_lane_without_a_tail_says_so() -> None:
    record = Record("S", "now", "trade.>", "t", begin=3, done=7, generation=2)
    *_, about, done, rest = lines(FoundLane("trade", "S", None, 5, record))
    assert "generation 2" in about
    assert done == "  done to 7, revision 5; what came to 3 was not wanted"
    assert rest == "  8…  nobody's"
