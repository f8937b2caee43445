"""A message's bytes to a row's values, or a refusal with its reason. Pure: no clock, no I/O.

`Decoder` is the one rule, made of a data type's declaration: each field is found (`places.py`) and judged by its type. Trades
and order books are 99 % of a feed: for the forms in which nearly all of them come, `decode_fast.py` gives the same row sooner,
and leaves every other form to this rule.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from functools import cache, partial
from typing import Any, Final

import msgspec

from marketprism_api import reasons
from marketprism_api.data_types import Declaration, DeclaredField, Levels
from marketprism_api.data_types.declaration import SIDES as SIDE_WORDS
from marketprism_api.data_types.declaration import Kind, kind_of
from marketprism_api.data_types.orderbook import BOOK_TYPES as BOOK_WORDS
from marketprism_api.messages import MessageLimits
from marketprism_consumer.errors import MessageError
from marketprism_consumer.ingest.places import Fields, Opened, decode_object, decode_text, finder
from marketprism_consumer.ingest.values import decimal, epoch, micros, nanos, not_negative, positive, shown
from marketprism_consumer.schema.tables import Table

Row = tuple[Any, ...]
"""Values in the order of `Table.inserted`: times as int, in the units of the column, decimals as plain text, levels as lists of
such, or as bytes (`levels.py`). The first is the event's time in microseconds."""

ARRIVAL_SLACK = (
    86_400_000_000  # an event may be dated a day after its arrival at most: clocks are wrong, not by years [µs]
)

USUAL: Final = MessageLimits()

_decode_list = msgspec.json.Decoder(list[msgspec.Raw]).decode
_decode_level = msgspec.json.Decoder(dict[str, msgspec.Raw] | list[msgspec.Raw]).decode


def decode(declaration: Declaration, subject: str, payload: bytes, arrived: int, limits: MessageLimits = USUAL) -> Row:
    """The row of a message that arrived in its stream at `arrived` (µs UTC), by the limits of its pipeline.

    Raises MessageError, which names the reason and the field: the message then belongs among the dead letters.
    """
    return decoder_of(declaration, limits)(subject, payload, arrived)


class Decoder:
    """The same of one data type, many times."""

    def __init__(self, declaration: Declaration, limits: MessageLimits = USUAL) -> None:
        self._name, self._claimed = declaration.name, declaration.claimed
        self._rules = tuple(_rule(each, declaration, limits) for each in declaration.all_fields)

    def __call__(self, subject: str, payload: bytes, arrived: int) -> Row:
        message = Opened(_object(payload), subject)
        if self._claimed:
            self._check_claim(message)
        row: list[Any] = []
        for rule in self._rules:
            row += rule(message)
        check_arrival(row[0], arrived)
        return tuple(row)

    def _check_claim(self, message: Opened) -> None:
        claimed = message.fields.get(self._claimed)
        if claimed is None or (raw := bytes(claimed)) == b"null":
            return
        said = _text(raw, self._claimed, limit=1024)
        if said != self._name:
            detail = f"{shown(said)} on subject {shown(message.subject)}"
            raise MessageError(reasons.SUBJECT_MISMATCH, self._claimed, detail)


decoder_of = cache(Decoder)


def check_arrival(timestamp: int, arrived: int) -> None:
    if timestamp > arrived + ARRIVAL_SLACK:
        raise MessageError(reasons.TIME_OUT_OF_RANGE, "timestamp", f"{timestamp} µs is over a day after its arrival")


def _object(payload: bytes) -> Fields:
    if not payload:
        raise MessageError(reasons.EMPTY_PAYLOAD)
    try:
        return decode_object(payload)
    except RecursionError:
        raise MessageError(reasons.BAD_JSON, detail="nested too deep") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        if isinstance(error, msgspec.ValidationError) and "Expected `object`" in str(error):
            raise MessageError(reasons.NOT_AN_OBJECT, detail=shown(str(error))) from None
        raise MessageError(reasons.BAD_JSON, detail=shown(str(error))) from None


# --- a rule for each field: it yields the values of its columns -----------------------------------------------------------

FieldRule = Callable[[Opened], tuple[Any, ...]]


def _rule(each: DeclaredField | Levels, declaration: Declaration, limits: MessageLimits) -> FieldRule:
    if isinstance(each, Levels):
        return book_rule(each, declaration, limits)
    if each.rule:
        return _OWN[each.rule](each, declaration, limits)
    if each.check == "price":
        return price_rule(each, declaration, limits)
    return plain_rule(each)


def plain_rule(field: DeclaredField) -> FieldRule:
    """By the type of its column."""
    kind, find = kind_of(field.type), finder(field)
    judge: Judge
    if field.words:
        judge = partial(_word, words=dict(field.words), reason=_WRONG_WORD.get(field.words, reasons.NOT_ONE_OF))
    else:
        judge = _judge(field, kind)
    absent = None if kind.nullable else field.absent
    required = not kind.nullable and field.absent is None

    def rule(message: Opened) -> tuple[Any, ...]:
        name, raw = find(message)
        if raw is None:
            if required:
                raise MessageError(reasons.MISSING_FIELD, name)
            return (absent,)
        return (judge(raw, name),)

    return rule


Judge = Callable[[bytes, str], Any]
"""Of a value's JSON and the name of its field. Raises MessageError."""


def _judge(field: DeclaredField, kind: Kind) -> Judge:
    if kind.of is not None:
        return partial(_array, judge=_judge(field, kind.of))
    if kind.name == "Decimal":
        return _decimal(field, *kind.numbers)
    if kind.name in ("Int", "UInt"):
        return _integer(kind.name == "Int", kind.numbers[0])
    if kind.name == "DateTime64":
        return partial(_time, unit=field.unit, scale=kind.numbers[0])
    if kind.name == "String":
        filled = not kind.nullable and field.absent is None and not field.may_be_empty
        if field.type == "String":  # an id: a text, or a whole number as it is written
            return partial(_id, limit=field.length, filled=not field.may_be_empty)
        return partial(_text, limit=field.length, filled=filled)
    return {"Bool": _bool, "UUID": _uuid, "Float64": _float}[kind.name]


# --- values of one field ----------------------------------------------------------------------------------------------


def _string(raw: bytes, field: str) -> str:
    try:
        return decode_text(raw)
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise MessageError(reasons.WRONG_TYPE, field, f"{_shown(raw)} is not a text") from None


def _scalar(raw: bytes, field: str) -> str:
    """A JSON string's content, or a JSON number as it is written."""
    if raw[0] == 0x22:
        return _string(raw, field)
    if raw[0] in b"-0123456789":
        return raw.decode()
    raise MessageError(reasons.WRONG_TYPE, field, f"{_shown(raw)} is not a number")


def _shown(raw: bytes) -> str:
    return shown(raw.decode(errors="replace"))


def _text(raw: bytes, field: str, *, limit: int, filled: bool = False) -> str:
    text = _string(raw, field)
    if len(text) > limit or (filled and not text):
        raise MessageError(reasons.BAD_TEXT, field, shown(text))
    return text


def _id(raw: bytes, field: str, *, limit: int, filled: bool = True) -> str:
    text = _scalar(raw, field)
    if len(text) > limit or (filled and not text):
        raise MessageError(reasons.BAD_TEXT, field, shown(text))
    return text


def _word(raw: bytes, field: str, *, words: dict[str, str], reason: reasons.Reason) -> str:
    text = _text(raw, field, limit=1024, filled=True)
    word = words.get(text.lower())
    if word is None:
        raise MessageError(reason, field, shown(text))
    return word


BOOK_TYPES: Final = dict(BOOK_WORDS)
SIDES: Final = frozenset(dict(SIDE_WORDS))
_WRONG_WORD: Final = {SIDE_WORDS: reasons.BAD_SIDE, BOOK_WORDS: reasons.BAD_BOOK_TYPE}


def _decimal(field: DeclaredField, precision: int, scale: int) -> Judge:
    check = {"positive": positive, "notNegative": not_negative}.get(field.check, decimal)
    if (precision, scale) == (38, 18):  # nearly all are: a call without keywords is quicker
        return lambda raw, name: check(_scalar(raw, name), name)
    return lambda raw, name: check(_scalar(raw, name), name, scale, precision)


def _integer(signed: bool, bits: int) -> Judge:
    whole = re.compile(rb'"?(-?\d{1,78})"?' if signed else rb'"?(\d{1,78})"?').fullmatch
    least, most = (-(1 << bits - 1), 1 << bits - 1) if signed else (0, 1 << bits)

    def judge(raw: bytes, field: str) -> int:
        match = whole(raw)
        if match is None or not least <= (value := int(match[1])) < most:
            raise MessageError(reasons.BAD_INTEGER, field, _shown(raw))
        return value

    return judge


def _time(raw: bytes, field: str, *, unit: str, scale: int) -> int:
    """`unit`: of a number, in quotes or not. `scale`: digits of a second in the column."""
    text = _scalar(raw, field)
    if scale == 9:
        return nanos(text, field, unit)
    value = epoch(text, field, unit) if unit or raw[0] != 0x22 else micros(text, field)
    return value if scale == 6 else value // 1000


def _bool(raw: bytes, field: str) -> bool:
    if raw not in _BOOLS:
        raise MessageError(reasons.WRONG_TYPE, field, f"{_shown(raw)} is not true or false")
    return _BOOLS[raw]


_BOOLS: Final = {b"true": True, b"false": False}


def _float(raw: bytes, field: str) -> float:
    text = _scalar(raw, field)
    if not _FLOAT(text):
        raise MessageError(reasons.BAD_DECIMAL, field, shown(text))
    value = float(text)
    if value in (float("inf"), float("-inf")):
        raise MessageError(reasons.DECIMAL_OUT_OF_RANGE, field, shown(text))
    return value


_FLOAT = re.compile(r"-?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d{1,4})?", re.ASCII).fullmatch


def _uuid(raw: bytes, field: str) -> str:
    text = _string(raw, field)
    if not _UUID(text):
        raise MessageError(reasons.BAD_TEXT, field, f"{shown(text)} is not a UUID")
    return text.lower()


_UUID = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}", re.ASCII).fullmatch


def _array(raw: bytes, field: str, *, judge: Judge) -> list[Any]:
    try:
        several = _decode_list(raw)
    except (msgspec.DecodeError, RecursionError):
        raise MessageError(reasons.WRONG_TYPE, field, f"{_shown(raw[:200])} is not a list") from None
    return [judge(bytes(each), f"{field}[{index}]") for index, each in enumerate(several)]


# --- a price ----------------------------------------------------------------------------------------------------------


def price_rule(field: DeclaredField, declaration: Declaration, limits: MessageLimits) -> FieldRule:
    find, check_of = finder(field), price_check(declaration, limits)
    required = not kind_of(field.type).nullable

    def rule(message: Opened) -> tuple[Any, ...]:
        check = check_of(message)
        name, raw = find(message)
        if raw is None:
            if required:
                raise MessageError(reasons.MISSING_FIELD, name)
            return (None,)
        return (check(_scalar(raw, name), name),)

    return rule


def price_check(declaration: Declaration, limits: MessageLimits) -> Callable[[Opened], Callable[[str, str], str]]:
    """Spreads, combos and power have prices of zero and less: it is the market type that tells."""
    market_type = plain_rule(declaration.field("market_type"))
    return lambda message: positive if market_type(message)[0] in limits.positive_prices else decimal


# --- rules of one data type's own ---------------------------------------------------------------------------------------


def book_type_rule(field: DeclaredField, _: Declaration, __: MessageLimits) -> FieldRule:
    """None where nothing is said: nothing is guessed."""
    find, words = finder(field), dict(field.words)

    def rule(message: Opened) -> tuple[Any, ...]:
        name, raw = find(message)
        text = None if raw is None else _text(raw, name, limit=256)
        if not text:
            return (None,)
        kind = words.get(text.lower())
        if kind is None:
            raise MessageError(reasons.BAD_BOOK_TYPE, name, shown(text))
        return (kind,)

    return rule


MOST_HOURS: Final = 8760


def interval_rule(field: DeclaredField, _: Declaration, __: MessageLimits) -> FieldRule:
    """`8h` as it is written; a number is hours, and becomes such a text: 8 is `8h`, 0.5 is `30m`."""
    find = finder(field)

    def rule(message: Opened) -> tuple[Any, ...]:
        name, raw = find(message)
        if raw is None:
            return (None,)
        if raw[0] not in b"-0123456789":
            return (_text(raw, name, limit=field.length),)
        hours = Decimal(positive(raw.decode(), name))
        minutes = hours * 60
        if minutes != int(minutes) or hours > MOST_HOURS:
            raise MessageError(reasons.BAD_INTEGER, name, f"{shown(raw.decode())} hours")
        return (f"{int(hours)}h" if hours == int(hours) else f"{int(minutes)}m",)

    return rule


def liquidation_id_rule(field: DeclaredField, declaration: Declaration, limits: MessageLimits) -> FieldRule:
    """Not every venue numbers its liquidations. Without an id one is made of what tells two of a series apart."""
    find = finder(field)
    parts = [
        _rule(declaration.field(name), declaration, limits)
        for name in ("liquidation_time", "side", "price", "quantity")
    ]

    def rule(message: Opened) -> tuple[Any, ...]:
        name, raw = find(message)
        if raw not in (None, b'""'):
            return (_id(raw, name, limit=field.length),)
        return (f"derived:{':'.join(str(part(message)[0]) for part in parts)}",)

    return rule


_OWN: Final[dict[str, Callable[[DeclaredField, Declaration, MessageLimits], FieldRule]]] = {
    "bookType": book_type_rule,
    "fundingInterval": interval_rule,
    "liquidationId": liquidation_id_rule,
}


# --- order books ------------------------------------------------------------------------------------------------------


def book_rule(book: Levels, declaration: Declaration, limits: MessageLimits) -> FieldRule:
    check_of, form = price_check(declaration, limits), level_form(book.level)
    bids, asks = finder(book.bids), finder(book.asks)

    def rule(message: Opened) -> tuple[Any, ...]:
        check = check_of(message)
        bid_prices, bid_quantities = _side_levels(*bids(message), limits.max_levels, form, check)
        ask_prices, ask_quantities = _side_levels(*asks(message), limits.max_levels, form, check)
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


@dataclass(frozen=True, slots=True)
class LevelForm:
    """`split`: a side's levels. `read`: price and quantity of one. Both raise what the JSON and its shape raise."""

    split: Callable[[bytes], list[msgspec.Raw]]
    read: Callable[[bytes], tuple[msgspec.Raw, msgspec.Raw]]


def level_form(places: tuple[str, str] | None) -> LevelForm:
    if places is None:
        return LevelForm(_decode_list, _usual_level)
    if places == BY_PRICE:
        return LevelForm(_as_pairs, _usual_level)
    price, quantity = places

    def read(raw: bytes) -> tuple[msgspec.Raw, msgspec.Raw]:
        level = _decode_level(raw)
        if isinstance(level, dict):
            return level[price], level[quantity]
        return level[int(price)], level[int(quantity)]

    return LevelForm(_decode_list, read)


BY_PRICE: Final = ("key", "value")


def _as_pairs(raw: bytes) -> list[msgspec.Raw]:
    """A side that is an object, `{price: quantity}`; or a list as well."""
    if raw[:1] != b"{":
        return _decode_list(raw)
    sides = decode_object(raw).items()
    return [msgspec.Raw(b"[%b,%b]" % (msgspec.json.encode(price), bytes(quantity))) for price, quantity in sides]


def _usual_level(raw: bytes) -> tuple[msgspec.Raw, msgspec.Raw]:
    level = _decode_level(raw)
    price, quantity = (level["price"], level["quantity"]) if isinstance(level, dict) else level
    return price, quantity


def _side_levels(
    field: str, raw: bytes | None, most: int, form: LevelForm, price_check: Callable[[str, str], str]
) -> tuple[list[str], list[str]]:
    if raw is None:
        raise MessageError(reasons.MISSING_FIELD, field)
    try:
        levels = form.split(raw)
    except (msgspec.DecodeError, RecursionError):
        raise MessageError(reasons.BAD_LEVELS, field, _shown(raw[:200])) from None
    if len(levels) > most:
        raise MessageError(reasons.TOO_MANY_LEVELS, field, f"{len(levels)} levels, above {most}")
    prices, quantities = [], []
    for index, level in enumerate(levels):
        price, quantity = _level(bytes(level), f"{field}[{index}]", form, price_check)
        prices.append(price)
        quantities.append(quantity)
    return prices, quantities


def _level(raw: bytes, field: str, form: LevelForm, price_check: Callable[[str, str], str]) -> tuple[str, str]:
    try:
        price, quantity = form.read(raw)
    except (msgspec.DecodeError, RecursionError, LookupError, ValueError):
        raise MessageError(reasons.BAD_LEVELS, field, _shown(raw[:200])) from None
    return (
        price_check(_scalar(bytes(price), f"{field}.price"), f"{field}.price"),
        not_negative(_scalar(bytes(quantity), f"{field}.quantity"), f"{field}.quantity"),
    )


def values_by_column(table: Table, row: Row) -> dict[str, Any]:
    return dict(zip((column.name for column in table.inserted), row, strict=True))
