"""A declaration of a data type, proposed from samples of its messages. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from marketprism_api.declared import COMMON, MOST_FIELDS
from marketprism_api.types import SQL_WORDS
from marketprism_consumer.errors import MessageError
from marketprism_consumer.ingest.values import decimal, micros

DEEPEST = 4
FEW = 16
"""Different texts at most where a column is LowCardinality."""

_TIMES = ("timestamp", "ts_ms", "event_time", "e", "ts", "t", "time", "date")
_SYMBOLS = ("symbol", "s", "instid", "instrument", "instrument_name", "pair", "market", "product_id")
_EXCHANGES = ("exchange", "venue", "source")
_UUID = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}", re.ASCII).fullmatch


def propose(name: str, samples: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """A value for `spec.dataTypes`: it takes the samples themselves. Numbers are `Decimal` or `int`, as they were written.

    Raises ValueError where there is no time among them, or nothing else."""
    seen: dict[str, list[Any]] = {}
    for sample in samples:
        for place, value in _places(sample):
            seen.setdefault(place, []).append(value)
    typed = {place: kind for place, values in seen.items() if (kind := _type(place, values, len(samples)))}
    time = _first(_TIMES, [place for place, kind in typed.items() if kind["type"].startswith("DateTime64")])
    if time is None:
        raise ValueError("no field that every message has is a time: name one in timestamp")
    spec: dict[str, Any] = {
        "timestamp": {"from": [time], **({"unit": unit} if (unit := typed[time].get("unit")) else {})}
    }
    fields: dict[str, Any] = {}
    symbol = _first(_SYMBOLS, list(typed))
    exchange = _first(_EXCHANGES, list(typed))
    fields["exchange"] = {"from": [exchange]} if exchange else {"subjectToken": 2}
    fields["market_type"] = {"from": ["market_type"]} if "market_type" in typed else {"value": "spot"}
    fields["symbol"] = {"from": [symbol]} if symbol else {"subjectToken": 3}
    for place, kind in typed.items():
        if place in (time, symbol, exchange, "market_type") or len(fields) == MOST_FIELDS:
            continue
        column = _column(place, {*fields, *COMMON, *SQL_WORDS, "created_at", "timestamp"})
        fields[column] = kind if column == place else {**kind, "from": [place]}
    if len(fields) == 3:
        raise ValueError("the messages have nothing but a time and a symbol")
    return {name: {**spec, "fields": fields}}


def _places(sample: Mapping[str, Any], outer: tuple[str, ...] = ()) -> Iterator[tuple[str, Any]]:
    for key, value in sample.items():
        steps = (*outer, key)
        if any(re.search(r"\s", step) or not step for step in steps):
            continue
        if isinstance(value, list) and len(value) == 1 and isinstance(value[0], dict):
            value, steps = value[0], (*steps, "*")
        if isinstance(value, dict):
            if len(steps) < DEEPEST:
                yield from _places(value, steps)
        else:
            yield ".".join(steps), value


def _type(place: str, values: Sequence[Any], samples: int) -> dict[str, Any] | None:
    there = [value for value in values if value is not None]
    if not there:
        return None
    if any(isinstance(value, list) for value in there):
        inner = [each for value in there if isinstance(value, list) for each in value]
        kind = (
            _scalar(place, inner)
            if len(there) == samples and inner and all(isinstance(v, list) for v in there)
            else None
        )
        return {"type": f"Array({kind['type']})"} if kind and "Low" not in kind["type"] and "unit" not in kind else None
    kind = _scalar(place, there)
    if kind is None or len(there) == samples:
        return kind
    if kind["type"] == "LowCardinality(String)":
        return {"type": "LowCardinality(Nullable(String))"}
    return {**kind, "type": f"Nullable({kind['type']})"}


def _scalar(place: str, values: Sequence[Any]) -> dict[str, Any] | None:
    if any(isinstance(value, dict | list) for value in values):
        return None
    if all(isinstance(value, bool) for value in values):
        return {"type": "Bool"}
    if any(isinstance(value, bool) for value in values):
        return None
    texts = [value if isinstance(value, str) else str(value) for value in values]
    if unit := _unit(place, texts):
        return {"type": "DateTime64(3)" if unit in ("s", "ms") else "DateTime64(6)", "unit": unit}
    if all(isinstance(value, int) for value in values):
        return (
            {"type": "Int64" if min(values) < 0 else "UInt64"}
            if max(map(abs, values)) < 1 << 63
            else {"type": "UInt256"}
        )
    if all(_fits(text) for text in texts):
        return {"type": "Decimal(38, 18)"}
    if not all(isinstance(value, str) for value in values):
        return {"type": "String"}
    if all(map(_is_time, texts)):
        return {"type": "DateTime64(6)"}
    if all(map(_UUID, texts)):
        return {"type": "UUID"}
    few = len(set(texts)) <= FEW and max(map(len, texts)) <= 64
    return {"type": "LowCardinality(String)" if few or "" in texts else "String"}


def _fits(text: str) -> bool:
    try:
        return bool(decimal(text, ""))
    except MessageError:
        return False


def _unit(place: str, texts: Sequence[str]) -> str:
    """Of whole numbers that are times since 2010, and are called so."""
    name = place.rpartition(".")[2].lower()
    called = re.search(r"time|^ts|ts$|_ts|date|_at$|ms$", name) or name in _TIMES
    if not called or not all(text.isascii() and text.isdigit() for text in texts):
        return ""
    least, most = min(map(int, texts)), max(map(int, texts))
    for unit, per_second in (("s", 1), ("ms", 10**3), ("us", 10**6), ("ns", 10**9)):
        if 1_262_304_000 * per_second <= least and most < 4_102_444_800 * per_second:
            return unit
    return ""


def _is_time(text: str) -> bool:
    try:
        return not text.isdigit() and bool(micros(text, ""))
    except MessageError:
        return False


def _first(names: Sequence[str], places: Sequence[str]) -> str | None:
    """The place whose last step is the first of the names; of several the outermost."""
    for name in names:
        fitting = [place for place in places if place.rpartition(".")[2].lower() == name]
        if fitting:
            return min(fitting, key=lambda place: place.count("."))
    return None


def _column(place: str, taken: set[str]) -> str:
    """A column's name, made of the last steps of the path: as many as make it another than those that are taken."""
    steps = [
        re.sub(r"[^a-z0-9]+", "_", re.sub(r"(?<=[a-z0-9])([A-Z])", r"_\1", step).lower()).strip("_")
        for step in place.split(".")
    ]
    steps = [step for step in steps if step] or ["field"]
    for count in range(1, len(steps) + 1):
        name = "_".join(steps[-count:])[:60]
        name = name if name[:1].isalpha() else f"field_{name}"
        if name not in taken:
            return name
    return next(numbered for number in range(2, 1000) if (numbered := f"{name}_{number}") not in taken)


def samples_in(text: str) -> list[bytes]:
    """The messages in a file: one JSON object, or one on each line. Raises ValueError."""
    stripped = text.strip()
    if not stripped:
        raise ValueError("is empty")
    try:
        json.loads(stripped)
    except json.JSONDecodeError:
        return [line.encode() for line in stripped.splitlines() if line.strip()]
    return [stripped.encode()]
