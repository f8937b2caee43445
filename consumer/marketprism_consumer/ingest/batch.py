"""When a batch is due, and what goes into it. Pure: the caller says what time it is.

A batch is due by rows, bytes or time. Inserts of one table begin at least PACE apart, so what comes meanwhile goes with it
and the number of parts stays bounded. Where a batch fills up within that second there is a backlog: the next may be twice
as large, and shrinks again when the backlog is gone.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

from marketprism_consumer.errors import MessageError
from marketprism_consumer.ingest.decode import Row
from marketprism_consumer.ingest.message import Message

PACE = 1.0  # [s] between two inserts of a table: ClickHouse's own advice is about one per second
GROWN = 50_000  # rows: beyond this a larger batch is no cheaper, only later

WhyDue = Literal["rows", "bytes", "time", "full", "stop"]


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
    opened: float = 0.0
    why: WhyDue = "time"

    def __len__(self) -> int:
        return len(self.messages) + len(self.refused)


class Batcher:
    """Collects one table's rows. `cap` is the rows it takes before it is full: `max_pending`, more under a backlog."""

    def __init__(self, limits: BatchBounds) -> None:
        self.limits = limits
        self.cap = limits.max_pending
        self._batch = Batch()
        self._last_taken = -math.inf

    def __len__(self) -> int:
        return len(self._batch)

    @property
    def bytes(self) -> int:
        return self._batch.bytes

    def add(self, message: Message, row: Row, now: float) -> bool:
        """True where whoever waits for this batch should look again: it has opened, or has become due or full."""
        batch = self._batch
        if not batch.messages and not batch.refused:
            batch.opened = now
        batch.messages.append(message)
        batch.rows.append(row)
        batch.bytes += len(message.payload)
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
        batch, self._batch = self._batch, Batch()
        batch.why = "stop" if stopping or due is None else due[0]
        if batch.why == "full" and now - self._last_taken < PACE:
            self.cap = max(self.cap, min(2 * self.cap, GROWN))
        elif len(batch) < self.cap // 4:
            self.cap = max(self.limits.max_pending, self.cap // 2)
        self._last_taken = now
        return batch
