"""What the console asks, of real tables: coverage of both tiers, counted again only where something has changed, and reading only."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from marketprism_api import reasons
from marketprism_api.credentials import ClickHouseAuth
from marketprism_api.load import load_pipeline
from marketprism_api.settings import Settings, effective
from marketprism_console.coverage.cells import DAY, HOUR, Cell, CellUnit
from marketprism_console.coverage.queries import Coverage, day_of, findings, runs
from marketprism_console.letters import Letters
from marketprism_console.market.queries import Closed, MarketRows, SeenMarket
from marketprism_console.market.steps import TimeColumns, TimeWindow
from marketprism_console.proof.audits import Audits
from marketprism_console.sources import Sources
from marketprism_console.tiering.queries import compared
from marketprism_console.tiering.queries import state as tiering_state
from marketprism_consumer.clickhouse import schema
from marketprism_consumer.errors import StoreError
from marketprism_consumer.schema.tables import TRADES
from marketprism_consumer.tiering.job import job_of
from marketprism_consumer.tiering.run import Migration
from tests.pipelines import PIPELINE, Pipeline, trade

BTC = ("binance_spot", "spot", "BTC-USDT")
DAY_1 = int(datetime(2025, 9, 24, tzinfo=UTC).timestamp()) * 1_000_000
COLUMNS = "timestamp, exchange, market_type, symbol, trade_id, price, quantity, side, trade_time, _stream, _seq"


@pytest.fixture
async def sources(pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Sources]:
    for name, value in pipeline.environ.items():
        monkeypatch.setenv(name, value)
    made = Sources.of(pipeline.settings)
    yield made
    await made.close()


async def insert(pipeline: Pipeline, tier: str, first: int, count: int, *, every: int = 10, start: int = DAY_1) -> None:
    """Trades `first`, `first` + 1, …, of which number n comes n × `every` seconds after `start`."""
    await pipeline.change(
        f"INSERT INTO {{{tier}}}.trades ({COLUMNS})"
        f" SELECT fromUnixTimestamp64Micro(toInt64({start} + number * {every} * 1000000), 'UTC') AS at,"
        " 'binance_spot', 'spot', 'BTC-USDT', toString(number + 1), 100, 1, 'buy', at, 'T@1', number + 1"
        f" FROM numbers({first}, {count})"
    )


async def seen(coverage: Coverage, unit: CellUnit = "hour") -> dict[int, Cell]:
    """By hours since the first day began."""
    cells = await coverage.cells(TRADES, unit, DAY_1, DAY_1 + 2 * DAY)
    assert {cell.market for cell in cells} <= {BTC}
    return {(cell.start - DAY_1) // HOUR: cell for cell in cells}


async def test_an_hour_and_its_minutes(pipeline: Pipeline, sources: Sources) -> None:
    await insert(pipeline, "hot", 30, 60)  # from 00:05:00 to 00:14:50
    await insert(pipeline, "hot", 180, 90)  # from 00:30:00 to 00:44:50
    found = await seen(Coverage(sources))
    assert found == {0: Cell(BTC, DAY_1, 150, 0, 0, 31, 270, 25, 5, 15, 15)}


async def test_a_day_of_both_tiers_is_one(pipeline: Pipeline, sources: Sources) -> None:
    await insert(pipeline, "cold", 0, 720)  # two hours
    await insert(pipeline, "hot", 1080, 360)  # the fourth
    days, hours = await seen(Coverage(sources), "day"), await seen(Coverage(sources))
    assert days == {0: Cell(BTC, DAY_1, 360, 720, 0, 1, 1440, 180, 0, 60, 20 * 60)}
    assert {at: (cell.hot, cell.cold, cell.minutes) for at, cell in hours.items()} == {
        0: (0, 360, 60),
        1: (0, 360, 60),
        3: (360, 0, 60),
    }


async def test_a_row_that_was_copied_and_not_yet_deleted_counts_once(pipeline: Pipeline, sources: Sources) -> None:
    await insert(pipeline, "cold", 0, 360)
    await insert(pipeline, "hot", 300, 120)
    found = await seen(Coverage(sources))
    assert {at: (cell.hot, cell.cold, cell.doubled, cell.rows) for at, cell in found.items()} == {
        0: (60, 360, 60, 360),
        1: (60, 0, 0, 60),
    }


async def test_a_day_is_counted_again_only_when_it_has_changed(
    pipeline: Pipeline, sources: Sources, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[dict[str, Any]] = []
    query = sources.hot.clickhouse.query

    async def noted(sql: str, parameters: Any = None, **options: Any) -> Any:
        if "by_hour" in sql:
            asked.append(parameters)
        return await query(sql, parameters, **options)

    monkeypatch.setattr(sources.hot.clickhouse, "query", noted)
    coverage = Coverage(sources)
    await insert(pipeline, "hot", 0, 10)
    await insert(pipeline, "cold", 0, 10, start=DAY_1 + DAY)
    before = await seen(coverage, "day")
    assert (await seen(coverage, "day"), len(asked)) == (before, 1)
    await insert(pipeline, "hot", 10, 5)
    assert (await seen(coverage, "day"))[0].rows == 15
    assert asked[1:] == [{"since": DAY_1, "until": DAY_1 + DAY}]


async def test_the_newest_day(pipeline: Pipeline, sources: Sources) -> None:
    assert await Coverage(sources).newest(TRADES) is None
    await insert(pipeline, "cold", 0, 1)
    assert await Coverage(sources).newest(TRADES) == DAY_1


async def test_behind_a_cell_is_a_validation_of_it(pipeline: Pipeline, sources: Sources) -> None:
    await insert(pipeline, "hot", 0, 100)
    await insert(pipeline, "hot", 103, 257)
    report = await findings(sources, "trade", BTC, DAY_1, DAY_1 + HOUR)
    assert [str(finding.reason) for finding in report.findings] == ["MP8001 TradesMissing"]


async def test_it_cannot_write(pipeline: Pipeline, sources: Sources) -> None:
    with pytest.raises(StoreError, match=r"(?i)readonly"):
        await sources.hot.clickhouse.command(f"TRUNCATE TABLE {pipeline.hot}.trades")


async def test_dead_letters_are_read_anew_when_there_are_others(pipeline: Pipeline, sources: Sources) -> None:
    letters = Letters(sources)
    assert await letters.all() == []
    await pipeline.send("trade.binance_spot.spot.BTC-USDT", b"{")
    await pipeline.ingest()
    (found,) = await letters.all()
    assert (found.data_type, found.market, found.code) == ("trade", BTC, "MP2101")
    assert await letters.all() is await letters.all()
    await pipeline.send("trade.binance_spot.spot.BTC-USDT", b"[")
    await pipeline.ingest()
    assert len(await letters.all()) == 2


def test_partitions_are_told_by_their_names() -> None:
    assert day_of("1758715200", "hour") == DAY_1
    assert day_of("20250924", "day") == DAY_1
    assert (day_of("all", "hour"), day_of("202509", "day"), day_of("(1,2)", "day")) == (None, None, None)


def test_days_that_follow_one_another_are_asked_for_together() -> None:
    assert runs([0, DAY, 3 * DAY]) == [[0, DAY], [3 * DAY]]
    assert [len(run) for run in runs([at * DAY for at in range(130)])] == [62, 62, 6]


async def test_candles_of_the_market_are_those_of_the_view(pipeline: Pipeline, sources: Sources) -> None:
    """Also of a row that is in both tiers, and of trades of one time, whose order is the venue's."""
    await insert(pipeline, "cold", 0, 60)
    await insert(pipeline, "hot", 50, 60)
    for number, price in ((113, 7), (112, 9), (111, 8)):
        await pipeline.change(
            f"INSERT INTO {{hot}}.trades ({COLUMNS}) SELECT * REPLACE ('{number}' AS trade_id, {price} AS price, {number} AS _seq)"
            f" FROM (SELECT {COLUMNS} FROM {{hot}}.trades WHERE trade_id = '110')"
        )
    rows = MarketRows(sources, Coverage(sources))
    columns = TimeColumns.of(TimeWindow(DAY_1, DAY_1 + HOUR), 60)
    found = await rows.picture(BTC, columns)
    expected = await sources.hot.clickhouse.query(
        "SELECT toUnixTimestamp(minute), toFloat64(open), toFloat64(high), toFloat64(low), toFloat64(close), toFloat64(volume), trades"
        f" FROM {pipeline.hot}.candles_1m ORDER BY minute"
    )
    assert [(at, *candle[:6]) for at, candle in sorted(found.candles.items())] == expected
    assert expected[-1][1:5] == (100, 100, 7, 7)
    assert await rows.markets(TimeWindow(DAY_1, DAY_1 + DAY)) == [SeenMarket(BTC, 113, DAY_1, DAY_1 + 1090 * 1_000_000)]


async def test_what_two_servers_have_of_a_step_is_put_together(pipeline: Pipeline, sources: Sources) -> None:
    await insert(pipeline, "cold", 0, 9)
    await insert(pipeline, "hot", 9, 9)  # within the second minute
    apart = Sources.of(replace(pipeline.settings, cold_urls=pipeline.settings.clickhouse_urls))
    columns = TimeColumns.of(TimeWindow(DAY_1, DAY_1 + HOUR), 60)
    try:
        assert apart.cold_is_elsewhere
        one, other = [await MarketRows(each, Coverage(each)).picture(BTC, columns) for each in (sources, apart)]
        assert await MarketRows(apart, Coverage(apart)).book(BTC, DAY_1 + HOUR) == []
        both = (await tiering_state(apart)).tables["trades"]
        assert (both.hot.rows, both.cold.rows, both.backlog_rows) == (9, 9, 9)
    finally:
        await apart.close()
    assert one == other
    assert [candle.trades for _, candle in sorted(one.candles.items())] == [6, 6, 6]


async def fill_market(pipeline: Pipeline) -> Settings:
    """Three of each but trades, 40 s apart from DAY_1 on, in a pipeline of all data types."""
    pipeline.file.write_text(PIPELINE.split("  dataTypes:")[0])
    settings = effective(load_pipeline(pipeline.file), pipeline.environ)
    await schema.apply(pipeline.clickhouse, settings)
    place = "'binance_spot', 'spot', 'BTC-USDT'"
    head = "timestamp, exchange, market_type, symbol, _stream, _seq"
    times = f"fromUnixTimestamp64Micro({DAY_1} + number * 40000000, 'UTC') AS at, {place}, 'S@1', number + 1"
    await pipeline.change(
        f"INSERT INTO {{hot}}.orderbooks ({head}, update_type, best_bid_price, best_bid_quantity, best_ask_price, best_ask_quantity,"
        f" bid_prices, bid_quantities, ask_prices, ask_quantities) SELECT {times}, 'snapshot', 100 + number, 1, 101 + number, 2,"
        " [100 + number, 99], [1, 5], [101 + number], [2] FROM numbers(3)"
    )
    await pipeline.change(
        f"INSERT INTO {{hot}}.funding_rates ({head}, funding_rate) SELECT {times}, 0.001 * number FROM numbers(3)"
    )
    await pipeline.change(
        f"INSERT INTO {{hot}}.open_interests ({head}, open_interest_value) SELECT {times}, 10 * number FROM numbers(3)"
    )
    await pipeline.change(
        f"INSERT INTO {{hot}}.liquidations ({head}, liquidation_id, side, price, quantity, liquidation_time)"
        f" SELECT {times}, toString(number), if(number = 1, 'sell', 'buy'), 100, number + 1, at FROM numbers(3)"
    )
    return settings


async def test_books_rates_and_what_was_closed_by_step(pipeline: Pipeline, sources: Sources) -> None:
    settings = await fill_market(pipeline)
    rows = MarketRows(replace(sources, settings=settings), Coverage(sources))
    found = await rows.picture(BTC, TimeColumns.of(TimeWindow(DAY_1, DAY_1 + HOUR), 60))
    first, second = DAY_1 // 1_000_000, DAY_1 // 1_000_000 + 60
    assert {at: (quote.bid, quote.ask) for at, quote in found.quotes.items()} == {first: (101, 102), second: (102, 103)}
    assert {at: one.value for at, one in found.open_interest.items()} == {first: 10, second: 20}
    assert {at: one.value for at, one in found.funding.items()} == {first: 0.001, second: 0.002}
    assert found.closed == {first: Closed(1, 2), second: Closed(3, 0)}
    levels = await rows.book(BTC, DAY_1 + 50 * 1_000_000)
    assert [(level.side, level.price, level.quantity) for level in levels] == [
        ("bid", 101, 1), ("bid", 99, 5), ("ask", 102, 2),
    ]  # fmt: skip
    assert await rows.book(BTC, DAY_1 - 1) == []


async def test_both_tiers_and_what_was_moved(pipeline: Pipeline, sources: Sources) -> None:
    assert (await tiering_state(sources)).history == []
    await insert(pipeline, "hot", 0, 360)
    await insert(pipeline, "cold", 100, 50)
    before = await tiering_state(sources)
    assert (before.tables["trades"].hot.rows, before.tables["trades"].backlog_rows) == (360, 360)
    assert ((await compared(sources, "trades")).overlap, before.tables["trades"].overlap) == (50, 0)
    moved = await Migration(job_of(pipeline.settings, None), ClickHouseAuth).run()
    assert moved.ok, moved
    after = await tiering_state(sources)
    (entry,) = after.history
    assert (entry.table, entry.rows, entry.status, bool(entry.checksum)) == ("trades", 360, "done", True)
    assert (after.tables["trades"].cold.rows, after.tables["trades"].backlog_rows) == (360, 0)


async def test_tiers_that_do_not_fit_stand_still(pipeline: Pipeline, sources: Sources) -> None:
    await pipeline.change("ALTER TABLE {cold}.trades DROP COLUMN is_maker")
    found = await tiering_state(sources)
    assert (list(found.refusals), "orderbooks" in found.tables) == (["trades"], True)
    assert found.refusals["trades"].reason is reasons.SCHEMA_DRIFT


async def test_an_audit_is_watched_and_kept_and_writes_nothing(pipeline: Pipeline, sources: Sources) -> None:
    for number in range(3):
        await pipeline.send("trade.binance_spot.spot.BTC-USDT", json.dumps(trade(trade_id=str(number))).encode())
    await pipeline.send("trade.binance_spot.spot.BTC-USDT", b"{")
    await pipeline.ingest()
    before = await held(pipeline)
    audits, steps = Audits(sources), set()
    asked = audits.start(["trade"], deep=True)
    assert audits.start(["orderbook"], deep=False) is asked  # one at a time
    while audits.running:
        if asked.step:
            steps.add(asked.step.what)
        await asyncio.sleep(0)
    assert asked.report is not None, asked.refusal
    assert asked.report.holds
    assert (asked.report["trade"].rows, asked.report["trade"].dead_letters, asked.report["trade"].compared) == (3, 1, 3)
    assert "MARKET_DATA: comparing values of trade" in steps
    assert await held(pipeline) == before
    await pipeline.change("ALTER TABLE {hot}.trades DELETE WHERE trade_id = '1'")
    again = audits.start(["trade"], deep=False)
    while audits.running:
        await asyncio.sleep(0.01)
    assert again.report is not None, again.refusal
    assert (again.report.holds, again.report["trade"].missing.count) == (False, 1)
    assert list(audits.asked) == [again, asked]


async def test_an_audit_of_a_stretch_says_nothing_of_what_came_before(pipeline: Pipeline, sources: Sources) -> None:
    async def send(number: int) -> None:
        await pipeline.send("trade.binance_spot.spot.BTC-USDT", json.dumps(trade(trade_id=str(number))).encode())

    async def proven(since: int | None) -> tuple[bool, int, int, int]:
        asked = audits.start(["trade"], deep=True, since=since)
        while audits.running:
            await asyncio.sleep(0.01)
        assert asked.report is not None, asked.refusal
        found = asked.report["trade"]
        return asked.report.holds, found.held, found.missing.count, found.double

    audits, everything = Audits(sources), None
    for number in (1, 2, 3):
        await send(number)
    middle = time.time_ns() // 1000
    for number in (4, 5):
        await send(number)
    await pipeline.ingest()
    assert [await proven(since) for since in (everything, middle)] == [(True, 5, 0, 0), (True, 2, 0, 0)]
    await pipeline.change("ALTER TABLE {hot}.trades DELETE WHERE trade_id = '1'")
    await pipeline.change("INSERT INTO {hot}.trades SELECT * FROM {hot}.trades WHERE trade_id = '2'")
    assert [await proven(since) for since in (everything, middle)] == [(False, 5, 1, 1), (True, 2, 0, 0)]
    await pipeline.change("INSERT INTO {hot}.trades SELECT * FROM {hot}.trades WHERE trade_id = '5'")
    await pipeline.change("ALTER TABLE {hot}.trades DELETE WHERE trade_id = '4'")
    assert [await proven(since) for since in (everything, middle)] == [(False, 5, 2, 2), (False, 2, 1, 1)]
    assert await proven(time.time_ns() // 1000) == (True, 0, 0, 0)


async def held(pipeline: Pipeline) -> dict[str, int]:
    """By stream, the buckets among them: the last sequence."""
    found = await pipeline.broker.api("STREAM.LIST", {})
    return {each["config"]["name"]: each["state"]["last_seq"] for each in found["streams"]}


async def test_an_audit_that_is_stopped_says_so(pipeline: Pipeline, sources: Sources) -> None:
    audits = Audits(sources)
    asked = audits.start(["trade"], deep=False)
    while asked.step is None:
        await asyncio.sleep(0)
    await audits.close()
    assert (asked.report, asked.refusal) == (None, "stopped")
