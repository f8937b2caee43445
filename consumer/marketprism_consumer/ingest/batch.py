"""When a batch is due, and what goes into it. Pure: the caller says what time it is.

A batch is due by rows, bytes or time. Inserts of one table begin at least PACE apart, so what comes meanwhile goes with it
and the number of parts stays bounded. Where a batch fills up within that second there is a backlog: the next may be twice
as large, and shrinks again when the backlog is gone.
"""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace
from typing import Literal

from marketprism_consumer.errors import MessageError
from marketprism_consumer.ingest.columns import HOUR, PARTITIONS, Columns
from marketprism_consumer.ingest.decode import Row
from marketprism_consumer.ingest.message import Message

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


Refused = tuple[Message, MessageError]


@dataclass(slots=True)
class Batch:
    """What one insert will store, and beside it what can't be stored: rows in columns, rows one by one with their messages, and
    messages that were refused. Each of the three is in order."""

    columns: list[Columns] = field(default_factory=list)
    messages: list[Message] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)
    refused: list[Refused] = field(default_factory=list)
    in_columns: int = 0
    bytes: int = 0
    hours: set[int] = field(default_factory=set)
    opened: float = 0.0
    why: WhyDue = "time"

    def __len__(self) -> int:
        return self.stored + len(self.refused)

    @property
    def stored(self) -> int:
        """Rows."""
        return self.in_columns + len(self.messages)

    @property
    def last(self) -> tuple[int, int]:
        """Sequence and arrival of the last message [µs]."""
        return max(self._ends(-1))

    @property
    def first(self) -> tuple[int, int]:
        return min(self._ends(0))

    def _ends(self, end: int) -> Iterator[tuple[int, int]]:
        if self.columns:
            yield self.columns[end].seqs[end], self.columns[end].arrived[end]
        if self.messages:
            yield self.messages[end].seq, self.messages[end].arrived
        if self.refused:
            yield self.refused[end][0].seq, self.refused[end][0].arrived

    @property
    def times(self) -> tuple[int, int]:
        """Of two of the rows that stand for all [µs]."""
        if self.columns:
            return self.columns[0].times[0], self.columns[-1].times[1]
        return self.rows[0][0], self.rows[-1][0]

    def exchanges(self) -> Counter[str]:
        """Of the rows in columns: how many of each."""
        return sum((part.exchanges() for part in self.columns), Counter[str]())


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
    def first(self) -> tuple[int, int] | None:
        """Sequence and arrival of the oldest that waits [µs]."""
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
        batch, hour = self._batch, row[0] // HOUR
        if hour != self._hour:
            self._hour = hour
            batch = self._open_for({hour})
        opens = self._begin(batch, now)
        batch.messages.append(message)
        batch.rows.append(row)
        batch.bytes += len(message.payload)
        return opens or self._is_due(1)

    def add_run(
        self, columns: Columns, rows: Sequence[tuple[Message, Row]], refused: Sequence[Refused], now: float
    ) -> bool:
        """As `add`, of all that has come at once: it goes into one batch, since a batch is all of a stretch of the stream."""
        self._hour = -1
        batch = self._open_for(columns.hours.union(row[0] // HOUR for _, row in rows))
        opens = self._begin(batch, now)
        batch.columns.append(columns)
        batch.in_columns += len(columns)
        batch.messages += [message for message, _ in rows]
        batch.rows += [row for _, row in rows]
        batch.refused += refused
        batch.bytes += columns.bytes + sum(len(message.payload) for message, _ in (*rows, *refused))
        return opens or bool(refused) or self._is_due(len(columns) + len(rows))

    def _open_for(self, hours: AbstractSet[int]) -> Batch:
        batch = self._batch
        if len(batch.hours | hours) > PARTITIONS and len(batch):
            self._sealed.append(batch)
            batch = self._batch = Batch()
        batch.hours |= hours
        return batch

    def _begin(self, batch: Batch, now: float) -> bool:
        if len(batch):
            return False
        batch.opened = now
        return True

    def _is_due(self, added: int) -> bool:
        if self._sealed:
            return True
        batch, rows = self._batch, self._batch.stored
        return rows - added < self.limits.max_rows <= rows or rows >= self.cap or batch.bytes >= self.limits.max_bytes

    def refuse(self, message: Message, refusal: MessageError, now: float) -> bool:
        self._begin(self._batch, now)
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
