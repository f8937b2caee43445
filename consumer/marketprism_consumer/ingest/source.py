"""The continuous pull: requests for messages kept topped up, and noticed when they fall silent.

Every request has an inbox of its own, so a message is known to answer that request and can't have been given to us before
the request was made. From there its hold is reckoned: the time up to which JetStream gives it to nobody else. A process that
was frozen and wakes with messages in its socket can't take them for new.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import structlog

from marketprism_consumer.ingest.broker import ACK_PREFIX, Broker, Durable, Frame
from marketprism_consumer.ingest.message import Message, from_delivery

log = structlog.get_logger()

MIN_PULL_BYTES = 8 << 20  # a request for less could be too small for a single message, and would never be answered


@dataclass(slots=True)
class _Pull:
    left: int
    bytes_left: int
    hold_until: float
    active: float


class Source:
    """`deliver` gets what came at once; `ended` is told when a request is over; `lost` when what we know of the consumer may
    no longer hold, and whether what we held until then is surely still ours."""

    def __init__(
        self,
        broker: Broker,
        durable: Durable,
        *,
        deliver: Callable[[Sequence[Message]], None],
        ended: Callable[[], None],
        lost: Callable[[str, bool], None],
    ) -> None:
        self._broker = broker
        self._now = asyncio.get_running_loop().time
        self.durable = durable
        self._deliver = deliver
        self._ended = ended
        self._lost = lost
        self._pulls: dict[int, _Pull] = {}
        self.expires = min(15.0, durable.ack_wait / 4)
        self.heartbeat = min(2.0, self.expires / 3)
        # Two clocks with a resolution of a second stand between us and the fence in ClickHouse.
        self.hold = durable.ack_wait - max(2.5, durable.ack_wait / 10)
        self.outstanding = 0
        self.heard = self._now()
        self.last_delivery = 0

    @property
    def deaf(self) -> bool:
        """No request has been out there for so long that news of the consumer could have been missed."""
        return not self._pulls and self._now() - self.heard > 2 * self.heartbeat

    @property
    def outstanding_bytes(self) -> int:
        return sum(pull.bytes_left for pull in self._pulls.values())

    def request(self, rows: int, max_bytes: int) -> None:
        now = self._now()
        pull = self._broker.pull(self.durable, rows, max_bytes, self.expires, self.heartbeat, self._receive)
        self._pulls[pull] = _Pull(rows, max_bytes, now + self.hold, now)
        self.outstanding += rows

    def cancel(self) -> None:
        for pull in list(self._pulls):
            self._end(pull)

    def check(self) -> None:
        """Called about once a second: a request without a sign of life for two heartbeats is dead."""
        now = self._now()
        if any(self._silent(pull, now) for pull in self._pulls.values()):
            self.cancel()
            self._lost("no heartbeat", False)

    def _silent(self, pull: _Pull, now: float) -> bool:
        return now - pull.active > 2 * self.heartbeat + 1

    def _end(self, number: int) -> None:
        pull = self._pulls.pop(number, None)
        if pull is not None:
            self.outstanding -= pull.left
            self._broker.cancel(number)

    def _receive(self, number: int, frames: Sequence[Frame]) -> None:
        pull = self._pulls.get(number)
        if pull is None:
            return
        now = self._now()
        if self._silent(pull, now):
            # This process was frozen, or cut off: what waits in its socket is old news, and newer may be missing.
            self.cancel()
            self._lost("no heartbeat", False)
            return
        self.heard = pull.active = now
        messages: list[Message] = []
        for subject, reply, payload, headers in frames:
            if not reply.startswith(ACK_PREFIX):
                self._hand_over(number, messages)
                messages = []
                self._status(number, headers)
                continue
            pull.bytes_left -= len(subject) + len(reply) + len(headers) + len(payload)  # as the server counts them
            message = from_delivery(subject, reply, payload, pull.hold_until)
            if message.consumer_seq <= self.last_delivery:
                # It counts every delivery once: this is another consumer of the same name, perhaps of another stream.
                self._hand_over(number, messages)
                self.cancel()
                self._lost("the consumer was made anew", False)
                return
            self.last_delivery = message.consumer_seq
            messages.append(message)
        self._hand_over(number, messages)

    def _hand_over(self, number: int, messages: Sequence[Message]) -> None:
        pull = self._pulls.get(number)
        if pull is None or not messages:
            return
        pull.left -= len(messages)
        self.outstanding -= len(messages)
        # Where its bytes come out even, the server ends a request without a word (nats-server's nextWaiting).
        if pull.left <= 0 or pull.bytes_left == 0:
            self._end(number)
        self._deliver(messages)

    def _status(self, number: int, headers: bytes) -> None:
        """A line such as `NATS/1.0 409 Consumer Deleted`."""
        if number not in self._pulls:
            return
        code, _, text = headers.partition(b"\r\n")[0].removeprefix(b"NATS/1.0").strip().partition(b" ")
        if code == b"100":
            return
        self._end(number)
        # 404, 408 and the end of a request by its bytes are how requests end; all else is news of the consumer.
        if code in (b"404", b"408") or text.startswith((b"Message Size Exceeds MaxBytes", b"Batch Completed")):
            self._ended()
        else:
            self._lost(f"{code.decode()} {text.decode(errors='replace')}", text.startswith(b"Consumer Deleted"))
