"""The messages of (start, end] of a stream, in order: of a cut that somebody left, or of what is in doubt."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence

from marketprism_consumer.ingest.lane import Lane
from marketprism_consumer.ingest.message import Message
from marketprism_consumer.ingest.reader import Reader

AT_ONCE = 10_000  # messages
BYTES = 16 << 20


async def last_message(lane: Lane) -> tuple[int, int] | None:
    """(sequence, arrival [µs]) of the stream's last, whosever it is; None where that is not held any more. Raises BrokerError."""
    last = (await lane.broker.stream(lane.id.stream)).last_seq
    arrived = await lane.broker.arrival(lane.id.stream, last) if last else None
    return None if arrived is None else (last, arrived)


async def holds_nothing(lane: Lane, after: int) -> bool:
    """Is nothing of ours in what the stream holds behind `after`? A new reader counts what is stored; one that is there is told of
    a message a moment after the stream has it. Raises BrokerError."""
    made = await lane.broker.make_reader(lane.id.stream, lane.id.subject, after + 1)
    lane.broker.forget_reader(lane.id.stream, made.name)
    return not made.pending


async def read_range(lane: Lane, start: int, end: int) -> list[Message]:
    """All that the stream still holds of it. Raises BrokerError, ReaderBrokenError."""
    found: list[Message] = []
    async for messages in read_in_stretches(lane, start, end):
        found += messages
    return found


async def read_in_stretches(lane: Lane, start: int, end: int) -> AsyncIterator[list[Message]]:
    """Up to AT_ONCE messages or about BYTES each; none is empty. Raises BrokerError, ReaderBrokenError."""
    got: list[Message] = []
    over = False
    look = asyncio.Event()

    def receive(messages: Sequence[Message]) -> None:
        nonlocal over
        got.extend(message for message in messages if message.seq <= end)
        last = messages[-1]
        over = over or last.seq >= end or not last.pending
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
