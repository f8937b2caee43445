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
from tests.pipelines import Pipeline, trade

TYPES = ("trade", "orderbook", "lsr_top_position")


def feed(count: int, seed: int = 1, bad: float = 0.05) -> list[FeedMessage]:
    made = messages(seed, types=TYPES, bad_ratio=bad, book_levels=3, start=datetime.now(UTC), rate=200_000)
    return list(islice(made, count))


async def check(pipeline: Pipeline, *, deep: bool = True, types: tuple[str, ...] = TYPES) -> AuditReport:
    return await audit(pipeline.settings, pipeline.store, pipeline.client, data_types=types, deep=deep)


async def cli(*arguments: str) -> tuple[int, str]:
    result = await asyncio.to_thread(CliRunner().invoke, app, list(arguments))
    return result.exit_code, result.output


async def seqs(pipeline: Pipeline, table: str, count: int, where: str = "true") -> list[int]:
    hot = f"{pipeline.hot}.{table}"
    rows = await pipeline.clickhouse.query(f"SELECT _seq FROM {hot} WHERE {where} ORDER BY _seq LIMIT {count}")
    assert len(rows) == count
    return [row[0] for row in rows]


def trades(sent: list[FeedMessage]) -> list[FeedMessage]:
    return [message for message in sent if message.data_type == "trade"]


@pytest.fixture
async def stored(pipeline: Pipeline) -> list[FeedMessage]:
    """What was published: good and bad messages of three types, and all of it has been through ingest."""
    sent = feed(600)
    await pipeline.feed(sent)
    await pipeline.ingest()
    return sent


async def test_what_nobody_has_read_yet_is_pending(pipeline: Pipeline) -> None:
    sent = feed(300)
    await pipeline.feed(sent)
    report = await check(pipeline)
    one = report["trade"]
    assert report.holds
    assert one.held == one.pending == len(trades(sent))
    assert one.rows == one.dead_letters == 0
    await pipeline.forget_records()
    report = await check(pipeline)
    assert report.holds
    assert report["trade"].pending == one.pending
    assert "no record of its lane yet" in report["trade"].notes[0]


async def test_a_record_that_can_not_be_read_proves_nothing(pipeline: Pipeline, stored: list[FeedMessage]) -> None:
    lane = await pipeline.lane()
    await pipeline.records.write(lane.key, b"{}", lane.revision)
    one = (await check(pipeline))["trade"]
    assert not one.holds
    assert "MP3010 RecordUnavailable" in one.findings[0]
    assert "lanes reset" in one.findings[0]


async def test_every_message_is_a_row_or_a_dead_letter_with_every_value_compared(
    pipeline: Pipeline, stored: list[FeedMessage]
) -> None:
    report = await check(pipeline)
    assert report.holds, [one.findings for one in report.types]
    one, held = report["trade"], len(trades(stored))
    bad = sum(message.bad_kind is not None for message in trades(stored))
    assert bad > 0
    assert (one.held, one.rows, one.dead_letters, one.pending) == (held, held - bad, bad, 0)
    assert one.compared == one.rows
    assert sum(one.held for one in report.types) == sum(one.last for one in report.streams)


async def test_the_command_says_that_it_is_proven(pipeline: Pipeline, stored: list[FeedMessage]) -> None:
    code, output = await cli("audit", "-f", str(pipeline.file), "--deep")
    assert code == 0, output
    assert output.splitlines()[-1].startswith("PROVEN (every value compared, hot and cold")
    (line,) = [line for line in output.splitlines() if line.startswith("MARKET_DATA trade ")]
    assert f": held {len(trades(stored)):,} = " in line


async def test_a_row_that_is_there_twice_is_found(pipeline: Pipeline, stored: list[FeedMessage]) -> None:
    (seq,) = await seqs(pipeline, "trades", 1)
    await pipeline.change(f"INSERT INTO {{hot}}.trades SELECT * FROM {{hot}}.trades WHERE _seq = {seq}")
    one = (await check(pipeline))["trade"]
    assert not one.holds
    assert (one.double, [(tier, seq, n) for _, tier, seq, n in one.doubles]) == (1, [("hot", seq, 2)])


async def test_an_acknowledged_message_without_row_or_dead_letter_is_missing(
    pipeline: Pipeline, stored: list[FeedMessage]
) -> None:
    (seq,) = await seqs(pipeline, "trades", 1)
    await pipeline.change(f"ALTER TABLE {{hot}}.trades DELETE WHERE _seq = {seq}")
    one = (await check(pipeline))["trade"]
    assert not one.holds
    assert one.missing.ranges == [(seq, seq)]
    assert one.held == one.rows + one.dead_letters + one.pending + one.missing.count


@pytest.mark.parametrize(
    ("data_type", "table", "where", "update", "column"),
    [
        ("trade", "trades", "true", "price = price + toDecimal128('0.000000000000000001', 18)", "price"),
        ("trade", "trades", "true", "trade_time = addMicroseconds(trade_time, 1)", "trade_time"),
        (
            "orderbook",
            "orderbooks",
            "length(bid_quantities) > 1",
            "bid_quantities = arrayMap((q, i) -> if(i = 2, q + 1, q), bid_quantities, arrayEnumerate(bid_quantities))",
            "bid_quantities[2]",
        ),
    ],
    ids=["the last digit of a price", "a microsecond", "one level of a book"],
)
async def test_a_value_that_is_altered_is_found(
    pipeline: Pipeline, stored: list[FeedMessage], data_type: str, table: str, where: str, update: str, column: str
) -> None:
    (seq,) = await seqs(pipeline, table, 1, where)
    await pipeline.change(f"ALTER TABLE {{hot}}.{table} UPDATE {update} WHERE _seq = {seq}")
    report = await check(pipeline)
    assert [(one.seq, one.column) for one in report[data_type].alterations] == [(seq, column)]
    assert [one.data_type for one in report.types if not one.holds] == [data_type]


async def test_a_row_between_its_copy_and_its_deletion_is_in_both_tiers_and_not_double(
    pipeline: Pipeline, stored: list[FeedMessage]
) -> None:
    (seq,) = await seqs(pipeline, "trades", 1)
    await pipeline.change(f"INSERT INTO {{cold}}.trades SELECT * FROM {{hot}}.trades WHERE _seq = {seq}")
    one = (await check(pipeline))["trade"]
    assert one.holds, one.findings
    assert (one.in_both_tiers, one.double) == (1, 0)


async def test_the_command_names_what_it_found(pipeline: Pipeline, stored: list[FeedMessage]) -> None:
    (seq,) = await seqs(pipeline, "trades", 1)
    await pipeline.change(f"ALTER TABLE {{hot}}.trades DELETE WHERE _seq = {seq}")
    code, output = await cli("audit", "-f", str(pipeline.file), "--hot-only")
    assert code == 1
    assert f"finding: missing 1: {seq}" in output
    assert "NOT PROVEN (by sequence numbers, hot, " in output
    code, output = await cli("audit", "-f", str(pipeline.file), "--deep", "--type", "trade", "-o", "json")
    report = json.loads(output.splitlines()[-1])
    assert (code, report["holds"], [one["dataType"] for one in report["types"]]) == (1, False, ["trade"])
    assert report["types"][0]["missing"] == {"count": 1, "ranges": [[seq, seq]]}


async def test_tiering_and_expiry_lose_nothing(pipeline: Pipeline) -> None:
    await pipeline.feed(feed(300, bad=0))
    await pipeline.ingest()
    await pipeline.change("INSERT INTO {cold}.trades SELECT * FROM {hot}.trades WHERE _seq <= 100")
    await pipeline.change("ALTER TABLE {hot}.trades DELETE WHERE _seq <= 100")
    await pipeline.client.jetstream().purge_stream("MARKET_DATA", seq=51)
    report = await check(pipeline)
    assert report.holds, [one.findings for one in report.types]
    one = report["trade"]
    assert one.expired > 0
    assert (one.in_both_tiers, one.first) == (0, 51)


async def test_what_is_gone_before_anybody_read_it_is_lost(pipeline: Pipeline) -> None:
    await pipeline.feed(feed(100, bad=0))
    await pipeline.ingest()
    last = (await check(pipeline)).streams[0].last
    await pipeline.feed(feed(100, seed=2, bad=0))
    await pipeline.client.jetstream().purge_stream("MARKET_DATA", seq=last + 11)
    await pipeline.ingest()
    report = await check(pipeline, deep=False)
    (stream,) = (one for one in report.streams if one.stream == "MARKET_DATA")
    assert stream.lost is not None
    assert (stream.lost.count, stream.lost.ranges) == (10, [(last + 1, last + 10)])
    assert not report.holds
    assert report["trade"].holds


async def test_a_stored_message_that_is_deleted_from_the_middle_has_expired(
    pipeline: Pipeline, stored: list[FeedMessage]
) -> None:
    (seq,) = await seqs(pipeline, "trades", 1)
    await pipeline.client.jetstream().delete_msg("MARKET_DATA", seq)
    report = await check(pipeline, deep=False)
    assert report.holds, [one.findings for one in report.types]
    assert report["trade"].expired == 1


async def test_a_stream_made_again_is_another_one(pipeline: Pipeline) -> None:
    await pipeline.feed(feed(50, bad=0))
    await pipeline.ingest()
    stored = await pipeline.count("trades")
    await pipeline.client.jetstream().delete_stream("MARKET_DATA")
    await pipeline.make_streams()
    await pipeline.begin()
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
