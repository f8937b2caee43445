"""Reads a stream in order: a consumer that JetStream keeps in memory and that acknowledges nothing.

Continuity is proven by the consumer's own count of what it has sent. Whatever is odd (a gap, silence, a status that is not
the end of a request) breaks the reader, and a new one begins at the next sequence: nothing that JetStream remembers matters.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from marketprism_consumer.errors import LostError, ReaderBrokenError
from marketprism_consumer.ingest.broker import Broker, StreamState
from marketprism_consumer.ingest.frames import Messages
from marketprism_consumer.ingest.pull_status import pull_status

MOST_PULLS = 100  # at once: a server keeps 512 of a reader's requests, and drops more without a word
EXPIRES = 10.0  # of one request [s]
HEARTBEAT = 1.0  # [s]
SILENCE = 3 * HEARTBEAT + 0.5
LOOKS = 2  # at the stream, before what it is said to lack is not believed: its servers discard by clocks of their own


@dataclass(slots=True)
class _Pull:
    size: int  # that was asked for [bytes]
    left: int
    bytes_left: int
    received: bool = False


@dataclass(slots=True)
class _Expected:
    """The reader's `count`th delivery is the last of what was pending: from sequence `first` on, none behind `last`."""

    count: int
    first: int
    last: int


@dataclass(slots=True)
class _Lacking:
    """So many of those that were expected, from sequence `first` on, have not come. `looks`: how often the stream was asked."""

    count: int
    first: int
    looks: int = 0


class Reader:
    """From sequence `next` on. `receive` gets what came at once, in order; `look` is called when a request has ended, or the
    reader broke. `pending`: what is to come after what has been received, as it was last heard;
    `delivered`: how many have been received. `first`: where the stream began when the reader was made. `last`: sequence and
    arrival [µs] of the last that was received."""

    def __init__(
        self,
        broker: Broker,
        stream: str,
        created: str,
        subject: str,
        start: int,
        receive: Callable[[Messages], None],
        look: Callable[[], None],
    ) -> None:
        self.name = ""
        self.next = start
        self.pending = 0
        self.broken = ""
        self.last: tuple[int, int] | None = None
        self.outstanding = 0
        self.first = 0
        self._expected: _Expected | None = None
        self._lacking: _Lacking | None = None
        self._broker, self._stream, self._created, self._subject = broker, stream, created, subject
        self._receive_messages, self._look = receive, look
        self._pulls: dict[int, _Pull] = {}
        self._most = 1 << 30  # rows that a request may ask for
        self._least = 1  # that a request has to ask for, or the next message would not fit [bytes]
        self.delivered = 0
        self._sent = 0
        self._now = asyncio.get_running_loop().time
        self._heard = self._now()

    async def open(self) -> Reader:
        """Raises BrokerError, and LostError where the stream was made anew: its messages are another lane's."""
        self.name, self.pending = await self._broker.make_reader(self._stream, self._subject, self.next)
        state = await self._broker.stream(self._stream)
        if state.created != self._created:
            self.close()
            raise LostError("the stream was made anew")
        self.first = state.first_seq
        self._heard = self._now()
        return self

    @property
    def outstanding_bytes(self) -> int:
        return sum(pull.bytes_left for pull in self._pulls.values())

    def request(self, rows: int, max_bytes: int) -> None:
        """Nothing where too much is on its way already: to be asked for again."""
        rows, max_bytes = min(rows, self._most), max(max_bytes, self._least)
        if len(self._pulls) == MOST_PULLS or not self._broker.allowance.take(self, max_bytes):
            return
        if not self._pulls:
            self._heard = self._now()
        number = self._broker.pull(self._stream, self.name, rows, max_bytes, EXPIRES, HEARTBEAT, self._receive)
        self._pulls[number] = _Pull(max_bytes, rows, max_bytes)
        self.outstanding += rows

    def check(self) -> None:
        """Raises ReaderBrokenError. To be called about once a second."""
        if not self.broken and self._pulls and self._now() - self._heard > SILENCE:
            self.broken = "silence"
        if self.broken:
            raise ReaderBrokenError(self.broken)

    async def ask(self) -> bool:
        """Has all come that the server has sent? Then `pending` is as it says. What it had sent when it was asked before, and
        has not come, is lost: only a later message would tell of it, and there may be none for long. Raises BrokerError."""
        pending, sent = await self._broker.reader_state(self._stream, self.name)
        if self.delivered < self._sent:
            self.give_up(f"{self._sent} were delivered, {self.delivered} came")
        self._sent = sent
        if pending and self._expected is None:
            await self._expect(sent + pending)
        if self.broken or self.delivered != sent:
            return False
        self.pending = pending
        if self._expected is not None and not pending:
            # Nothing is to come: what was pending and has not come is gone, whether or not a later message tells.
            self._came(self._expected, self.delivered)
        return True

    def missed(self, state: StreamState) -> int:
        """How many were discarded before they came, of those that were expected, and were not told of yet; not more than the
        stream lacks: its servers count what is pending for each reader as it goes, and for a moment there may be one too many."""
        lacking = self._lacking
        if lacking is None:
            return 0
        missed = min(lacking.count, state.lacks(lacking.first))
        lacking.count -= missed
        lacking.looks += 1
        if not lacking.count or lacking.looks == LOOKS:
            self._lacking = None
        return missed

    async def _expect(self, count: int) -> None:
        first = await self._broker.next_of(self._stream, self._subject, self.next)
        if first is not None:
            # Asked after that: all that was pending is at or before what is the last one now.
            self._expected = _Expected(count, first, (await self._broker.stream(self._stream)).last_seq)

    def _came(self, expected: _Expected, delivered: int) -> None:
        self._expected = None
        if delivered < expected.count:
            self._lacking = _Lacking(expected.count - delivered, expected.first)

    def _see(self, messages: Messages) -> None:
        """When a message comes from behind what was the last one, all that was pending then has come, or was discarded."""
        expected = self._expected
        if expected is not None and messages.seqs[-1] > expected.last:
            beyond = len(messages.between(expected.last + 1, messages.seqs[-1]))
            self._came(expected, self.delivered - beyond)

    def close(self) -> None:
        for number in list(self._pulls):
            self._end(number)
        self._broker.allowance.wait_no_more(self)
        if self.name:
            self._broker.forget_reader(self._stream, self.name)
            self.name = ""

    def _end(self, number: int) -> None:
        pull = self._pulls.pop(number, None)
        if pull is not None:
            self.outstanding -= pull.left
            self._broker.allowance.give_back(pull.bytes_left)
            self._broker.cancel(number)

    def give_up(self, why: str) -> None:
        """It is broken: another one is to read on."""
        self.broken = self.broken or why
        for number in list(self._pulls):
            self._end(number)
        self._look()

    def _receive(self, number: int, delivered: Messages | bytes) -> None:
        if number not in self._pulls:
            return
        self._heard = self._now()
        if isinstance(delivered, bytes):
            self._status(number, delivered)
            return
        if delivered.first_number != self.delivered + 1:
            self.give_up(f"delivery {delivered.first_number} came after {self.delivered}")
            return
        self.delivered += len(delivered)
        self._account(delivered)
        # A server that has not come so far begins at its own end.
        messages = delivered.between(self.next, delivered.seqs[-1])
        if len(messages):
            self._see(messages)
            self.last = messages.seqs[-1], messages.arrived[-1]
            self.next, self.pending = messages.seqs[-1] + 1, messages.pending
            self._receive_messages(messages)

    def _account(self, delivered: Messages) -> None:
        for number, (count, size) in delivered.shares.items():
            pull = self._pulls.get(number)
            if pull is None:
                continue
            pull.received = True
            pull.left -= count
            pull.bytes_left -= size
            self.outstanding -= count
            self._broker.allowance.give_back(size)
            # Where its bytes come out even, the server ends a request without a word (nats-server's nextWaiting).
            if pull.left <= 0 or pull.bytes_left == 0:
                self._end(number)

    def _status(self, number: int, headers: bytes) -> None:
        if number not in self._pulls:
            return
        status = pull_status(headers)
        if status.idle:
            return
        pull = self._pulls[number]
        self._end(number)
        if status.at_most:
            self._most = status.at_most
        elif not status.over:
            self.give_up(f"{status.code} {status.text}")
            return
        if status.full and not pull.received:
            self._least = max(self._least, 2 * pull.size)  # the next message alone is larger
        self._look()
