"""The rare path for everything: nothing of an earlier epoch can be stored any more, one process wins the next, looks up what
is stored or buried, and sends the rest; in smaller pieces after a refusal, until the refused row is alone."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial

from marketprism_api import reasons
from marketprism_consumer.errors import BrokerError, Fault, LostError, MessageError, StoreError
from marketprism_consumer.ingest import record as steps
from marketprism_consumer.ingest.batch import Refused
from marketprism_consumer.ingest.columns import HOUR, PARTITIONS
from marketprism_consumer.ingest.decode import Row
from marketprism_consumer.ingest.identity import content_indexes, place
from marketprism_consumer.ingest.insert import Sent, insert
from marketprism_consumer.ingest.lane import Lane
from marketprism_consumer.ingest.message import Message
from marketprism_consumer.ingest.ranges import BEHIND, last_message, nothing_to, read_in_stretches, read_range
from marketprism_consumer.ingest.record import Claim, Cut
from marketprism_consumer.ingest.store import Stored

PIECES = 128  # of a block of which something was refused; in the epoch after that rows are alone
TOO_LARGE_PIECES = 32  # of one that was too large: each costs a request, each round of them a block's time
EMPTY_POLL = 5.0  # [s]

Good = tuple[Message, Row, str]
"""With the stream identity that the row will have."""


async def finish(lane: Lane, claim: Claim) -> None:
    """What of a closed claim of ours has to go by look-ups. Raises BrokerError, AgainError."""
    if claim.cut is not None:
        claim = await look_through(lane, claim, claim.cut)
    if claim.finished or claim.after is None or claim.end is None:
        return
    id = claim.id
    while (left := steps.own(lane.keeper.record, id, lane.owner)) and not left.finished:
        await lane.wait_until_over(left.after or claim.after)
        await settle(lane)
        now = lane.keeper.record.claim(id)
        if now is None or (now.end, now.after) != (left.end, left.after):
            continue  # more was held back meanwhile
        start, end, mark = left.done, left.end or claim.end, await last_message(lane)
        if mark is None or mark[0] < end:
            await asyncio.sleep(EMPTY_POLL)  # until the stream has a message again that tells that nothing is left
        elif await nothing_to(lane, start) >= end:
            await lane.keeper.change(lambda r: _nothing_left(r, lane, id, start, end, mark))  # noqa: B023
        else:
            async for messages in read_in_stretches(lane, start, end):
                await _cut_in_doubt(lane, id, messages)
            await asyncio.sleep(BEHIND)


def _nothing_left(
    record: steps.Record, lane: Lane, id: str, start: int, end: int, mark: tuple[int, int]
) -> steps.Record | None:
    """Unless more was held back since it was looked."""
    claim = record.claim(id)
    if claim is not None and claim.end != end:
        return record
    return steps.nothing_left(record, id, lane.owner, start, mark)


async def _cut_in_doubt(lane: Lane, id: str, messages: Sequence[Message]) -> None:
    """Nothing of it can be on its way any more: cut as an epoch of its own, which its writer may look up and send at once."""
    claim = steps.own(lane.keeper.record, id, lane.owner)
    if claim is None:
        raise LostError("the claim in doubt is another's")
    cut = Cut(messages[-1].seq, messages[-1].arrived, await lane.until(), 1, lane.rules, lane.token())
    await lane.keeper.change(lambda r: steps.cut_next(r, id, lane.owner, claim.done, cut, end=claim.end))
    left = await _send_rest(lane, id, cut, messages)
    if left is None:
        await record_done(lane, id, cut)
    else:
        await look_through(lane, claim, cut, left)


async def look_through(lane: Lane, claim: Claim, cut: Cut, most: int = 0) -> Claim:
    """Epoch after epoch, until all of the cut is stored or buried. `most`: of `_send_rest`. Raises BrokerError, AgainError."""
    wait = lane.backoff()
    while True:
        await lane.wait_until_over(cut.until)
        await settle(lane)
        messages = await read_range(lane, claim.done, cut.end)
        if not cut.epoch:
            await _tell_missed(lane, claim, cut, messages)
        claim, cut = await _win(lane, claim, cut, messages)
        lane.faultpoint("after_epoch")
        lane.log.info(
            "new epoch",
            data_type=lane.table.data_type,
            first=claim.done + 1,
            last=cut.end,
            epoch=cut.epoch,
            until=cut.until,
        )
        left = await _send_rest(lane, claim.id, cut, messages, most)
        if left is None:
            record = await record_done(lane, claim.id, cut)
            return record.claim(claim.id) or claim_done(claim, cut)
        most = left
        await asyncio.sleep(wait.next())


async def _tell_missed(lane: Lane, claim: Claim, cut: Cut, messages: Sequence[Message]) -> None:
    """Of a block that is not held any more as it was cut: was it stored, and only not recorded so?"""
    if messages and (messages[-1].seq, messages[-1].arrived) == (cut.end, cut.mark):
        return
    for tier in lane.tiers:
        if await lane.patiently(partial(tier.highest, lane.table, lane.present_stream, claim.done, cut.end)):
            return
    lane.alarm(reasons.MESSAGES_MISSED, first=claim.done + 1, last=cut.end, why="they were cut, not stored")


async def _win(lane: Lane, claim: Claim, cut: Cut, messages: Sequence[Message]) -> tuple[Claim, Cut]:
    """The next epoch, by compare-and-set."""
    mark = messages[-1].arrived if messages and messages[-1].seq == cut.end else cut.mark
    until, token = await lane.until(), lane.token()
    record = await lane.keeper.change(
        lambda r: steps.new_epoch(r, claim.id, lane.owner, cut, mark=mark, until=until, rules=lane.rules, token=token)
    )
    lane.account.epochs.inc()
    changed = record.claim(claim.id)
    assert changed is not None
    assert changed.cut is not None
    return changed, changed.cut


def claim_done(claim: Claim, cut: Cut) -> Claim:
    """A finished claim that has left the record."""
    return Claim(claim.id, claim.start, claim.end, cut.end, claim.owner)


async def settle(lane: Lane) -> None:
    """What was let in before it was too late is done."""
    await lane.patiently(lambda: lane.store.settle(lane.table))


async def record_done(lane: Lane, id: str, cut: Cut) -> steps.Record:
    record = await lane.keeper.change(lambda r: steps.record_done(r, id, lane.owner, cut))
    lane.faultpoint("after_record")
    return record


async def _send_rest(lane: Lane, id: str, cut: Cut, messages: Sequence[Message], most: int = 0) -> int | None:
    """In pieces of so many rows at `most`; 0: of any. None when all of it is stored or buried; else a new epoch is needed, and what its
    pieces may have: less where something was refused. What was only too late stays as large as it was, or many a block would be cut
    smaller in each epoch and never get through. Nobody else sends anything of this epoch: it was won by compare-and-set."""
    good, bad = await look_up(lane, messages)
    lane.faultpoint("after_look_up")
    size, smaller = max(1, most or len(good)), 0
    refused: list[tuple[Message, StoreError]] = []
    for number, piece in enumerate(_pieces(good, size)):
        of, rows, streams = [m for m, _, _ in piece], [row for _, row, _ in piece], [stream for _, _, stream in piece]
        sent, why = await insert(lane, of, rows, streams, f"{cut.token}.{number}", cut.until, doubt=False)
        if sent is Sent.STORED:
            continue
        if sent is Sent.LATE:
            await bury(lane, refused)  # or the next epoch begins with them again
            return smaller or most
        assert why is not None
        if len(piece) == 1 and why.fault is Fault.ROW:
            # What was damaged on the way is not the row's fault: it has to be refused twice, alone, for the same reason.
            again, sure = await insert(lane, of, rows, streams, f"{cut.token}.{number}", cut.until, doubt=True)
            if again is Sent.STORED:
                continue
            if again is Sent.REFUSED and sure is not None and sure.code == why.code:
                refused.append((piece[0][0], why))
                continue
            smaller = 1
            continue
        # A code that nobody knows never buries anything: it is told, and tried again.
        lane.alarm(reasons.INSERT_BLOCKED, clickhouse_code=why.code, error=str(why)[:500], rows=len(piece))
        pieces = TOO_LARGE_PIECES if why.fault is Fault.TOO_LARGE else PIECES
        smaller = min(smaller or size, -(-size // pieces))
    await bury(lane, [*bad, *refused])
    return smaller or None


def _pieces(good: Sequence[Good], size: int) -> list[list[Good]]:
    """Of so many rows, and of no more partitions than ClickHouse remembers a token for."""
    pieces: list[list[Good]] = []
    hours: set[int] = set()
    for each in good:
        hour = each[1][0] // HOUR
        if not pieces or len(pieces[-1]) == size or (hour not in hours and len(hours) == PARTITIONS):
            pieces.append([])
            hours = set()
        hours.add(hour)
        pieces[-1].append(each)
    return pieces


async def bury(lane: Lane, bad: Sequence[Refused | tuple[Message, StoreError]]) -> None:
    """As often as it takes."""
    backoff = lane.backoff()
    while True:
        try:
            return await lane.bury(bad)
        except BrokerError as refused:
            wait = backoff.next()
            lane.broker_refused(refused, wait, seq=bad[0][0].seq)
            await asyncio.sleep(wait)


async def look_up(lane: Lane, messages: Sequence[Message]) -> tuple[list[Good], list[Refused]]:
    """What of these is neither stored nor buried: rows to be sent, and messages to be buried.

    Hot before cold: what is moved from one to the other meanwhile is seen twice rather than never.
    """
    lane.account.lookups.inc()
    seqs = [message.seq for message in messages]
    found: dict[int, list[Stored]] = {}
    for tier in lane.tiers:
        there = await lane.patiently(lambda tier=tier: tier.stored(lane.table, lane.stream, seqs))  # type: ignore[misc]
        for seq, rows in there.items():
            found.setdefault(seq, []).extend(rows)
    buried = await _buried(lane)
    indexes = content_indexes(lane.table)
    least = lane.keeper.record.generation
    good: list[Good] = []
    bad: list[Refused] = []
    again: list[int] = []  # where another message is stored
    for message in messages:
        if (message.seq, message.arrived) in buried:
            continue
        try:
            row = lane.decoded(message)
        except MessageError as refusal:
            bad.append((message, refusal))
            continue
        stream = place(row, indexes, lane.stream, found.get(message.seq, ()), least)
        if stream is not None:
            good.append((message, row, stream))
            if stream != lane.present_stream:
                again.append(message.seq)
    if again:
        lane.alarm(reasons.STREAM_REGRESSED, why="others were stored", first=again[0], last=again[-1], count=len(again))
    return good, bad


async def _buried(lane: Lane) -> set[tuple[int, int]]:
    backoff = lane.backoff()
    while True:
        try:
            return await lane.graveyard.buried(lane.table.data_type, lane.stream)
        except BrokerError as refused:
            wait = backoff.next()
            lane.broker_refused(refused, wait)
            await asyncio.sleep(wait)
