"""Messages of a declared data type, made up from its declaration alone: whatever it asks for is there, and each becomes a row."""

from __future__ import annotations

import re
from collections.abc import Iterator
from decimal import Decimal
from random import Random
from uuid import UUID

import msgspec

from marketprism_api.data_types import Declaration, DeclaredField, Levels
from marketprism_api.data_types.declaration import Kind, kind_of
from marketprism_consumer.feed.market import VENUES, assets
from marketprism_consumer.feed.messages import Body, decimal_text

LEFT_OUT = 0.1  # of what need not be there
UNITS = {"s": 10**9, "ms": 10**6, "us": 10**3, "ns": 1}
TOKEN = re.compile(r"[A-Za-z0-9_-]+").fullmatch

Instrument = dict[str, str]
"""Exchange, market type and symbol."""


class DeclaredMessages:
    """Raises ValueError where none can be made up of the declaration."""

    def __init__(self, declaration: Declaration, symbols: int, rng: Random) -> None:
        fields = declaration.all_fields
        if any(isinstance(each, Levels) for each in fields):
            raise ValueError(f"{declaration.name}: levels that stand elsewhere can't be made up; name other types")
        self._fields = [each for each in fields if isinstance(each, DeclaredField) and each.constant is None]
        self._pattern, self._rng = declaration.subject.split("."), rng
        self._instruments: list[Instrument] = [
            {"exchange": venue.exchange, "market_type": venue.market_type, "symbol": f"{asset.name}-USDT"}
            for venue in VENUES
            for asset in assets(symbols)
        ]
        self._moving: dict[tuple[str, str], int] = {}
        self.message(0, 10**18)  # what can't be, can't be from the first

    def message(self, index: int, now: int) -> tuple[str, bytes]:
        """Subject and payload of an event at `now` [ns]."""
        place, body = self._rng.choice(self._instruments), Body()
        tokens: dict[int, str] = {}
        for field in self._fields:
            if field.token:
                tokens[field.token] = self._token(field, place, index, now)
        tokens = dict(self._filled(tokens, place))
        for field in self._fields:
            if field.token:
                continue
            kind = kind_of(field.type)
            if (kind.nullable or field.absent is not None) and self._rng.random() < LEFT_OUT:
                continue
            value = self._value(field, kind, place, index, now)
            place_in_message = (field.places or (field.name,))[0]
            if not put(body, place_in_message.split("."), value):
                raise ValueError(f"{field.name}: where it stands, {place_in_message}, there is another field")
        return ".".join(tokens[number] for number in sorted(tokens)), msgspec.json.encode(body)

    def _filled(self, tokens: dict[int, str], place: Instrument) -> Iterator[tuple[int, str]]:
        """All of a subject's tokens: the pattern's, those that are read, and the rest by exchange, market type and symbol."""
        last = max([len(self._pattern) + (2 if self._pattern[-1] == ">" else 0), *tokens])
        rest = iter(place.values())
        for number in range(1, last + 1):
            of_pattern = self._pattern[number - 1] if number <= len(self._pattern) else ">"
            usual = next(rest, "x") if of_pattern in ("*", ">") else of_pattern
            yield number, usual if of_pattern not in ("*", ">") else tokens.get(number, usual)

    def _token(self, field: DeclaredField, place: Instrument, index: int, now: int) -> str:
        for _ in range(100):
            value = self._value(field, kind_of(field.type), place, index, now)
            text = str(value).partition(".")[0]
            if TOKEN(text) and not isinstance(value, bool):
                return text
        raise ValueError(f"{field.name}: none of its values can be a token of a subject")

    def _value(self, field: DeclaredField, kind: Kind, place: Instrument, index: int, now: int) -> object:
        """As JSON has it."""
        rng = self._rng
        if said := _words(field):
            return rng.choice(said)
        if kind.of:
            return [self._value(field, kind.of, place, index, now) for _ in range(rng.randrange(1, 4))]
        match kind.name:
            case "Decimal":
                return self._decimal(field, kind, place)
            case "Int" | "UInt":
                return rng.randrange(min(1 << kind.numbers[0] - (kind.name == "Int"), 1_000_000))
            case "DateTime64":
                return now // UNITS[field.unit or "ms"]
            case "Bool":
                return rng.random() < 0.5
            case "UUID":
                return str(UUID(int=rng.getrandbits(128), version=4))
            case "Float64":
                return round(rng.gauss(0, 1), 6)
        if field.rule == "fundingInterval":
            return "8h"
        text = place.get(field.name) or f"{field.name}-{index if field.type == 'String' else rng.randrange(5)}"
        return text[-field.length :]

    def _decimal(self, field: DeclaredField, kind: Kind, place: Instrument) -> str:
        """One number for each instrument, which moves by a thousandth."""
        precision, scale = kind.numbers
        digits = min(scale, 8)
        most = 10 ** (min(precision - scale, 4) + digits) - 1
        key = field.name, "/".join(place.values())
        before = self._moving.get(key) or self._rng.randint(1, most)
        self._moving[key] = now = min(most, max(1, before + self._rng.randint(-1, 1) * max(1, before // 1000)))
        return decimal_text(Decimal(now).scaleb(-digits))


def _words(field: DeclaredField) -> list[object]:
    """What a message may say for it, where its words are given; nothing where it is free to say what it likes."""
    taken = dict(field.words)
    found: list[object] = [said for said in taken.values() if said.lower() in taken]
    for word, as_json in field.mapped:
        read = msgspec.json.decode(as_json)
        if not taken or str(read).lower() in taken:
            found.append(word == "true" if word in ("true", "false") else word)
    return found


def put(body: Body | list[object], steps: list[str], value: object) -> bool:
    """The value at the end of a path, where nothing is yet. False where a part of the path is a value."""
    step, *rest = steps
    if isinstance(body, list):
        if not (step == "*" or step.isdecimal()):
            return False
        at = 0 if step == "*" else int(step)
        body.extend([None] * (at + 1 - len(body)))
        inner = body[at]
    else:
        inner = body.get(step)
    if rest and inner is None:
        inner = [] if rest[0] == "*" or rest[0].isdecimal() else Body()
    if rest:
        if not isinstance(inner, dict | list) or not put(inner, rest, value):
            return False
        value = inner
    elif inner is not None:
        return not isinstance(inner, dict | list)  # another field's, which is read for this one, too
    if isinstance(body, list):
        body[at] = value
    else:
        body[step] = value
    return True
