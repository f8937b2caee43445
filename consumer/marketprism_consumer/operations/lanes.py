"""The lanes of a pipeline: each one's record, what waits in it, and a record begun again by hand."""

from __future__ import annotations

import asyncio
import math
import uuid
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import msgspec
from msgspec.structs import replace

from marketprism_api import reasons
from marketprism_api.settings import Settings
from marketprism_consumer.clickhouse.store import NO_SUCH_TABLE, ClickHouseStore
from marketprism_consumer.errors import BrokerError, ConflictError, StoreError
from marketprism_consumer.ingest import record as steps
from marketprism_consumer.ingest.ingest import SILENCE
from marketprism_consumer.ingest.lane import CLOCK_MARGIN
from marketprism_consumer.ingest.lane_id import LaneId, lane_of
from marketprism_consumer.ingest.record import VALID, Claim, Record, load
from marketprism_consumer.jetstream import records as bucket
from marketprism_consumer.jetstream.broker import NatsBroker
from marketprism_consumer.jetstream.records import NatsRecords
from marketprism_consumer.jetstream.refusals import STREAM_NOT_FOUND
from marketprism_consumer.jetstream.streams import choose
from marketprism_consumer.schema.tables import Table, table_of

LOOK_EVERY = 0.1  # [s]
WRITES = 100  # how often a reset tries to be first: running consumers write a few times a second


@dataclass(frozen=True, slots=True)
class FoundLane:
    """One data type's. `stream` is empty where none holds it; `id` is None where stream or table is missing, `record` where
    there is none, or none that can be read: then `problem` says why. `revision`: what the next write has to follow."""

    data_type: str
    stream: str
    id: LaneId | None = None
    revision: int = 0
    record: Record | None = None
    problem: str = ""

    @property
    def key(self) -> str:
        return self.id.key if self.id else ""


async def find_all(settings: Settings, broker: NatsBroker, store: ClickHouseStore, data_type: str) -> list[FoundLane]:
    """A data type's lanes with their records, one for each stream; a single one without a stream where none holds it. Raises
    BrokerError, StoreError."""
    try:
        streams = (await choose(broker, settings, data_type)).read
    except BrokerError as refused:
        if refused.reason is not reasons.STREAM_UNFIT:
            raise
        return [FoundLane(data_type, "", problem=str(refused))]
    if streams:
        return [await _find_in(settings, broker, store, data_type, stream) for stream in streams]
    subject = settings.data_types[data_type].subject
    return [FoundLane(data_type, "", problem=f"{reasons.STREAM_MISSING}: no stream holds {subject}")]


async def find(
    settings: Settings, broker: NatsBroker, store: ClickHouseStore, data_type: str, stream: str = ""
) -> FoundLane:
    """One of them: the only one, or that of `stream`. Raises ValueError where that is not one."""
    found = await find_all(settings, broker, store, data_type)
    fitting = [lane for lane in found if stream in ("", lane.stream)]
    if len(fitting) != 1:
        raise ValueError(f"{data_type} is read from {', '.join(lane.stream for lane in found)}: name one with --stream")
    return fitting[0]


async def _find_in(
    settings: Settings, broker: NatsBroker, store: ClickHouseStore, data_type: str, stream: str
) -> FoundLane:
    name, chosen = data_type, settings.data_types[data_type]
    table, subject = table_of(chosen.declaration), chosen.subject
    try:
        id_ = await lane_of(broker, store, table, stream, subject)
    except BrokerError as refused:
        if refused.reason is not reasons.STREAM_UNFIT:
            raise
        return FoundLane(name, stream, problem=str(refused))
    except StoreError as refused:
        if refused.code not in NO_SUCH_TABLE:
            raise
        return FoundLane(name, stream, problem=f"{reasons.SCHEMA_MISSING}: {store.table(table)}")
    return await read(NatsRecords(broker.client, settings.bucket), id_)


async def read(records: NatsRecords, id_: LaneId) -> FoundLane:
    """Raises BrokerError."""
    try:
        revision, value = await records.read(id_.key)
    except BrokerError as refused:
        if refused.code != STREAM_NOT_FOUND:
            raise
        revision, value = 0, b""  # no bucket: there was never a record
    record, problem = None, ""
    try:
        record = steps.load(value) if value else None
    except ValueError as error:
        problem = f"{reasons.RECORD_UNAVAILABLE}: {id_.key}: {error}; see `marketprism lanes reset`"
    return FoundLane(id_.data_type, id_.stream, id_, revision, record, problem)


async def alive(records: NatsRecords, lanes: Iterable[FoundLane]) -> set[str]:
    """The keys of the lanes whose tail has an owner that is heard. Looks at all of them together, until each was heard or
    SILENCE is over. Raises BrokerError."""
    waiting = {lane.key: (lane.id, beat) for lane in lanes if lane.id and (beat := _beat(lane))}
    found: set[str] = set()
    loop = asyncio.get_running_loop()
    deadline = loop.time() + SILENCE
    while waiting and loop.time() < deadline:
        await asyncio.sleep(LOOK_EVERY)
        now = await asyncio.gather(*(read(records, id_) for id_, _ in waiting.values()))
        heard = {lane.key for lane in now if _beat(lane) not in (None, waiting[lane.key][1])}
        found |= heard
        for key in heard:
            del waiting[key]
    return found


def _beat(lane: FoundLane) -> tuple[str, str, int] | None:
    """What changes while somebody reads the tail; None where nobody says to."""
    tail = tail_of(lane.record)
    return (tail.id, tail.owner, tail.beat) if tail and tail.owner else None


def tail_of(record: Record | None) -> Claim | None:
    return record.claims[-1] if record and record.has_tail else None


def owners(lanes: Iterable[FoundLane]) -> set[str]:
    """Processes that have something of these lanes, whether or not they are heard."""
    return {claim.owner for lane in lanes if lane.record for claim in lane.record.claims if claim.owner}


# --- what waits -------------------------------------------------------------------------------------------------------

SequenceRange = tuple[int, int | None]
"""(after this sequence, to this one); without an end, to the stream's."""


@dataclass(frozen=True, slots=True)
class Backlog:
    """Messages that are not known to be stored. `set_aside`: those that wait to be looked up first, not in `lag`."""

    lag: int
    set_aside: int


async def backlog(broker: NatsBroker, lane: FoundLane) -> Backlog:
    """Of a lane with a record. Raises BrokerError."""
    record = lane.record
    assert record
    waiting: list[SequenceRange] = [(claim.done, claim.end) for claim in record.claims if not claim.waits]
    if not record.has_tail:
        waiting.append((record.end, None))
    aside: list[SequenceRange] = [(claim.done, claim.end) for claim in record.claims if claim.waits]
    count = _Counter(broker, lane)
    return Backlog(await count.of(waiting), await count.of(aside))


class _Counter:
    """How many messages a lane's stream holds in stretches of it."""

    def __init__(self, broker: NatsBroker, lane: FoundLane) -> None:
        self._broker, self._lane = broker, lane
        self._beyond: dict[int, int] = {}

    async def of(self, stretches: Sequence[SequenceRange]) -> int:
        return sum([await self._in(*stretch) for stretch in stretches])

    async def _in(self, after: int, end: int | None) -> int:
        if end is not None and end <= after:
            return 0
        # What arrives between the two is in the second count alone.
        return max(0, await self._after(after) - (0 if end is None else await self._after(end)))

    async def _after(self, seq: int) -> int:
        if seq not in self._beyond:
            id_ = self._lane.id
            assert id_
            made = await self._broker.make_reader(id_.stream, id_.subject, seq + 1)
            self._broker.forget_reader(id_.stream, made.name)
            self._beyond[seq] = made.pending
        return self._beyond[seq]


# --- for people -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Summary:
    """One lane on a line. `tail`: who reads it; empty where nobody says to. `in_hand`: stretches that somebody works on,
    `in_doubt`: that are looked up first, `unfinished`: that nobody has."""

    data_type: str
    stream: str
    key: str
    done: int | None = None
    end: int | None = None
    lag: int | None = None
    set_aside: int | None = None
    tail: str = ""
    in_hand: int = 0
    in_doubt: int = 0
    unfinished: int = 0
    problem: str = ""


async def summary(broker: NatsBroker, lane: FoundLane) -> Summary:
    record = lane.record
    if not record:
        problem = lane.problem or "no record yet: the first consumer makes it"
        return Summary(lane.data_type, lane.stream, lane.key, problem=problem)
    waits = await backlog(broker, lane)
    tail = tail_of(record)
    doubtful = [claim for claim in record.claims if claim.waits]
    others = [claim for claim in record.claims if claim not in doubtful]
    return Summary(
        lane.data_type,
        lane.stream,
        lane.key,
        record.claims[0].done if record.claims else record.done,
        record.end,
        waits.lag,
        waits.set_aside,
        tail.owner if tail else "",
        in_hand=sum(bool(claim.owner) for claim in others),
        in_doubt=len(doubtful),
        unfinished=sum(not claim.owner for claim in others),
    )


def as_dict(lane: FoundLane) -> dict[str, Any]:
    """The whole record, as JSON."""
    return {
        "dataType": lane.data_type,
        "stream": lane.stream,
        "key": lane.key,
        "revision": lane.revision,
        "record": msgspec.to_builtins(lane.record),
        "problem": lane.problem,
    }


# --- begun again by hand ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Reset:
    """What a reset to `to` does. Numbers are of messages that the stream holds: `in_doubt`, those behind `to`, are looked up;
    `skipped` are before it, and nobody has taken them up; `given_up` are before it, taken up and not known to be stored."""

    lane: FoundLane
    to: int
    last: int
    in_doubt: int
    skipped: int
    given_up: int


async def plan_reset(broker: NatsBroker, lane: FoundLane, to: int) -> Reset:
    """Raises ValueError where the lane can't begin there, BrokerError."""
    if not lane.id:
        raise ValueError(lane.problem)
    last = (await broker.stream(lane.stream)).last_seq
    if not 0 <= to <= last:
        raise ValueError(f"{lane.stream} ends at {last}: --to {to} is beyond it")
    record = lane.record or lane.id.empty_record()
    count = _Counter(broker, lane)
    skipped = await count.of([(record.end, to)])
    taken_up = [(claim.done, min(to, claim.position if claim.end is None else claim.end)) for claim in record.claims]
    return Reset(lane, to, last, await count.of([(to, last)]), skipped, await count.of(taken_up))


async def reset(broker: NatsBroker, records: NatsRecords, store: ClickHouseStore, lane: FoundLane, to: int) -> Record:
    """Consumers that run find their claims gone, and go on from what is written here. Raises BrokerError, StoreError;
    ConflictError where they were always first."""
    id_ = lane.id
    assert id_
    await records.ensure(await broker.replicas(id_.stream))
    for _ in range(WRITES):
        found = await read(records, id_)
        # The clock is asked after the record was read: what was sent by that record is refused before `after`.
        after = math.ceil((await store.clocks()).fastest + CLOCK_MARGIN) + VALID
        last = (await broker.stream(id_.stream)).last_seq
        new = steps.reset(found.record or id_.empty_record(), to, after, last, uuid.uuid4().hex)
        new = replace(new, boot=records.boot, write=uuid.uuid4().hex)
        with suppress(ConflictError):
            await records.write(id_.key, steps.dump(new), found.revision)
            return new
    raise ConflictError(f"{id_.key}: its consumers were always first")


# --- a lane whose table was just made ---------------------------------------------------------------------------------


async def begin(
    settings: Settings, broker: NatsBroker, tiers: Sequence[ClickHouseStore], created: Iterable[Table]
) -> None:
    """The first records for tables that this process has just made, the first of `tiers`: nobody can have sent a row into one
    that was not there, so that nothing has to be waited for; but into one that was, and
    is made again, somebody may. Types without a stream are left out. Raises BrokerError,
    StoreError."""
    records = NatsRecords(broker.client, settings.bucket)
    for table in created:
        data_type = table.data_type
        # What is in cold has to be looked up. And what was made may be a new replica of an old table.
        if any([await _has_rows(tier, table) for tier in tiers]):
            continue
        for stream in (await choose(broker, settings, data_type)).read:
            id_ = await lane_of(broker, tiers[0], table, stream, settings.data_types[data_type].subject)
            await records.ensure(settings.replicas or await broker.replicas(stream))
            if not await _may_be_written(records, tiers[0], id_):
                await bucket.begin(records, id_)


async def _may_be_written(records: NatsRecords, store: ClickHouseStore, id_: LaneId) -> bool:
    """Were the same messages stored in a table that is gone? Its consumers may not know yet, and send rows into the new one."""
    others = set()
    for key in await records.keys(id_.data_type):
        if key != id_.key:
            _, value = await records.read(key)
            record = load(value) if value else id_.empty_record()
            if (record.stream, record.created, record.subject) == (id_.stream, id_.created, id_.subject):
                others.add(record.table)
    there = await store.clickhouse.query(
        "SELECT toString(uuid) FROM system.tables WHERE toString(uuid) IN {ids:Array(String)}", {"ids": sorted(others)}
    )
    return len(there) < len(others)


async def _has_rows(store: ClickHouseStore, table: Table) -> bool:
    try:
        await store.catch_up(table)
        return bool(await store.clickhouse.query(f"SELECT 1 FROM {store.table(table)} LIMIT 1"))
    except StoreError as refused:
        if refused.code in NO_SUCH_TABLE:
            return False
        raise
