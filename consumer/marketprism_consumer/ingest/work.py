"""One claim in hand: read → cut → insert → record.

The next block fills while one is being inserted; that a cut is done is recorded with the next one, or a heartbeat.
"""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass

from marketprism_api import reasons
from marketprism_api.reasons import Reason
from marketprism_consumer.errors import BrokerError, DoubtError, Fault, LostError, MessageError, ReaderBrokenError
from marketprism_consumer.ingest import record as steps
from marketprism_consumer.ingest.batch import Batch, BatchBounds, Batcher, Refused
from marketprism_consumer.ingest.broker import StreamState
from marketprism_consumer.ingest.columns import HOUR, PARTITIONS
from marketprism_consumer.ingest.decode import Row
from marketprism_consumer.ingest.flood import Flood, exchange_of
from marketprism_consumer.ingest.frames import Messages
from marketprism_consumer.ingest.insert import Sent, insert_batch
from marketprism_consumer.ingest.lane import Lane
from marketprism_consumer.ingest.message import Message
from marketprism_consumer.ingest.ranges import BEHIND, last_message, nothing_to
from marketprism_consumer.ingest.reader import Reader
from marketprism_consumer.ingest.record import Claim, Cut, Record
from marketprism_consumer.ingest.set_back import claim_id, message_in_doubt, stream_in_doubt

CHUNK = int(os.environ.get("MARKETPRISM_TEST_CHUNK", "200000"))
"""Messages: further ahead than this, the stream is split into stretches, so that others find work as well. Smaller for tests."""
HOLD = 120.0
"""So long a flood adds to one stretch that is held back, of which no message is buried before a minute after its last [s]."""
TELL_FLOOD_EVERY = 30.0  # [s]
ASK_BYTES = 8 << 20  # what a request is for, beside what fills two batches


@dataclass(slots=True)
class StreamSeen:
    """`last`: the stream's last sequence, a while ago. `read_to`: to where all of ours was read."""

    last: int = 0
    read_to: int = 0

    def stretch(self, start: int, pending: int) -> int | None:
        """Where a claim from `start` on is to end: about CHUNK messages further; None where not so many wait."""
        ahead = self.last - start
        if pending <= CHUNK or ahead <= CHUNK:
            return None
        return start + max(CHUNK, ahead * CHUNK // pending)

    def discarded(self, first: int) -> tuple[int, int] | None:
        """A stream that begins behind what was read has discarded the rest. Who has read nothing yet takes it as it is."""
        if not self.read_to or first - 1 <= self.read_to:
            return None
        gap = self.read_to + 1, first - 1
        self.read_to = first - 1
        return gap


@dataclass(frozen=True, slots=True)
class Around:
    """What a claim's work needs of the ingest that it is part of. `wake` is set when something is to be looked at;
    `set_aside(claim, cut)` gives the claim that goes on behind the cut, or none; `finish_aside` looks after a claim that waits,
    and `may_hold` says whether there may be one more; `look_for_trouble` raises AgainError or BrokerError where the record may not be
    what it was; `pull_bytes` may be on their way at most."""

    wake: asyncio.Event
    stopping: Callable[[], bool]
    look_for_trouble: Callable[[], None]
    set_aside: Callable[[str, Cut], Awaitable[str]]
    finish_aside: Callable[[Claim], None]
    may_hold: Callable[[], bool]
    set_state: Callable[[Reason], None]
    pull_bytes: Callable[[], int]


def _forget_payloads(rows: Iterable[tuple[Message, Row]]) -> None:
    """A row has all of its message; whatever has to be looked at again is read again."""
    for message, _ in rows:
        message.payload = b""


class ClaimWork:
    """`run` returns when the claim is read to its end and stored, when the process stops, or when something before it comes
    first (`call`): nothing of it is in hand after that."""

    def __init__(
        self,
        lane: Lane,
        claim: Claim,
        batcher: Batcher,
        limits: BatchBounds,
        flood: Flood,
        seen: StreamSeen,
        around: Around,
    ) -> None:
        self.lane = lane
        self.claim = claim.id
        self.end = claim.end
        self.reader: Reader | None = None
        self.storing: Batch | None = None
        self.finished: Cut | None = None  # stored, and not yet recorded so
        self.called = False
        self._position = claim.done
        self._ended = False  # all of it is read
        self._mark: tuple[int, int] | None = None  # a message at its end, or behind it
        self._held = "", 0.0  # the last stretch that was held back, and since when
        self._tell_flood_at = 0.0
        self._in_vain = 0  # readers in a row that broke and had given nothing
        self._batcher, self._limits, self._flood, self._seen, self._around = batcher, limits, flood, seen, around
        self._columnar = lane.columnar
        self._wake = around.wake
        self._now = asyncio.get_running_loop().time

    # --- from outside -------------------------------------------------------------------------------------------------

    @property
    def is_tail(self) -> bool:
        return self.end is None

    @property
    def pending(self) -> int:
        """Messages of the lane behind what was read, as it was last heard."""
        return self.reader.pending if self.reader else 0

    @property
    def in_hand(self) -> int:
        return len(self._batcher) + (len(self.storing) if self.storing else 0)

    @property
    def held_bytes(self) -> int:
        return self._batcher.bytes + (self.storing.bytes if self.storing else 0)

    @property
    def oldest(self) -> tuple[int, int] | None:
        """Sequence and arrival of the oldest message that is read and not stored [µs]."""
        return (self.storing or self._batcher).first

    def call(self) -> None:
        """Something before it was left behind: this claim is given up for that."""
        self.called = True
        self._wake.set()

    async def run(self) -> None:
        """Raises AgainError, BrokerError."""
        try:
            self.reader = await self._open(self._position + 1)
            self._see_end(None, self.pending)
            while not (self._done_reading and not len(self._batcher)):
                self._around.look_for_trouble()
                await self._read_on()
                if await self._due():
                    await self._flush(self._batcher.take(self._now(), stopping=self._done_reading))
            if self.claim:
                await self._leave()
        finally:
            self._drop()

    def look_after(self, *, stood_still: bool) -> None:
        """To be called about twice a second. Who `stood_still` has asked for nothing meanwhile, and the stream may have discarded
        what came: it reads on by another reader, which looks where the stream begins. Raises LostError."""
        if self.claim and steps.own(self.lane.keeper.record, self.claim, self.lane.owner) is None:
            raise LostError("the claim is another's")
        self._see_floods()
        if self.reader is not None:
            if stood_still:
                self.reader.give_up("this process stood still")
            with suppress(ReaderBrokenError):
                self.reader.check()
            if self.reader.broken or not self.reader.outstanding:
                self._wake.set()

    async def watch(self, state: StreamState) -> None:
        """Has the stream purged or discarded what was not read? Its start alone does not tell: others' messages are in it, too. And
        is there nothing of ours in what it has beyond?"""
        reader = self.reader
        if reader is None or reader.broken:
            return
        all_came = await reader.ask()
        if reader.missed:
            self.lane.alarm(reasons.MESSAGES_MISSED, count=reader.missed)
            reader.missed = 0
        if not all_came or reader is not self.reader:
            return
        if self.is_tail and not reader.pending:
            # What the stream has discarded was others', or has been told of.
            self._seen.discarded(state.first_seq)
        self._see_end(None, reader.pending)
        self._wake.set()
        if self.is_tail and not reader.pending and state.last_seq > self._position:
            await self._nothing_left()

    async def change(self, step: Callable[[Record], Record | None]) -> Record:
        """A step, after what is finished is recorded so."""
        finished: Cut | None = None

        def both(record: Record) -> Record | None:
            nonlocal finished
            finished = self.finished
            after = steps.record_done(record, self.claim, self.lane.owner, finished) if finished else record
            after = after and step(after)
            return after and steps.heard(after, self.lane.owner)  # of what is set aside, too

        record = await self.lane.keeper.change(both)
        if self.finished is finished:
            self.finished = None
        claim = record.claim(self.claim)
        self.end = claim.end if claim else self.end
        self.lane.faultpoint("after_record")
        return record

    # --- read ---------------------------------------------------------------------------------------------------------

    @property
    def _done_reading(self) -> bool:
        return self._around.stopping() or self._ended or self.called

    async def _open(self, start: int) -> Reader:
        id = self.lane.id
        reader = Reader(self.lane.broker, id.stream, id.created, id.subject, start, self._receive, self._wake.set)
        await reader.open()
        self._see_start(reader.first)
        return reader

    def _see_start(self, first: int) -> None:
        if gap := self._seen.discarded(first):
            self.lane.alarm(reasons.MESSAGES_MISSED, first=gap[0], last=gap[1])

    async def _read_on(self) -> None:
        """A reader that broke is followed by another, at the next sequence of the same stream. Raises DoubtError where it is not."""
        if self.reader is not None and self.reader.broken:
            self.lane.log.info("reads on", data_type=self.lane.table.data_type, why=self.reader.broken)
            following = self.reader.next
            await self._pause_if_in_vain(self.reader)
            await self._see_that_the_stream_is_the_same(self.reader)
            self.reader.close()
            self.reader = await self._open(following)
        self._top_up()

    async def _see_that_the_stream_is_the_same(self, reader: Reader) -> None:
        """One that was restored from a backup may say that it was made when the old one was."""
        lane = self.lane
        why = await stream_in_doubt(lane, lane.keeper.record, await lane.broker.stream(lane.id.stream))
        if not why and reader.last:
            why = await message_in_doubt(lane, *reader.last)
        if why:
            raise DoubtError(why)

    async def _pause_if_in_vain(self, reader: Reader) -> None:
        """Whatever keeps breaking readers that have given nothing is asked less and less often, and told."""
        self._in_vain = 0 if reader.delivered else self._in_vain + 1
        if self._in_vain > 2:
            self.lane.alarm(reasons.NATS_REFUSED, error=reader.broken, times=self._in_vain)
        if self._in_vain > 1:
            await asyncio.sleep(min(2.0, 0.05 * 2**self._in_vain))

    def _receive(self, messages: Messages) -> None:
        ours = messages if self.end is None else messages.between(0, self.end)
        changed = self._take(ours) if len(ours) else False
        last = messages.seqs[-1], messages.arrived[-1]
        self._seen.read_to = max(self._seen.read_to, last[0])
        self._see_end(last, messages.pending)
        if changed or self._ended:
            self._wake.set()
        if self.reader is not None and self.reader.outstanding * 2 < self._batcher.cap:
            self._top_up()

    def _take(self, messages: Messages) -> bool:
        """Into the batch. True where whoever waits for it should look again."""
        columns, others = self._columnar(messages) if self._columnar else (None, ())
        if columns is not None:
            rows, refused = self._decode(messages[index] for index in others)
            if len(columns.hours.union(row[0] // HOUR for _, row in rows)) <= PARTITIONS:
                changed = self._batcher.add_run(columns, rows, refused, self._now())
                _forget_payloads(rows)
                return changed
        changed, now = False, self._now()
        for message in messages:
            rows, refused = self._decode((message,))
            for one, row in rows:
                changed |= self._batcher.add(one, row, now)
            _forget_payloads(rows)
            for one, refusal in refused:
                changed |= self._batcher.refuse(one, refusal, now)
        return changed

    def _decode(self, messages: Iterable[Message]) -> tuple[list[tuple[Message, Row]], list[Refused]]:
        rows: list[tuple[Message, Row]] = []
        refused: list[Refused] = []
        for message in messages:
            try:
                rows.append((message, self.lane.decoded(message)))
            except MessageError as refusal:
                refused.append((message, refusal))
        return rows, refused

    def _see_end(self, last: tuple[int, int] | None, pending: int) -> None:
        """A closed claim ends with its last sequence, or where nothing more of ours is held."""
        if self.end is None:
            return
        if last is not None and last[0] >= self.end:
            self._ended, self._mark = True, last
        elif not pending:
            self._ended = True

    async def _mark_of_end(self) -> tuple[int, int] | None:
        """A message at the claim's end or behind it, before which nothing of ours is left; None where that can't be told yet."""
        if self._mark is not None:
            return self._mark
        mark, end = await last_message(self.lane), self.end
        if mark is None or end is None or mark[0] < end or await nothing_to(self.lane, self._position) < end:
            await asyncio.sleep(BEHIND)
            return None
        return mark

    def _top_up(self) -> None:
        """Keep on the way or in hand: a block that is being inserted, one that fills meanwhile, and a request's worth more, or
        decoding would rest where an insert takes longer."""
        reader = self.reader
        if reader is None or reader.broken or self._done_reading or not self.claim:
            return
        rows = 5 * self._batcher.cap // 2 - self.in_hand - reader.outstanding
        held = self._batcher.bytes + (self.storing.bytes if self.storing else 0)
        size = 2 * self._limits.max_bytes + ASK_BYTES - held - reader.outstanding_bytes
        size = min(size, self._around.pull_bytes() - reader.outstanding_bytes)
        if size < min(ASK_BYTES, self._around.pull_bytes() // 2) and (self.in_hand or reader.outstanding):
            return
        if rows * 2 >= self._batcher.cap:
            reader.request(rows, size)

    async def _due(self) -> bool:
        """Wait until the batch is due (True), or until something else is to be done first (False)."""
        wait = self._batcher.wait(self._now())
        if self._done_reading and len(self._batcher):
            return True
        if wait == 0.0 or self._done_reading:
            return wait == 0.0
        self._wake.clear()
        if self.reader is not None and self.reader.broken:
            return False
        with suppress(TimeoutError):
            async with asyncio.timeout(None if wait == float("inf") else wait):
                await self._wake.wait()
        return False

    async def _flush(self, batch: Batch) -> None:
        """Cut, inserted, buried; that it is done is recorded with the next write."""
        self._count(batch)
        self.storing = batch
        try:
            await self._store(batch)
        finally:
            self.storing = None
        self._top_up()

    async def _store(self, batch: Batch) -> None:
        lane = self.lane
        lane.account.received(batch)
        (last, arrived), start = batch.last, self._position
        cut = Cut(last, arrived, await lane.until(), 0, lane.rules, lane.token())
        await self.change(lambda r: self._cut_next(r, start, batch.first[0], cut))
        self._position = cut.end
        lane.faultpoint("after_cut")
        if batch.stored:
            sent, why = await insert_batch(lane, batch, cut.token, cut.until)
            if sent is not Sent.STORED:
                if why is not None and why.fault is Fault.TOO_LARGE:
                    lane.alarm(why.reason, error=str(why)[:500], max_bytes=self._batcher.shrink())
                self.lane.log.info("goes the long way", data_type=self.lane.table.data_type, why=str(why or sent.value))
                await self._later(cut)
                return
        floods = self._flood.of(self._now()) if self._around.may_hold() else frozenset()
        bad = [each for each in batch.refused if self._exchange_of(each[0].subject) not in floods]
        try:
            await lane.bury(bad)
        except BrokerError as refused:
            lane.alarm(refused.reason, seq=bad[0][0].seq, error=str(refused))
            await self._later(cut)
            return
        if floods:
            await self._hold_back(cut)
        else:
            self.finished = cut

    def _cut_next(self, record: Record, start: int, first: int, cut: Cut) -> Record | None:
        claim = record.claim(self.claim)
        # We may have moved its `done` ourselves meanwhile, where nothing was left.
        if claim is None or not start <= claim.done < first:
            return None
        # Where a write came second, what was dropped by the end that it should have brought stays dropped.
        end = self.end if self._ended else claim.end
        if not self._ended and self.reader is not None:
            # Nobody has claimed what follows? Then as far as the backlog says.
            stretch = self._seen.stretch(cut.end, self.reader.pending)
            end = stretch if stretch is None or end is None else max(end, stretch)
            end = None if end is not None and end > self._seen.last else end
            # And never before what is read already: that is ours.
            end = None if end is None else max(end, self.reader.next - 1)
        after = steps.cut_next(record, self.claim, self.lane.owner, claim.done, cut, end=end)
        changed = after.claim(self.claim) if after else None
        if changed is not None:
            self.end = changed.end  # now, for what comes while it is written
        return after

    async def _leave(self) -> None:
        """The claim is read to its end, or given up: what is stored is recorded."""
        start, mark = self._position, await self._mark_of_end() if self._ended else None

        def step(record: Record) -> Record | None:
            if mark is not None:
                return steps.nothing_left(record, self.claim, self.lane.owner, start, mark)
            return steps.released(record, self.lane.owner, self.claim)

        await self.change(step)

    async def _later(self, cut: Cut) -> None:
        """The cut is set aside; we go on behind it."""
        self.claim = await self._around.set_aside(self.claim, cut)
        self._ended = self._ended or not self.claim

    async def _nothing_left(self) -> None:
        """Is all of ours that the stream holds stored?"""
        start, id, mark = self._position, self.claim, await last_message(self.lane)

        def idle() -> bool:
            return not self.in_hand and self.claim == id and self._position == start

        if mark is None or not idle() or not self.is_tail or await nothing_to(self.lane, start) < mark[0]:
            return
        self._seen.read_to = max(self._seen.read_to, mark[0])

        def step(record: Record) -> Record:
            after = steps.nothing_left(record, id, self.lane.owner, start, mark) if idle() else None
            return after or record

        record = await self.change(step)
        claim = record.claim(id)
        if claim is not None and claim.cut is None and self.claim == id:
            self._position = claim.done

    # --- too many bad ones --------------------------------------------------------------------------------------------

    def _count(self, batch: Batch) -> None:
        """What came of each venue, and what of it was bad. A row in columns tells its venue by itself."""
        bad = self._by_exchange(Counter(message.subject for message, _ in batch.refused))
        messages = bad + self._by_exchange(Counter(message.subject for message in batch.messages)) + batch.exchanges()
        self._flood.record(self._now(), messages, bad)
        floods = self._see_floods()
        refused = [each for each in batch.refused if self._exchange_of(each[0].subject) in floods]
        if refused and self._now() >= self._tell_flood_at:
            self._tell_flood_at = self._now() + TELL_FLOOD_EVERY
            first = str(refused[0][1])
            self.lane.alarm(
                reasons.DEAD_LETTER_FLOOD, exchanges=sorted(floods), refused=len(refused), of=len(batch), first=first
            )

    def _exchange_of(self, subject: str) -> str:
        return exchange_of(subject, self.lane.declaration.exchange_token)

    def _by_exchange(self, of_subjects: Mapping[str, int]) -> Counter[str]:
        found: Counter[str] = Counter()
        for subject, count in of_subjects.items():
            found[self._exchange_of(subject)] += count
        return found

    def _see_floods(self) -> frozenset[str]:
        floods = self._flood.of(self._now())
        if not self._around.stopping():
            self._around.set_state(reasons.DEAD_LETTER_FLOOD if floods else reasons.RUNNING)
        return floods

    async def _hold_back(self, cut: Cut) -> None:
        """What is bad of the flooding venues is buried later, and not in the way. While it goes on, cuts without a bad message are held
        back, too: so that it is one stretch, and not one for each."""
        lane, new = self.lane, claim_id(self.lane)
        earlier, since = self._held
        if self._now() - since > HOLD:
            earlier = ""
        record = await self.change(lambda r: steps.held_back(r, self.claim, lane.owner, cut, earlier, new))
        held = record.claim(new)
        if held is not None:
            self._held = new, self._now()
            self._around.finish_aside(held)

    def _drop(self) -> None:
        self._batcher.clear()
        if self.reader is not None:
            self.reader.close()
            self.reader = None
