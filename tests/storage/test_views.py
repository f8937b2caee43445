"""The views on the real engine, each value against Python's Decimal over the messages that were stored."""

from __future__ import annotations

import asyncio
import itertools
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import ROUND_DOWN, Decimal, localcontext
from typing import Any

import pytest

from marketprism_api.data_types import BUILT_IN
from marketprism_api.settings import effective
from marketprism_consumer.clickhouse import schema
from marketprism_consumer.clickhouse.client import ClickHouse
from marketprism_consumer.clickhouse.store import ClickHouseStore
from marketprism_consumer.feed import messages
from marketprism_consumer.ingest.decode import decode
from marketprism_consumer.schema.tables import BY_DATA_TYPE, LSR_TOP_POSITIONS, ORDERBOOKS, TABLES, TRADES, Table
from marketprism_consumer.schema.views import bucket_seconds, everything
from marketprism_embedded.process import EmbeddedServer
from tests.blocks import block_of, seconds_from_now

STREAM = "S@1"
Row = dict[str, Any]


@dataclass
class Tiers:
    """Both databases with their views, and what was stored, by table, as dicts with `_seq`."""

    hot: ClickHouseStore
    cold: ClickHouseStore
    loop: asyncio.Runner
    stored: dict[str, list[Row]] = field(default_factory=lambda: defaultdict(list))

    def query(self, sql: str, **parameters: Any) -> list[tuple[Any, ...]]:
        sql = sql.format(hot=self.hot.database, cold=self.cold.database)
        return self.loop.run(self.hot.clickhouse.query(sql, parameters))

    def run(self, sql: str) -> None:
        sql = sql.format(hot=self.hot.database, cold=self.cold.database)
        self.loop.run(self.hot.clickhouse.command(sql, settings={"mutations_sync": 2}))

    def insert(self, table: Table, rows: list[tuple[Any, ...]], first_seq: int, tier: str = "hot") -> None:
        store = self.hot if tier == "hot" else self.cold
        block = block_of(table, rows, range(first_seq, first_seq + len(rows)), [STREAM] * len(rows))

        async def insert() -> None:
            await store.insert(block, seconds_from_now())

        self.loop.run(insert())


_numbers = itertools.count(1)


def _tiers(server: EmbeddedServer, loop: asyncio.Runner) -> Tiers:
    number = next(_numbers)
    hot, cold = f"views_{number}_hot", f"views_{number}_cold"
    environ = {"CLICKHOUSE_HTTP_URL": server.url, "CLICKHOUSE_HOT_DB": hot, "CLICKHOUSE_COLD_DB": cold}
    clickhouse = ClickHouse([server.url])
    made = Tiers(ClickHouseStore(clickhouse, hot), ClickHouseStore(clickhouse, cold), loop)
    loop.run(schema.apply(clickhouse, effective(None, environ)))
    return made


@pytest.fixture
def empty(clickhouse_server: EmbeddedServer, loop: asyncio.Runner) -> Iterator[Tiers]:
    made = _tiers(clickhouse_server, loop)
    yield made
    loop.run(made.hot.clickhouse.close())
    loop.run(made.cold.clickhouse.close())


@pytest.fixture(scope="module")
def tiers(clickhouse_server: EmbeddedServer, loop: asyncio.Runner) -> Iterator[Tiers]:
    """Ten minutes of all types: the older third in cold only, the youngest in hot only, what is between in both."""
    made = _tiers(clickhouse_server, loop)
    rows: dict[str, list[tuple[Any, ...]]] = defaultdict(list)
    for message in itertools.islice(messages(seed=11, rate=10, book_levels=8), 6000):
        rows[message.data_type].append(decode(BUILT_IN[message.data_type], message.subject, message.payload, 1 << 60))
    for data_type, own in rows.items():
        table = BY_DATA_TYPE[data_type]
        names = [column.name for column in table.inserted]
        own.sort(key=lambda row: row[0])
        third = len(own) // 3
        made.insert(table, own[: 2 * third], 1, "cold")
        made.insert(table, own[third:], third + 1, "hot")
        made.stored[table.name] = [dict(zip(names, row, strict=True), _seq=number) for number, row in enumerate(own, 1)]
    yield made
    loop.run(made.hot.clickhouse.close())
    loop.run(made.cold.clickhouse.close())


def at(us: int) -> datetime:
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=us)


def series(row: Row) -> tuple[str, str, str]:
    return row["exchange"], row["market_type"], row["symbol"]


def by(rows: list[Row], key: Callable[[Row], Any]) -> dict[Any, list[Row]]:
    groups = defaultdict(list)
    for row in rows:
        groups[key(row)].append(row)
    return groups


# --- both tiers ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
def test_a_row_in_both_tiers_counts_once(tiers: Tiers, table: Table) -> None:
    found = tiers.query(f"SELECT _seq FROM {{hot}}.all_{table.name} ORDER BY _seq")
    assert [seq for (seq,) in found] == [row["_seq"] for row in tiers.stored[table.name]]
    in_both = tiers.query(
        f"SELECT count() FROM {{hot}}.{table.name} WHERE _seq IN (SELECT _seq FROM {{cold}}.{table.name})"
    )
    assert in_both[0][0] > 0


@pytest.mark.parametrize("shared", [0, 1])
def test_what_is_copied_while_it_is_asked_where_hot_begins_counts_once(empty: Tiers, shared: int) -> None:
    """Before 25.12 a table is looked at anew wherever a query names it. A buffer copies within the query, which is made slow there."""
    columns = "timestamp, exchange, market_type, symbol, trade_id, price, quantity, side, trade_time, _stream, _seq"
    empty.run(
        f"INSERT INTO {{hot}}.trades ({columns}) SELECT toDateTime64('2025-09-24 07:00:00', 6, 'UTC') + number AS at, 'e', 'm',"
        " 's', toString(number), 1, 1, 'buy', at, 'S@1', number + 1 FROM numbers(10)"
    )
    empty.run(f"INSERT INTO {{cold}}.trades ({columns}) SELECT {columns} FROM {{hot}}.trades WHERE _seq <= 5")
    shape = empty.query("SELECT name || ' ' || type FROM system.columns WHERE database = '{cold}' AND table = 'trades'"
                        f" AND name IN ({', '.join(repr(one) for one in columns.split(', '))})")  # fmt: skip
    empty.run(
        f"CREATE TABLE {{hot}}.on_its_way ({', '.join(one for (one,) in shape)})"
        " ENGINE = Buffer('{cold}', 'trades', 1, 1, 1, 1000, 1000, 1000000, 1000000)"
    )
    both = everything(empty.hot.database, empty.cold.database, TRADES)
    begins = f"min(timestamp)) FROM `{empty.hot.database}`.`trades`"
    assert begins in both
    slow = both.replace(begins, f"{begins} WHERE sleep(2.5) = 0")
    empty.run(f"INSERT INTO {{hot}}.on_its_way ({columns}) SELECT {columns} FROM {{hot}}.trades WHERE _seq > 5")
    found = empty.query(
        f"SELECT count(), uniqExact(_seq) FROM ({slow}) SETTINGS enable_shared_storage_snapshot_in_query = {shared}"
    )
    assert empty.query("SELECT count() FROM {cold}.trades") == [(10,)], "all are copied by now"
    assert found == [(10, 10)]


def test_it_has_every_column_but_the_deadline(tiers: Tiers) -> None:
    for table in TABLES:
        found = tiers.query(
            f"SELECT name FROM system.columns WHERE database = '{{hot}}' AND table = 'all_{table.name}'"
        )
        assert [name for (name,) in found] == [c.name for c in table.columns if c.kind != "EPHEMERAL"]


A_TRADE = "(timestamp, exchange, market_type, symbol, trade_id, price, quantity, side, trade_time)"


def test_rows_by_hand_are_never_taken_for_one_another(empty: Tiers) -> None:
    value = "('2025-09-24 07:55:51', 'e', 'm', 's', '1', 2, 3, 'buy', '2025-09-24 07:55:51')"
    empty.run(f"INSERT INTO {{hot}}.trades {A_TRADE} VALUES {value}, {value}")
    empty.run(f"INSERT INTO {{cold}}.trades {A_TRADE} VALUES {value}")
    assert empty.query("SELECT count() FROM {hot}.all_trades") == [(3,)]


@pytest.mark.parametrize("tier", ["hot", "cold"])
def test_with_one_tier_empty_it_is_the_other(empty: Tiers, tier: str) -> None:
    row = (1_758_700_551_000_000, "e", "m", "s", "1", "2", "3", "buy", None, 1_758_700_551_000_000, "", None)
    empty.insert(TRADES, [row] * 3, 1, tier)
    assert empty.query("SELECT count() FROM {hot}.all_trades") == [(3,)]


def test_a_query_about_one_series_reads_one_series_in_both_tiers(tiers: Tiers) -> None:
    plan = tiers.query("EXPLAIN indexes = 1 SELECT count() FROM {hot}.all_trades WHERE exchange = 'nobody'")
    assert sum("(exchange in ['nobody', 'nobody'])" in line for (line,) in plan) == 2


async def test_while_rows_move_every_answer_has_each_once(clickhouse_server: EmbeddedServer) -> None:
    """Copied and then deleted a hundred times beside a reader, as a migration does it."""
    environ = {
        "CLICKHOUSE_HTTP_URL": clickhouse_server.url,
        "CLICKHOUSE_HOT_DB": "moving_hot",
        "CLICKHOUSE_COLD_DB": "moving_cold",
    }
    reader, writer = (ClickHouse([clickhouse_server.url]) for _ in range(2))
    await schema.apply(reader, effective(None, environ))
    await writer.command(
        f"INSERT INTO moving_hot.trades {A_TRADE[:-1]}, _stream, _seq) SELECT toDateTime64('2025-09-24 00:00:00', 6, 'UTC')"
        " + toIntervalMinute(number), 'e', 'm', 's', toString(number), 1, 1, 'buy', now64(6), 'S', number + 1 FROM numbers(1200)"
    )
    counts: list[int] = []
    done = asyncio.Event()

    async def read() -> None:
        while not done.is_set():
            counts.append((await reader.query("SELECT count() FROM moving_hot.all_trades"))[0][0])

    reading = asyncio.create_task(read())
    columns = ", ".join(column.name for column in TRADES.stored)
    for hour in range(20):
        one = f"toStartOfHour(timestamp) = toDateTime('2025-09-24 {hour:02}:00:00', 'UTC')"
        await writer.command(
            f"INSERT INTO moving_cold.trades ({columns}) SELECT {columns} FROM moving_hot.trades WHERE {one}"
        )
        await writer.command(f"ALTER TABLE moving_hot.trades DROP PARTITION '2025-09-24 {hour:02}:00:00'")
    done.set()
    await reading
    assert await reader.query("SELECT count() FROM moving_hot.trades") == [(0,)]
    await reader.close()
    await writer.close()
    assert set(counts) == {1200}
    assert len(counts) > 5


def test_a_condition_reaches_both_tiers_and_the_comparison() -> None:
    assert everything("h", "c", TRADES, "symbol = 'x'").count("symbol = 'x'") == 3


# --- candles ------------------------------------------------------------------------------------------------------------


def exactly(price: str, quantity: str) -> Decimal:
    with localcontext(prec=120):
        return Decimal(price) * Decimal(quantity)


def test_candles_are_what_decimal_says(tiers: Tiers) -> None:
    found = tiers.query(
        "SELECT exchange, market_type, symbol, toUnixTimestamp(minute), toString(open), toString(high), toString(low),"
        " toString(close), toString(volume), toString(turnover), toString(vwap), trades FROM {hot}.candles_1m"
    )
    groups = by(tiers.stored["trades"], lambda row: (*series(row), row["timestamp"] // 60_000_000 * 60))
    assert len(found) == len(groups) > 50
    for exchange, market_type, symbol, minute, *values in found:
        rows = groups[exchange, market_type, symbol, minute]
        rows.sort(key=lambda row: (row["timestamp"], int(row["trade_id"]), row["_seq"]))
        prices = [Decimal(row["price"]) for row in rows]
        with localcontext(prec=120):
            volume = sum((Decimal(row["quantity"]) for row in rows), Decimal(0))
            turnover = sum((exactly(row["price"], row["quantity"]) for row in rows), Decimal(0))
            vwap = (turnover / volume).quantize(Decimal("1e-18"), ROUND_DOWN)
            expected = [prices[0], max(prices), min(prices), prices[-1], volume, turnover, vwap, len(rows)]
            assert [Decimal(value) for value in values] == expected


def test_a_price_that_overflows_in_plain_multiplication(empty: Tiers) -> None:
    """112345.67 * 0.5 is 26.24 where ClickHouse multiplies Decimal(38, 18) itself."""
    now = 1_758_700_551_000_000
    rows = [(now, "e", "m", "s", str(n), p, q, "buy", None, now, "", None)
            for n, (p, q) in enumerate([("112345.67", "0.5"), ("6.11e-10", "9999999999999.123456789012345678"),
                                        ("12345678901234567890.123456789012345678", "7.000000000000000001")])]  # fmt: skip
    empty.insert(TRADES, rows, 1)
    found = empty.query("SELECT toString(turnover), toString(vwap) FROM {hot}.candles_1m")
    turnover = sum((exactly(row[5], row[6]) for row in rows), Decimal(0))
    with localcontext(prec=120):
        turnover = sum((exactly(row[5], row[6]) for row in rows), Decimal(0))
        volume = sum(Decimal(row[6]) for row in rows)
        vwap = (turnover / volume).quantize(Decimal("1e-18"), ROUND_DOWN)
    assert [tuple(map(Decimal, row)) for row in found] == [(turnover, vwap)]


def test_of_one_time_the_venues_number_decides_then_the_arrival(empty: Tiers) -> None:
    """Whole numbers by value, to the largest; those of the cold tier among those of hot."""
    now, later = 1_758_700_551_000_000, 1_758_700_611_000_000
    for tier, first_seq, rows in (
        ("hot", 1, [(now, "10", "4"), (now, "18446744073709551615", "5"), (later, "late", "7"), (later, "9", "8")]),
        ("cold", 9, [(now, "9", "3"), (later, "later", "6")]),
    ):
        own = [(us, "e", "m", "s", id_, p, "1", "buy", None, us, "", None) for us, id_, p in rows]
        empty.insert(TRADES, own, first_seq, tier)
    found = empty.query("SELECT toString(open), toString(close) FROM {hot}.candles_1m ORDER BY minute")
    assert found == [("3", "5"), ("7", "8")]


def test_a_minute_without_a_quantity_has_no_vwap(empty: Tiers) -> None:
    now = 1_758_700_551_000_000
    empty.insert(TRADES, [(now, "e", "m", "s", "1", "5", "0", "buy", None, now, "", None)], 1)
    assert empty.query("SELECT vwap, toString(close), trades FROM {hot}.candles_1m") == [(None, "5", 1)]


# --- books --------------------------------------------------------------------------------------------------------------


def folded(rows: list[Row], moment: int) -> dict[tuple[str, Decimal], Decimal]:
    """The levels of one series at `moment` [µs]."""
    rows = sorted(
        (row for row in rows if moment - 86_400_000_000 < row["timestamp"] <= moment),
        key=lambda row: (row["timestamp"], row["_seq"]),
    )
    full = [number for number, row in enumerate(rows) if row["update_type"] == "snapshot"]
    levels: dict[tuple[str, Decimal], Decimal] = {}
    for row in rows[full[-1] if full else 0 :]:
        for side in ("bid", "ask"):
            for price, quantity in zip(row[f"{side}_prices"], row[f"{side}_quantities"], strict=True):
                levels[side, Decimal(price)] = Decimal(quantity)
    return {level: quantity for level, quantity in levels.items() if quantity > 0}


BOOK_AT = "{hot}.book_at(exchange = '%s', market_type = '%s', symbol = '%s', at = '%s')"


def test_the_book_at_a_time_is_the_last_full_one_and_the_updates_since(tiers: Tiers) -> None:
    compared = 0
    for (exchange, market_type, symbol), rows in by(tiers.stored["orderbooks"], series).items():
        times = sorted(row["timestamp"] for row in rows)
        moment = times[len(times) // 2]
        place = BOOK_AT % (exchange, market_type, symbol.replace("'", "''"), f"{at(moment):%Y-%m-%d %H:%M:%S.%f}")
        found = tiers.query(f"SELECT side, level, toString(price), toString(quantity) FROM {place}")
        expected = folded(rows, moment)
        assert {(side, Decimal(price)): Decimal(quantity) for side, _, price, quantity in found} == expected
        for side, best_first in (("bid", True), ("ask", False)):
            prices = [Decimal(price) for one, _, price, _ in sorted(found, key=lambda row: row[1]) if one == side]
            assert prices == sorted(prices, reverse=best_first)
            assert [level for one, level, *_ in found if one == side] == list(range(1, len(prices) + 1))
        compared += len(expected)
    assert compared > 100


def book(us: int, seq: int, kind: str | None, bids: dict[str, str], **more: Any) -> tuple[Any, ...]:
    values: Row = {
        "timestamp": us, "exchange": "e", "market_type": "m", "symbol": "s", "last_update_id": seq, "update_type": kind,
        "bid_prices": list(bids), "bid_quantities": list(bids.values()), "bids_count": len(bids), "data_source": "",
        "ask_prices": [], "ask_quantities": [], "asks_count": 0, **more,
    }  # fmt: skip
    return tuple(values.get(column.name) for column in ORDERBOOKS.inserted)


def test_a_level_of_quantity_zero_is_gone_and_an_older_full_book_says_nothing(empty: Tiers) -> None:
    now = 1_758_700_551_000_000
    empty.insert(ORDERBOOKS, [
        book(now, 1, "snapshot", {"9": "9"}),
        book(now + 1, 2, "snapshot", {"5": "1", "4": "2"}),
        book(now + 2, 3, "update", {"5": "0", "3": "7"}),
        book(now + 3, 4, "update", {"4": "8"}),
    ], 1)  # fmt: skip
    found = empty.query(
        "SELECT level, toString(price), toString(quantity), toUnixTimestamp64Micro(updated_at),"
        f" toUnixTimestamp64Micro(snapshot_at) FROM {BOOK_AT % ('e', 'm', 's', f'{at(now + 2):%Y-%m-%d %H:%M:%S.%f}')}"
    )
    assert found == [(1, "4", "2", now + 1, now + 1), (2, "3", "7", now + 2, now + 1)]


def test_without_a_full_book_it_says_so(empty: Tiers) -> None:
    now = 1_758_700_551_000_000
    empty.insert(ORDERBOOKS, [book(now, 1, "update", {"5": "1"})], 1)
    found = empty.query(f"SELECT toString(price), snapshot_at FROM {BOOK_AT % ('e', 'm', 's', '2025-09-24 08:00:00')}")
    assert found == [("5", None)]


def bids_at(tiers: Tiers, us: int) -> list[tuple[str, str]]:
    place = BOOK_AT % ("e", "m", "s", f"{at(us):%Y-%m-%d %H:%M:%S.%f}")
    return tiers.query(f"SELECT toString(price), toString(quantity) FROM {place} WHERE side = 'bid' ORDER BY level")


def test_what_does_not_call_itself_full_wipes_no_book(empty: Tiers) -> None:
    now = 1_758_700_551_000_000
    empty.insert(ORDERBOOKS, [
        book(now, 1, "snapshot", {"5": "1", "4": "2"}),
        book(now + 1, 2, None, {"3": "7"}),
        book(now + 2, 3, "update", {"4": "0"}),
    ], 1)  # fmt: skip
    assert bids_at(empty, now + 1) == [("5", "1"), ("4", "2"), ("3", "7")]
    assert bids_at(empty, now + 2) == [("5", "1"), ("3", "7")]


def test_within_one_millisecond_a_book_is_as_it_arrived_though_the_venue_counts_anew(empty: Tiers) -> None:
    now = 1_758_700_551_000_000
    empty.insert(ORDERBOOKS, [
        book(now, 900, "snapshot", {"9": "9"}),
        book(now, 901, "update", {"9": "8"}),
        book(now, 1, "snapshot", {"5": "1", "4": "2"}),
        book(now, 2, "update", {"5": "3"}),
    ], 1)  # fmt: skip
    assert bids_at(empty, now) == [("5", "3"), ("4", "2")]


# --- gaps ---------------------------------------------------------------------------------------------------------------

DAY = "(since = '2025-09-24 00:00:00', until = '2025-09-25 00:00:00')"


def test_missing_trade_numbers_are_found_where_the_venue_counts(empty: Tiers) -> None:
    now = 1_758_700_551_000_000

    def trades(symbol: str, ids: list[str], first: int) -> None:
        rows = [(now + n, "e", "m", symbol, i, "5", "1", "buy", None, now, "", None) for n, i in enumerate(ids)]
        empty.insert(TRADES, rows, first)

    trades("whole", ["1", "2", "3", "4"], 1)
    trades("holed", ["10", "11", "12", "15", "16", "17", "18"], 11)
    trades("random", ["9", "700", "31", "5000"], 21)
    trades("uuid", ["a-1", "b-7", "c-3"], 31)
    found = empty.query(
        f"SELECT symbol, last_id, next_id, missing, toUnixTimestamp64Micro(last_time) FROM {{hot}}.trade_gaps{DAY}"
    )
    assert found == [("holed", 12, 15, 2, now + 2)]


def test_broken_update_chains_are_found_where_there_is_a_chain(empty: Tiers) -> None:
    now = 1_758_700_551_000_000

    def books(symbol: str, links: list[tuple[int | None, int]], first: int) -> None:
        rows = [book(now + n, own, "update", {}, symbol=symbol, prev_update_id=before)
                for n, (before, own) in enumerate(links)]  # fmt: skip
        empty.insert(ORDERBOOKS, rows, first)

    books("whole", [(None, 4), (4, 9), (9, 12)], 1)
    books("broken", [(3, 4), (4, 9), (11, 12), (12, 15)], 11)
    books("none", [(1, 4), (2, 9), (3, 12)], 21)
    found = empty.query(f"SELECT symbol, last_id, follows_id, next_id FROM {{hot}}.book_gaps{DAY}")
    assert found == [("broken", 9, 11, 12)]


def test_silences_are_found_in_trades_and_books(empty: Tiers) -> None:
    now = 1_758_700_551_000_000
    rows = [(now + s * 1_000_000, "e", "m", "s", str(s), "5", "1", "buy", None, now, "", None) for s in (0, 9, 80, 81)]
    empty.insert(TRADES, rows, 1)
    empty.insert(ORDERBOOKS, [book(now, 1, "update", {}), book(now + 61_000_000, 2, "update", {})], 1)
    found = empty.query(
        "SELECT data_type, toUnixTimestamp64Micro(last_time), seconds FROM {hot}.silences"
        "(since = '2025-09-24 00:00:00', until = '2025-09-25 00:00:00', longer_than = 60) ORDER BY data_type"
    )
    assert found == [("orderbook", now, 61), ("trade", now + 9_000_000, 71)]


# --- the last, and one of each ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("table", "value"), [("funding_rates", "funding_rate"), ("open_interests", "open_interest_value")]
)
def test_the_latest_is_what_was_collected_last(tiers: Tiers, table: str, value: str) -> None:
    found = tiers.query(
        f"SELECT exchange, market_type, symbol, toUnixTimestamp64Micro(timestamp), toString({value}), toString(mark_price)"
        f" FROM {{hot}}.latest_{table}"
    )
    groups = by(tiers.stored[table], series)
    assert len(found) == len(groups) > 3
    for exchange, market_type, symbol, time, number, mark in found:
        last = max(
            groups[exchange, market_type, symbol],
            key=lambda row: (row["collected_at"] or row["timestamp"], row["_seq"]),
        )
        assert (time, Decimal(number)) == (last["timestamp"], Decimal(last[value]))
        assert (mark and Decimal(mark)) == (last["mark_price"] and Decimal(last["mark_price"]))


@pytest.mark.parametrize("kind", ["top_position", "all_account"])
def test_a_ratios_bucket_comes_once_however_often_it_was_published(tiers: Tiers, kind: str) -> None:
    seconds = {"5m": 300, "1h": 3600}
    found = tiers.query(
        "SELECT exchange, market_type, symbol, period, toUnixTimestamp(bucket), toString(long_short_ratio), publications"
        f" FROM {{hot}}.lsr_{kind}_buckets"
    )
    rows = tiers.stored["lsr_top_positions" if kind == "top_position" else "lsr_all_accounts"]
    groups = by(rows, lambda row: (*series(row), row["period"],
                                   row["timestamp"] // 1_000_000 // seconds[row["period"]] * seconds[row["period"]]))  # fmt: skip
    assert len(found) == len(groups) < len(rows)
    for *bucket, ratio, publications in found:
        own = groups[tuple(bucket)]
        last = max(own, key=lambda row: (row["collected_at"] or row["timestamp"], row["_seq"]))
        assert (Decimal(ratio), publications) == (Decimal(last["long_short_ratio"]), len(own))


def test_a_bucket_that_was_published_with_other_values_is_told(empty: Tiers) -> None:
    now = 1_758_700_500_000_000
    rows = []
    for ratio in ("1.5", "1.5", "1.6"):
        values: Row = {"timestamp": now, "exchange": "e", "market_type": "m", "symbol": "s", "long_short_ratio": ratio,
                       "long_position_ratio": "0.6", "short_position_ratio": "0.4", "period": "5m", "data_source": ""}  # fmt: skip
        rows.append(tuple(values.get(column.name) for column in LSR_TOP_POSITIONS.inserted))
    empty.insert(LSR_TOP_POSITIONS, rows, 1)
    found = empty.query(
        "SELECT publications, revisions, toString(long_short_ratio) FROM {hot}.lsr_top_position_buckets"
    )
    assert found == [(3, 1, "1.6")]


@pytest.mark.parametrize(
    ("period", "seconds"), [("5m", 300), ("1H", 3600), ("1d", 86_400), ("15m", 900), ("", 1), ("x", 1)]
)
def test_a_period_in_seconds(tiers: Tiers, period: str, seconds: int) -> None:
    assert tiers.query(f"SELECT {bucket_seconds(f'{period!r}')}") == [(seconds,)]
