"""A lane as one process works on it: what every step needs, and how steps wait for servers."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from random import Random
from typing import Protocol, TypeVar

from structlog.typing import FilteringBoundLogger

from marketprism_api.data_types import Declaration
from marketprism_api.messages import MessageLimits
from marketprism_api.reasons import Reason
from marketprism_consumer import logs
from marketprism_consumer.backoff import Backoff
from marketprism_consumer.errors import BrokerError, MessageError, StoreError
from marketprism_consumer.ingest.batch import Refused
from marketprism_consumer.ingest.broker import Broker
from marketprism_consumer.ingest.columns import Columnar, Columns
from marketprism_consumer.ingest.dead_letters import DeadLetter, Graveyard
from marketprism_consumer.ingest.decode import Decoder, Row
from marketprism_consumer.ingest.decode_fast import FastDecoder, fast_decoder
from marketprism_consumer.ingest.encode import Block
from marketprism_consumer.ingest.identity import generation, stream_identity
from marketprism_consumer.ingest.keeper import RecordKeeper
from marketprism_consumer.ingest.lane_id import LaneId
from marketprism_consumer.ingest.message import Message
from marketprism_consumer.ingest.metrics import IngestAccount
from marketprism_consumer.ingest.store import Clocks, Store
from marketprism_consumer.schema.tables import Table

T = TypeVar("T")

RULES = 3
"""Version of the decoding rules. To be raised with every change that makes another row of a message, or a row of what was bad."""


def rules_version(declaration: Declaration, limits: MessageLimits) -> int:
    """The same for all processes that make the same rows of the same messages."""
    said = f"{RULES} {limits.max_levels} {sorted(limits.positive_prices)} {declaration.decoding}"
    return int.from_bytes(blake2b(said.encode(), digest_size=6).digest(), "big")


CLOCK_MARGIN = 1.0  # `_expires` is a whole second, and so is its comparison [s]


class Encode(Protocol):
    def __call__(
        self,
        table: Table,
        rows: Sequence[Row],
        seqs: Sequence[int],
        streams: Sequence[str],
        token: str,
        columns: Sequence[Columns] = (),
        stream: str = "",
        /,
    ) -> Block: ...


@dataclass(slots=True)
class Lane:
    """`tiers`: hot, where rows are inserted, then cold. `valid`: how long a block is taken after it is cut [s]."""

    id: LaneId
    declaration: Declaration
    table: Table
    owner: str
    broker: Broker
    keeper: RecordKeeper
    tiers: Sequence[Store]
    graveyard: Graveyard
    account: IngestAccount
    valid: int
    limits: MessageLimits
    encode: Encode
    columnar: Columnar | None
    faultpoint: Callable[[str], None]
    log: FilteringBoundLogger
    backoff: Callable[[], Backoff]
    random: Random
    rules: int = field(init=False)
    """What a cut is decoded by: the code's version of the rules, and the pipeline's limits."""
    _decode: Decoder = field(init=False)
    _fast: FastDecoder | None = field(init=False)

    def __post_init__(self) -> None:
        self.rules = rules_version(self.declaration, self.limits)
        self._decode = Decoder(self.declaration, self.limits)
        self._fast = fast_decoder(self.declaration, self.limits)

    @property
    def store(self) -> Store:
        return self.tiers[0]

    @property
    def stream(self) -> str:
        """Rows carry it with their sequence; of what is in any generation."""
        return stream_identity(self.id.stream, self.id.created)

    @property
    def present_stream(self) -> str:
        """In the present generation."""
        return generation(self.stream, self.keeper.record.generation)

    def token(self) -> str:
        """Random: a counter would come again after a set-back, with another content."""
        return f"{self.random.getrandbits(128):032x}"

    def decoded(self, message: Message) -> Row:
        """Raises MessageError."""
        row = self._fast(message.payload, message.arrived) if self._fast else None
        if row is None:
            row = self._decode(message.subject, message.payload, message.arrived)
        return row

    async def until(self) -> int:
        """A block that is cut now is refused after this [s since 1970, ClickHouse's clock]."""
        return math.floor(await self.patiently(self.store.clock)) + self.valid

    async def is_over(self, until: int) -> bool:
        """Is what was allowed until then refused by now, by the slowest clock of all servers?"""
        clocks: Clocks = await self.patiently(self.store.clocks)
        return clocks.slowest > until + CLOCK_MARGIN

    async def wait_until_over(self, until: int) -> None:
        while (clocks := await self.patiently(self.store.clocks)).slowest <= until + CLOCK_MARGIN:
            await asyncio.sleep(min(5.0, until + CLOCK_MARGIN - clocks.slowest + 0.05))

    async def patiently(self, ask: Callable[[], Awaitable[T]]) -> T:
        """ClickHouse's answer, waited for."""
        backoff = self.backoff()
        while True:
            try:
                return await ask()
            except StoreError as refused:
                wait = backoff.next()
                self.insert_refused(refused, wait)
                await asyncio.sleep(wait)

    async def bury(self, bad: Sequence[Refused | tuple[Message, StoreError]]) -> None:
        """Raises BrokerError where the dead-letter stream does not take them."""
        for message, why in bad:
            if isinstance(why, MessageError):
                letter = DeadLetter.of(message, why, self.table.data_type, self.stream)
            else:
                letter = DeadLetter.refused(message, why, self.table.data_type, self.stream)
            await self.graveyard.bury(letter)
            self.account.dead_lettered(letter.reason)

    def insert_refused(self, refused: StoreError, wait: float) -> None:
        self.account.insert_failed(refused.code, refused.reason)
        self.alarm(refused.reason, clickhouse_code=refused.code, error=str(refused)[:500], next_try_in=round(wait, 1))

    def broker_refused(self, refused: BrokerError, wait: float, **details: object) -> None:
        self.alarm(refused.reason, error=str(refused), next_try_in=round(wait, 1), **details)

    def alarm(self, reason: Reason, **details: object) -> None:
        self.account.alarm(reason)
        logs.reason(self.log, "warning", reason, data_type=self.table.data_type, **details)
