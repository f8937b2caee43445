"""From an event to the wire: every way in which collectors have been seen to write it.

`render` returns the JSON object (before encoding, so that `bad` can spoil it) and the truth: what must be in the row.
The truth comes from the event's own numbers. Only times are cut, to what the chosen form can express.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Context, Decimal
from functools import lru_cache
from random import Random
from typing import Literal, cast

import msgspec

from marketprism_consumer.feed.market import SECOND, Event

Body = dict[str, object]
Truth = dict[str, object]

# --- times ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class TimeForm:
    step: int  # the finest it can express, ns
    text: Callable[[int], object]


@lru_cache(maxsize=1024)
def _second(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S")


def _clock(ns: int, digits: int) -> str:
    fraction = ns % SECOND // 10 ** (9 - digits)
    return f"{_second(ns // SECOND)}.{fraction:0{digits}d}"


def _iso(ns: int, digits: int) -> str:
    return _clock(ns, digits).replace(" ", "T")


_MS, _US = 10**6, 10**3

TIME_FORMS: Mapping[str, TimeForm] = {
    "space_ms": TimeForm(_MS, lambda ns: _clock(ns, 3)),
    "iso_offset": TimeForm(_US, lambda ns: _iso(ns, 6) + "+00:00"),
    "space_offset": TimeForm(_US, lambda ns: _clock(ns, 6) + "+00:00"),
    "iso_z": TimeForm(_MS, lambda ns: _iso(ns, 3) + "Z"),
    "iso_offset_z": TimeForm(_US, lambda ns: _iso(ns, 6) + "+00:00Z"),
    "iso_plus8": TimeForm(_US, lambda ns: _iso(ns + 8 * 3600 * SECOND, 6) + "+08:00"),
    "epoch_s": TimeForm(SECOND, lambda ns: ns // SECOND),
    "epoch_ms": TimeForm(_MS, lambda ns: ns // _MS),
    "epoch_us": TimeForm(_US, lambda ns: ns // _US),
    "epoch_ns": TimeForm(_US, lambda ns: ns),
    "epoch_s_digits": TimeForm(SECOND, lambda ns: str(ns // SECOND)),
    "epoch_ms_digits": TimeForm(_MS, lambda ns: str(ns // _MS)),
    "epoch_us_digits": TimeForm(_US, lambda ns: str(ns // _US)),
    "epoch_ns_digits": TimeForm(_US, lambda ns: str(ns)),
}
_FORMS = tuple(TIME_FORMS.values())
_USUAL, _STANDARDIZED = TIME_FORMS["space_ms"], TIME_FORMS["iso_offset"]
_NUMBER_MS, _DIGITS_MS = TIME_FORMS["epoch_ms"], TIME_FORMS["epoch_ms_digits"]


def _time_form(newer: bool, rng: Random) -> TimeForm:
    luck = rng.random()
    if newer:  # the field's name says milliseconds, so that is what it holds
        return _NUMBER_MS if luck < 0.97 else _DIGITS_MS
    return _USUAL if luck < 0.8 else _FORMS[int((luck - 0.8) * 5 * len(_FORMS))]


# --- decimals ---------------------------------------------------------------------------------------------------

_EXACT = Context(prec=100)


def decimal_text(value: Decimal) -> str:
    return format(value, "f")


def decimal_number(value: Decimal) -> msgspec.Raw:
    """A JSON number as a program's float printing would show it (`6.11e-05`), but with every digit."""
    if value and value.adjusted() < -4:
        mantissa, exponent = f"{value.normalize(_EXACT):e}".split("e")
        return msgspec.Raw(f"{mantissa}e{int(exponent):+03d}".encode())
    text = format(value, "f")
    return msgspec.Raw((text.rstrip("0").rstrip(".") if "." in text else text).encode())


# --- fields -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Field:
    column: str
    kind: Literal["plain", "decimal", "time"]
    wire: str
    newer: str


def _field(column: str, kind: Literal["plain", "decimal", "time"], wire: str = "", newer: str = "") -> Field:
    return Field(column, kind, wire or column, newer or wire or column)


def _plain(*columns: str) -> tuple[Field, ...]:
    return tuple(_field(column, "plain") for column in columns)


def _decimals(*columns: str) -> tuple[Field, ...]:
    return tuple(_field(column, "decimal") for column in columns)


FIELDS: Mapping[str, tuple[Field, ...]] = {
    "trade": (
        *_decimals("price", "quantity"),
        *_plain("side", "trade_id", "is_maker"),
        _field("trade_time", "time", newer="trade_ts_ms"),
    ),
    "orderbook": _plain("last_update_id", "update_type", "depth_levels", "first_update_id", "prev_update_id"),
    "funding_rate": (
        _field("funding_rate", "decimal", "current_funding_rate"),
        *_decimals("estimated_funding_rate", "mark_price", "index_price", "premium_index"),
        _field("next_funding_time", "time", newer="next_funding_ts_ms"),
        *_plain("funding_interval", "instrument_id"),
    ),
    "open_interest": (
        *_decimals("open_interest_value", "open_interest_usd", "mark_price", "index_price"),
        *_decimals("change_24h", "change_24h_percent"),
        *_plain("open_interest_unit", "instrument_id"),
    ),
    "liquidation": (
        *_plain("liquidation_id", "side", "status", "aggregation_mode", "instrument_id"),
        *_decimals("price", "quantity", "filled_quantity", "notional_value"),
        *_decimals("average_price", "bankruptcy_price", "margin_ratio"),
        _field("liquidation_time", "time", newer="liquidation_ts_ms"),
    ),
    "lsr_top_position": (
        *_decimals("long_short_ratio", "long_position_ratio", "short_position_ratio"),
        *_plain("period", "instrument_id"),
    ),
    "lsr_all_account": (
        *_decimals("long_short_ratio", "long_account_ratio", "short_account_ratio"),
        *_plain("period", "instrument_id"),
    ),
    "volatility_index": (*_plain("currency"), *_decimals("volatility_index")),
}

# What is left when the source's own upstream failed.
COMMON = frozenset(
    {
        *("exchange", "market_type", "symbol", "data_type", "publisher", "normalized_symbol", "data_source"),
        *("timestamp", "ts_ms", "collected_at", "collected_ts_ms"),
    }
)

# The newer form's fields that hold the event's own time; without one it is the time of publishing.
_EVENT_TIME = {"trade": "trade_time", "liquidation": "liquidation_time"}


def render(event: Event, rng: Random) -> tuple[Body, Truth]:
    newer = event.newer
    body: Body = {
        "exchange": event.exchange,
        "market_type": event.market_type,
        "symbol": event.symbol,
        "data_type": event.data_type,
        "publisher": "unified-collector",
        "normalized_symbol": event.symbol,
    }
    truth: Truth = {
        "timestamp": 0,
        "exchange": event.exchange,
        "market_type": event.market_type,
        "symbol": event.symbol,
        **event.values,
    }
    numbers = rng.random() < (0.5 if newer else 0.02)
    put_decimal = decimal_number if numbers else decimal_text

    def put(name: str, value: object) -> None:
        """The source leaves an unknown value out, or says null."""
        if value is not None or rng.random() < 0.5:
            body[name] = value

    def put_time(name: str, column: str, ns: int, form: TimeForm) -> None:
        ns -= ns % form.step
        body[name], truth[column] = form.text(ns), ns

    for field in FIELDS[event.data_type]:
        value = event.values[field.column]
        name = field.newer if newer else field.wire
        if value is None or field.kind == "plain":
            put(name, value)
        elif field.kind == "decimal":
            body[name] = put_decimal(cast(Decimal, value))
        else:
            put_time(name, field.column, cast(int, value), _time_form(newer, rng))
    put("data_source", event.values["data_source"])

    if newer:
        put_time("collected_ts_ms", "collected_at", event.published, _time_form(newer, rng))
        put_time("ts_ms", "timestamp", event.published, _time_form(newer, rng))
        if own := _EVENT_TIME.get(event.data_type):
            truth["timestamp"] = truth[own]
    else:
        put_time("collected_at", "collected_at", event.published, _time_form(newer, rng))
        put_time("timestamp", "timestamp", event.time, _time_form(newer, rng))
    _EXTRAS.get(event.data_type, _nothing)(event, body, truth, rng, put_decimal)
    return body, truth


# --- what only one type has -------------------------------------------------------------------------------------

_Text = Callable[[Decimal], object]


def _nothing(event: Event, body: Body, truth: Truth, rng: Random, text: _Text) -> None:
    pass


def _book_extras(event: Event, body: Body, truth: Truth, rng: Random, text: _Text) -> None:
    if (standardized := cast("int | None", event.values["standardized_at"])) is not None:
        standardized -= standardized % _US
        body["standardized_at"], body["standardization_version"] = _STANDARDIZED.text(standardized), "2.0"
        truth["standardized_at"] = standardized
    pairs = (rng.random() < 0.9) == event.exchange.startswith("okx")
    for side, name in (("bids", "bid"), ("asks", "ask")):
        prices = cast("list[Decimal]", event.values[f"{name}_prices"])
        quantities = cast("list[Decimal]", event.values[f"{name}_quantities"])
        levels = zip(map(text, prices), map(text, quantities), strict=True)
        body[side] = list(levels) if pairs else [{"price": price, "quantity": amount} for price, amount in levels]


def _funding_extras(event: Event, body: Body, truth: Truth, rng: Random, text: _Text) -> None:
    if event.newer and rng.random() < 0.7:  # present, but the column `timestamp` is the time of publishing
        body["funding_ts_ms"] = event.time // _MS


def _volatility_extras(event: Event, body: Body, truth: Truth, rng: Random, text: _Text) -> None:
    luck = rng.random()
    if luck < 0.05:  # upstream failed: a legal row without values
        for name in body.keys() - COMMON:
            del body[name]
        truth["currency"] = truth["volatility_index"] = None
    elif luck < 0.1 and body.get("volatility_index") is not None:
        body["vol_index"] = body.pop("volatility_index")
    elif luck < 0.9 and "volatility_index" in body:
        body["vol_index"] = body["volatility_index"]


_EXTRAS: Mapping[str, Callable[[Event, Body, Truth, Random, _Text], None]] = {
    "orderbook": _book_extras,
    "funding_rate": _funding_extras,
    "volatility_index": _volatility_extras,
}

encode: Callable[[object], bytes] = msgspec.json.Encoder().encode
