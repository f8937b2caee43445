"""The market in steps: ClickHouse reads the rows, and gives no more than can be drawn. Floats, which become pixels; exact are the views.

Where cold is on a server of its own each server is asked, and what both have of one step is put together here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, NamedTuple, TypeVar

from marketprism_console.coverage.cells import DAY, SECOND, MarketKey
from marketprism_console.coverage.queries import Coverage
from marketprism_console.market.steps import TimeColumns, TimeWindow
from marketprism_console.sources import Sources
from marketprism_consumer.clickhouse.client import ClickHouse
from marketprism_consumer.operations.questions import NAMED, TIME_SPAN
from marketprism_consumer.schema.tables import (
    FUNDING_RATES,
    LIQUIDATIONS,
    OPEN_INTERESTS,
    ORDERBOOKS,
    TRADES,
    Table,
)
from marketprism_consumer.schema.views import SERIES, VIEWS, everything

SHOWN = (TRADES, ORDERBOOKS, FUNDING_RATES, OPEN_INTERESTS, LIQUIDATIONS)
LEVELS = 200
"""Of a book, on each side."""

WITHIN = TIME_SPAN.format("timestamp")
OF_MARKET = " AND ".join((*NAMED.values(), WITHIN))
STEP = "intDiv(toUnixTimestamp(timestamp), {step:UInt32}) * {step:UInt32} AS at"
# As `candles_1m` has it (time, the venue's number, arrival), in one number: as a tuple it takes three times the CPU.
ORDER = (
    "bitOr(bitOr(bitShiftLeft(toUInt256(toUnixTimestamp64Micro(timestamp)), 128),"
    " bitShiftLeft(toUInt256(toUInt64OrZero(trade_id)), 64)), toUInt256(_seq))"
)
ARRIVAL = "bitOr(bitShiftLeft(toUInt128(toUnixTimestamp64Micro(timestamp)), 64), toUInt128(_seq))"
CANDLES = f"""\
SELECT {STEP}, toFloat64(argMin(price, {ORDER})), toFloat64(max(price)), toFloat64(min(price)), toFloat64(argMax(price, {ORDER})),
    sum(toFloat64(quantity)), count(), toUnixTimestamp64Micro(min(timestamp)), toUnixTimestamp64Micro(max(timestamp))
FROM ({{rows}}) GROUP BY at"""
# A side without a level has no price, or one of quantity 0.
QUOTES = f"""\
SELECT {STEP}, toFloat64(argMax(best_bid_price, {ARRIVAL})), toFloat64(argMax(best_ask_price, {ARRIVAL})),
    avg(toFloat64(best_ask_price - best_bid_price) / toFloat64(best_bid_price)) * 10000, toUnixTimestamp64Micro(max(timestamp))
FROM ({{rows}}) WHERE best_bid_quantity > 0 AND best_ask_quantity > 0 AND best_bid_price > 0 GROUP BY at"""
LAST = f"""\
SELECT {STEP}, toFloat64(argMax({{column}}, {ARRIVAL})), toUnixTimestamp64Micro(max(timestamp)) FROM ({{rows}}) GROUP BY at"""
CLOSED = f"""\
SELECT {STEP}, sumIf(toFloat64(quantity), side = 'buy'), sumIf(toFloat64(quantity), side != 'buy') FROM ({{rows}}) GROUP BY at"""
MARKETS = f"""\
SELECT {SERIES}, count(), toUnixTimestamp64Micro(min(timestamp)), toUnixTimestamp64Micro(max(timestamp))
FROM ({{rows}}) GROUP BY {SERIES}"""
BOOK_AT = next(view for view in VIEWS if view.name == "book_at")


class Candle(NamedTuple):
    """`first` and `last`: the times of its outermost trades [µs since 1970]."""

    open: float
    high: float
    low: float
    close: float
    volume: float
    trades: int
    first: int
    last: int


class Quote(NamedTuple):
    """The last of a step; `spread`: the mean of all books in it [basis points]."""

    bid: float
    ask: float
    spread: float
    moment: int


class Measured(NamedTuple):
    """The last value of a step."""

    value: float
    moment: int


class Closed(NamedTuple):
    """Quantities that were closed by force: of shorts, which are bought back, and of longs, which are sold."""

    bought: float
    sold: float


class BookLevel(NamedTuple):
    side: str
    price: float
    quantity: float
    snapshot: datetime | None


T = TypeVar("T")
Last = TypeVar("Last", Quote, Measured)


class SeenMarket(NamedTuple):
    """`rows` of all tables that are shown; `first`, `last`: of these [µs since 1970]."""

    market: MarketKey
    rows: int
    first: int
    last: int


@dataclass(frozen=True, slots=True)
class MarketPicture:
    """By the start of the step [s since 1970]."""

    columns: TimeColumns
    candles: Mapping[int, Candle] = field(default_factory=dict)
    quotes: Mapping[int, Quote] = field(default_factory=dict)
    funding: Mapping[int, Measured] = field(default_factory=dict)
    open_interest: Mapping[int, Measured] = field(default_factory=dict)
    closed: Mapping[int, Closed] = field(default_factory=dict)


def one_candle(one: Candle, other: Candle) -> Candle:
    early, late = (one, other) if one.first <= other.first else (other, one)
    last = one if one.last >= other.last else other
    return Candle(
        early.open,
        max(one.high, other.high),
        min(one.low, other.low),
        last.close,
        one.volume + other.volume,
        one.trades + other.trades,
        early.first,
        max(early.last, late.last),
    )


def later(one: Last, other: Last) -> Last:
    return one if one.moment >= other.moment else other


def both_closed(one: Closed, other: Closed) -> Closed:
    return Closed(one.bought + other.bought, one.sold + other.sold)


@dataclass
class MarketRows:
    """Each call raises StoreError."""

    sources: Sources
    coverage: Coverage

    @property
    def tables(self) -> list[Table]:
        """Of those that are shown, the pipeline's."""
        return [table for table in SHOWN if table.data_type in self.sources.settings.data_types]

    async def newest(self) -> int | None:
        """When the last day begins that has a row, and that is not ahead [µs since 1970]."""
        stamped = [table for table in self.tables if table is not FUNDING_RATES]  # those may be of a settlement to come
        days = await asyncio.gather(*map(self.coverage.newest, stamped))
        today = int(datetime.now(UTC).timestamp()) * SECOND // DAY * DAY
        return min(max((day for day in days if day is not None), default=today), today) if any(days) else None

    async def markets(self, window: TimeWindow) -> list[SeenMarket]:
        """That have a row in it, those with the most first."""
        given = {"since": window.since, "until": window.until}
        answers = await asyncio.gather(*(self._ask(table, MARKETS, WITHIN, given) for table in self.tables))
        found: dict[MarketKey, SeenMarket] = {}
        for exchange, kind, symbol, rows, first, last in (row for answer in answers for row in answer):
            one = SeenMarket((exchange, kind, symbol), rows, first, last)
            if known := found.get(one.market):
                one = SeenMarket(one.market, known.rows + rows, min(known.first, first), max(known.last, last))
            found[one.market] = one
        return sorted(found.values(), key=lambda one: (-one.rows, one.market))

    async def picture(self, market: MarketKey, columns: TimeColumns, *, candles_only: bool = False) -> MarketPicture:
        """All that there is of it in these columns."""

        async def steps(table: Table, sql: str, make: Callable[..., T], join: Callable[[T, T], T]) -> dict[int, T]:
            if table not in self.tables or (candles_only and table is not TRADES):
                return {}
            found: dict[int, T] = {}
            for at, *values in await self._ask(table, sql, OF_MARKET, given):
                one = make(*values)
                found[at] = join(found[at], one) if at in found else one
            return found

        given = {**_named(market), "since": columns.window.since, "until": columns.window.until, "step": columns.step}
        funding, interest = (LAST.replace("{column}", name) for name in ("funding_rate", "open_interest_value"))
        candles, quotes, funded, held, closed = await asyncio.gather(
            steps(TRADES, CANDLES, Candle, one_candle),
            steps(ORDERBOOKS, QUOTES, Quote, later),
            steps(FUNDING_RATES, funding, Measured, later),
            steps(OPEN_INTERESTS, interest, Measured, later),
            steps(LIQUIDATIONS, CLOSED, Closed, both_closed),
        )
        return MarketPicture(columns, candles, quotes, funded, held, closed)

    async def book(self, market: MarketKey, at: int) -> list[BookLevel]:
        """As it stood then, best first: bids, then asks. Nothing where the 24 hours before have no book."""
        if ORDERBOOKS not in self.tables:
            return []
        hot, cold = self.sources.hot, self.sources.cold
        asked = [(hot.clickhouse, hot.database, cold.database)]
        if self.sources.cold_is_elsewhere:  # each has the whole of what it has
            asked = [(tier.clickhouse, tier.database, tier.database) for tier in (hot, cold)]
        given = {**_named(market), "at": datetime.fromtimestamp(at / SECOND, UTC).strftime("%Y-%m-%d %H:%M:%S.%f")}
        found: list[BookLevel] = []
        for server, in_hot, in_cold in asked:
            sql = (
                f"SELECT side, toFloat64(price), toFloat64(quantity), snapshot_at FROM ({BOOK_AT.select(in_hot, in_cold)})"
                f" WHERE level <= {LEVELS} ORDER BY side DESC, level"
            )
            found = [BookLevel(*row) for row in await server.query(sql, given)] or found
            if found and found[0].snapshot:
                break
        return found

    async def _ask(self, table: Table, sql: str, where: str, given: Mapping[str, Any]) -> list[tuple[Any, ...]]:
        answers = await asyncio.gather(
            *(server.query(sql.replace("{rows}", rows), given) for server, rows in self._rows(table, where))
        )
        return [row for answer in answers for row in answer]

    def _rows(self, table: Table, where: str) -> Sequence[tuple[ClickHouse, str]]:
        hot, cold = self.sources.hot, self.sources.cold
        if self.sources.cold_is_elsewhere:
            return [(tier.clickhouse, f"SELECT * FROM {tier.table(table)} WHERE {where}") for tier in (hot, cold)]
        return [(hot.clickhouse, everything(hot.database, cold.database, table, where))]


def _named(market: MarketKey) -> dict[str, str]:
    return dict(zip(("exchange", "market_type", "symbol"), market, strict=True))
