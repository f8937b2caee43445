"""A collector that never was: `messages` generates what one would publish, `publish` brings it to JetStream."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import accumulate, count
from random import Random
from typing import Any

from marketprism_api.data_types import Declaration
from marketprism_consumer.feed.bad import KINDS, spoil
from marketprism_consumer.feed.declared import DeclaredMessages
from marketprism_consumer.feed.market import DATA_TYPES, SECOND, Event, Market, markets
from marketprism_consumer.feed.messages import encode, render

__all__ = ["BAD_KINDS", "DATA_TYPES", "DEFAULT_START", "FeedMessage", "arguments", "check", "messages", "regenerate"]

BAD_KINDS = tuple(KINDS)
DEFAULT_START = datetime(2025, 9, 24, 7, 55, 51, 123456, tzinfo=UTC)
MAX_RATE = 1_000_000.0  # event time is in microseconds, and no two messages share one

_SHARE = {"trade": 85.0, "orderbook": 14.0}
_DECLARED_SHARE = 10.0
_WITHOUT_ID = 0.02
_ODD = 0.005


@dataclass(frozen=True, slots=True)
class FeedMessage:
    index: int
    data_type: str
    subject: str
    payload: bytes
    msg_id: str | None
    truth: dict[str, object] | None  # column -> value that must be in the row; None: must become a dead letter
    bad_kind: str | None = None


def messages(
    seed: int,
    *,
    types: Sequence[str] = DATA_TYPES,
    symbols: int = 2,
    bad_ratio: float = 0.0,
    book_levels: int = 20,
    start: datetime | None = None,
    rate: float = 1000.0,
    declared: Sequence[Declaration] = (),
) -> Iterator[FeedMessage]:
    """Endless, and the same for the same arguments, byte for byte. Event time advances by 1/rate seconds per message. Of the
    `declared` types messages are made up from their declarations; those that are bad break off."""
    _check(types, symbols, bad_ratio, book_levels, rate, declared)
    begin = _nanoseconds(start or DEFAULT_START)
    # The start is part of the seed: two runs with one seed must not share trade ids, or JetStream drops the second's.
    rng = Random(f"{seed}:{begin}")
    made_up = {each.name: DeclaredMessages(each, symbols, rng) for each in declared if each.name in types}
    choose_type = _TypeMix(types, rng, dict.fromkeys(made_up, _DECLARED_SHARE))
    places = markets(symbols, rng)
    for index in count():
        now = begin + int(index * 1e6 / rate) * 1000
        data_type = choose_type(index)
        if data_type in made_up:
            subject, payload = made_up[data_type].message(index, now)
            bad = rng.random() < bad_ratio
            yield FeedMessage(
                index,
                data_type,
                subject,
                payload[:-1] if bad else payload,
                f"{data_type}:{begin}:{index}",
                None if bad else {},
                "truncated" if bad else None,
            )
            continue
        event = _pick(places[data_type], data_type, rng).event(data_type, now, book_levels)
        without_id = rng.random() < _WITHOUT_ID
        msg_id = f"{data_type}:{event.exchange}:{event.symbol}:{event.identity}"

        if rng.random() < bad_ratio:
            kind, payload = spoil(render(event, rng)[0], data_type, rng)
            # An id of its own: the id of a ratio's bucket belongs to the good message.
            bad_id = None if without_id else f"{msg_id}:{now // 1000}"
            yield FeedMessage(index, data_type, event.subject, payload, bad_id, None, kind)
            continue

        # A ratio's bucket is published again and again: always the same bytes, by a generator of its own.
        body, truth = render(event, Random(msg_id) if _republishes(event) else rng)
        yield FeedMessage(index, data_type, event.subject, encode(body), None if without_id else msg_id, truth)


def arguments(
    seed: int,
    *,
    types: Sequence[str] = DATA_TYPES,
    symbols: int = 2,
    bad_ratio: float = 0.0,
    book_levels: int = 20,
    start: datetime | None = None,
    rate: float = 1000.0,
) -> dict[str, object]:
    """The arguments of `messages` as JSON can hold them: what an account reports, and `regenerate` takes."""
    return {
        "seed": seed,
        "types": list(types),
        "symbols": symbols,
        "bad_ratio": bad_ratio,
        "book_levels": book_levels,
        "start": (start or DEFAULT_START).astimezone(UTC).isoformat(timespec="microseconds"),
        "rate": rate,
    }


def regenerate(reported: Mapping[str, Any], declared: Sequence[Declaration] = ()) -> Iterator[FeedMessage]:
    """The messages of a run again, from the arguments in its account."""
    return messages(**{**reported, "start": datetime.fromisoformat(reported["start"])}, declared=declared)


def check(reported: Mapping[str, Any], declared: Sequence[Declaration] = ()) -> None:
    """Raises ValueError, with a sentence for the user, where `messages` would at its first message."""
    _check(**{name: value for name, value in reported.items() if name not in ("seed", "start")}, declared=declared)
    for each in declared:
        if each.name in reported["types"]:
            DeclaredMessages(each, reported["symbols"], Random(0))


def _check(
    types: Sequence[str],
    symbols: int,
    bad_ratio: float,
    book_levels: int,
    rate: float,
    declared: Sequence[Declaration],
) -> None:
    known = dict.fromkeys((*DATA_TYPES, *(each.name for each in declared)))
    if unknown := [name for name in types if name not in known]:
        raise ValueError(f"no such data type: {', '.join(unknown)}; there are {', '.join(known)}")
    if not types:
        raise ValueError("no data type given")
    if symbols < 1:
        raise ValueError("at least one symbol is needed")
    if not 0 <= bad_ratio <= 1:
        raise ValueError("the share of bad messages is from 0 to 1")
    if not 1 <= book_levels <= 400:
        raise ValueError("a book has 1 to 400 levels per side")
    if not 0 < rate <= MAX_RATE:
        raise ValueError(f"the rate is above 0 and at most {MAX_RATE:,.0f} messages per second")


class _TypeMix:
    """99 % trades and books, as real collectors have it; yet each type shows up within the first 50 messages."""

    def __init__(self, types: Sequence[str], rng: Random, more: Mapping[str, float]) -> None:
        self._types = tuple(dict.fromkeys(types))
        shares = {**_SHARE, **more}
        rare = max(1, sum(name not in shares for name in self._types))
        self._steps = list(accumulate(shares.get(name, 1 / rare) for name in self._types))
        self._rng = rng

    def __call__(self, index: int) -> str:
        if index < 50 and index % 5 == 4:
            return self._types[index // 5 % len(self._types)]
        point = self._rng.random() * self._steps[-1]
        return next(name for name, step in zip(self._types, self._steps, strict=True) if point < step)


def _republishes(event: Event) -> bool:
    """Newer collectors stamp each publication with its own time, so that none repeats another."""
    return event.data_type.startswith("lsr_") and not event.newer


def _pick(places: Sequence[Market], data_type: str, rng: Random) -> Market:
    if data_type not in _SHARE:
        return places[int(rng.random() * len(places))]
    return places[-1] if rng.random() < _ODD else places[int(rng.random() * (len(places) - 1))]


def _nanoseconds(moment: datetime) -> int:
    """Exact, unlike `timestamp()`."""
    if moment.tzinfo is None:
        raise ValueError("the start needs a time zone")
    passed = moment.astimezone(UTC) - datetime(1970, 1, 1, tzinfo=UTC)
    return (passed.days * 86_400 + passed.seconds) * SECOND + passed.microseconds * 1000
