"""The audit against a real NATS and ClickHouse: it proves a clean pipeline, and finds what was changed by hand."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime
from itertools import islice

import msgspec
import pytest
from typer.testing import CliRunner

from marketprism_consumer.cli import app
from marketprism_consumer.feed import FeedMessage, messages
from marketprism_consumer.operations.audit import AuditReport, audit
from tests.pipelines import DataType, Pipeline, trade

TYPES = (DataType.TRADE, DataType.ORDERBOOK, DataType.LSR_TOP_POSITION)


def feed(count: int, seed: int = 1, bad: float = 0.05) -> list[FeedMessage]:
    made = messages(seed, types=TYPES, bad_ratio=bad, book_levels=3, start=datetime.now(UTC), rate=200_000)
    return list(islice(made, count))


async def check(pipeline: Pipeline, *, deep: bool = True, types: tuple[DataType, ...] = TYPES) -> AuditReport:
    return await audit(pipeline.settings, pipeline.store, pipeline.client, data_types=types, deep=deep)


async def cli(*arguments: str) -> tuple[int, str]:
    result = await asyncio.to_thread(CliRunner().invoke, app, list(arguments))
    return result.exit_code, result.output


async def seqs(pipeline: Pipeline, table: str, count: int) -> list[int]:
    rows = await pipeline.clickhouse.query(f"SELECT _seq FROM {pipeline.hot}.{table} ORDER BY _seq LIMIT {count}")
    return [row[0] for row in rows]


async def test_from_pending_to_proven_to_everything_that_can_be_found(pipeline: Pipeline) -> None:
    sent = feed(1_500)
    await pipeline.feed(sent)
    trades = [m for m in sent if m.data_type == "trade"]

    before = await check(pipeline)
    assert before.holds
    assert before["trade"].held == before["trade"].pending == len(trades)
    assert "durable consumer is not there yet" in before["trade"].notes[0]
    assert before["trade"].rows == before["trade"].dead_letters == 0

    await pipeline.ingest()
    report = await check(pipeline)
    assert report.holds, [one.findings for one in report.types]
    clean = report["trade"]
    bad = sum(m.bad_kind is not None for m in trades)
    assert (clean.held, clean.rows, clean.dead_letters, clean.pending) == (len(trades), len(trades) - bad, bad, 0)
    assert clean.compared == clean.rows
    assert sum(one.held for one in report.types) == sum(s.last for s in report.streams)
    assert str(clean).startswith(f"MARKET_DATA trade 1..{report.streams[0].last}: held {len(trades):,} = ")

    code, output = await cli("audit", "-f", str(pipeline.file), "--deep")
    assert code == 0, output
    assert output.splitlines()[-1].startswith("PROVEN (every value compared, hot and cold")

    # Doubled: the same row once more.
    doubled, removed, priced, timed, tiered = await seqs(pipeline, "trades", 5)
    await pipeline.change(f"INSERT INTO {{hot}}.trades SELECT * FROM {{hot}}.trades WHERE _seq = {doubled}")
    # Removed: its message is acknowledged and has neither row nor dead letter.
    await pipeline.change(f"ALTER TABLE {{hot}}.trades DELETE WHERE _seq = {removed}")
    # Altered: a price by its last digit, a time by a microsecond, one level of a book.
    await pipeline.change(
        f"ALTER TABLE {{hot}}.trades UPDATE price = price + toDecimal128('0.000000000000000001', 18) WHERE _seq = {priced}"
    )
    await pipeline.change(
        f"ALTER TABLE {{hot}}.trades UPDATE trade_time = addMicroseconds(trade_time, 1) WHERE _seq = {timed}"
    )
    (book,) = await seqs(pipeline, "orderbooks", 1)
    await pipeline.change(
        "ALTER TABLE {hot}.orderbooks UPDATE bid_quantities ="
        f" arrayMap((q, i) -> if(i = 2, q + 1, q), bid_quantities, arrayEnumerate(bid_quantities)) WHERE _seq = {book}"
    )
    # In both tiers: tiering was between its copy and its delete.
    await pipeline.change(f"INSERT INTO {{cold}}.trades SELECT * FROM {{hot}}.trades WHERE _seq = {tiered}")

    found = await check(pipeline)
    assert not found.holds
    one = found["trade"]
    assert one.missing.ranges == [(removed, removed)]
    assert (one.double, [(tier, seq, n) for _, tier, seq, n in one.doubles]) == (1, [("hot", doubled, 2)])
    assert one.in_both_tiers == 1
    assert (one.altered, [(a.seq, a.column) for a in one.alterations]) == (
        2,
        [(priced, "price"), (timed, "trade_time")],
    )
    assert [(a.seq, a.column) for a in found["orderbook"].alterations] == [(book, "bid_quantities[2]")]
    assert found["lsr_top_position"].holds
    assert one.held == one.rows + one.dead_letters + one.pending + one.missing.count

    code, output = await cli("audit", "-f", str(pipeline.file), "--deep", "--type", "trade", "-o", "json")
    told = json.loads(output.splitlines()[-1])
    assert (code, told["holds"], [t["dataType"] for t in told["types"]]) == (1, False, ["trade"])
    assert told["types"][0]["missing"] == {"count": 1, "ranges": [[removed, removed]]}
    code, output = await cli("audit", "-f", str(pipeline.file), "--hot-only")
    assert code == 1
    assert f"finding: missing 1: {removed}" in output
    assert "NOT PROVEN (by sequence numbers, hot, " in output


async def test_tiering_and_expiry_lose_nothing_and_what_was_never_read_is_told(pipeline: Pipeline) -> None:
    await pipeline.feed(feed(300, bad=0))
    await pipeline.ingest()
    await pipeline.change("INSERT INTO {cold}.trades SELECT * FROM {hot}.trades WHERE _seq <= 100")
    await pipeline.change("ALTER TABLE {hot}.trades DELETE WHERE _seq <= 100")
    js = pipeline.client.jetstream()
    await js.purge_stream("MARKET_DATA", seq=51)
    report = await check(pipeline)
    assert report.holds, [one.findings for one in report.types]
    assert report["trade"].expired > 0
    assert report["trade"].in_both_tiers == 0
    assert report["trade"].first == 51

    # More comes, and a part of it is gone before anybody read it.
    last = report.streams[0].last
    await pipeline.feed(feed(100, seed=2, bad=0))
    await js.purge_stream("MARKET_DATA", seq=last + 11)
    await pipeline.ingest()
    report = await check(pipeline, deep=False)
    assert report["trade"].holds
    (stream,) = (one for one in report.streams if one.stream == "MARKET_DATA")
    assert stream.lost is not None
    assert (stream.lost.count, stream.lost.ranges) == (10, [(last + 1, last + 10)])
    assert not report.holds

    # A single message deleted from the middle: its row is an expired one, not a stray.
    await js.delete_msg("MARKET_DATA", last + 50)
    again = await check(pipeline, deep=False)
    assert sum(one.expired for one in again.types) == sum(one.expired for one in report.types) + 1
    assert all(one.holds for one in again.types)


async def test_a_stream_made_again_is_another_one(pipeline: Pipeline) -> None:
    await pipeline.feed(feed(50, bad=0))
    await pipeline.ingest()
    stored = await pipeline.count("trades")
    await pipeline.client.jetstream().delete_stream("MARKET_DATA")
    await pipeline.make_streams()
    await pipeline.feed(feed(60, seed=3, bad=0))
    await pipeline.ingest()
    one = (await check(pipeline))["trade"]
    assert one.holds, one.findings
    assert list(one.earlier_streams.values()) == [stored]
    await pipeline.change(
        f"INSERT INTO {{hot}}.trades SELECT * FROM {{hot}}.trades WHERE _stream != '{one.identity}' ORDER BY _seq LIMIT 1"
    )
    assert (await check(pipeline, deep=False))["trade"].double == 1


async def test_a_row_that_no_message_explains_and_a_good_message_among_the_dead(pipeline: Pipeline) -> None:
    good = await pipeline.send("trade.a.spot.B", msgspec.json.encode(trade()))
    other = await pipeline.send("lsr_top_position.a.spot.B", b"{}")
    bad = await pipeline.send("trade.a.spot.B", b"not JSON")
    await pipeline.ingest()
    assert (await check(pipeline)).holds
    # A trade's row under the sequence of another type's message, and one for a message that can't be a row.
    for seq in (other, bad):
        await pipeline.change(
            "INSERT INTO {hot}.trades (timestamp, exchange, market_type, symbol, trade_id, price, quantity, side, trade_time,"
            " _stream, _seq) SELECT timestamp, exchange, market_type, symbol, trade_id, price, quantity, side, trade_time,"
            f" _stream, {seq} FROM {{hot}}.trades WHERE _seq = {good}"
        )
    one = (await check(pipeline))["trade"]
    assert one.stray.ranges == [(other, other)]
    assert one.row_and_dead_letter.ranges == [(bad, bad)]
    assert [(a.seq, a.column) for a in one.alterations] == [(bad, "")]


async def test_purged_dead_letters_are_told_from_lost_messages(pipeline: Pipeline) -> None:
    for _ in range(3):
        await pipeline.send("trade.a.spot.B", b"not JSON")
    await pipeline.ingest()
    code, output = await cli("dlq", "purge", "-f", str(pipeline.file), "--yes")
    assert (code, output.strip()) == (0, "deleted 3")
    one = (await check(pipeline))["trade"]
    assert one.holds
    assert (one.held, one.purged) == (3, 3)


@pytest.mark.parametrize("variable", ["MARKETPRISM_NATS_URL", "CLICKHOUSE_HTTP_URL"])
async def test_a_server_that_does_not_answer_is_exit_4(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    monkeypatch.setattr("marketprism_consumer.commands.servers.CONNECT_WAIT", 0.2)
    monkeypatch.setenv(variable, f"{'nats' if 'NATS' in variable else 'http'}://127.0.0.1:9")
    code, output = await cli("audit", "-f", str(pipeline.file))
    assert code == 4, output


async def test_a_stream_without_a_message_has_lost_none(pipeline: Pipeline) -> None:
    report = await check(pipeline)
    assert [one.deleted_unread.count for one in report.streams] == [0, 0]
