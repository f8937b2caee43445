"""A model of one JetStream stream and its ephemeral consumers, as nats-server 2.10 to 2.15 was seen to behave."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from marketprism_api import reasons
from marketprism_consumer.errors import BrokerError, JetStreamError
from marketprism_consumer.ingest.allowance import Allowance
from marketprism_consumer.ingest.broker import ReaderMade, ReaderState, Receive, StreamState
from marketprism_consumer.ingest.dead_letters import DeadLetter, place_of, prefix_of
from marketprism_consumer.ingest.frames import cut
from tests.simulation.connection import Connection
from tests.simulation.times import EPOCH

if TYPE_CHECKING:
    from tests.simulation.world import World

STREAM_NOT_FOUND, CONSUMER_NOT_FOUND = 10059, 10014
GRAVEYARD = "LETTERS"
INACTIVE = 20.0  # after so long without a request the server forgets a consumer [s]


class Published(NamedTuple):
    """`key` tells the message from all others. Those of other subjects are none of the lane's."""

    seq: int
    subject: bytes
    key: str
    payload: bytes
    arrived: int


@dataclass(slots=True)
class Pull:
    number: int
    connection: Connection
    left: int
    receive: Receive


@dataclass(slots=True, eq=False)
class Reader:
    """`next`: the sequence from which it looks on. `behind`: how long its server has a message later than the leader [s].
    `delivered`: its own count. `stopped`: it serves nobody any more."""

    name: str
    subject: bytes
    next: int
    behind: float
    heard: float
    delivered: int = 0
    stopped: bool = False
    pulls: deque[Pull] = field(default_factory=deque)


class Stream:
    """`lives`: how often it was created. `lossy`: how many deliveries get lost on a connection that goes on. `whole`: it holds
    every message that it ever had."""

    def __init__(self, world: World) -> None:
        self.world, self.random, self.nats = world, world.random, world.nats
        self.lives = 1
        self.exists = self.whole = True
        self.messages: dict[int, Published] = {}
        self.first_seq, self.last_seq = 1, 0
        self.lost: set[str] = set()  # keys of what set-backs have taken
        self.readers: dict[str, Reader] = {}
        self.buried: dict[str, str] = {}
        self.readers_made = self.pulls_made = 0
        self.behind = self.random.choice((0.0, 0.0, 0.3, 10.0, 90.0)) if world.nats.cluster else 0.0
        self.lossy = self.random.choice((0.0, 0.0, 0.01, 0.05))

    @property
    def created(self) -> str:
        return f"2025-09-24T07:46:40.{self.lives:09}Z"

    def publish(self, subject: str, key: str, payload: bytes) -> bool:
        if not (self.nats.serves and self.exists):
            return False
        self.last_seq += 1
        arrived = EPOCH * 1_000_000 + int(self.world.now * 1e6)
        self.messages[self.last_seq] = Published(self.last_seq, subject.encode(), key, payload, arrived)
        for reader in self.readers.values():
            if reader.pulls:
                self.world.after(reader.behind and reader.behind + 0.001, self.serve, reader)
        return True

    def state(self) -> StreamState:
        if not self.exists:
            raise JetStreamError(reasons.STREAM_MISSING, "stream not found", code=STREAM_NOT_FOUND)
        return StreamState(self.created, self.first_seq, self.last_seq, len(self.messages))

    def next_of(self, subject: str, start: int) -> int | None:
        self.state()
        prefix = subject.removesuffix(">").encode()
        return min((s for s, m in self.messages.items() if s >= start and m.subject.startswith(prefix)), default=None)

    def first_after(self, arrived: int) -> int:
        self.state()
        younger = (seq for seq, message in self.messages.items() if message.arrived > arrived)
        return min(younger, default=self.last_seq + 1)

    # --- readers ------------------------------------------------------------------------------------------------------

    def make_reader(self, subject: str, start: int) -> ReaderMade:
        self.state()
        self.readers_made += 1
        behind = self.random.random() * self.behind
        # Asked for a sequence beyond the stream's end, a consumer begins at its end.
        reader = Reader(
            f"R{self.readers_made}",
            subject.removesuffix(">").encode(),
            min(max(start, self.first_seq), self._end(behind) + 1),
            behind,
            self.world.now,
        )
        self.readers[reader.name] = reader
        return ReaderMade(reader.name, sum(1 for _ in self._ahead(reader)))

    def reader_state(self, name: str) -> ReaderState:
        reader = self._reader(name)
        if reader is None:
            raise JetStreamError(reasons.STREAM_MISSING, "consumer not found", code=CONSUMER_NOT_FOUND)
        # A message that was delivered before its server's count heard of it is counted as pending for a while, as long as there is one
        # behind it, whosever it is (`checkNumPending` of nats-server leaves `npf` where it was).
        pending = sum(1 for _ in self._ahead(reader)) + (self.random.random() < 0.1)
        return ReaderState(min(pending, max(0, self.last_seq + 1 - reader.next)), reader.delivered)

    def pull(self, name: str, pull: Pull, expires: float, heartbeat: float) -> None:
        reader = self._reader(name) if self.nats.serves else None
        if reader is None:
            # Nobody listens to what is asked of it: the server says so, or no server is there to say it.
            if self.nats.serves and self.random.random() < 0.8:
                status(pull, b"503")
            return
        reader.heard = self.world.now
        reader.pulls.append(pull)
        self.world.after(expires, self._expire, reader, pull)
        self.world.after(heartbeat, self._beat, reader, pull, heartbeat)
        self.serve(reader)

    def cancel(self, number: int) -> None:
        for reader in self.readers.values():
            for pull in reader.pulls:
                if pull.number == number:
                    reader.pulls.remove(pull)
                    reader.heard = self.world.now
                    return

    def serve(self, reader: Reader) -> None:
        """Waiting requests get what is there by turns."""
        if not self.nats.serves or reader.stopped or not reader.pulls:
            return
        sent: list[tuple[Pull, bytes]] = []
        ahead = list(self._ahead(reader))
        for index, message in enumerate(ahead):
            if not reader.pulls:
                break
            pull = reader.pulls[0]
            reader.pulls.rotate(-1)
            reader.next = message.seq + 1
            reader.delivered += 1
            number, left = reader.delivered, len(ahead) - index - 1
            reply = b"$JS.ACK.S.%s.1.%d.%d.%d.%d" % (
                reader.name.encode(), message.seq, number, message.arrived * 1000, left
            )  # fmt: skip
            head = b"MSG %b %d %b %d\r\n" % (message.subject, pull.number, reply, len(message.payload))
            sent.append((pull, head + message.payload + b"\r\n"))
            pull.left -= 1
            if not pull.left:
                reader.pulls.remove(pull)
        reader.heard = self.world.now
        middle = self.random.randint(0, len(sent))
        for some in (sent[:middle], sent[middle:]):
            if some and self.random.random() >= self.lossy:
                _deliver(some[0][0], b"".join(frame for _, frame in some))
        for pull in {pull.number: pull for pull, _ in sent}.values():
            if pull.left and self.random.random() < 0.05:
                self._end_pull(reader, pull, b"409 Message Size Exceeds MaxBytes")

    def _ahead(self, reader: Reader) -> Iterator[Published]:
        for seq in range(reader.next, self._end(reader.behind) + 1):
            message = self.messages.get(seq)
            if message and message.subject.startswith(reader.subject):
                yield message

    def _end(self, behind: float) -> int:
        """To where a server has the stream that is so far behind."""
        if not behind:
            return self.last_seq
        before = EPOCH * 1_000_000 + int((self.world.now - behind) * 1e6)
        lacks = (seq - 1 for seq, message in self.messages.items() if message.arrived > before)
        return min(lacks, default=self.last_seq)

    def _reader(self, name: str) -> Reader | None:
        reader = self.readers.get(name)
        if reader and not reader.pulls and self.world.now - reader.heard > INACTIVE:
            reader = self.readers.pop(name) and None
        return reader

    def _expire(self, reader: Reader, pull: Pull) -> None:
        if not reader.stopped and self.nats.serves:
            left = b"408 Request Timeout\r\nNats-Pending-Messages: %d\r\nNats-Pending-Bytes: 0" % pull.left
            self._end_pull(reader, pull, left)
        elif pull in reader.pulls:
            reader.pulls.remove(pull)

    def _end_pull(self, reader: Reader, pull: Pull, text: bytes) -> None:
        if pull in reader.pulls:
            reader.pulls.remove(pull)
            reader.heard = self.world.now
            status(pull, text)

    def _beat(self, reader: Reader, pull: Pull, every: float) -> None:
        if pull in reader.pulls:
            if self.nats.serves and not reader.stopped:
                status(pull, b"100 Idle Heartbeat")
            self.world.after(every, self._beat, reader, pull, every)

    # --- faults -------------------------------------------------------------------------------------------------------

    def catch_up(self) -> None:
        """All servers have all of the stream from here on."""
        self.behind = 0.0
        for reader in self.readers.values():
            reader.behind = 0.0
            self.serve(reader)

    def lose_readers(self, text: bytes = b"") -> None:
        """They are kept in memory only. `text`: what their requests are told, if anything."""
        for reader in self.readers.values():
            for pull in reader.pulls if text else ():
                status(pull, text)
            reader.pulls.clear()
        self.readers.clear()

    def stop_reader(self) -> None:
        """It is there, and silent."""
        if self.readers:
            self.random.choice(list(self.readers.values())).stopped = True

    def delete(self) -> None:
        self.whole = False
        self.lose_readers(b"409 Consumer Deleted")
        self.exists = False

    def create(self) -> None:
        self.lives += 1
        self.exists = True
        self.messages, self.first_seq, self.last_seq = {}, 1, 0

    def set_back(self, count: int) -> None:
        """A power cut: the last messages are gone though acknowledged, and their sequences will be given out again."""
        self.whole = False
        self.last_seq = max(self.last_seq - count, self.first_seq - 1)
        self.lost |= {message.key for seq, message in self.messages.items() if seq > self.last_seq}
        self.messages = {seq: message for seq, message in self.messages.items() if seq <= self.last_seq}

    def discard(self, count: int) -> None:
        """By age, or by a limit of the whole stream."""
        self.whole = False
        for seq in sorted(self.messages)[:count]:
            del self.messages[seq]
        self.first_seq = min(self.messages, default=self.last_seq + 1)

    def discard_anywhere(self, count: int) -> None:
        """By a limit for each subject."""
        self.whole = False
        for seq in self.random.sample(sorted(self.messages), min(count, len(self.messages))):
            del self.messages[seq]
        self.first_seq = min(self.messages, default=self.last_seq + 1)


def status(pull: Pull, text: bytes) -> None:
    pull.connection.hear(pull.receive, pull.number, b"NATS/1.0 " + text + b"\r\n\r\n")


def _deliver(pull: Pull, data: bytes) -> None:
    at = 0
    while at < len(data):
        found = cut(data, at)
        assert found.messages
        pull.connection.hear(pull.receive, next(iter(found.messages.shares)), found.messages)
        at = found.end


class BrokerPort:
    """One process's way to streams."""

    def __init__(self, world: World, connection: Connection) -> None:
        self.world, self.connection = world, connection
        self.allowance = Allowance()

    async def stream(self, name: str) -> StreamState:
        return await self.connection.ask(self.world.stream.state)

    async def arrival(self, stream: str, seq: int) -> int | None:
        def handle() -> int | None:
            self.world.stream.state()
            message = self.world.stream.messages.get(seq)
            return message.arrived if message else None

        return await self.connection.ask(handle)

    async def next_of(self, stream: str, subject: str, start: int) -> int | None:
        return await self.connection.ask(lambda: self.world.stream.next_of(subject, start))

    async def first_after(self, stream: str, arrived: int) -> int:
        return await self.connection.ask(lambda: self.world.stream.first_after(arrived))

    async def make_reader(self, stream: str, subject: str, start: int) -> ReaderMade:
        return await self.connection.ask(lambda: self.world.stream.make_reader(subject, start))

    async def reader_state(self, stream: str, reader: str) -> ReaderState:
        return await self.connection.ask(lambda: self.world.stream.reader_state(reader))

    def forget_reader(self, stream: str, reader: str) -> None:
        self.connection.tell(lambda: self.world.stream.readers.pop(reader, None))

    def pull(
        self, stream: str, reader: str, batch: int, max_bytes: int, expires: float, heartbeat: float, receive: Receive
    ) -> int:
        self.world.stream.pulls_made += 1
        pull = Pull(self.world.stream.pulls_made, self.connection, batch, receive)
        self.connection.tell(self.world.stream.pull, reader, pull, expires, heartbeat)
        return pull.number

    def cancel(self, pull: int) -> None:
        """The server hears of it a little later; what it gave meanwhile is lost to us."""
        self.connection.tell(self.world.stream.cancel, pull)


class GraveyardPort:
    """Dead letters: one for each subject, as the real one is."""

    def __init__(self, world: World, connection: Connection) -> None:
        self.world, self.connection = world, connection

    async def bury(self, letter: DeadLetter) -> None:
        def handle() -> None:
            if self.world.random.random() < self.world.refused_letters:
                raise BrokerError(reasons.DEAD_LETTERS_UNAVAILABLE, "the stream is full")
            payload = letter.message.payload.decode()
            key = json.loads(payload)["trade_id"] if payload.startswith("{") else payload
            self.world.stream.buried.setdefault(letter.subject(GRAVEYARD), key)

        await self.connection.ask(handle)

    async def buried(self, data_type: str, stream: str) -> set[tuple[int, int]]:
        prefix = f"{prefix_of(GRAVEYARD, data_type, stream)}."
        return await self.connection.ask(
            lambda: {place_of(subject) for subject in self.world.stream.buried if subject.startswith(prefix)}
        )
