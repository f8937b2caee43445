"""A stretch of a stream once more: what it still holds is decoded again, and stored where no tier has it.

Only what the lane's record says is done: the rest is in the hands of ingest, which stores it anyway.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from marketprism_api.data_types import Declaration
from marketprism_api.messages import MessageLimits
from marketprism_consumer.clickhouse.store import ClickHouseStore
from marketprism_consumer.errors import MessageError, NotYetStoredError
from marketprism_consumer.ingest.decode import Row, decode
from marketprism_consumer.ingest.identity import stream_identity
from marketprism_consumer.ingest.lane_id import LaneId
from marketprism_consumer.ingest.record import Record
from marketprism_consumer.jetstream.broker import NatsBroker
from marketprism_consumer.jetstream.records import NatsRecords
from marketprism_consumer.jetstream.stream_reader import Read, StreamReader
from marketprism_consumer.operations import lanes
from marketprism_consumer.operations.restore import Restorable, Restore
from marketprism_consumer.schema.tables import table_of

READ_AT_ONCE = 5_000


@dataclass(frozen=True, slots=True)
class Stretch:
    """From a sequence, or from a time of arrival [µs UTC] where that is given; to `last` inclusive, and before `until`."""

    first: int = 1
    since: int | None = None
    last: int | None = None
    until: int | None = None

    def ends_before(self, message: Read) -> bool:
        return (self.last is not None and message.seq > self.last) or (
            self.until is not None and message.arrived >= self.until
        )


@dataclass(slots=True)
class Replayed:
    """What became of one data type's messages. `bad` counts those that can't be a row, by reason: they are dead letters."""

    read: int = 0
    stored: int = 0
    stored_before: int = 0
    bad: dict[str, int] = field(default_factory=dict)
    refused: list[str] = field(default_factory=list)
    """What ClickHouse said of each row that it refused."""

    def __add__(self, other: Replayed) -> Replayed:
        bad = {reason: self.bad.get(reason, 0) + other.bad.get(reason, 0) for reason in {**self.bad, **other.bad}}
        return Replayed(
            self.read + other.read,
            self.stored + other.stored,
            self.stored_before + other.stored_before,
            bad,
            [*self.refused, *other.refused],
        )


async def replay(
    broker: NatsBroker,
    records: NatsRecords,
    tiers: Sequence[ClickHouseStore],
    lane: LaneId,
    declaration: Declaration,
    stretch: Stretch,
    limits: MessageLimits,
    *,
    subject: str = "",
    dry_run: bool = False,
    progress: Callable[[Replayed], None] = lambda _: None,
    only: Callable[[Row], bool] = lambda _: True,
    restored: Callable[[Row], None] = lambda _: None,
) -> Replayed:
    """Of one data type. `only`: which rows are wanted. `restored` is called with each that is stored, or would be. Raises
    NotYetStoredError, ReaderRunsError, BrokerError, StoreError."""
    data_type = lane.data_type
    table = table_of(declaration)
    stream = stream_identity(lane.stream, lane.created)
    await _record(records, lane)
    restore: Restore[int] = Restore(tiers)
    done = Replayed()
    async with StreamReader(
        broker,
        lane.stream,
        [subject or lane.subject],
        first=stretch.first,
        since=stretch.since,
        name=f"marketprism-replay-{data_type}",
    ) as reader:
        async for messages in reader.batches(READ_AT_ONCE):
            until = await restore.until()
            record = await _record(records, lane)
            ours = [m for m in messages if record.is_done(m.seq) and not stretch.ends_before(m)]
            entries = [entry for entry in _entries(declaration, ours, limits, done) if only(entry[2])]
            rows = {seq: row for _, seq, row in entries}
            if dry_run:
                there = await restore.stored(table, stream, list(rows))
                done.stored_before += len(there)
                done.stored += len(entries) - len(there)
                for seq in rows.keys() - there.keys():
                    restored(rows[seq])
            elif entries:
                for seq, state, why in await restore.store(table, stream, entries, until, generation=record.generation):
                    if state == "stored":
                        restored(rows[seq])
                    done.stored += state == "stored"
                    done.stored_before += state == "stored before"
                    done.refused += [why] if why else []
            progress(done)
            if stretch.ends_before(messages[-1]):
                break
    return done


def _entries(
    declaration: Declaration, messages: Sequence[Read], limits: MessageLimits, done: Replayed
) -> list[Restorable[int]]:
    entries: list[Restorable[int]] = []
    done.read += len(messages)
    for message in messages:
        try:
            row = decode(declaration, message.subject, message.payload, message.arrived, limits)
        except MessageError as refusal:
            done.bad[str(refusal.reason)] = done.bad.get(str(refusal.reason), 0) + 1
        else:
            entries.append((message.seq, message.seq, row))
    return entries


async def _record(records: NatsRecords, lane: LaneId) -> Record:
    found = await lanes.read(records, lane)
    if found.record is None:
        raise NotYetStoredError(found.problem or f"{lane.stream} has no record of {lane.data_type}")
    return found.record
