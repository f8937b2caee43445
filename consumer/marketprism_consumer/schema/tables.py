"""The eight tables: the one definition behind DDL, insert, look-up and audit.

Rules that shaped the types: absent is not zero, so what the wire may leave out is Nullable; decimals are exact and wide
(a price of 1e-10, a quantity of 1e13, a ratio of 28 digits); times are microseconds UTC, as fine as any venue is.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

TIME = "DateTime64(6, 'UTC')"
TEXT = "LowCardinality(String)"
TEXT_OR_NULL = "LowCardinality(Nullable(String))"
DECIMAL = "Decimal(38, 18)"
RATIO = "Decimal(38, 28)"
DECIMALS = f"Array({DECIMAL})"


def nullable(type_: str) -> str:
    return f"Nullable({type_})"


@dataclass(frozen=True, slots=True)
class Column:
    """`default` is an SQL expression; `kind` is DEFAULT, ALIAS or EPHEMERAL, as ClickHouse names them."""

    name: str
    type: str
    codec: str = ""
    default: str = ""
    kind: str = "DEFAULT"


@dataclass(frozen=True)
class Table:
    """`columns` in table order. `inserted` are those that ingest writes, in the order of a decoded row's values."""

    name: str
    data_type: str
    columns: tuple[Column, ...]

    @cached_property
    def inserted(self) -> tuple[Column, ...]:
        return tuple(c for c in self.columns if c.kind == "DEFAULT" and c.name not in SET_ON_INSERT)

    @cached_property
    def stored(self) -> tuple[Column, ...]:
        return tuple(c for c in self.columns if c.kind == "DEFAULT")

    def column(self, name: str) -> Column:
        return next(c for c in self.columns if c.name == name)


EXPIRES = "_expires"
# Not part of a decoded row: ClickHouse sets the first, the batch knows the others.
SET_ON_INSERT = frozenset({"created_at", "_stream", "_seq"})

_DELTA = "Delta, ZSTD"

HEAD = (
    Column("timestamp", TIME, _DELTA),
    Column("exchange", TEXT),
    Column("market_type", TEXT),
    Column("symbol", TEXT),
)
TAIL = (
    Column("data_source", TEXT, default="''"),
    Column("collected_at", nullable(TIME), "ZSTD", default="NULL"),
    # The fence: an insert that arrives after its `_expires` is refused by ClickHouse itself, so that a consumer that was
    # stopped between its decision and its request can't store what another has stored meanwhile.
    Column(
        "created_at",
        "DateTime64(3, 'UTC')",
        _DELTA,
        default=f"now64(3, 'UTC') + throwIf(now() > {EXPIRES}, 'insert came after its _expires')",
    ),
    Column("_stream", TEXT, default="''"),
    Column("_seq", "UInt64", _DELTA, default="0"),
    Column(EXPIRES, "DateTime", default="toDateTime('2106-01-01 00:00:00')", kind="EPHEMERAL"),
)
# Decimal(38,18) * Decimal(38,18) overflows silently in ClickHouse; multiplyDecimal does not.
NOTIONAL = Column("notional", "Decimal(76, 18)", default="multiplyDecimal(price, quantity, 18)", kind="ALIAS")


def _table(name: str, data_type: str, *own: Column) -> Table:
    return Table(name, data_type, (*HEAD, *own, *TAIL))


TRADES = _table(
    "trades",
    "trade",
    Column("trade_id", "String"),
    Column("price", DECIMAL),
    Column("quantity", DECIMAL),
    Column("side", TEXT),
    Column("is_maker", nullable("Bool")),
    Column("trade_time", TIME, _DELTA),
    NOTIONAL,
)
ORDERBOOKS = _table(
    "orderbooks",
    "orderbook",
    Column("last_update_id", nullable("UInt64")),
    Column("first_update_id", nullable("UInt64")),
    Column("prev_update_id", nullable("UInt64")),
    Column("update_type", TEXT_OR_NULL),
    Column("depth_levels", nullable("UInt32")),
    Column("bids_count", "UInt32"),
    Column("asks_count", "UInt32"),
    Column("best_bid_price", nullable(DECIMAL)),
    Column("best_bid_quantity", nullable(DECIMAL)),
    Column("best_ask_price", nullable(DECIMAL)),
    Column("best_ask_quantity", nullable(DECIMAL)),
    Column("bid_prices", DECIMALS),
    Column("bid_quantities", DECIMALS),
    Column("ask_prices", DECIMALS),
    Column("ask_quantities", DECIMALS),
    Column("standardized_at", nullable(TIME)),
    Column("bids", f"Array(Tuple({DECIMAL}, {DECIMAL}))", default="arrayZip(bid_prices, bid_quantities)", kind="ALIAS"),
    Column("asks", f"Array(Tuple({DECIMAL}, {DECIMAL}))", default="arrayZip(ask_prices, ask_quantities)", kind="ALIAS"),
)
FUNDING_RATES = _table(
    "funding_rates",
    "funding_rate",
    Column("funding_rate", DECIMAL),
    Column("estimated_funding_rate", nullable(DECIMAL)),
    Column("next_funding_time", nullable(TIME)),
    Column("funding_interval", TEXT_OR_NULL),
    Column("mark_price", nullable(DECIMAL)),
    Column("index_price", nullable(DECIMAL)),
    Column("premium_index", nullable(DECIMAL)),
    Column("instrument_id", TEXT_OR_NULL),
)
OPEN_INTERESTS = _table(
    "open_interests",
    "open_interest",
    Column("open_interest_value", DECIMAL),
    Column("open_interest_usd", nullable(DECIMAL)),
    Column("open_interest_unit", TEXT_OR_NULL),
    Column("mark_price", nullable(DECIMAL)),
    Column("index_price", nullable(DECIMAL)),
    Column("change_24h", nullable(DECIMAL)),
    Column("change_24h_percent", nullable(DECIMAL)),
    Column("instrument_id", TEXT_OR_NULL),
)
LIQUIDATIONS = _table(
    "liquidations",
    "liquidation",
    Column("liquidation_id", "String"),
    Column("side", TEXT),
    Column("status", TEXT_OR_NULL),
    Column("price", DECIMAL),
    Column("quantity", DECIMAL),
    Column("filled_quantity", nullable(DECIMAL)),
    Column("notional_value", nullable(DECIMAL)),
    Column("average_price", nullable(DECIMAL)),
    Column("bankruptcy_price", nullable(DECIMAL)),
    Column("margin_ratio", nullable(DECIMAL)),
    Column("liquidation_time", TIME, _DELTA),
    Column("aggregation_mode", TEXT_OR_NULL),
    Column("instrument_id", TEXT_OR_NULL),
    NOTIONAL,
)
LSR_TOP_POSITIONS = _table(
    "lsr_top_positions",
    "lsr_top_position",
    Column("long_short_ratio", RATIO),
    Column("long_position_ratio", RATIO),
    Column("short_position_ratio", RATIO),
    Column("period", TEXT_OR_NULL),
    Column("instrument_id", TEXT_OR_NULL),
)
LSR_ALL_ACCOUNTS = _table(
    "lsr_all_accounts",
    "lsr_all_account",
    Column("long_short_ratio", RATIO),
    Column("long_account_ratio", RATIO),
    Column("short_account_ratio", RATIO),
    Column("period", TEXT_OR_NULL),
    Column("instrument_id", TEXT_OR_NULL),
)
VOLATILITY_INDICES = _table(
    "volatility_indices",
    "volatility_index",
    Column("currency", TEXT_OR_NULL),
    Column("volatility_index", nullable(DECIMAL)),
)

TABLES: tuple[Table, ...] = (
    ORDERBOOKS,
    TRADES,
    FUNDING_RATES,
    OPEN_INTERESTS,
    LIQUIDATIONS,
    LSR_TOP_POSITIONS,
    LSR_ALL_ACCOUNTS,
    VOLATILITY_INDICES,
)
BY_DATA_TYPE: dict[str, Table] = {table.data_type: table for table in TABLES}
