"""When a batch is due, and what goes into it. Pure: the caller says what time it is.

A batch is due by rows, bytes or time. Inserts of one table begin at least PACE apart, so what comes meanwhile goes with it
and the number of parts stays bounded. Where a batch fills up within that second there is a backlog: the next may be twice
as large, and shrinks again when the backlog is gone.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field, replace
from typing import Literal

from marketprism_consumer.errors import MessageError
from marketprism_consumer.ingest.decode import Row
from marketprism_consumer.ingest.message import Message

PARTITIONS = 32  # of one block: ClickHouse remembers a token for each, and must remember all of a minute
HOUR = 3_600_000_000  # a partition of hot [µs]
PACE = 1.0  # [s] between two inserts of a table: ClickHouse's own advice is about one per second
GROWN = 50_000  # rows: beyond this a larger batch is no cheaper, only later

LEAST = 64 << 10  # bytes: a batch is not made smaller than this

WhyDue = Literal["rows", "bytes", "partitions", "time", "full", "stop"]


@dataclass(frozen=True, slots=True)
class BatchBounds:
    """Rows, bytes of payload and seconds of one data type's batch, as the pipeline gives them."""

    max_rows: int
    max_delay: float
    max_pending: int
    max_bytes: int


@dataclass(slots=True)
class Batch:
    """What one insert will store, and beside it what can't be stored."""

    messages: list[Message] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)
    refused: list[tuple[Message, MessageError]] = field(default_factory=list)
    bytes: int = 0
    hours: set[int] = field(default_factory=set)
    opened: float = 0.0
    why: WhyDue = "time"

    def __len__(self) -> int:
        return len(self.messages) + len(self.refused)

    @property
    def last(self) -> Message:
        """The one with the highest sequence."""
        ends = [messages[-1] for messages in (self.messages, [message for message, _ in self.refused[-1:]]) if messages]
        return max(ends, key=lambda message: message.seq)

    @property
    def first(self) -> Message:
        starts = [messages[0] for messages in (self.messages, [message for message, _ in self.refused[:1]]) if messages]
        return min(starts, key=lambda message: message.seq)


class Batcher:
    """Collects one table's rows. `cap` is the rows it takes before it is full: `max_pending`, more under a backlog."""

    def __init__(self, limits: BatchBounds) -> None:
        self.limits = limits
        self.cap = limits.max_pending
        self._batch = Batch()
        self._sealed: deque[Batch] = deque()  # what came after would have brought one partition too many
        self._last_taken = -math.inf
        self._hour = -1

    def __len__(self) -> int:
        return len(self._batch) + sum(map(len, self._sealed))

    @property
    def bytes(self) -> int:
        return self._batch.bytes + sum(batch.bytes for batch in self._sealed)

    @property
    def first(self) -> Message | None:
        """The oldest that waits."""
        batch = self._sealed[0] if self._sealed else self._batch
        return batch.first if len(batch) else None

    def shrink(self) -> int:
        """Batches of half as many bytes from now on, since something on the way lets no larger ones through. Returns how many."""
        self.limits = replace(self.limits, max_bytes=max(LEAST, self.limits.max_bytes // 2))
        return self.limits.max_bytes

    def clear(self) -> None:
        self._sealed.clear()
        self._batch, self._hour = Batch(), -1

    def add(self, message: Message, row: Row, now: float) -> bool:
        """True where whoever waits for this batch should look again: it has opened, or has become due or full."""
        batch = self._batch
        hour = row[0] // HOUR
        if hour != self._hour:
            self._hour = hour
            if hour not in batch.hours and len(batch.hours) == PARTITIONS:
                self._sealed.append(batch)
                batch = self._batch = Batch()
            batch.hours.add(hour)
        if not batch.messages and not batch.refused:
            batch.opened = now
        batch.messages.append(message)
        batch.rows.append(row)
        batch.bytes += len(message.payload)
        if self._sealed:
            return True
        count = len(batch.messages)
        return count == 1 or count == self.limits.max_rows or count >= self.cap or batch.bytes >= self.limits.max_bytes

    def refuse(self, message: Message, refusal: MessageError, now: float) -> bool:
        if not len(self._batch):
            self._batch.opened = now
        self._batch.refused.append((message, refusal))
        self._batch.bytes += len(message.payload)
        return True

    def wait(self, now: float) -> float:
        """Seconds until the batch is due: 0 where it is, infinity where there is nothing."""
        due = self._due()
        if due is None:
            return math.inf
        why, at = due
        return 0.0 if why in ("full", "bytes") else max(0.0, at - now, self._last_taken + PACE - now)

    def _due(self) -> tuple[WhyDue, float] | None:
        if self._sealed:
            return "partitions", self._sealed[0].opened
        batch, limits = self._batch, self.limits
        if not len(batch):
            return None
        if len(batch) >= self.cap:
            return "full", batch.opened
        if batch.bytes >= limits.max_bytes:
            return "bytes", batch.opened
        if len(batch) >= limits.max_rows:
            return "rows", batch.opened
        return "time", batch.opened + limits.max_delay

    def take(self, now: float, *, stopping: bool = False) -> Batch:
        due = self._due()
        if self._sealed:
            batch = self._sealed.popleft()
        else:
            batch, self._batch, self._hour = self._batch, Batch(), -1
        batch.why = "stop" if stopping or due is None else due[0]
        if batch.why == "full" and now - self._last_taken < PACE:
            self.cap = max(self.cap, min(2 * self.cap, GROWN))
        elif len(batch) < self.cap // 4:
            self.cap = max(self.limits.max_pending, self.cap // 2)
        self._last_taken = now
        return batch
