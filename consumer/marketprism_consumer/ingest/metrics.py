"""The account that a lane's ingest gives of itself, as Prometheus metrics. Labels have closed sets of values."""

from __future__ import annotations

import time
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from marketprism_api import reasons
from marketprism_api.reasons import Reason
from marketprism_consumer.ingest.batch import Batch

_ROWS = (1, 10, 100, 500, 1_000, 5_000, 10_000, 50_000, 100_000)
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)


# There from the start as zeros: of a series that begins with 1, Prometheus sees no increase.
LOSSES = (reasons.MESSAGES_MISSED, reasons.STREAM_RECREATED, reasons.STREAM_REGRESSED)
STATES = (reasons.RUNNING, reasons.DEAD_LETTER_FLOOD, reasons.STOPPING)


class IngestMetrics:
    """All metrics of a process, each with the labels `data_type` and `stream`; names, units and meaning in one place."""

    def __init__(self, registry: CollectorRegistry) -> None:
        def make(kind: Any, name: str, text: str, *labels: str, **options: Any) -> Any:
            return kind(f"marketprism_{name}", text, ("data_type", "stream", *labels), registry=registry, **options)

        self.received = make(Counter, "messages_received_total", "Messages read from JetStream to be stored.")
        self.inserted = make(Counter, "rows_inserted_total", "Rows that ClickHouse confirmed.")
        self.dead = make(Counter, "dead_letters_total", "Messages put into the dead-letter stream.", "reason")
        self.batches = make(Counter, "batches_total", "Batches by what made them due.", "why")
        self.batch_rows = make(Histogram, "batch_rows", "Rows of one insert.", buckets=_ROWS)
        self.insert_seconds = make(Histogram, "insert_seconds", "Time of one insert [s].", buckets=_SECONDS)
        self.insert_failures = make(Counter, "insert_failures_total", "Inserts refused or unanswered (code 0).", "code")
        self.alarms = make(Counter, "alarms_total", "What a person should know of, by reason.", "reason")
        self.lag_messages = make(
            Gauge, "stream_lag_messages", "Messages that wait behind what the tail's reader has read."
        )
        self.lag_seconds = make(Gauge, "stream_lag_seconds", "Age of the oldest message of the last batch [s].")
        self.freshness = make(
            Histogram, "freshness_seconds", "From the event to its row being visible [s].", buckets=_SECONDS
        )
        self.in_flight = make(Gauge, "bytes_in_flight", "Payload read and not stored yet [bytes].")
        self.in_hand = make(Gauge, "in_hand_messages", "Messages read and not stored yet.")
        self.set_aside = make(Gauge, "set_aside", "Stretches that wait to be looked up, of all processes.")
        self.oldest = make(
            Gauge, "oldest_unstored_seconds", "Age of the oldest message that is known of and not stored [s]."
        )
        self.reads_tail = make(Gauge, "reads_tail", "1 where this process reads the lane's tail.")
        self.lookups = make(Counter, "lookups_total", "Look-ups of what is stored, each of one cut.")
        self.epochs = make(Counter, "epochs_total", "New epochs: a block could not go on as it was cut.")
        self.takeovers = make(Counter, "takeovers_total", "Claims taken over from a process that went or fell silent.")
        self.recoveries = make(Counter, "recoveries_total", "Records that were in doubt.")
        self.conflicts = make(Counter, "record_conflicts_total", "Writes of a record that came second.")
        self.record_seconds = make(
            Histogram, "record_write_seconds", "Time of one write of a record [s].", buckets=_SECONDS
        )
        self.state = make(Gauge, "state", "1 for the state that the data type is in.", "reason")


class IngestAccount:
    """One lane's metrics, and the few numbers that a view or a summary line wants of them."""

    def __init__(self, metrics: IngestMetrics, data_type: str, stream: str) -> None:
        self._metrics, self._lane = metrics, (data_type, stream)
        lane = self._lane
        self.lookups = metrics.lookups.labels(*lane)
        self.epochs = metrics.epochs.labels(*lane)
        self.takeovers = metrics.takeovers.labels(*lane)
        self.recoveries = metrics.recoveries.labels(*lane)
        self.conflicts = metrics.conflicts.labels(*lane)
        self._received = metrics.received.labels(*lane)
        self._inserted = metrics.inserted.labels(*lane)
        self._batch_rows = metrics.batch_rows.labels(*lane)
        self._insert_seconds = metrics.insert_seconds.labels(*lane)
        self._freshness = metrics.freshness.labels(*lane)
        self._lag_messages = metrics.lag_messages.labels(*lane)
        self._lag_seconds = metrics.lag_seconds.labels(*lane)
        self._in_flight = metrics.in_flight.labels(*lane)
        self._in_hand = metrics.in_hand.labels(*lane)
        self._set_aside = metrics.set_aside.labels(*lane)
        self._oldest = metrics.oldest.labels(*lane)
        self._reads_tail = metrics.reads_tail.labels(*lane)
        self._record_seconds = metrics.record_seconds.labels(*lane)
        for loss in LOSSES:
            metrics.alarms.labels(*lane, loss.name)
        self.totals = {"received": 0, "inserted": 0, "dead_letters": 0, "inserts": 0}
        self.last_insert_rows = 0
        self.last_insert_seconds = 0.0
        self.last_insert_time: float | None = None  # [s since 1970]
        self.refusal: Reason | None = None  # of the last insert
        self.late = 0.0  # age of the oldest message of the last batch [s]
        self.waits = 0.0  # age of the oldest that is not stored [s]

    def state(self, state: Reason) -> None:
        for possible in STATES:
            self._metrics.state.labels(*self._lane, possible.name).set(possible is state)

    def received(self, batch: Batch) -> None:
        self._received.inc(len(batch))
        self.totals["received"] += len(batch)
        self._metrics.batches.labels(*self._lane, batch.why).inc()

    def stands(
        self, *, lag: int, in_hand: int, held_bytes: int, set_aside: int, oldest: float, reads_tail: bool
    ) -> None:
        """`oldest`: arrival of the oldest message that is not stored [s since 1970]; 0 where there is none."""
        self._lag_messages.set(lag)
        self._in_hand.set(in_hand)
        self._in_flight.set(held_bytes)
        self._set_aside.set(set_aside)
        self.waits = max(0.0, time.time() - oldest) if oldest else 0.0
        self._oldest.set(self.waits)
        self._reads_tail.set(reads_tail)

    def record_write(self, seconds: float) -> None:
        self._record_seconds.observe(seconds)

    def inserted(self, count: int, arrived: int, times: tuple[int, int], seconds: float) -> None:
        """`arrived`: the oldest message [µs]. `times`: of two rows that stand for all: one call per row would cost more than decoding."""
        now = time.time()
        self._inserted.inc(count)
        self.totals["inserted"] += count
        self.totals["inserts"] += 1
        self._batch_rows.observe(count)
        self._insert_seconds.observe(seconds)
        self.late = max(0.0, now - arrived / 1e6)
        self._lag_seconds.set(self.late)
        for event in times:
            self._freshness.observe(max(0.0, now - event / 1e6))
        self.last_insert_rows, self.last_insert_seconds, self.refusal = count, seconds, None
        self.last_insert_time = now

    def nothing_to_insert(self) -> None:
        """Others have all of it, or it begins anew: a refusal that went before says nothing of what is."""
        self.refusal = None

    def dead_lettered(self, reason: Reason) -> None:
        self.totals["dead_letters"] += 1
        self._metrics.dead.labels(*self._lane, reason.name).inc()

    def insert_failed(self, code: int, reason: Reason) -> None:
        self.refusal = reason
        self._metrics.insert_failures.labels(*self._lane, str(code)).inc()

    def alarm(self, reason: Reason) -> None:
        self._metrics.alarms.labels(*self._lane, reason.name).inc()
