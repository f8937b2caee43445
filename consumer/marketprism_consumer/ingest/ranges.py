"""The messages of (start, end] of a stream, in order: of a cut that somebody left, or of what is in doubt."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from marketprism_consumer.errors import LostError
from marketprism_consumer.ingest.frames import Messages
from marketprism_consumer.ingest.lane import Lane
from marketprism_consumer.ingest.message import Message
from marketprism_consumer.ingest.reader import Reader

AT_ONCE = 10_000  # messages
BYTES = 8 << 20
BEHIND = 1.0  # after so long a reader's server is looked at again, where it lacks what the leader has [s]


async def last_message(lane: Lane) -> tuple[int, int] | None:
    """(sequence, arrival [µs]) of the stream's last, whosever it is; None where that is not held any more. Raises BrokerError."""
    last = (await lane.broker.stream(lane.id.stream)).last_seq
    arrived = await lane.broker.arrival(lane.id.stream, last) if last else None
    return None if arrived is None else (last, arrived)


async def nothing_to(lane: Lane, after: int) -> int:
    """The stream holds nothing of ours from behind `after` to there, its end included. Raises BrokerError.

    By the word of the leader, which has all that was acknowledged: a reader may be on a server that is behind. One that has
    just become leader may be, too, so that all answers have to be of one, and what is known to be there is compared with the end.
    """
    while True:
        before = await lane.broker.stream(lane.id.stream)
        following = await lane.broker.next_of(lane.id.stream, lane.id.subject, after + 1)
        now = await lane.broker.stream(lane.id.stream)
        if (before.created, before.leader) == (now.created, now.leader):
            return before.last_seq if following is None else following - 1


async def read_range(lane: Lane, start: int, end: int) -> list[Message]:
    """All that the stream still holds of it. Raises BrokerError, ReaderBrokenError; LostError where the stream ends before."""
    found: list[Message] = []
    while True:
        last = found[-1].seq if found else start
        async for messages in read_in_stretches(lane, last, end):
            found += messages
        last = found[-1].seq if found else start
        if last >= end or await nothing_to(lane, last) >= end:
            return found
        if (await lane.broker.stream(lane.id.stream)).last_seq < end:
            raise LostError(f"the stream ends before {end}, which it had")
        await asyncio.sleep(BEHIND)


async def read_in_stretches(lane: Lane, start: int, end: int) -> AsyncIterator[list[Message]]:
    """Up to AT_ONCE messages or about BYTES each, as far as the reader's server has them; none is empty. Raises BrokerError,
    ReaderBrokenError."""
    got: list[Message] = []
    over = False
    look = asyncio.Event()

    def receive(messages: Messages) -> None:
        nonlocal over
        got.extend(messages.between(start + 1, end))
        over = over or messages.seqs[-1] >= end or not messages.pending
        look.set()

    id = lane.id
    reader = await Reader(lane.broker, id.stream, id.created, id.subject, start + 1, receive, look.set).open()
    over = not reader.pending
    try:
        while not (over and not got):
            reader.check()
            if not over and not reader.outstanding and len(got) < AT_ONCE:
                reader.request(AT_ONCE, BYTES)
            full = len(got) >= AT_ONCE or sum(len(message.payload) for message in got) >= BYTES
            if got and (over or full or not reader.outstanding):
                stretch = got[:AT_ONCE]
                del got[:AT_ONCE]  # now: more may come while this is worked on
                yield stretch
                continue
            look.clear()
            try:
                async with asyncio.timeout(1.0):
                    await look.wait()
            except TimeoutError:
                # The last of them may have expired under our hands, or got lost on the way.
                if await reader.ask() and not reader.pending:
                    over = True
    finally:
        reader.close()
