"""What a data type is, said once: from it follow its tables, how a message is decoded, its batch, and what validation looks for.

A field's type is that of its column in ClickHouse: what may be left out of a message is Nullable, and all else must be there.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from typing import Literal, TypeAlias

MIB = 1024 * 1024

TIME = "DateTime64(6, 'UTC')"
TEXT = "LowCardinality(String)"
TEXT_OR_NULL = "LowCardinality(Nullable(String))"
DECIMAL = "Decimal(38, 18)"
RATIO = "Decimal(38, 28)"
DECIMALS = f"Array({DECIMAL})"


def nullable(type_: str) -> str:
    """The column's type where a value may be left out."""
    return f"Nullable({type_})"


NumberCheck = Literal["", "positive", "notNegative", "price"]
"""Of a number. `price`: positive in the market types that the pipeline says."""
Unit = Literal["", "s", "ms", "us", "ns"]
"""Of a time that is a number; without one it is told by its size."""
Words: TypeAlias = tuple[tuple[str, str], ...]
OwnRule = Literal["", "bookType", "fundingInterval", "liquidationId"]
"""A rule of one data type's own (`ingest/decode.py`)."""


@dataclass(frozen=True, slots=True)
class BatchLimits:
    """When rows are written. A batch is due at `max_rows`, `max_bytes` or `max_delay`, whichever comes first."""

    max_rows: int
    max_delay: float
    """Seconds since the batch's first row."""
    max_pending: int
    """Messages read and not stored. A batch that is due takes what has piled up, up to this many."""
    max_bytes: int = 8 * MIB
    """Bytes of payload."""


@dataclass(frozen=True, slots=True)
class ValidationLimits:
    """What counts as wrong in stored rows. Times in seconds. 0 switches a check off."""

    max_silence: float = 0
    """Between two rows of one symbol, and since its last; never less than 20 times its usual pause."""
    max_jump: float = 0
    """A price against the median of the five before and the five after it: 0.1 is a tenth off."""
    max_value: float = 0
    """Of a price, rate, ratio, index or open interest, whichever sign it has."""
    max_quantity: float = 0
    max_ahead: float = 2
    """How far an event's time may lie after its arrival at the collector."""
    max_delay: float = 60
    """How long after its time an event may arrive."""
    max_unknown_sides: float = 0
    """The part of the rows that may have the side `unknown`."""
    max_repeats: float = 0
    """Publications of one source bucket."""
    positive_prices: frozenset[str] = frozenset(("spot", "perpetual", "options"))
    """Market types in which no price is zero or less."""


@dataclass(frozen=True, slots=True)
class DeclaredField:
    """A column, and where its value stands in a message."""

    name: str
    type: str
    places: tuple[str, ...] = ()
    """The first that is there, and not null, is taken: a name, or a path of names such as `data.p`, where a number is a place in a list
    and `*` the only one. None given: the field's own name."""
    check: NumberCheck = ""
    words: Words = ()
    """What a message may say, in any case, and what is stored for it: nothing else."""
    mapped: Words = ()
    """What is read in place of a message's word, exactly; others are read as they are."""
    nothing: tuple[str, ...] = ()
    """What a venue writes instead of leaving it out, as JSON."""
    absent: str | None = None
    """What is stored where it is left out, of a text."""
    length: int = 256
    """Characters of a text, at most."""
    may_be_empty: bool = False
    """Of a text that has to be there."""
    unit: Unit = ""
    constant: str | None = None
    """JSON, read in place of the message's."""
    token: int = 0
    """Of the subject, counted from 1; read in place of the message's where above 0."""
    rule: OwnRule = ""
    codec: str = ""
    description: str = ""

    @property
    def columns(self) -> tuple[tuple[str, str, str], ...]:
        """Name, type and codec of each."""
        return ((self.name, self.type, self.codec),)

    @property
    def message_fields(self) -> tuple[DeclaredField, ...]:
        """Itself."""
        return (self,)


@dataclass(frozen=True, slots=True)
class Levels:
    """Both sides of an order book. `level`: where price and quantity stand in one of their levels, by name or by number."""

    bids: DeclaredField = DeclaredField("bids", DECIMALS)
    asks: DeclaredField = DeclaredField("asks", DECIMALS)
    level: tuple[str, str] | None = None
    """None: `price` and `quantity` by name, or a pair of the two."""

    @property
    def message_fields(self) -> tuple[DeclaredField, ...]:
        """Both sides."""
        return (self.bids, self.asks)

    @property
    def columns(self) -> tuple[tuple[str, str, str], ...]:
        """How many, the best of each, and all of them."""
        best = (f"best_{side}_{what}" for side in ("bid", "ask") for what in ("price", "quantity"))
        each = (f"{side}_{what}" for side in ("bid", "ask") for what in ("prices", "quantities"))
        return (
            ("bids_count", "UInt32", ""),
            ("asks_count", "UInt32", ""),
            *((name, nullable(DECIMAL), "") for name in best),
            *((name, DECIMALS, "") for name in each),
        )


@dataclass(frozen=True, slots=True)
class Alias:
    """A column that is reckoned when it is read."""

    name: str
    type: str
    expression: str


DELTA = "Delta, ZSTD"

PLACE = (
    DeclaredField("exchange", TEXT, length=128, description="The venue, such as binance_spot."),
    DeclaredField("market_type", TEXT, length=128, description="Such as spot, perpetual or options."),
    DeclaredField("symbol", TEXT, length=128, description="The instrument, such as BTC-USDT."),
)
TAIL = (
    DeclaredField("data_source", TEXT, absent="", description="The collector that published it."),
    DeclaredField(
        "collected_at",
        nullable(TIME),
        ("collected_at", "collected_ts_ms"),
        codec="ZSTD",
        description="When the collector had it.",
    ),
)


@dataclass(frozen=True, kw_only=True)
class Declaration:
    """A data type. Its rows begin with `timestamp`, `exchange`, `market_type` and `symbol`, by which tables are sorted, and end with
    where they come from; `fields` are its own, in the order of the columns."""

    name: str
    table: str
    """In both databases."""
    description: str
    fields: tuple[DeclaredField | Levels, ...]
    batch: BatchLimits
    """That the product promises where a user says nothing."""
    validation: ValidationLimits = ValidationLimits()
    subject: str = ""
    """The subjects that carry it: `trade.>`. Not given: those whose first token is the name."""
    time: DeclaredField = DeclaredField(
        "timestamp", TIME, ("timestamp", "ts_ms"), codec=DELTA, description="When it happened, UTC."
    )
    place: tuple[DeclaredField, ...] = PLACE
    tail: tuple[DeclaredField, ...] = TAIL
    aliases: tuple[Alias, ...] = ()
    order_by: tuple[str, ...] = ("exchange", "market_type", "symbol", "timestamp")
    partition: Literal["hour", "day"] = "hour"
    """Of hot, which is moved and dropped by such. Cold's is a day."""
    claimed: str = "data_type"
    """Where a message says what it is; empty: it does not."""

    def __post_init__(self) -> None:
        if not self.subject:
            object.__setattr__(self, "subject", f"{self.name}.>")

    def __hash__(self) -> int:
        return hash(
            (self.name, self.table, self.subject)
        )  # of all its fields it would cost more than decoding a message

    @property
    def exchange_token(self) -> int:
        """Of a subject, which tells the venue of what can't be a row; from 1."""
        return self.field("exchange").token or 2

    @property
    def all_fields(self) -> tuple[DeclaredField | Levels, ...]:
        """In the order of the columns."""
        return (self.time, *self.place, *self.fields, *self.tail)

    @property
    def message_fields(self) -> tuple[DeclaredField, ...]:
        """What is looked for in a message: of an order book's levels both sides."""
        return tuple(one for each in self.all_fields for one in each.message_fields)

    def field(self, name: str) -> DeclaredField:
        """Raises KeyError. `bids` and `asks` are those of the levels."""
        for each in self.message_fields:
            if each.name == name:
                return each
        raise KeyError(name)

    @property
    def decoding(self) -> str:
        """All that decides on the row of a message: two that are equal make equal rows."""
        fields = (
            replace(each, description="", codec="") if isinstance(each, DeclaredField) else each
            for each in self.all_fields
        )
        return repr((self.name, self.claimed, *fields))

    @property
    def names(self) -> tuple[str, ...]:
        """Of all fields that a message may have."""
        return tuple(each.name for each in self.message_fields)


NOTIONAL = Alias("notional", "Decimal(76, 18)", "multiplyDecimal(price, quantity, 18)")
"""Decimal(38, 18) * Decimal(38, 18) overflows silently in ClickHouse; multiplyDecimal does not."""

SIDES: Words = tuple((side, side) for side in ("buy", "sell", "unknown"))


@dataclass(frozen=True, slots=True)
class Kind:
    """A column's type taken apart: `Nullable(Decimal(38, 18))` is Decimal of 38 and 18."""

    name: str
    numbers: tuple[int, ...] = ()
    nullable: bool = False
    of: Kind | None = field(default=None)
    """An array's."""


def kind_of(type_: str) -> Kind:
    """Of a column's type. Raises ValueError where it is none of those that a data type may have."""
    text = type_
    may_be_null = False
    if text.startswith("LowCardinality(") and text.endswith(")"):
        text = text[15:-1]
        if text not in ("String", "Nullable(String)"):
            raise ValueError(f"{type_}: only a String is LowCardinality here")
    if text.startswith("Nullable(") and text.endswith(")"):
        text, may_be_null = text[9:-1], True
    if text.startswith("Array(") and text.endswith(")"):
        if may_be_null:
            raise ValueError(f"{type_}: an array is never null in ClickHouse")
        inner = kind_of(text[6:-1])
        if inner.of:
            raise ValueError(f"{type_}: an array of arrays is not taken")
        return Kind("Array", of=inner)
    if text in ("String", "Bool", "UUID", "Float64"):
        return Kind(text, nullable=may_be_null)
    if match := re.fullmatch(r"(U?)Int(8|16|32|64|128|256)", text):
        return Kind(f"{match[1]}Int", (int(match[2]),), may_be_null)
    if match := re.fullmatch(r"Decimal\(([1-9][0-9]?), ?([0-9]{1,2})\)", text):
        precision, scale = int(match[1]), int(match[2])
        if precision <= 76 and scale <= precision:
            return Kind("Decimal", (precision, scale), may_be_null)
        raise ValueError(f"{type_}: a decimal has 76 digits at most, and not more of them after the point than in all")
    if match := re.fullmatch(r"DateTime64\(([369]), ?'UTC'\)", text):
        return Kind("DateTime64", (int(match[1]),), may_be_null)
    raise ValueError(f"{type_} is not a type that a data type may have")
