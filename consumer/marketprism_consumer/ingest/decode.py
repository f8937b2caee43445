"""A message's bytes to a row's values, or a refusal with its reason. Pure: no clock, no I/O.

`decode` is the one rule, written as a table of fields for each data type. Trades and order books are 99 % of a feed: for the
forms in which nearly all of them come, `decode_fast.py` gives the same row sooner, and leaves every other form to this rule.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from decimal import Decimal
from functools import cache
from typing import Any, Final

import msgspec

from marketprism_api import reasons
from marketprism_api.messages import MessageLimits
from marketprism_consumer.errors import MessageError
from marketprism_consumer.ingest.values import decimal, epoch, micros, not_negative, positive, shown
from marketprism_consumer.schema.tables import BY_DATA_TYPE, Table

Row = tuple[Any, ...]
"""Values in the order of `Table.inserted`: times as int microseconds, decimals as plain text, levels as lists of such, or as
bytes (`levels.py`)."""

ARRIVAL_SLACK = (
    86_400_000_000  # an event may be dated a day after its arrival at most: clocks are wrong, not by years [µs]
)

USUAL: Final = MessageLimits()

Fields = Mapping[str, msgspec.Raw]
_decode_object = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_decode_text = msgspec.json.Decoder(str).decode
_decode_levels = msgspec.json.Decoder(list[msgspec.Raw]).decode
_decode_level = msgspec.json.Decoder(dict[str, msgspec.Raw] | list[msgspec.Raw]).decode
_NULL = b"null"


def decode(data_type: str, subject: str, payload: bytes, arrived: int, limits: MessageLimits = USUAL) -> Row:
    """The row of a message that arrived in its stream at `arrived` (µs UTC), by the limits of its pipeline.

    Raises MessageError, which names the reason and the field: the message then belongs among the dead letters.
    """
    fields = _object(payload)
    claimed = _text(fields, "data_type", required=False)
    if claimed is not None and claimed != data_type:
        raise MessageError(reasons.SUBJECT_MISMATCH, "data_type", f"{shown(claimed)} on subject {shown(subject)}")
    row = tuple(value for rule in rules_for(limits)[data_type] for value in rule(fields))
    check_arrival(row[0], arrived)
    return row


def check_arrival(timestamp: int, arrived: int) -> None:
    if timestamp > arrived + ARRIVAL_SLACK:
        raise MessageError(reasons.TIME_OUT_OF_RANGE, "timestamp", f"{timestamp} µs is over a day after its arrival")


def _object(payload: bytes) -> Fields:
    if not payload:
        raise MessageError(reasons.EMPTY_PAYLOAD)
    try:
        return _decode_object(payload)
    except RecursionError:
        raise MessageError(reasons.BAD_JSON, detail="nested too deep") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        if isinstance(error, msgspec.ValidationError) and "Expected `object`" in str(error):
            raise MessageError(reasons.NOT_AN_OBJECT, detail=shown(str(error))) from None
        raise MessageError(reasons.BAD_JSON, detail=shown(str(error))) from None


# --- values of one field ----------------------------------------------------------------------------------------------


def _raw(fields: Fields, names: tuple[str, ...]) -> tuple[str, bytes | None]:
    """The first of `names` that is present and not null, with its JSON text; (first name, None) where there is none."""
    for name in names:
        raw = fields.get(name)
        if raw is not None and (value := bytes(raw)) != _NULL:
            return name, value
    return names[0], None


def _string(raw: bytes, field: str) -> str:
    try:
        return _decode_text(raw)
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise MessageError(reasons.WRONG_TYPE, field, f"{shown(raw.decode(errors='replace'))} is not a text") from None


def _scalar(raw: bytes, field: str) -> str:
    """A JSON string's content, or a JSON number as it is written."""
    if raw[0] == 0x22:
        return _string(raw, field)
    if raw[0] in b"-0123456789":
        return raw.decode()
    raise MessageError(reasons.WRONG_TYPE, field, f"{shown(raw.decode(errors='replace'))} is not a number")


def _missing(field: str) -> MessageError:
    return MessageError(reasons.MISSING_FIELD, field)


def _text(fields: Fields, name: str, *, required: bool, limit: int = 1024) -> str | None:
    field, raw = _raw(fields, (name,))
    if raw is None:
        if required:
            raise _missing(field)
        return None
    text = _string(raw, field)
    if len(text) > limit or (required and not text):
        raise MessageError(reasons.BAD_TEXT, field, shown(text))
    return text


# --- rules: each reads one field (or side) and yields the values of its columns -----------------------------------------

FieldRule = Callable[[Fields], tuple[Any, ...]]


def name_rule(name: str) -> FieldRule:
    """Exchange, market type, symbol: 1 to 128 characters, any of them."""
    return lambda fields: (_text(fields, name, required=True, limit=128),)


def id_rule(name: str) -> FieldRule:
    """An id: a text, or a whole number as it is written."""

    def rule(fields: Fields) -> tuple[Any, ...]:
        field, raw = _raw(fields, (name,))
        if raw is None:
            raise _missing(field)
        text = _scalar(raw, field)
        if not text or len(text) > 256:
            raise MessageError(reasons.BAD_TEXT, field, shown(text))
        return (text,)

    return rule


def text_rule(name: str, *, absent: str | None = None) -> FieldRule:
    def rule(fields: Fields) -> tuple[Any, ...]:
        text = _text(fields, name, required=False, limit=256)
        return (absent if text is None else text,)

    return rule


def decimal_rule(
    *names: str, required: bool = False, scale: int = 18, check: Callable[[str, str], str] | None = None
) -> FieldRule:
    def rule(fields: Fields) -> tuple[Any, ...]:
        field, raw = _raw(fields, names)
        if raw is None:
            if required:
                raise _missing(field)
            return (None,)
        text = _scalar(raw, field)
        return (check(text, field) if check else decimal(text, field, scale),)

    return rule


def price_rule(limits: MessageLimits) -> FieldRule:
    return lambda fields: decimal_rule("price", required=True, check=price_check(fields, limits))(fields)


def price_check(fields: Fields, limits: MessageLimits) -> Callable[[str, str], str]:
    """Spreads, combos and power have prices of zero and less: it is the market type that tells."""
    market_type = _text(fields, "market_type", required=True, limit=128)
    return positive if market_type in limits.positive_prices else decimal


def time_rule(*names: str, required: bool = False) -> FieldRule:
    def rule(fields: Fields) -> tuple[Any, ...]:
        field, raw = _raw(fields, names)
        if raw is None:
            if required:
                raise _missing(field)
            return (None,)
        text = _scalar(raw, field)
        return (epoch(text, field) if raw[0] != 0x22 else micros(text, field),)

    return rule


def side_rule(fields: Fields) -> tuple[Any, ...]:
    text = _text(fields, "side", required=True)
    return (side(text or ""),)


def side(text: str) -> str:
    lowered = text.lower()
    if lowered not in SIDES:
        raise MessageError(reasons.BAD_SIDE, "side", shown(text))
    return lowered


SIDES: Final = frozenset({"buy", "sell", "unknown"})


def bool_rule(name: str) -> FieldRule:
    values = {b"true": True, b"false": False}

    def rule(fields: Fields) -> tuple[Any, ...]:
        field, raw = _raw(fields, (name,))
        if raw is None:
            return (None,)
        if raw not in values:
            raise MessageError(reasons.WRONG_TYPE, field, f"{shown(raw.decode(errors='replace'))} is not true or false")
        return (values[raw],)

    return rule


def integer_rule(name: str, bits: int, *, none: frozenset[bytes] = frozenset()) -> FieldRule:
    """`none`: what a venue writes instead of leaving it out."""
    whole = re.compile(rb'"?(\d{1,20})"?').fullmatch

    def rule(fields: Fields) -> tuple[Any, ...]:
        field, raw = _raw(fields, (name,))
        if raw is None or raw in none:
            return (None,)
        match = whole(raw)
        if match is None or (value := int(match[1])) >= 1 << bits:
            raise MessageError(reasons.BAD_INTEGER, field, shown(raw.decode(errors="replace")))
        return (value,)

    return rule


def interval_rule(fields: Fields) -> tuple[Any, ...]:
    """`8h` as it is written; a number is hours, and becomes such a text: 8 is `8h`, 0.5 is `30m`."""
    field, raw = _raw(fields, ("funding_interval",))
    if raw is None or raw[0] not in b"-0123456789":
        return text_rule("funding_interval")(fields)
    hours = Decimal(positive(raw.decode(), field))
    minutes = hours * 60
    if minutes != int(minutes) or hours > MOST_HOURS:
        raise MessageError(reasons.BAD_INTEGER, field, f"{shown(raw.decode())} hours")
    return (f"{int(hours)}h" if hours == int(hours) else f"{int(minutes)}m",)


MOST_HOURS: Final = 8760

QUANTITY: Final = decimal_rule("quantity", required=True, check=not_negative)
LIQUIDATED: Final = time_rule("liquidation_ts_ms", "liquidation_time", required=True)


def liquidation_id_rule(limits: MessageLimits) -> FieldRule:
    """Not every venue numbers its liquidations. Without an id one is made of what tells two of a series apart:
    `derived:<time, µs>:<side>:<price>:<quantity>`."""
    given, price = id_rule("liquidation_id"), price_rule(limits)

    def rule(fields: Fields) -> tuple[Any, ...]:
        if _raw(fields, ("liquidation_id",))[1] not in (None, b'""'):
            return given(fields)
        parts = (*LIQUIDATED(fields), *side_rule(fields), *price(fields), *QUANTITY(fields))
        return (f"derived:{':'.join(map(str, parts))}",)

    return rule


# --- order books ------------------------------------------------------------------------------------------------------

BOOK_TYPES: Final = {
    **dict.fromkeys(("snapshot", "partial", "full"), "snapshot"),
    **dict.fromkeys(("update", "delta", "change", "diff", "incremental", "l2update", "depthupdate"), "update"),
}
"""Venues' words, in lower case: a full book, or one to be laid over it. Taking one for the other wipes a book, or keeps what is gone."""

NO_UPDATE_BEFORE: Final = frozenset((b"-1", b'"-1"'))  # OKX's prevSeqId of a full book


def book_type_rule(fields: Fields) -> tuple[Any, ...]:
    """None where nothing is said: nothing is guessed."""
    text = _text(fields, "update_type", required=False, limit=256)
    if not text:
        return (None,)
    kind = BOOK_TYPES.get(text.lower())
    if kind is None:
        raise MessageError(reasons.BAD_BOOK_TYPE, "update_type", shown(text))
    return (kind,)


def book_rule(limits: MessageLimits) -> FieldRule:
    def rule(fields: Fields) -> tuple[Any, ...]:
        check = price_check(fields, limits)
        bid_prices, bid_quantities = _side_levels(fields, "bids", limits.max_levels, check)
        ask_prices, ask_quantities = _side_levels(fields, "asks", limits.max_levels, check)
        return book_values(bid_prices, bid_quantities, ask_prices, ask_quantities)

    return rule


def book_values(
    bid_prices: list[str], bid_quantities: list[str], ask_prices: list[str], ask_quantities: list[str]
) -> tuple[Any, ...]:
    """Counts, best levels and the four level columns. Best is the best price that still has a quantity: a level with
    quantity 0 takes the level away."""
    bid, ask = best(bid_prices, bid_quantities, max), best(ask_prices, ask_quantities, min)
    return (
        len(bid_prices), len(ask_prices), *bid, *ask, bid_prices, bid_quantities, ask_prices, ask_quantities,
    )  # fmt: skip


def best(
    prices: list[str], quantities: list[str], choose: Callable[..., tuple[Decimal, str, str]]
) -> tuple[str | None, str | None]:
    there = [(Decimal(p), p, q) for p, q in zip(prices, quantities, strict=True) if Decimal(q)]
    if not there:
        return None, None
    _, price, quantity = choose(there, key=lambda level: level[0])
    return price, quantity


def _side_levels(
    fields: Fields, name: str, most: int, price_check: Callable[[str, str], str]
) -> tuple[list[str], list[str]]:
    field, raw = _raw(fields, (name,))
    if raw is None:
        raise _missing(field)
    try:
        levels = _decode_levels(raw)
    except (msgspec.DecodeError, RecursionError):
        raise MessageError(reasons.BAD_LEVELS, field, shown(raw[:200].decode(errors="replace"))) from None
    if len(levels) > most:
        raise MessageError(reasons.TOO_MANY_LEVELS, field, f"{len(levels)} levels, above {most}")
    prices, quantities = [], []
    for index, level in enumerate(levels):
        price, quantity = _level(bytes(level), f"{field}[{index}]", price_check)
        prices.append(price)
        quantities.append(quantity)
    return prices, quantities


def _level(raw: bytes, field: str, price_check: Callable[[str, str], str]) -> tuple[str, str]:
    try:
        level = _decode_level(raw)
        price, quantity = (level["price"], level["quantity"]) if isinstance(level, dict) else level
    except (msgspec.DecodeError, RecursionError, KeyError, ValueError):
        raise MessageError(reasons.BAD_LEVELS, field, shown(raw[:200].decode(errors="replace"))) from None
    return (
        price_check(_scalar(bytes(price), f"{field}.price"), f"{field}.price"),
        not_negative(_scalar(bytes(quantity), f"{field}.quantity"), f"{field}.quantity"),
    )


# --- the eight types: one rule for each column (or group of columns) of `Table.inserted`, in its order ------------------


def _rules(*own: FieldRule, event: tuple[str, ...] = ()) -> tuple[FieldRule, ...]:
    """Head and tail around a type's own rules. `event` names where the event's true time may stand, before the common
    fields: the older form's `timestamp`, else `ts_ms`, which is the time of publishing."""
    return (
        time_rule(*event, "timestamp", "ts_ms", required=True),
        name_rule("exchange"),
        name_rule("market_type"),
        name_rule("symbol"),
        *own,
        text_rule("data_source", absent=""),
        time_rule("collected_at", "collected_ts_ms"),
    )


@cache
def rules_for(limits: MessageLimits) -> Mapping[str, tuple[FieldRule, ...]]:
    """By data type."""
    return {
        "trade": _rules(
            id_rule("trade_id"),
            price_rule(limits),
            QUANTITY,
            side_rule,
            bool_rule("is_maker"),
            time_rule("trade_ts_ms", "trade_time", required=True),
            event=("trade_ts_ms",),
        ),
        "orderbook": _rules(
            integer_rule("last_update_id", 64),
            integer_rule("first_update_id", 64),
            integer_rule("prev_update_id", 64, none=NO_UPDATE_BEFORE),
            book_type_rule,
            integer_rule("depth_levels", 32),
            book_rule(limits),
            time_rule("standardized_at"),
        ),
        "funding_rate": _rules(
            decimal_rule("current_funding_rate", required=True),
            decimal_rule("estimated_funding_rate"),
            time_rule("next_funding_ts_ms", "next_funding_time"),
            interval_rule,
            decimal_rule("mark_price"),
            decimal_rule("index_price"),
            decimal_rule("premium_index"),
            text_rule("instrument_id"),
        ),
        "open_interest": _rules(
            decimal_rule("open_interest_value", required=True, check=not_negative),
            decimal_rule("open_interest_usd"),
            text_rule("open_interest_unit"),
            decimal_rule("mark_price"),
            decimal_rule("index_price"),
            decimal_rule("change_24h"),
            decimal_rule("change_24h_percent"),
            text_rule("instrument_id"),
        ),
        "liquidation": _rules(
            liquidation_id_rule(limits),
            side_rule,
            text_rule("status"),
            price_rule(limits),
            QUANTITY,
            decimal_rule("filled_quantity"),
            decimal_rule("notional_value"),
            decimal_rule("average_price"),
            decimal_rule("bankruptcy_price"),
            decimal_rule("margin_ratio"),
            LIQUIDATED,
            text_rule("aggregation_mode"),
            text_rule("instrument_id"),
            event=("liquidation_ts_ms",),
        ),
        "lsr_top_position": _rules(
            decimal_rule("long_short_ratio", required=True, scale=28),
            decimal_rule("long_position_ratio", required=True, scale=28),
            decimal_rule("short_position_ratio", required=True, scale=28),
            text_rule("period"),
            text_rule("instrument_id"),
        ),
        "lsr_all_account": _rules(
            decimal_rule("long_short_ratio", required=True, scale=28),
            decimal_rule("long_account_ratio", required=True, scale=28),
            decimal_rule("short_account_ratio", required=True, scale=28),
            text_rule("period"),
            text_rule("instrument_id"),
        ),
        "volatility_index": _rules(
            text_rule("currency"),
            decimal_rule("vol_index", "volatility_index"),
        ),
    }


RULES = rules_for(USUAL)


def values_by_column(table: Table, row: Row) -> dict[str, Any]:
    return dict(zip((column.name for column in table.inserted), row, strict=True))


assert RULES.keys() == BY_DATA_TYPE.keys()
