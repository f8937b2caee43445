"""The tables, made of the data types' declarations: the one definition behind DDL, insert, look-up and audit.

Rules that shaped the types: absent is not zero, so what the wire may leave out is Nullable; decimals are exact and wide
(a price of 1e-10, a quantity of 1e13, a ratio of 28 digits); times are microseconds UTC, as fine as any venue is.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, cached_property
from typing import Literal

from marketprism_api.data_types import BUILT_IN, Declaration
from marketprism_api.data_types.declaration import DECIMAL, DECIMALS, DELTA, RATIO, TEXT, TIME, kind_of, nullable

__all__ = ["DECIMAL", "DECIMALS", "RATIO", "TEXT", "TIME", "nullable"]


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
    order_by: tuple[str, ...]
    partition: Literal["hour", "day"]
    """Of hot."""

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

_SET = (
    # The fence: an insert that arrives after its `_expires` is refused by ClickHouse itself, so that a consumer that was
    # stopped between its decision and its request can't store what another has stored meanwhile.
    Column(
        "created_at",
        "DateTime64(3, 'UTC')",
        DELTA,
        default=f"now64(3, 'UTC') + throwIf(now() > {EXPIRES}, 'insert came after its _expires')",
    ),
    Column("_stream", TEXT, default="''"),
    Column("_seq", "UInt64", DELTA, default="0"),
    Column(EXPIRES, "DateTime", default="toDateTime('2106-01-01 00:00:00')", kind="EPHEMERAL"),
)
_TAIL_DEFAULTS = {"data_source": "''", "collected_at": "NULL"}  # rows that people insert themselves may lack them


@cache
def table_of(declaration: Declaration) -> Table:
    """Of both tiers."""
    own = (*declaration.place, *declaration.fields)
    return Table(
        declaration.table,
        declaration.name,
        (
            *(Column(*column) for column in declaration.time.columns),
            *(Column(*column) for each in own for column in each.columns),
            *(Column(alias.name, alias.type, default=alias.expression, kind="ALIAS") for alias in declaration.aliases),
            *(
                Column(*column, default=_TAIL_DEFAULTS[each.name])
                for each in declaration.tail
                for column in each.columns
            ),
            *_SET,
        ),
        declaration.order_by,
        declaration.partition,
    )


_EPOCH = {3: "toUnixTimestamp64Milli", 6: "toUnixTimestamp64Micro", 9: "toUnixTimestamp64Nano"}


def exact(column: Column) -> str:
    """A column as an SQL expression that gives what a decoded row holds: times as numbers, UUIDs as text."""
    name = f"`{column.name}`"
    if column.name in SET_ON_INSERT or column.kind != "DEFAULT":
        return name
    kind = kind_of(column.type)
    one = kind.of or kind
    if one.name == "DateTime64":
        function = _EPOCH[one.numbers[0]]
    elif one.name == "UUID":
        function = "toString"
    else:
        return name
    return f"arrayMap(each -> {function}(each), {name})" if kind.of else f"{function}({name})"


BY_DATA_TYPE: dict[str, Table] = {name: table_of(declaration) for name, declaration in BUILT_IN.items()}
"""Those that are built in."""
TABLES: tuple[Table, ...] = tuple(BY_DATA_TYPE.values())

TRADES = BY_DATA_TYPE["trade"]
ORDERBOOKS = BY_DATA_TYPE["orderbook"]
FUNDING_RATES = BY_DATA_TYPE["funding_rate"]
OPEN_INTERESTS = BY_DATA_TYPE["open_interest"]
LIQUIDATIONS = BY_DATA_TYPE["liquidation"]
LSR_TOP_POSITIONS = BY_DATA_TYPE["lsr_top_position"]
LSR_ALL_ACCOUNTS = BY_DATA_TYPE["lsr_all_account"]
VOLATILITY_INDICES = BY_DATA_TYPE["volatility_index"]
