"""What ingest asks of JetStream, as a port; `jetstream/broker.py` is the real one, the simulator has a model of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

Frame = tuple[bytes, bytes, bytes, bytes]
"""(subject, reply, payload, headers): a message where `reply` is an acknowledgement subject, else a status."""

Receive = Callable[[int, Sequence[Frame]], None]
"""(pull, frames): what has come for a pull at once, in order."""

ACK_PREFIX = b"$JS.ACK."


@dataclass(frozen=True, slots=True)
class Durable:
    """A durable pull consumer: one data type of one pipeline. `ack_wait` in seconds."""

    stream: str
    name: str
    subject: str
    ack_wait: float


@dataclass(frozen=True, slots=True)
class StreamState:
    """`created` as the server writes it: a stream that is deleted and created again has another one."""

    created: str
    first_seq: int
    last_seq: int
    messages: int


@dataclass(frozen=True, slots=True)
class DurableState:
    """Of the consumer: what it has delivered up to, what it has not yet delivered, what is delivered but not acked; when it
    was created [s since 1970] and how long ago, by the server's clock [s]."""

    delivered_seq: int
    pending: int
    ack_pending: int
    created: float
    age: float


class Broker(Protocol):
    def pull(
        self, durable: Durable, batch: int, max_bytes: int, expires: float, heartbeat: float, receive: Receive
    ) -> int:
        """Ask for up to `batch` messages on an inbox of this request's own; returns the request's number."""

    def cancel(self, pull: int) -> None:
        """Stop listening to this request: what still comes for it is dropped, and redelivered after ack_wait."""

    def ack(self, replies: Sequence[bytes]) -> None: ...

    def nak(self, replies: Sequence[bytes]) -> None: ...

    async def extend(self, replies: Sequence[bytes]) -> bool:
        """Start ack_wait again for these messages; True only where the server has said that it did."""

    async def stream(self, name: str) -> StreamState:
        """Raises BrokerError."""

    async def ensure(self, durable: Durable) -> DurableState:
        """The consumer's state; created (from the first message on) where it is missing, never re-created. Raises
        BrokerError, also where its settings break the guarantee."""
