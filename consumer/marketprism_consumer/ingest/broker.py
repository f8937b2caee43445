"""What ingest asks of JetStream, as ports; `jetstream/` has the real ones, the simulator has models of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from marketprism_consumer.ingest.allowance import Allowance
from marketprism_consumer.ingest.frames import Messages

Receive = Callable[[int, Messages | bytes], None]
"""(pull, delivered): messages that have come for a pull, in order, or the headers of a status."""


@dataclass(frozen=True, slots=True)
class StreamState:
    """`created` as the server writes it: a stream that is deleted and created again has another one. `leader`: the server that
    says so; empty where it is not one of several."""

    created: str
    first_seq: int
    last_seq: int
    messages: int
    leader: str = ""

    def lacks(self, first: int) -> int:
        """How many messages from sequence `first` on it does not hold any more, at most."""
        inside = max(0, self.last_seq + 1 - self.first_seq - self.messages)
        return max(0, self.first_seq - first) + inside


class ReaderMade(NamedTuple):
    """An ephemeral consumer: its name, and how many messages it has to deliver."""

    name: str
    pending: int


class ReaderState(NamedTuple):
    """How many messages it has still to deliver, and how many it has delivered."""

    pending: int
    delivered: int


class Broker(Protocol):
    """One connection; its readers share `allowance`.

    All raise BrokerError. What is asked of a stream is answered by its leader; a reader may be on a server that is behind."""

    allowance: Allowance

    async def stream(self, name: str) -> StreamState: ...

    async def arrival(self, stream: str, seq: int) -> int | None:
        """When the message at `seq` arrived [µs UTC]; None where the stream does not hold it."""

    async def next_of(self, stream: str, subject: str, start: int) -> int | None:
        """The sequence of the first message of the subject from `start` on; None where the stream holds none."""

    async def first_after(self, stream: str, arrived: int) -> int:
        """The sequence of the first message that arrived later than that [µs UTC]; behind the last where none did."""

    async def make_reader(self, stream: str, subject: str, start: int) -> ReaderMade:
        """A consumer in memory that acknowledges nothing, from sequence `start` on. The server forgets it by itself."""

    async def reader_state(self, stream: str, reader: str) -> ReaderState: ...

    def forget_reader(self, stream: str, reader: str) -> None:
        """Without waiting for an answer, and without need for one."""

    def pull(
        self, stream: str, reader: str, batch: int, max_bytes: int, expires: float, heartbeat: float, receive: Receive
    ) -> int:
        """Ask for up to `batch` messages on an inbox of this request's own; returns the request's number."""

    def cancel(self, pull: int) -> None:
        """Stop listening to this request."""


class Records(Protocol):
    """The bucket. All raise BrokerError."""

    @property
    def boot(self) -> str:
        """The server that keeps the bucket, by its start; empty where it is a cluster that does."""

    async def read(self, key: str) -> tuple[int, bytes]:
        """(revision, value) as its leader knows it; (0, b"") where there never was one, an empty value where it was deleted."""

    async def write(self, key: str, value: bytes, revision: int) -> int:
        """The new revision. Raises ConflictError where the last one is not `revision`, so that nothing was written;
        BrokerError where that is not known. Never sent later than now: not by a connection that is made anew."""
