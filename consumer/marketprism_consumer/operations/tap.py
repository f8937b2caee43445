"""Messages as they are published, decoded as ingest would: through ordered consumers of our own, which acknowledge nothing
and so take nothing from anybody."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

from nats.aio.msg import Msg
from nats.js.api import ConsumerConfig, DeliverPolicy

from marketprism_api import reasons
from marketprism_api.data_types import Declaration
from marketprism_api.messages import MessageLimits
from marketprism_api.settings import Settings
from marketprism_consumer import times
from marketprism_consumer.errors import BrokerError, MessageError
from marketprism_consumer.ingest.decode import USUAL, decode, values_by_column
from marketprism_consumer.jetstream.broker import NatsBroker
from marketprism_consumer.jetstream.client import PullClient
from marketprism_consumer.jetstream.streams import choose
from marketprism_consumer.schema.tables import table_of

QUEUE = 10_000  # messages that wait to be shown; the oldest are dropped beyond


@dataclass(frozen=True, slots=True)
class Tapped:
    """A message, and its row or why it can't be one. `arrived` in µs UTC."""

    data_type: str
    stream: str
    seq: int
    arrived: int
    subject: str
    payload: bytes
    row: dict[str, Any] | None
    refusal: MessageError | None

    @property
    def verdict(self) -> str:
        return "row" if self.refusal is None else str(self.refusal)

    def as_dict(self) -> dict[str, Any]:
        refused = self.refusal
        return {
            "dataType": self.data_type,
            "stream": self.stream,
            "seq": self.seq,
            "arrived": times.iso(self.arrived),
            "subject": self.subject,
            "raw": self.payload.decode(errors="backslashreplace"),
            "row": self.row and {name: _json(value) for name, value in self.row.items()},
            "verdict": "row" if refused is None else "dead letter",
            "code": refused.reason.code if refused else "",
            "why": str(refused) if refused else "",
        }


@dataclass(frozen=True, slots=True)
class TapFilter:
    """`exchange` and `symbol` as the row has them; for what has no row, as the subject has."""

    exchange: str = ""
    symbol: str = ""
    refused_only: bool = False

    def __call__(self, message: Tapped) -> bool:
        if self.refused_only and message.refusal is None:
            return False
        if message.row is None:
            tokens = message.subject.split(".")
            exchange, symbol = tokens[1] if len(tokens) > 1 else "", ".".join(tokens[3:])
        else:
            exchange, symbol = message.row["exchange"], message.row["symbol"]
        return (not self.exchange or exchange == self.exchange) and (not self.symbol or symbol == self.symbol)


def tapped(
    declaration: Declaration,
    stream: str,
    seq: int,
    arrived: int,
    subject: str,
    payload: bytes,
    limits: MessageLimits = USUAL,
) -> Tapped:
    data_type = declaration.name
    try:
        row = values_by_column(table_of(declaration), decode(declaration, subject, payload, arrived, limits))
        return Tapped(data_type, stream, seq, arrived, subject, payload, row, None)
    except MessageError as refusal:
        return Tapped(data_type, stream, seq, arrived, subject, payload, None, refusal)


def _json(value: Any) -> Any:
    """Times stay µs and decimals text, as they are inserted."""
    return value if isinstance(value, (str, int, float, bool, list, dict, type(None))) else str(value)


async def tap(
    client: PullClient, settings: Settings, data_types: Sequence[str], since: int | None = None
) -> AsyncGenerator[Tapped, None]:
    """For ever. From now on, or from what arrived at `since` [µs UTC]. Raises BrokerError."""
    broker = NatsBroker(client)
    queue: asyncio.Queue[tuple[Declaration, Msg]] = asyncio.Queue(QUEUE)

    def taker(declaration: Declaration) -> Callable[[Msg], Awaitable[None]]:
        async def take(message: Msg) -> None:
            if queue.full():
                queue.get_nowait()
            queue.put_nowait((declaration, message))

        return take

    async with AsyncExitStack() as stack:
        for data_type in data_types:
            declaration = settings.data_types[data_type].declaration
            subject = declaration.subject
            streams = (await choose(broker, settings, data_type)).read
            if not streams:
                raise BrokerError(reasons.STREAM_MISSING, f"no stream holds {subject}")
            policy = DeliverPolicy.NEW if since is None else DeliverPolicy.BY_START_TIME
            config = ConsumerConfig(
                deliver_policy=policy,
                opt_start_time=None if since is None else times.moment(since),
            )
            for stream in streams:
                subscription = await client.jetstream().subscribe(
                    subject, stream=stream, cb=taker(declaration), ordered_consumer=True, config=config
                )
                stack.push_async_callback(subscription.unsubscribe)
        while True:
            declaration, message = await queue.get()
            about = message.metadata
            arrived = int(about.timestamp.timestamp() * 1e6)
            yield tapped(
                declaration,
                about.stream,
                about.sequence.stream,
                arrived,
                message.subject,
                message.data,
                settings.messages,
            )
