"""The dead letters, without their payloads: read anew only when their stream has changed."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from marketprism_api import reasons
from marketprism_api.data_types import Declaration
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


def head(letter: Letter, declaration: Declaration | None) -> LetterHead:
    """`declaration`: of its data type, which says where the subject has the market."""
    try:
        arrived = micros(letter.header(dead_letters.TIME), dead_letters.TIME)
    except MessageError:
        arrived = letter.buried
    market = market_of(letter.header(dead_letters.SUBJECT), declaration) if declaration else None
    return LetterHead(letter.seq, letter.buried, arrived, letter.data_type, letter.code, market)


def market_of(subject: str, declaration: Declaration) -> tuple[str, str, str] | None:
    """Exchange, market type and symbol; a symbol that is the last token may have dots."""
    tokens = subject.split(".")
    exchange, kind, symbol = (declaration.field(name).token for name in ("exchange", "market_type", "symbol"))
    try:
        of_symbol = tokens[symbol - 1] if symbol else ".".join(tokens[3:])
        found = tokens[(exchange or 2) - 1], tokens[(kind or 3) - 1], of_symbol
    except IndexError:
        return None
    return found if all(found) else None


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
                declared = self.sources.settings.declarations
                found: list[LetterHead] = []
                async for letters in DeadLetterStream(broker, name).batches(LetterFilter(), headers_only=True):
                    found += [head(letter, declared.get(letter.data_type)) for letter in letters]
                    del found[:-MOST]
                self._heads, self._state = found, now
            return self._heads
