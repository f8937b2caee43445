"""One data type's path: claim → read → cut → insert → record.

The stream is cut once: a cut is in the lane's record before anything of it is sent, it is one block under one token, and
whoever takes it up sends the same rows. So nothing depends on who sends what when; what can't be sent as it was cut goes the
rare path (`epochs.py`). Each step is one of `record.py`'s, and of the checked model in `tests/model`.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from random import Random

import structlog
from structlog.typing import FilteringBoundLogger

from marketprism_api import reasons
from marketprism_api.reasons import Reason
from marketprism_consumer.backoff import Backoff
from marketprism_consumer.errors import (
    AgainError,
    BrokerError,
    DoubtError,
    LostError,
    MessageError,
    ReaderBrokenError,
    StoreError,
)
from marketprism_consumer.faultpoints import faultpoint
from marketprism_consumer.ingest import epochs
from marketprism_consumer.ingest import record as steps
from marketprism_consumer.ingest.batch import Batch, BatchBounds, Batcher
from marketprism_consumer.ingest.broker import Broker, Records
from marketprism_consumer.ingest.dead_letters import Graveyard
from marketprism_consumer.ingest.decode import decode
from marketprism_consumer.ingest.decode_fast import DECODERS
from marketprism_consumer.ingest.encode import encode
from marketprism_consumer.ingest.flood import Flood
from marketprism_consumer.ingest.insert import Sent, insert
from marketprism_consumer.ingest.keeper import RecordKeeper
from marketprism_consumer.ingest.lane import RULES, Encode, Lane
from marketprism_consumer.ingest.lane_id import LaneId, lane_of
from marketprism_consumer.ingest.message import Message
from marketprism_consumer.ingest.metrics import IngestAccount
from marketprism_consumer.ingest.ranges import last_message, read_range
from marketprism_consumer.ingest.reader import MIN_PULL_BYTES, Reader
from marketprism_consumer.ingest.record import VALID, Claim, Cut, Record
from marketprism_consumer.ingest.set_back import claim_id, inspect
from marketprism_consumer.ingest.store import Store
from marketprism_consumer.schema.tables import Table

log = structlog.get_logger()

BEAT = 2.0  # an owner is heard at least so often [s]
SILENCE = 5.0  # an owner that was not heard for so long is taken for dead [s]
LOOK = 1.0  # who has nothing to do looks at the record so often [s]
WATCH = 5.0  # how often it is asked where the stream stands [s]
TICK = 0.5  # how often the reader is looked after [s]
CHUNK = int(os.environ.get("MARKETPRISM_TEST_CHUNK", "200000"))
"""Messages: further ahead than this, the stream is split into stretches, so that others find work as well. Smaller for tests."""
MAX_ASIDE = 16  # stretches of a lane that one process has set aside; with more it waits for them


@dataclass(frozen=True, slots=True)
class LaneSource:
    """Where a data type's messages are."""

    stream: str
    subject: str


class _GraceOverError(Exception):
    """The process must end now; what is in hand is in the record, or still in the stream."""


class Ingest:
    """`run` until `stop`. Everything that it can't know for certain after a fault it reads from the record again.

    `owner` is this process's name among those that share the lane: the same one for a process that is started again in its
    place. What follows `account` and `owner` is for the simulator, which has its own.
    """

    def __init__(
        self,
        source: LaneSource,
        table: Table,
        broker: Broker,
        records: Records,
        tiers: Sequence[Store],
        graveyard: Graveyard,
        limits: BatchBounds,
        flood: Flood,
        account: IngestAccount,
        owner: str,
        *,
        encode: Encode = encode,
        faultpoint: Callable[[str], None] = faultpoint,
        log: FilteringBoundLogger = log,
        backoff: Callable[[], Backoff] = Backoff,
        valid: int = VALID,
        random: Random | None = None,
    ) -> None:
        self.source, self.table, self.account, self.owner = source, table, account, owner
        self._now = asyncio.get_running_loop().time
        self._set_state(reasons.RUNNING)
        self._broker, self._records, self._tiers, self._graveyard = broker, records, tiers, graveyard
        self._encode, self._faultpoint, self._log, self._backoff = encode, faultpoint, log, backoff
        self._valid, self._random = valid, random or Random()
        self._limits, self._flood = limits, flood
        self._fast = DECODERS.get(table.data_type)
        self._batcher = Batcher(limits)
        self._wake = asyncio.Event()
        self._stop_by: float | None = None
        self._running: asyncio.Task[None] | None = None
        self._lane: Lane | None = None
        self._synced = False
        self._why = "start"
        # Of the claim in hand:
        self._claim = ""
        self._end: int | None = None
        self._position = 0
        self._ended = False  # all of it is read
        self._mark: tuple[int, int] | None = None  # a message at its end, or behind it
        self._called = False  # something before it was left behind: it comes first
        self._finished: Cut | None = None  # stored, and not yet recorded so
        self._reader: Reader | None = None
        self._storing: Batch | None = None
        # Of the lane:
        self._aside: dict[str, asyncio.Task[None]] = {}
        self._seen: dict[str, tuple[tuple[str, int], float]] = {}
        self._trouble: Exception | None = None
        self._last_seq = 0
        self._read_to = 0  # to where all was read when the stream was last asked
        self._paused_until = 0.0
        self._looks = False  # after a pause: what comes is looked at with suspicion

    # --- from outside -------------------------------------------------------------------------------------------------

    def disconnected(self) -> None:
        """Nothing that was read before is written by any more."""
        if self._lane:
            self._lane.keeper.doubt_it("disconnected")
        self._why = "disconnected"
        self._wake.set()

    def reconnected(self) -> None:
        self._wake.set()

    def stop(self, grace: float) -> None:
        """Read no more, store what is in hand, leave. What is not stored after `grace` seconds is left to the record, or the
        stream. With none it leaves whatever it waits for."""
        self._stop_by = self._now() + grace
        self._set_state(reasons.STOPPING)
        self._wake.set()
        if self._running:
            if grace and self._synced:
                asyncio.get_running_loop().call_later(grace, self._running.cancel)
            else:
                self._running.cancel()

    @property
    def stopping(self) -> bool:
        return self._stop_by is not None

    @property
    def reads(self) -> bool:
        """Is the lane's tail ours?"""
        return bool(self._claim) and self._end is None

    @property
    def backlog(self) -> int | None:
        """Messages of the lane behind what was read; None where another reads its tail."""
        return self._reader.pending if self.reads and self._reader else None

    @property
    def in_hand(self) -> int:
        return len(self._batcher) + (len(self._storing) if self._storing else 0)

    @property
    def set_aside(self) -> int:
        """Stretches of the lane that wait to be looked up, whoever has them."""
        if not self._synced or not self._lane:
            return 0
        claims = self._lane.keeper.record.claims
        return sum(claim.waits for claim in claims if claim.id != self._claim)

    @property
    def idle(self) -> bool:
        """Nothing in hand, and nothing of more is known: here, or where another has the tail, there."""
        if not self._synced or self._aside or self.in_hand or self._finished or not self._lane:
            return False
        if self.reads:
            return bool(self._reader) and not self.backlog
        claims = self._lane.keeper.record.claims
        return (
            bool(claims) and claims[-1].end is None and all(claim.cut is None for claim in claims) and len(claims) == 1
        )

    def not_ready(self) -> str:
        """Why this data type does not store what comes just now; empty where it does."""
        if self.state is not reasons.RUNNING:
            return str(self.state)
        if not self._synced:
            return f"begins from its record ({self._why})"
        if self.account.last_insert_ok is False:
            return "the last insert was refused"
        return ""

    async def pending(self) -> int:
        """What the server says is behind the tail's reader; 0 where another reads it. Raises BrokerError."""
        if not self.reads or self._reader is None:
            return 0
        return (await self._broker.reader_state(self.source.stream, self._reader.name)).pending

    # --- again and again, from the record -----------------------------------------------------------------------------

    async def run(self) -> None:
        self._running = asyncio.current_task()
        backoff = self._backoff()
        try:
            while not self.stopping:
                began = self._now()
                try:
                    await self._session()
                    continue
                except AgainError as again:
                    self._why = str(again) or type(again).__name__
                    wait = min(backoff.next(), 1.0)
                    self._log.info("begins from the record", data_type=self.table.data_type, why=self._why)
                except BrokerError as refused:
                    if refused.lasting and self._lane is None:
                        raise
                    wait = backoff.next()
                    self._why = str(refused)
                    self._alarm(refused.reason, error=str(refused), next_try_in=round(wait, 1))
                if self._now() - began > 10 * SILENCE:
                    backoff = self._backoff()
                await self._rest(wait)
        except (_GraceOverError, asyncio.CancelledError):
            if not self.stopping:
                raise
            self._log.warning("stopped with messages in hand; they are in the stream", data_type=self.table.data_type)
        finally:
            await self._release()

    async def _session(self) -> None:
        """From the record to the first thing that makes it doubtful. Raises AgainError, BrokerError."""
        lane = await self._find_lane()
        await inspect(lane)
        self._trouble = None
        self._read_to = lane.keeper.record.end
        self._synced, self._why = True, ""
        helpers = [asyncio.create_task(self._keep(lane)), asyncio.create_task(self._watch(lane))]
        try:
            while not self.stopping:
                claim = await self._take(lane)
                if claim is None:
                    if not self._aside:
                        self.account.nothing_to_insert()
                    await self._rest(LOOK)
                    self._look_for_trouble()
                elif claim.waits:
                    self._finish_aside(lane, claim)
                else:
                    await self._work(lane, claim)
                    self._look_for_trouble()
        finally:
            self._synced = False
            for task in (*helpers, *self._aside.values()):
                task.cancel()
            await asyncio.gather(*helpers, *self._aside.values(), return_exceptions=True)
            self._aside.clear()
            self._drop()
            self._claim, self._finished = "", None

    async def _find_lane(self) -> Lane:
        """Asked for each time: stream or table may have been made anew."""
        known = self._lane.id if self._lane else None
        backoff = self._backoff()
        while True:
            try:
                found = await lane_of(self._broker, self._tiers[0], self.table, self.source.stream, self.source.subject)
                break
            except StoreError as refused:
                wait = backoff.next()
                self.account.insert_failed(refused.code)
                reason = reasons.CLICKHOUSE_UNREACHABLE if refused.code == 0 else reasons.CLICKHOUSE_DENIED
                self._alarm(reason, clickhouse_code=refused.code, error=str(refused)[:500], next_try_in=round(wait, 1))
                await self._rest(wait)
        if self._lane is None or known != found:
            if known and known.created != found.created:
                self._alarm(reasons.STREAM_RECREATED, was=known.created, now=found.created)
            self._lane = self._new_lane(found)
        return self._lane

    def _new_lane(self, id: LaneId) -> Lane:
        return Lane(
            id,
            self.table,
            self.owner,
            self._broker,
            RecordKeeper(self._records, id.key, self.account, self._random),
            self._tiers,
            self._graveyard,
            self.account,
            self._valid,
            self._encode,
            self._faultpoint,
            self._log,
            self._backoff,
            self._random,
        )

    async def _release(self) -> None:
        """Others need not wait for our silence."""
        if self._lane is None or self._lane.keeper.doubt:
            return
        with suppress(AgainError, BrokerError, TimeoutError, asyncio.CancelledError):
            async with asyncio.timeout(2.0):
                await self._lane.keeper.change(lambda r: steps.released(r, self.owner))

    # --- claim --------------------------------------------------------------------------------------------------------

    async def _take(self, lane: Lane) -> Claim | None:
        """A stretch to work on: one that nobody works on, else the next one. None where there is none."""
        record = await lane.keeper.refresh()
        for claim in record.claims:
            if not self._is_free(claim):
                continue
            if claim.owner == self.owner:
                return claim
            record = await lane.keeper.change(lambda r: steps.taken_over(r, claim, self.owner))  # noqa: B023
            self.account.takeovers.inc()
            self._log.info(
                "takes over", data_type=self.table.data_type, of=claim.owner, first=claim.done + 1, end=claim.end
            )
            return record.claim(claim.id)
        return None if record.has_tail else await self._claim_next(lane, record)

    def _is_free(self, claim: Claim) -> bool:
        """Nobody works on it, and we may."""
        if claim.finished or claim.id in self._aside or claim.id == self._claim:
            return False
        if claim.waits and len(self._aside) >= MAX_ASIDE:
            return False
        if claim.owner in ("", self.owner):
            return True
        now, seen = self._now(), self._seen.get(claim.id)
        if seen is None or seen[0] != (claim.owner, claim.beat):
            self._seen[claim.id] = (claim.owner, claim.beat), now
            return False
        return now - seen[1] > SILENCE

    async def _claim_next(self, lane: Lane, record: Record) -> Claim | None:
        """The tail, or, where the stream is far ahead, a stretch of it."""
        self._last_seq = (await lane.broker.stream(lane.id.stream)).last_seq
        reader = await self._open(lane, record.end + 1)
        start, id = record.end, claim_id(lane)
        end = self._stretch(start, reader.pending)
        try:
            record = await lane.keeper.change(
                lambda r: steps.claimed(r, id, self.owner, end) if r.end == start else None
            )
        except LostError:
            reader.close()  # another was first
            return None
        self._reader = reader
        return record.claim(id)

    def _stretch(self, start: int, pending: int) -> int | None:
        """Where a claim from `start` on is to end: about CHUNK messages further; None where not so many wait."""
        ahead = self._last_seq - start
        if pending <= CHUNK or ahead <= CHUNK:
            return None
        return start + max(CHUNK, ahead * CHUNK // pending)

    # --- a claim in hand: read → cut → insert → record ----------------------------------------------------------------

    async def _work(self, lane: Lane, claim: Claim) -> None:
        """To its end, or until we stop; nothing of it is in hand after that."""
        if claim.cut is not None:
            self._drop()
            left = await self._again(lane, claim, claim.cut)
            if left is None:
                return
            claim = left
        self._claim, self._end, self._position = claim.id, claim.end, claim.done
        self._ended, self._called, self._mark = False, False, None
        self._finished = None
        if self._reader is None or self._reader.next != claim.done + 1:
            self._drop()
            self._reader = await self._open(lane, claim.done + 1)
        self._see_end(None, self._reader.pending)
        try:
            while not (self._done_reading and not len(self._batcher)):
                self._look_for_trouble()
                await self._read_on(lane)
                if await self._due():
                    await self._flush(lane, self._batcher.take(self._now(), stopping=self._done_reading))
            if self._claim:
                await self._leave(lane)
        finally:
            self._drop()
            self._claim, self._finished = "", None
            self._end_pause()

    @property
    def _done_reading(self) -> bool:
        return self.stopping or self._ended or self._called

    async def _open(self, lane: Lane, start: int) -> Reader:
        id = lane.id
        reader = Reader(lane.broker, id.stream, id.created, id.subject, start, self._receive, self._wake.set)
        await reader.open()
        self._see_start(reader.first)
        return reader

    def _see_start(self, first: int) -> None:
        """A stream that begins behind what was read has discarded the rest. Who has read nothing yet takes it as it is."""
        if self._read_to and first - 1 > self._read_to:
            self._alarm(reasons.MESSAGES_MISSED, first=self._read_to + 1, last=first - 1)
            self._read_to = first - 1

    async def _read_on(self, lane: Lane) -> None:
        """A reader that broke is followed by another, at the next sequence."""
        if self._reader is not None and self._reader.broken:
            self._log.info("reads on", data_type=self.table.data_type, why=self._reader.broken)
            following = self._reader.next
            self._reader.close()
            self._reader = await self._open(lane, following)
        if self._paused_until and self._now() >= self._paused_until:
            await self._resume(lane)
        self._top_up()

    def _receive(self, messages: Sequence[Message]) -> None:
        now, batcher, fast = self._now(), self._batcher, self._fast
        changed, end = False, self._end
        for message in messages:
            if end is not None and message.seq > end:
                break
            try:
                row = fast(message.payload, message.arrived) if fast else None
                if row is None:
                    row = decode(self.table.data_type, message.subject, message.payload, message.arrived)
            except MessageError as refusal:
                changed |= batcher.refuse(message, refusal, now)
            else:
                changed |= batcher.add(message, row, now)
        last = messages[-1]
        self._read_to = max(self._read_to, last.seq)
        self._see_end(last, last.pending)
        if changed or self._ended:
            self._wake.set()
        if self._reader is not None and self._reader.outstanding * 2 < batcher.cap:
            self._top_up()

    def _see_end(self, last: Message | None, pending: int) -> None:
        """A closed claim ends with its last sequence, or where nothing more of ours is held."""
        if self._end is None:
            return
        if last is not None and last.seq >= self._end:
            self._ended, self._mark = True, (last.seq, last.arrived)
        elif not pending:
            self._ended = True

    async def _mark_of_end(self, lane: Lane) -> tuple[int, int] | None:
        """A message at the claim's end or behind it, before which nothing of ours is left; None where that can't be told yet."""
        if self._mark is not None:
            return self._mark
        mark = await last_message(lane)
        if mark is not None and self._end is not None and mark[0] >= self._end and self._reader is not None:
            pending, delivered = await lane.broker.reader_state(lane.id.stream, self._reader.name)
            if not pending and delivered == self._reader.delivered:
                return mark
        await self._rest(LOOK)
        return None

    def _top_up(self) -> None:
        """Keep on the way or in hand: a block that is being inserted, one that fills meanwhile, and a request's worth more, or
        decoding would rest where an insert takes longer."""
        reader = self._reader
        if reader is None or reader.broken or self._done_reading or self._paused_until or not self._claim:
            return
        rows = 5 * self._batcher.cap // 2 - self.in_hand - reader.outstanding
        held = self._batcher.bytes + (self._storing.bytes if self._storing else 0)
        size = 2 * self._limits.max_bytes + MIN_PULL_BYTES - held - reader.outstanding_bytes
        if size < MIN_PULL_BYTES and (self.in_hand or reader.outstanding):
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
        if self._paused_until:
            wait = min(wait, max(0.0, self._paused_until - self._now()))
        self._wake.clear()
        if self._reader is not None and self._reader.broken:
            return False
        with suppress(TimeoutError):
            async with asyncio.timeout(None if wait == float("inf") else wait):
                await self._wake.wait()
        return False

    async def _flush(self, lane: Lane, batch: Batch) -> None:
        """Cut, inserted, buried; that it is done is recorded with the next write."""
        through = self._unless_flood(batch)
        if through is None:
            return
        self._storing = through
        try:
            await self._store(lane, through)
        finally:
            self._storing = None
        self._top_up()

    async def _store(self, lane: Lane, batch: Batch) -> None:
        self.account.received(batch)
        last, start = batch.last, self._position
        cut = Cut(last.seq, last.arrived, await lane.until(), 0, RULES, lane.token())
        await self._change(lane, lambda r: self._cut_next(r, start, batch.first.seq, cut))
        self._position = cut.end
        self._faultpoint("after_cut")
        if batch.messages:
            streams = [lane.present_stream] * len(batch.messages)
            sent, why = await insert(lane, batch.messages, batch.rows, streams, cut.token, cut.until, doubt=False)
            if sent is not Sent.STORED:
                self._log.info("goes the long way", data_type=self.table.data_type, why=str(why or sent.value))
                await self._later(lane, cut)
                return
        try:
            await lane.bury(batch.refused)
        except BrokerError as refused:
            self._alarm(refused.reason, seq=batch.refused[0][0].seq, error=str(refused))
            await self._later(lane, cut)
            return
        self._finished = cut

    def _cut_next(self, record: Record, start: int, first: int, cut: Cut) -> Record | None:
        claim = record.claim(self._claim)
        # We may have moved its `done` ourselves meanwhile, where nothing was left.
        if claim is None or not start <= claim.done < first:
            return None
        # Where a write came second, what was dropped by the end that it should have brought stays dropped.
        end = self._end if self._ended else claim.end
        if not self._ended and self._reader is not None:
            # Nobody has claimed what follows? Then as far as the backlog says.
            stretch = self._stretch(cut.end, self._reader.pending)
            end = stretch if stretch is None or end is None else max(end, stretch)
            end = None if end is not None and end > self._last_seq else end
            # And never before what is read already: that is ours.
            end = None if end is None else max(end, self._reader.next - 1)
        after = steps.cut_next(record, self._claim, self.owner, claim.done, cut, end=end)
        changed = after.claim(self._claim) if after else None
        if changed is not None:
            self._end = changed.end  # now, for what comes while it is written
        return after

    async def _change(self, lane: Lane, step: Callable[[Record], Record | None]) -> Record:
        """A step, after what is finished is recorded so."""
        finished: Cut | None = None

        def both(record: Record) -> Record | None:
            nonlocal finished
            finished = self._finished
            after = steps.record_done(record, self._claim, self.owner, finished) if finished else record
            after = after and step(after)
            return after and steps.heard(after, self.owner)  # of what is set aside, too

        record = await lane.keeper.change(both)
        if self._finished is finished:
            self._finished = None
        claim = record.claim(self._claim)
        self._end = claim.end if claim else self._end
        self._faultpoint("after_record")
        return record

    async def _leave(self, lane: Lane) -> None:
        """The claim is read to its end, or given up: what is stored is recorded."""
        start, mark = self._position, await self._mark_of_end(lane) if self._ended else None

        def step(record: Record) -> Record | None:
            if mark is not None:
                return steps.nothing_left(record, self._claim, self.owner, start, mark)
            return steps.released(record, self.owner, self._claim)

        await self._change(lane, step)

    # --- what can't go on as it was cut -------------------------------------------------------------------------------

    async def _again(self, lane: Lane, claim: Claim, cut: Cut) -> Claim | None:
        """A cut that somebody left, perhaps ourselves before a doubt: the same block again, if it can be the same. Returns the
        claim to go on with."""
        if cut.epoch == 0 and cut.rules == RULES and await lane.patiently(lane.store.clock) <= cut.until:
            messages = await read_range(lane, claim.done, cut.end)
            if messages and (messages[-1].seq, messages[-1].arrived) == (cut.end, cut.mark):
                rows, good, bad = [], [], []
                for message in messages:
                    try:
                        rows.append(lane.decoded(message))
                        good.append(message)
                    except MessageError as refusal:
                        bad.append((message, refusal))
                streams = [lane.present_stream] * len(good)
                sent = Sent.STORED
                if good:
                    sent, _ = await insert(lane, good, rows, streams, cut.token, cut.until, doubt=True)
                if sent is Sent.STORED:
                    with suppress(BrokerError):
                        await lane.bury(bad)
                        record = await epochs.record_done(lane, claim.id, cut)
                        left = record.claim(claim.id)
                        return left if left and not left.finished else None
            else:
                self._alarm(
                    reasons.MESSAGES_MISSED, first=claim.done + 1, last=cut.end, why="they were cut, not stored"
                )
        self._claim = claim.id
        try:
            await self._later(lane, cut)
            left = lane.keeper.record.claim(self._claim)
            return left if left and left.cut is None and not left.finished else None
        finally:
            self._claim = ""

    async def _later(self, lane: Lane, cut: Cut) -> None:
        """Set aside, until nothing of the cut can be stored any more; the lane goes on behind it."""
        while len(self._aside) >= MAX_ASIDE:
            await asyncio.sleep(TICK)
            self._look_for_trouble()
        # Not while ClickHouse is away: all that comes would be set aside.
        await lane.patiently(lane.store.clocks)
        rest = claim_id(lane)
        record = await lane.keeper.change(lambda r: steps.set_aside(r, self._claim, self.owner, rest))
        aside = record.claim(self._claim)
        assert aside is not None
        self._alarm(reasons.BLOCK_SET_ASIDE, first=aside.done + 1, last=cut.end, until=cut.until)
        self._finish_aside(lane, aside)
        if record.claim(rest) is None:
            self._claim, self._ended = "", True
        else:
            self._claim = rest

    def _finish_aside(self, lane: Lane, claim: Claim) -> None:
        self._aside[claim.id] = asyncio.create_task(self._aside_until_finished(lane, claim))

    async def _aside_until_finished(self, lane: Lane, claim: Claim) -> None:
        """A reader that broke is no doubt of the record's; everything else that goes wrong is the session's."""
        backoff = self._backoff()
        try:
            while True:
                try:
                    await epochs.finish(lane, claim)
                    break
                except ReaderBrokenError as broken:
                    self._log.info("reads again", data_type=self.table.data_type, why=str(broken))
                    await asyncio.sleep(backoff.next())
                now = steps.own(lane.keeper.record, claim.id, self.owner)
                if now is None:
                    break
                claim = now
        except (AgainError, BrokerError) as trouble:
            self._trouble = self._trouble or trouble
        finally:
            self._aside.pop(claim.id, None)
            self._wake.set()

    # --- too many bad ones --------------------------------------------------------------------------------------------

    def _unless_flood(self, batch: Batch) -> Batch | None:
        """The batch; or, in a flood of bad messages, none or a part of it: nothing of the rest is cut, and it is read again."""
        flood = self._flood.record(self._now(), len(batch), len(batch.refused)) and batch.refused
        if not flood:
            self._looks = False
            return batch
        head = None
        if self._looks:
            # So that it ends: each look lets as many through as a flood needs.
            seqs = sorted([m.seq for m in batch.messages] + [m.seq for m, _ in batch.refused])
            head = batch.up_to(seqs[min(len(seqs), self._flood.min_messages) - 1])
        self._set_state(reasons.DEAD_LETTER_FLOOD)
        self._paused_until = self._now() + min(30.0, self._flood.window)
        self._alarm(
            reasons.DEAD_LETTER_FLOOD, refused=len(batch.refused), of=len(batch), first=str(batch.refused[0][1])
        )
        self._ended = False
        self._batcher.clear()
        if self._reader is not None:
            self._reader.close()
        return head

    async def _resume(self, lane: Lane) -> None:
        self._end_pause()
        self._ended = False
        self._drop()
        self._reader = await self._open(lane, self._position + 1)

    def _end_pause(self) -> None:
        """What comes next is looked at with suspicion."""
        if self._paused_until:
            self._paused_until, self._looks = 0.0, True
            self._flood.reset()
            if not self.stopping:
                self._set_state(reasons.RUNNING)

    # --- meanwhile ----------------------------------------------------------------------------------------------------

    async def _keep(self, lane: Lane) -> None:
        """Looks after the reader, and is heard by the others."""
        while True:
            await asyncio.sleep(TICK)
            self._tell()
            if self._claim and steps.own(lane.keeper.record, self._claim, self.owner) is None:
                self._trouble = self._trouble or LostError("the claim is another's")
                self._wake.set()
            if self._claim and not self._called and any(map(self._is_free, lane.keeper.record.claims)):
                self._called = True
                self._wake.set()
            if self._reader is not None and not self._paused_until:
                with suppress(ReaderBrokenError):
                    self._reader.check()
                if self._reader.broken:
                    self._wake.set()
            if self._now() - lane.keeper.written_at < BEAT or not self._owns(lane):
                continue
            try:
                await self._change(lane, lambda r: r)
            except (AgainError, BrokerError) as trouble:
                self._trouble = self._trouble or trouble
                self._wake.set()

    def _owns(self, lane: Lane) -> bool:
        return not lane.keeper.doubt and any(claim.owner == self.owner for claim in lane.keeper.record.claims)

    def _look_for_trouble(self) -> None:
        if self._trouble is not None:
            raise self._trouble
        if self._lane and self._lane.keeper.doubt:
            raise DoubtError(self._lane.keeper.doubt)

    def _tell(self) -> None:
        first = (self._storing or self._batcher).first
        claims = self._lane.keeper.record.claims if self._lane and self._synced else ()
        arrivals = [claim.cut.mark for claim in claims if claim.cut and claim.waits]
        if first is not None:
            arrivals.append(first.arrived)
        self.account.stands(
            lag=self.backlog or 0,
            in_hand=self.in_hand,
            held_bytes=self._batcher.bytes + (self._storing.bytes if self._storing else 0),
            set_aside=self.set_aside,
            oldest=min(arrivals, default=0) / 1e6,
            reads_tail=self.reads,
        )

    async def _watch(self, lane: Lane) -> None:
        """Has the stream purged or discarded what was not read? And is there nothing of ours in what it has beyond?"""
        while True:
            await asyncio.sleep(WATCH)
            with suppress(BrokerError, AgainError):
                state = await lane.broker.stream(lane.id.stream)
                if state.created != lane.id.created:
                    self._trouble = self._trouble or LostError("the stream was made anew")
                    self._wake.set()
                    return
                self._last_seq = state.last_seq
                reader = self._reader
                if reader is None or reader.broken or self._paused_until:
                    continue
                if self.reads:
                    self._see_start(state.first_seq)
                if reader.missed:
                    self._alarm(reasons.MESSAGES_MISSED, count=reader.missed)
                    reader.missed = 0
                mark = await last_message(lane) if self.reads else None
                if not await reader.ask() or reader is not self._reader:
                    continue
                self._see_end(None, reader.pending)
                self._wake.set()
                if self.reads and mark is not None and not reader.pending:
                    self._read_to = max(self._read_to, mark[0])
                    await self._nothing_left(lane, mark)

    async def _nothing_left(self, lane: Lane, mark: tuple[int, int]) -> None:
        """All of ours that the stream holds to there is stored."""
        start, id = self._position, self._claim

        def idle() -> bool:
            """In a pause what was read is dropped, and read again."""
            return not (self.in_hand or self._paused_until) and self._claim == id and self._position == start

        if not idle() or not self.reads or mark[0] <= start:
            return

        def step(record: Record) -> Record:
            after = steps.nothing_left(record, id, self.owner, start, mark) if idle() else None
            return after or record

        record = await self._change(lane, step)
        claim = record.claim(id)
        if claim is not None and claim.cut is None and self._claim == id:
            self._position = claim.done

    def _drop(self) -> None:
        self._batcher.clear()
        if self._reader is not None:
            self._reader.close()
            self._reader = None

    async def _rest(self, seconds: float) -> None:
        """Or until something happens."""
        if self._stop_by is not None and self._now() + seconds > self._stop_by:
            raise _GraceOverError
        self._wake.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._wake.wait()

    def _set_state(self, state: Reason) -> None:
        self.state = state
        self.account.state(state)

    def _alarm(self, reason: Reason, **details: object) -> None:
        if self._lane is not None:
            self._lane.alarm(reason, **details)
            return
        self.account.alarm(reason)
