"""Messages that can't become a row: each kind takes a good message's object and returns the bytes that were published.

Only what is wrong beyond dispute is here; what a careful reader might still accept belongs to `messages`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from random import Random
from typing import Any

from msgspec import Raw

from marketprism_consumer.feed.market import DATA_TYPES
from marketprism_consumer.feed.messages import COMMON, Body, encode

Spoil = Callable[[Body, str, Random], bytes]

_MISSING = object()

# The one value without which a message of the type means nothing. A book's is the price of its first level.
_VALUE = {
    "trade": ("price",),
    "funding_rate": ("current_funding_rate",),
    "open_interest": ("open_interest_value",),
    "liquidation": ("price",),
    "lsr_top_position": ("long_short_ratio",),
    "lsr_all_account": ("long_short_ratio",),
    "volatility_index": ("volatility_index", "vol_index"),
}

_TIMES = frozenset(
    ("timestamp", "ts_ms", "trade_time", "trade_ts_ms", "liquidation_time", "liquidation_ts_ms", "funding_ts_ms")
)


def _replaced(body: Body, names: tuple[str, ...], value: object) -> Body:
    rest = {name: old for name, old in body.items() if name not in names}
    return rest if value is _MISSING else rest | dict.fromkeys(names, value)


def _book_with(body: Body, value: object) -> Body:
    levels: Any = body["bids"]
    first = {} if value is _MISSING else {"price": value}
    return body | {"bids": [first | {"quantity": "1.5"}, *levels[1:]]}


def _value(value: object) -> Spoil:
    def spoil(body: Body, data_type: str, _: Random) -> bytes:
        if data_type == "orderbook":
            return encode(_book_with(body, value))
        return encode(_replaced(body, _VALUE[data_type], value))

    return spoil


def _time(value: object) -> Spoil:
    return lambda body, _, __: encode({name: value if name in _TIMES else old for name, old in body.items()})


def _bytes(change: Callable[[bytes, Random], bytes]) -> Spoil:
    return lambda body, _, rng: change(encode(body), rng)


def _truncated(payload: bytes, rng: Random) -> bytes:
    return payload[: 1 + int(rng.random() * (len(payload) - 2))]


def _broken_json(payload: bytes, _: Random) -> bytes:
    return payload.replace(b'":', b'"', 1)


def _not_utf8(payload: bytes, _: Random) -> bytes:
    return payload.replace(b'"symbol":"', b'"symbol":"\xff\xfe', 1)


# kind -> how, and the types that it is bad for (volatility indices may lack their value)
_VALUED = tuple(name for name in DATA_TYPES if name != "volatility_index")
_SIDED = ("trade", "liquidation")

KINDS: Mapping[str, tuple[Spoil, tuple[str, ...]]] = {
    "empty": (lambda *_: b"", DATA_TYPES),
    "broken_json": (_bytes(_broken_json), DATA_TYPES),
    "truncated": (_bytes(_truncated), DATA_TYPES),
    "not_utf8": (_bytes(_not_utf8), DATA_TYPES),
    "array": (_bytes(lambda payload, _: b"[" + payload + b"]"), DATA_TYPES),
    "value_null": (_value(None), _VALUED),
    "value_missing": (_value(_MISSING), _VALUED),
    "value_empty": (_value(""), _VALUED),
    "value_nan": (_value("NaN"), DATA_TYPES),
    "value_infinity": (_value("Infinity"), DATA_TYPES),
    "value_1e400": (_value(Raw(b"1e400")), DATA_TYPES),
    "value_40_digits": (_value("1234567890" * 4), DATA_TYPES),
    "value_underscore": (_value("1_000"), DATA_TYPES),
    "value_comma": (_value("1,234.5"), DATA_TYPES),
    "value_full_width": (_value("１２３"), DATA_TYPES),
    "value_object": (_value({"amount": "1"}), DATA_TYPES),
    "value_boolean": (_value(True), DATA_TYPES),
    "deep_nesting": (_value(Raw(b"[" * 10_000 + b"]" * 10_000)), DATA_TYPES),
    "side_unknown": (lambda body, _, __: encode(body | {"side": "sideways"}), _SIDED),
    "time_1969": (_time("1969-12-31 23:59:59.000"), DATA_TYPES),
    "time_2299": (_time("2299-01-01 00:00:00.000"), DATA_TYPES),
    "time_february_30": (_time("2025-02-30 12:00:00.000"), DATA_TYPES),
    "time_null": (_time(None), DATA_TYPES),
    "symbol_missing": (
        lambda body, _, __: encode(_replaced(body, ("symbol", "normalized_symbol"), _MISSING)),
        DATA_TYPES,
    ),
    "only_common": (lambda body, _, __: encode({k: v for k, v in body.items() if k in COMMON}), _VALUED),
}

_BY_TYPE = {name: tuple(kind for kind, (_, types) in KINDS.items() if name in types) for name in DATA_TYPES}


def spoil(body: Body, data_type: str, rng: Random) -> tuple[str, bytes]:
    """A kind that fits the type, and the bytes."""
    kinds = _BY_TYPE[data_type]
    kind = kinds[int(rng.random() * len(kinds))]
    return kind, KINDS[kind][0](body, data_type, rng)
