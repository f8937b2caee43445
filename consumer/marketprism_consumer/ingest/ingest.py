"""One data type's share of a lane: claim → work (`work.py`: read → cut → insert → record) → the next claim.

The stream is cut once: a cut is in the lane's record before anything of it is sent, it is one block under one token, and
whoever takes it up sends the same rows (`again.py`). So nothing depends on who sends what when; what can't be sent as it was
cut goes the rare path (`epochs.py`). Each step is one of `record.py`'s, and of the checked model in `tests/model`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from random import Random

import structlog
from structlog.typing import FilteringBoundLogger

from marketprism_api import reasons
from marketprism_api.data_types import Declaration
from marketprism_api.messages import MessageLimits
from marketprism_api.reasons import Reason
from marketprism_consumer.backoff import Backoff
from marketprism_consumer.errors import (
    AgainError,
    BrokerError,
    DoubtError,
    LostError,
    ReaderBrokenError,
    StoreError,
)
from marketprism_consumer.faultpoints import faultpoint
from marketprism_consumer.ingest import epochs
from marketprism_consumer.ingest import record as steps
from marketprism_consumer.ingest.again import send_again
from marketprism_consumer.ingest.allowance import TAIL_BYTES
from marketprism_consumer.ingest.batch import BatchBounds, Batcher
from marketprism_consumer.ingest.broker import Broker, Records
from marketprism_consumer.ingest.columns import Columnar, columnar
from marketprism_consumer.ingest.dead_letters import Graveyard
from marketprism_consumer.ingest.encode import Block
from marketprism_consumer.ingest.feeds import Entrance
from marketprism_consumer.ingest.flood import Flood
from marketprism_consumer.ingest.keeper import RecordKeeper
from marketprism_consumer.ingest.lane import Encode, Lane
from marketprism_consumer.ingest.lane_id import LaneId, lane_of
from marketprism_consumer.ingest.metrics import IngestAccount
from marketprism_consumer.ingest.record import VALID, Claim, Cut, Record
from marketprism_consumer.ingest.set_back import claim_id, inspect
from marketprism_consumer.ingest.store import Store
from marketprism_consumer.ingest.work import Around, ClaimWork, StreamSeen
from marketprism_consumer.schema.tables import table_of

log = structlog.get_logger()

BEAT = 2.0  # an owner is heard at least so often [s]
SILENCE = 5.0  # an owner that was not heard for so long is taken for dead [s]
LOOK = 1.0  # who has nothing to do looks at the record so often [s]
WATCH = 5.0  # how often it is asked where the stream stands [s]
WATCH_TABLE = 10.0  # how often it is asked whether the table is the same [s]
TICK = 0.5  # how often the reader is looked after [s]
STANDSTILL = 1.0  # a tick that comes so late: the process was suspended, or starved [s]
CANCEL_AGAIN = 3.0  # up to Python 3.11 `wait_for` swallows a cancellation that comes with its answer [s]
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
    place. What follows `messages` is for the simulator, which has its own.
    """

    def __init__(
        self,
        source: LaneSource,
        declaration: Declaration,
        broker: Broker,
        records: Records,
        tiers: Sequence[Store],
        graveyard: Graveyard,
        limits: BatchBounds,
        flood: Flood,
        account: IngestAccount,
        owner: str,
        *,
        messages: MessageLimits,
        encode: Encode = Block,
        columnar: Callable[[Declaration], Columnar | None] = columnar,
        faultpoint: Callable[[str], None] = faultpoint,
        log: FilteringBoundLogger = log,
        backoff: Callable[[], Backoff] = Backoff,
        valid: int = VALID,
        random: Random | None = None,
    ) -> None:
        self.source, self.account, self.owner = source, account, owner
        self.declaration, self.table = declaration, table_of(declaration)
        self._now = asyncio.get_running_loop().time
        self._set_state(reasons.RUNNING)
        self._broker, self._records, self._tiers, self._graveyard = broker, records, tiers, graveyard
        self._columnar = columnar(declaration)
        self._encode, self._faultpoint, self._log, self._backoff = encode, faultpoint, log, backoff
        self._messages = messages
        self._valid, self._random = valid, random or Random()
        self._limits, self._flood = limits, flood
        self.pull_bytes = TAIL_BYTES
        """What may be on its way to us at most, of the connection's share."""
        self._batcher = Batcher(limits)
        self._wake = asyncio.Event()
        self._stop_by: float | None = None
        self._running: asyncio.Task[None] | None = None
        self._lane: Lane | None = None
        self._entrance: Entrance | None = None
        self._synced = False
        self._why = "start"
        self._work: ClaimWork | None = None
        self._aside: dict[str, asyncio.Task[None]] = {}
        self._silent: dict[str, tuple[tuple[str, int], float]] = {}  # since when an owner was not heard
        self._trouble: Exception | None = None
        self._seen = StreamSeen()

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
            asyncio.get_running_loop().call_later(grace if self._synced else 0.0, self._cancel)

    def _cancel(self) -> None:
        if self._running and not self._running.done():
            self._running.cancel()
            asyncio.get_running_loop().call_later(CANCEL_AGAIN, self._cancel)

    @property
    def stopping(self) -> bool:
        return self._stop_by is not None

    @property
    def reads(self) -> bool:
        """Is the lane's tail ours?"""
        return self._work is not None and self._work.is_tail

    @property
    def backlog(self) -> int | None:
        """Messages of the lane behind what was read; None where another reads its tail."""
        return self._work.pending if self._work is not None and self._work.is_tail else None

    @property
    def in_hand(self) -> int:
        return self._work.in_hand if self._work else 0

    @property
    def late(self) -> float:
        """How late rows come here [s]: by what was stored last, or waits to be; 0 where nothing waits."""
        waits = self._work is not None and (self._work.in_hand or self._work.pending)
        return max(self.account.late, self.account.waits) if waits else 0.0

    @property
    def set_aside(self) -> int:
        """Stretches of the lane that wait to be looked up, whoever has them."""
        return sum(claim.waits for claim in self._claims)

    @property
    def _claims(self) -> Sequence[Claim]:
        return self._lane.keeper.record.claims if self._lane and self._synced else ()

    @property
    def idle(self) -> bool:
        """Nothing in hand, and nothing of more is known: here, or where another has the tail, there."""
        if not self._synced or self._aside or self.in_hand or (self._work and self._work.finished):
            return False
        if self._work is not None and self._work.is_tail:
            return self._work.reader is not None and not self.backlog  # before it reads, nothing is known
        return len(self._claims) == 1 and self._claims[0].end is None and self._claims[0].cut is None

    def not_ready(self) -> str:
        """Why this data type does not store what comes just now; empty where it does."""
        if self.state is reasons.STOPPING:
            return str(self.state)
        if self.account.refusal:
            return f"{self.account.refusal}: ClickHouse refused what was asked last"
        if not self._synced:
            return f"begins from its record ({self._why})"
        if len(self._aside) >= MAX_ASIDE:
            return f"stands still: {MAX_ASIDE} blocks are set aside, see the alarms"
        return ""

    async def has_more(self) -> bool:
        """Does the stream hold more of ours than was read, by its leader's word? False where another reads the tail. Raises BrokerError."""
        if not self.reads or self._work is None or self._work.reader is None:
            return False
        following = self._work.reader.next
        return await self._broker.next_of(self.source.stream, self.source.subject, following) is not None

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
        assert self._entrance
        await self._entrance.enter()
        await inspect(lane)
        await self._entrance.confirm()
        self._trouble = None
        self._seen.read_to = lane.keeper.record.end
        self._synced, self._why = True, ""
        helpers = [asyncio.create_task(each(lane)) for each in (self._keep, self._watch, self._watch_table)]
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
                    await self._go_on(lane, claim)
                    self._look_for_trouble()
        finally:
            self._synced = False
            await _end([*helpers, *self._aside.values()])
            self._aside.clear()

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
                gone = refused.reason is reasons.SCHEMA_MISSING
                reason = refused.reason if gone or refused.code == 0 else reasons.CLICKHOUSE_DENIED
                self.account.insert_failed(refused.code, reason)
                self._alarm(reason, clickhouse_code=refused.code, error=str(refused)[:500], next_try_in=round(wait, 1))
                await self._rest(wait)
        self.account.nothing_to_insert()
        if self._lane is None or known != found:
            if known and known.created != found.created:
                self._alarm(reasons.STREAM_RECREATED, was=known.created, now=found.created)
            self._lane = self._new_lane(found)
            self._entrance = Entrance(self._records, found, self._valid, self._now)
        return self._lane

    def _new_lane(self, id: LaneId) -> Lane:
        return Lane(
            id,
            self.declaration,
            self.table,
            self.owner,
            self._broker,
            RecordKeeper(self._records, id.key, self.owner, self.account, self._random),
            self._tiers,
            self._graveyard,
            self.account,
            self._valid,
            self._messages,
            self._encode,
            self._columnar,
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
        if claim.finished or claim.id in self._aside or (self._work and claim.id == self._work.claim):
            return False
        if claim.waits and len(self._aside) >= MAX_ASIDE:
            return False
        if claim.owner in ("", self.owner):
            return True
        now, seen = self._now(), self._silent.get(claim.id)
        if seen is None or seen[0] != (claim.owner, claim.beat):
            self._silent[claim.id] = (claim.owner, claim.beat), now
            return False
        return now - seen[1] > SILENCE

    async def _claim_next(self, lane: Lane, record: Record) -> Claim | None:
        """The tail, or, where the stream is far ahead, a stretch of it."""
        self._seen.last = (await lane.broker.stream(lane.id.stream)).last_seq
        start, id = record.end, claim_id(lane)
        reader = await self._broker.make_reader(lane.id.stream, lane.id.subject, start + 1)
        self._broker.forget_reader(lane.id.stream, reader.name)
        end = self._seen.stretch(start, reader.pending)
        try:
            record = await lane.keeper.change(
                lambda r: steps.claimed(r, id, self.owner, end) if r.end == start else None
            )
        except LostError:
            return None  # another was first
        return record.claim(id)

    # --- work ---------------------------------------------------------------------------------------------------------

    async def _go_on(self, lane: Lane, claim: Claim) -> None:
        """With a claim of ours, from where it stands."""
        if claim.cut is not None:
            done = await send_again(lane, claim, claim.cut)
            rest = claim.id if done else await self._set_aside(lane, claim.id, claim.cut)
            left = lane.keeper.record.claim(rest)
            if left is None or left.finished or left.cut is not None:
                return
            claim = left
        around = Around(
            self._wake,
            lambda: self.stopping,
            self._look_for_trouble,
            lambda id, cut: self._set_aside(lane, id, cut),
            lambda held: self._finish_aside(lane, held),
            lambda: len(self._aside) < MAX_ASIDE,
            self._set_state,
            lambda: self.pull_bytes,
        )
        self._work = ClaimWork(lane, claim, self._batcher, self._limits, self._flood, self._seen, around)
        try:
            await self._work.run()
        finally:
            self._work = None

    # --- what can't go on as it was cut -------------------------------------------------------------------------------

    async def _set_aside(self, lane: Lane, id: str, cut: Cut) -> str:
        """The cut waits in a claim of its own, until nothing of it can be stored any more. Returns the claim that goes on behind
        it; empty where the claim ended with it."""
        while len(self._aside) >= MAX_ASIDE:
            await asyncio.sleep(TICK)
            self._look_for_trouble()
        # Not while ClickHouse is away: all that comes would be set aside.
        await lane.patiently(lane.store.clocks)
        rest = claim_id(lane)
        record = await lane.keeper.change(lambda r: steps.set_aside(r, id, self.owner, rest))
        aside = record.claim(id)
        assert aside is not None
        self._alarm(reasons.BLOCK_SET_ASIDE, first=aside.done + 1, last=cut.end, until=cut.until)
        self._finish_aside(lane, aside)
        return rest if record.claim(rest) else ""

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

    # --- meanwhile ----------------------------------------------------------------------------------------------------

    async def _keep(self, lane: Lane) -> None:
        """Looks after what is in hand, and is heard by the others."""
        while True:
            asleep = self._now()
            await asyncio.sleep(TICK)
            stood_still = self._now() - asleep > TICK + STANDSTILL
            self._tell()
            work = self._work
            try:
                if work is not None:
                    work.look_after(stood_still=stood_still)
                    if not work.called and any(map(self._is_free, self._claims)):
                        work.call()
                if self._now() - lane.keeper.written_at < BEAT or not self._owns(lane):
                    continue
                await (work or lane.keeper).change(lambda r: r)
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
        arrivals = [claim.cut.mark for claim in self._claims if claim.cut and claim.waits]
        oldest = self._work.oldest if self._work else None
        if oldest is not None:
            arrivals.append(oldest[1])
        self.account.stands(
            lag=self.backlog or 0,
            in_hand=self.in_hand,
            held_bytes=self._work.held_bytes if self._work else 0,
            set_aside=self.set_aside,
            oldest=min(arrivals, default=0) / 1e6,
            reads_tail=self.reads,
        )

    async def _watch(self, lane: Lane) -> None:
        """Where does the stream stand, and is it still the same?"""
        while True:
            await asyncio.sleep(WATCH)
            with suppress(BrokerError, AgainError):
                try:
                    state = await lane.broker.stream(lane.id.stream)
                except BrokerError as refused:
                    if refused.reason is not reasons.STREAM_UNFIT:
                        raise
                    self._trouble = self._trouble or refused
                    self._wake.set()
                    return
                if state.created != lane.id.created:
                    self._trouble = self._trouble or LostError("the stream was made anew")
                    self._wake.set()
                    return
                self._seen.last = state.last_seq
                if self._work is not None:
                    await self._work.watch(state)

    async def _watch_table(self, lane: Lane) -> None:
        """Is it there, and still the same? One that was made anew is another lane: nothing is sent into it as a part of this one."""
        while True:
            await asyncio.sleep(WATCH_TABLE)
            try:
                same = await lane.store.identity(lane.table) == lane.id.table
            except StoreError as refused:
                same = refused.reason is not reasons.SCHEMA_MISSING  # whatever else: whoever inserts tells it
            if not same:
                self._trouble = self._trouble or LostError("the table is gone, or was made anew")
                self._wake.set()
                return

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


async def _end(tasks: Sequence[asyncio.Task[None]]) -> None:
    """Cancelled as often as it takes, and waited for; what they raise is of no interest any more."""
    left = set(tasks)
    while left:
        for task in left:
            task.cancel()
        done, left = await asyncio.wait(left, timeout=CANCEL_AGAIN)
        for task in done:
            if not task.cancelled():
                task.exception()
