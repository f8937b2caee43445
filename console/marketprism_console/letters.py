"""The dead letters, without their payloads: read anew only when their stream has changed."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from marketprism_api import reasons
from marketprism_console.sources import Sources
from marketprism_consumer.errors import BrokerError, MessageError
from marketprism_consumer.ingest import dead_letters
from marketprism_consumer.ingest.values import micros
from marketprism_consumer.operations.dlq import DeadLetterStream, Letter, LetterFilter

MOST = 100_000
"""Of which the console keeps the newest."""


@dataclass(frozen=True, slots=True)
class LetterHead:
    """`arrived`: its message, at its stream [µs since 1970]. `market`: by its subject; None where that is none of ours."""

    seq: int
    buried: int
    arrived: int
    data_type: str
    code: str
    market: tuple[str, str, str] | None


def head(letter: Letter) -> LetterHead:
    subject = letter.header(dead_letters.SUBJECT).split(".", 3)
    try:
        arrived = micros(letter.header(dead_letters.TIME), dead_letters.TIME)
    except MessageError:
        arrived = letter.buried
    market = (subject[1], subject[2], subject[3]) if len(subject) == 4 else None
    return LetterHead(letter.seq, letter.buried, arrived, letter.data_type, letter.code, market)


@dataclass
class Letters:
    sources: Sources
    _state: object = None
    _heads: list[LetterHead] = field(default_factory=list)
    _reading: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def all(self) -> list[LetterHead]:
        """Oldest first. Raises one of `AWAY`."""
        async with self._reading:
            broker = await self.sources.broker()
            name = self.sources.settings.dead_letters.stream
            try:
                state = (await broker.api(f"STREAM.INFO.{name}", None))["state"]
            except BrokerError as refused:
                if refused.reason is not reasons.STREAM_MISSING:
                    raise
                return []
            now = {key: state[key] for key in ("messages", "first_seq", "last_seq")}
            if now != self._state:
                found: list[LetterHead] = []
                async for letters in DeadLetterStream(broker, name).batches(LetterFilter(), headers_only=True):
                    found += map(head, letters)
                    del found[:-MOST]
                self._heads, self._state = found, now
            return self._heads
