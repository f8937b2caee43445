"""Clean market data of a day of its own for each test, and the faults that are planted into it by hand."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from marketprism_api.data_types import BUILT_IN, ValidationLimits
from marketprism_api.settings import Settings, effective
from marketprism_consumer.clickhouse import schema
from marketprism_consumer.clickhouse.client import ClickHouse
from marketprism_consumer.clickhouse.store import ClickHouseStore
from marketprism_consumer.schema.tables import BY_DATA_TYPE, Table
from marketprism_consumer.validation.run import Report, Validation, ValidationFinding, ValidationRequest
from marketprism_embedded.process import EmbeddedServer
from tests.blocks import block_of, seconds_from_now

SECOND = 1_000_000
DAY = 86_400 * SECOND
FIRST_DAY = 1_758_672_000 * SECOND  # 2025-09-24
STREAM = "S@1"
_days = itertools.count(2)  # the first is the feed's

Row = dict[str, Any]


@dataclass
class Site:
    """Both databases, and the days that tests have taken."""

    settings: Settings
    hot: ClickHouseStore
    cold: ClickHouseStore
    loop: asyncio.Runner
    seq: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    def insert(
        self, table: Table, rows: Sequence[tuple[Any, ...]], tier: str = "hot", seqs: Sequence[int] = ()
    ) -> None:
        store = self.hot if tier == "hot" else self.cold
        seqs = seqs or [next(self.seq) for _ in rows]
        block = block_of(table, rows, seqs, [STREAM] * len(rows))

        async def insert() -> None:
            await store.insert(block, seconds_from_now())

        self.loop.run(insert())

    def validate(
        self,
        since: int,
        until: int,
        types: Sequence[str] = tuple(BUILT_IN),
        limits: ValidationLimits | None = None,
        slice_rows: int = 2_000_000,
        **chosen: Sequence[str],
    ) -> Report:
        given = (
            dict.fromkeys(BUILT_IN, limits) if limits else {name: each.validation for name, each in BUILT_IN.items()}
        )
        validation = Validation(
            self.hot.clickhouse, self.hot.database, self.cold.database, BUILT_IN, given, slice_rows=slice_rows
        )
        return self.loop.run(validation.run(ValidationRequest(since, until, types, **chosen)))


@pytest.fixture(scope="session")
def site(clickhouse_server: EmbeddedServer, loop: asyncio.Runner) -> Iterator[Site]:
    environ = {
        "CLICKHOUSE_HTTP_URL": clickhouse_server.url,
        "CLICKHOUSE_HOT_DB": "validated_hot",
        "CLICKHOUSE_COLD_DB": "validated_cold",
    }
    clickhouse = ClickHouse([clickhouse_server.url])
    hot, cold = ClickHouseStore(clickhouse, "validated_hot"), ClickHouseStore(clickhouse, "validated_cold")
    settings = effective(None, environ)
    loop.run(schema.apply(clickhouse, settings))
    yield Site(settings, hot, cold, loop)
    loop.run(clickhouse.close())


@dataclass
class Day:
    """Ten minutes of clean rows, of three symbols in turn, one row a second each, from 08:00 on."""

    site: Site
    data_type: str
    start: int
    rows: list[Row]

    def of(self, symbol: str) -> list[Row]:
        return [row for row in self.rows if row["symbol"] == symbol]

    def store(self, tier: str = "hot") -> None:
        table = BY_DATA_TYPE[str(self.data_type)]
        self.site.insert(table, [tuple(row.get(c.name) for c in table.inserted) for row in self.rows], tier)

    def validate(self, tail: int = 700, **more: Any) -> Report:
        return self.site.validate(self.start - 600 * SECOND, self.start + tail * SECOND, [self.data_type], **more)

    def found(self, **more: Any) -> list[ValidationFinding]:
        """Stores, and validates this day."""
        self.store()
        return self.validate(**more).findings


SYMBOLS = ("AAA", "BBB", "C'C")


def _clean(data_type: str, number: int, at: int, symbol: str) -> Row:
    """`number`: how many rows the symbol had before."""
    own: Row = {}
    match data_type:
        case "trade":
            price = str(100 + number % 7)
            own = {"trade_id": str(1000 + number), "price": price, "quantity": "2", "trade_time": at}
            own |= {"side": "buy" if number % 3 else "sell"}
        case "orderbook":
            bids, asks = ["99", "98", "97"], ["101", "102", "103"]
            own = {
                "last_update_id": 10 * number + 10,
                "first_update_id": 10 * number + 1,
                "prev_update_id": 10 * number,
            }
            own |= {
                "update_type": "snapshot",
                "bids_count": 3,
                "asks_count": 3,
                "best_bid_price": "99",
                "best_ask_price": "101",
            }
            own |= {"best_bid_quantity": "1", "best_ask_quantity": "1", "bid_prices": bids, "ask_prices": asks}
            own |= {"bid_quantities": ["1", "2", "3"], "ask_quantities": ["1", "2", "3"]}
        case "funding_rate":
            own = {"funding_rate": "-0.0001", "funding_interval": "1m"}
        case "open_interest":
            own = {"open_interest_value": "12345.5"}
        case "liquidation":
            own = {
                "liquidation_id": f"{symbol}{number}",
                "side": "sell",
                "price": "100",
                "quantity": "1",
                "liquidation_time": at,
            }
        case "lsr_top_position" | "lsr_all_account":
            kind = "position" if data_type == "lsr_top_position" else "account"
            own = {"long_short_ratio": "1.5", f"long_{kind}_ratio": "0.6", f"short_{kind}_ratio": "0.4", "period": "1m"}
            at -= at % (60 * SECOND)  # the start of its bucket, published again each second
        case "volatility_index":
            own = {"currency": symbol, "volatility_index": "31.87"}
    head = {
        "timestamp": at,
        "exchange": "e",
        "market_type": "m",
        "symbol": symbol,
        "data_source": "",
        "collected_at": at + 50_000,
    }
    return head | own


@pytest.fixture
def day(site: Site) -> Any:
    """Makes a day of the data type."""

    def make(data_type: str, seconds: int = 600) -> Day:
        start = FIRST_DAY + next(_days) * 2 * DAY + 8 * 3600 * SECOND
        rows = [
            _clean(data_type, second, start + second * SECOND + place * 1000, symbol)
            for second in range(seconds)
            for place, symbol in enumerate(SYMBOLS)
        ]
        return Day(site, data_type, start, rows)

    return make
