"""Is the record what it was, and is the stream? Looked into at the start, after every reconnect, and after any doubt.

Where it is not, whatever anybody may have sent inserts for without the record knowing becomes a claim in doubt: begun when
none of them can be stored any more, and by look-ups.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial

from msgspec.structs import replace

from marketprism_api import reasons
from marketprism_consumer.errors import DoubtError
from marketprism_consumer.ingest.broker import StreamState
from marketprism_consumer.ingest.identity import generation
from marketprism_consumer.ingest.lane import CLOCK_MARGIN, Lane
from marketprism_consumer.ingest.record import NOT_LOOKED_INTO, Record, recovered


async def inspect(lane: Lane) -> None:
    """The keeper's record can be worked by after it. Raises BrokerError, and ConflictError where somebody else was first."""
    keeper = lane.keeper
    known, doubts = keeper.known, keeper.doubts
    revision, record = await keeper.read()
    missing = record is None
    if record is None:
        # Nothing may be there a second time, with inserts in between: only what is looked at after this write is looked at in
        # time. A revision never comes again.
        revision, record = await keeper.lay(revision, replace(lane.id.empty_record(), boot=NOT_LOOKED_INTO), doubts)
    strange = await _strange_rows(lane, record)
    if strange:
        # Somebody may have cut them between the two answers.
        revision, record = await keeper.read()
        if record is None:
            raise DoubtError("there is no record")
    state = await lane.broker.stream(lane.id.stream)
    of_stream = await stream_in_doubt(lane, record, state)
    of_record = "there is no record" if missing else record_in_doubt(lane, record, revision, known, strange)
    if not of_stream and not of_record:
        keeper.trust(revision, record, doubts)
        return
    clocks = await lane.patiently(lane.store.clocks)
    after = math.ceil(clocks.fastest + CLOCK_MARGIN) + lane.valid
    number, last = await _generation(lane, record.generation + bool(of_stream))
    new = recovered(record, after, last, claim_id(lane), everything=bool(of_stream))
    new = replace(new, boot=keeper.records.boot, generation=number)
    await keeper.begin_with(revision, new, doubts)
    lane.account.recoveries.inc()
    reason = reasons.STREAM_REGRESSED if new.generation > record.generation else reasons.RECORD_IN_DOUBT
    lane.alarm(reason, why=of_stream or of_record, first=record.end + 1, last=last, after=after)


def claim_id(lane: Lane) -> str:
    return f"{lane.random.getrandbits(48):012x}"


async def _strange_rows(lane: Lane, record: Record) -> list[int]:
    """Sequences of rows of which this record says that nobody has sent them. Rows from before a set-back of the stream are of
    another generation."""
    stream = generation(lane.stream, record.generation)
    found = []
    for above, to in record.untouched:
        ask = partial(lane.store.highest, lane.table, stream, above, to)
        if seq := await lane.patiently(ask):
            found.append(seq)
    return found


async def _generation(lane: Lane, least: int) -> tuple[int, int]:
    """The first one of which the tables have nothing beyond the stream's end, and that end: those that have belong to what the
    stream was before it was set back, and a record that is lost or older does not know of them. What they have to the end is in
    doubt, and looked up: it may be of what was lost, too, where others have taken its places since."""
    number, last = least, (await lane.broker.stream(lane.id.stream)).last_seq
    while True:
        stream, beyond = generation(lane.stream, number), 0
        for tier in lane.tiers:
            beyond = max(beyond, await lane.patiently(lambda tier=tier: tier.highest(lane.table, stream, last)))  # type: ignore[misc]  # noqa: B023
        if not beyond:
            return number, last
        # Only a later look at the stream tells what it never had.
        last = max(last, (await lane.broker.stream(lane.id.stream)).last_seq)
        number += beyond > last


def record_in_doubt(lane: Lane, record: Record, revision: int, known: int, strange: Sequence[int]) -> str:
    """Why it is; empty where it is not. `known`: the highest revision seen. `strange`: sequences of rows that nobody had sent, by
    what the record said a moment before."""
    if record.boot == NOT_LOOKED_INTO:
        return "it was begun by somebody who did not come to look into it"
    if revision < known:
        return f"its revision {revision} is below {known}"
    for seq in strange:
        if any(above < seq and (to is None or seq <= to) for above, to in record.untouched):
            return f"the table has {seq}, of which the record says that nobody has sent it"
    if record.boot != lane.keeper.records.boot:
        return "the server that keeps it was started anew"
    return ""


async def stream_in_doubt(lane: Lane, record: Record, state: StreamState) -> str:
    """A stream loses its end only: the last message that is done tells of all before it."""
    if state.last_seq < record.seen:
        return f"the stream ends at {state.last_seq}, it was seen to have {record.seen}"
    return await message_in_doubt(lane, *record.mark) if record.mark else ""


async def message_in_doubt(lane: Lane, seq: int, arrived: int) -> str:
    """Does the stream have another message where it had one that arrived then [µs], or did it lose it together with its end?"""
    found = await lane.broker.arrival(lane.id.stream, seq)
    if found == arrived:
        return ""
    if found is not None:
        return f"message {seq} is another one than it was"
    # Where it has gone by itself, what is before it is older.
    younger = await lane.broker.first_after(lane.id.stream, arrived)
    return f"message {younger} came after {seq}" if younger <= seq else ""
