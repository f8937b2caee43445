"""Where in a message a field's value stands. What is found is JSON, and is judged by `decode.py`."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import msgspec

from marketprism_api import reasons
from marketprism_api.data_types import DeclaredField
from marketprism_consumer.errors import MessageError

Fields = Mapping[str, msgspec.Raw]
decode_object = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
decode_text = msgspec.json.Decoder(str).decode
_decode_list = msgspec.json.Decoder(list[msgspec.Raw]).decode
_encode = msgspec.json.encode
_NULL = b"null"


class Opened:
    """A message, taken apart as far as its fields need it."""

    __slots__ = ("_parts", "fields", "subject")

    def __init__(self, fields: Fields, subject: str) -> None:
        self.fields, self.subject = fields, subject
        self._parts: dict[tuple[str, ...], Fields | list[msgspec.Raw] | None] | None = None  # most have no path in them

    def inside(self, steps: tuple[str, ...]) -> bytes | None:
        """The JSON at the end of a path. Raises MessageError where `*` is several."""
        step, outer = steps[-1], self._part(steps[:-1]) if len(steps) > 1 else self.fields
        if outer is None:
            return None
        if isinstance(outer, list):
            return _of_a_list(outer, step, steps)
        raw = outer.get(step)
        return None if raw is None else bytes(raw)

    def _part(self, steps: tuple[str, ...]) -> Fields | list[msgspec.Raw] | None:
        if self._parts is None:
            self._parts = {}
        elif steps in self._parts:
            return self._parts[steps]
        raw = self.inside(steps)
        found: Fields | list[msgspec.Raw] | None = None
        try:
            if raw and raw[0] == 0x7B:
                found = decode_object(raw)
            elif raw and raw[0] == 0x5B:
                found = _decode_list(raw)
        except (msgspec.DecodeError, RecursionError):
            raise MessageError(reasons.BAD_JSON, ".".join(steps), "nested too deep") from None
        self._parts[steps] = found
        return found


def _of_a_list(outer: list[msgspec.Raw], step: str, steps: tuple[str, ...]) -> bytes | None:
    if step == "*":
        if len(outer) > 1:
            raise MessageError(reasons.SEVERAL_EVENTS, ".".join(steps[:-1]), f"{len(outer)} in one message")
        return bytes(outer[0]) if outer else None
    return bytes(outer[int(step)]) if step.isdecimal() and int(step) < len(outer) else None


Find = Callable[[Opened], tuple[str, bytes | None]]
"""The name under which it is told, and its JSON: None where it is not there, or null."""


def finder(field: DeclaredField) -> Find:
    find = _source(field)
    if field.mapped:
        find = _translated(find, {word: said.encode() for word, said in field.mapped})
    if field.nothing:
        find = _without(find, frozenset(each.encode() for each in field.nothing))
    return find


def _source(field: DeclaredField) -> Find:
    if field.constant is not None:
        constant = field.constant.encode()
        return lambda _: (field.name, constant)
    if field.token:
        return lambda event: (field.name, _token(event.subject, field.token))
    names = field.places or (field.name,)
    paths = tuple((name, tuple(name.split("."))) for name in names)
    if any(len(steps) > 1 for _, steps in paths):
        return lambda event: _along(event, paths)
    return lambda event: _at_the_top(event.fields, names)


def _at_the_top(fields: Fields, names: tuple[str, ...]) -> tuple[str, bytes | None]:
    for name in names:
        raw = fields.get(name)
        if raw is not None and (value := bytes(raw)) != _NULL:
            return name, value
    return names[0], None


def _along(event: Opened, paths: tuple[tuple[str, tuple[str, ...]], ...]) -> tuple[str, bytes | None]:
    """A name with a dot in it is first looked for as it is."""
    for name, steps in paths:
        value = event.inside((name,)) if len(steps) > 1 and name in event.fields else event.inside(steps)
        if value is not None and value != _NULL:
            return name, value
    return paths[0][0], None


def _token(subject: str, number: int) -> bytes | None:
    tokens = subject.split(".")
    return _encode(tokens[number - 1]) if number <= len(tokens) else None


def _translated(find: Find, words: Mapping[str, bytes]) -> Find:
    def translated(event: Opened) -> tuple[str, bytes | None]:
        name, raw = find(event)
        if raw is None:
            return name, None
        try:
            text = decode_text(raw) if raw[:1] == b'"' else raw.decode()
        except (msgspec.DecodeError, UnicodeDecodeError):
            return name, raw
        return name, words.get(text, raw)

    return translated


def _without(find: Find, nothing: frozenset[bytes]) -> Find:
    def without(event: Opened) -> tuple[str, bytes | None]:
        name, raw = find(event)
        return name, None if raw in nothing else raw

    return without
