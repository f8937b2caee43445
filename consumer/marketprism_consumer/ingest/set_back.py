"""Is the record what it was, and is the stream? Looked into at the start, after every reconnect, and after any doubt.

Where it is not, whatever anybody may have sent inserts for without the record knowing becomes a claim in doubt: begun when
none of them can be stored any more, and by look-ups.
"""

from __future__ import annotations

import math
from itertools import count

from msgspec.structs import replace

from marketprism_api import reasons
from marketprism_consumer.ingest.broker import StreamState
from marketprism_consumer.ingest.identity import generation
from marketprism_consumer.ingest.lane import CLOCK_MARGIN, Lane
from marketprism_consumer.ingest.record import Record, recovered


async def inspect(lane: Lane) -> None:
    """The keeper's record can be worked by after it. Raises BrokerError, and ConflictError where somebody else was first."""
    keeper = lane.keeper
    known, doubts = keeper.known, keeper.doubts
    revision, record = await keeper.read()
    highest = await _highest(lane, record) if record else 0
    if highest:
        # Somebody may have cut it between the two answers.
        revision, record = await keeper.read()
    state = await lane.broker.stream(lane.id.stream)
    of_stream = await stream_in_doubt(lane, record, state) if record else ""
    of_record = record_in_doubt(lane, record, revision, known, highest)
    if record is not None and not of_stream and not of_record:
        keeper.trust(revision, record, doubts)
        return
    reason = reasons.STREAM_REGRESSED if of_stream else reasons.RECORD_IN_DOUBT
    clocks = await lane.patiently(lane.store.clocks)
    after = math.ceil(clocks.fastest + CLOCK_MARGIN) + lane.valid
    last = (await lane.broker.stream(lane.id.stream)).last_seq
    found = record or lane.id.empty_record()
    new = recovered(found, after, last, claim_id(lane), everything=bool(of_stream))
    new = replace(new, boot=keeper.records.boot, generation=await _generation(lane, new.generation, last))
    await keeper.begin_with(revision, new, doubts)
    lane.account.recoveries.inc()
    lane.alarm(reason, why=of_stream or of_record, first=found.end + 1, last=last, after=after)


def claim_id(lane: Lane) -> str:
    return f"{lane.random.getrandbits(48):012x}"


async def _highest(lane: Lane, record: Record) -> int:
    """Rows from before a set-back of the stream are of another generation."""
    stream = generation(lane.stream, record.generation)
    return await lane.patiently(lambda: lane.store.highest(lane.table, stream, record.end))


async def _generation(lane: Lane, least: int, last: int) -> int:
    """The first one of which the tables have nothing beyond the stream's end: those that have belong to what the stream was
    before it was set back, and a record that is lost or older does not know of them."""
    for number in count(least):
        stream = generation(lane.stream, number)
        for tier in lane.tiers:
            if await lane.patiently(lambda tier=tier, stream=stream: tier.highest(lane.table, stream, last)):  # type: ignore[misc]
                break
        else:
            return number
    raise AssertionError


def record_in_doubt(lane: Lane, record: Record | None, revision: int, known: int, highest: int) -> str:
    """Why it is; empty where it is not. `known`: the highest revision seen, `highest`: the last sequence in the table that was
    above the record's end."""
    if record is None:
        return "there is no record"
    if revision < known:
        return f"its revision {revision} is below {known}"
    if highest > record.end:
        return f"the table has {highest}, the record ends at {record.end}"
    if record.boot != lane.keeper.records.boot:
        return "the server that keeps it was started anew"
    return ""


async def stream_in_doubt(lane: Lane, record: Record, state: StreamState) -> str:
    """A stream loses its end only: the last message that is done tells of all before it."""
    if state.last_seq < record.end:
        return f"the stream ends at {state.last_seq}, the record at {record.end}"
    if record.mark is None:
        return ""
    seq, arrived = record.mark
    found = await lane.broker.arrival(lane.id.stream, seq)
    if found is not None and found != arrived:
        return f"message {seq} is another one than was stored"
    return ""
