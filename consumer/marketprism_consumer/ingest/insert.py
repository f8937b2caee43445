"""One block into ClickHouse: sent until it is answered or too late, and looked for where an answer can't be trusted."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from enum import Enum

from marketprism_api import reasons
from marketprism_consumer.errors import Fault, StoreError
from marketprism_consumer.ingest.batch import Batch
from marketprism_consumer.ingest.decode import Row
from marketprism_consumer.ingest.encode import Block
from marketprism_consumer.ingest.lane import Lane
from marketprism_consumer.ingest.message import Message

UNKNOWN_TRIES = 5  # with a code that nobody has classified


class Sent(Enum):
    STORED = "stored"
    LATE = "late"  # its moment has passed, or its token was stored without its rows
    REFUSED = "refused"


InsertOutcome = tuple[Sent, StoreError | None]


async def insert(
    lane: Lane,
    messages: Sequence[Message],
    rows: Sequence[Row],
    streams: Sequence[str],
    token: str,
    until: int,
    *,
    doubt: bool,
) -> InsertOutcome:
    """`doubt`: an attempt by somebody else may have gone before. Whoever calls it again sends the same rows."""
    block = lane.encode(lane.table, rows, [message.seq for message in messages], streams, token)
    return await _insert(lane, block, messages[0].arrived, (rows[0][0], rows[-1][0]), until, doubt=doubt)


async def insert_batch(lane: Lane, batch: Batch, token: str, until: int) -> InsertOutcome:
    """The same, of a batch that nobody else has sent anything of."""
    stream, seqs = lane.present_stream, [message.seq for message in batch.messages]
    block = lane.encode(lane.table, batch.rows, seqs, [stream] * len(seqs), token, batch.columns, stream)
    return await _insert(lane, block, batch.first[1], batch.times, until, doubt=False)


async def _insert(
    lane: Lane, block: Block, arrived: int, times: tuple[int, int], until: int, *, doubt: bool
) -> InsertOutcome:
    """`arrived`: the oldest message [µs]. `times`: of two rows that stand for all [µs]."""
    backoff, unknown = lane.backoff(), 0
    now = asyncio.get_running_loop().time
    while True:
        if await lane.patiently(lane.store.clock) > until:
            return Sent.LATE, None
        lane.faultpoint("before_insert")
        began = now()
        try:
            await lane.store.insert(block, until)
        except StoreError as refused:
            if refused.fault is Fault.LATE:
                return Sent.LATE, refused
            if refused.fault in (Fault.ROW, Fault.TOO_LARGE):
                return Sent.REFUSED, refused
            unknown += refused.fault is Fault.UNKNOWN
            if unknown >= UNKNOWN_TRIES:
                return Sent.REFUSED, refused
            doubt = True
            wait = backoff.next()
            lane.insert_refused(refused, wait)
            await asyncio.sleep(wait)
            continue
        seconds = now() - began
        lane.faultpoint("after_insert")
        if doubt:
            seqs, streams = block.identities()
            if not await verify(lane, seqs, streams):
                lane.alarm(reasons.ROWS_NOT_THERE, first=min(seqs), last=max(seqs), rows=block.rows)
                return Sent.LATE, None
        lane.account.inserted(block.rows, arrived, times, seconds)
        lane.log.debug("inserted", table=lane.table.name, rows=block.rows, seconds=round(seconds, 4))
        return Sent.STORED, None


async def verify(lane: Lane, seqs: Sequence[int], streams: Sequence[str]) -> bool:
    """Are the very rows there? A plain MergeTree writes a token to its log before it renames the part: killed in between, it
    answers the retry with success and has nothing. A replica that dies for good before another one has its part leaves the token
    in Keeper, too."""
    for stream in sorted(set(streams)):
        of_it = [seq for seq, its in zip(seqs, streams, strict=True) if its == stream]
        if not await lane.patiently(lambda of_it=of_it, stream=stream: lane.store.has_all(lane.table, stream, of_it)):  # type: ignore[misc]
            return False
    return True
