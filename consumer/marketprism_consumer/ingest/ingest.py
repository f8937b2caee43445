"""One data type's path: source → decode → batch → insert → ack.

The rules that make it exactly once, each with its place below:

1. A message is acknowledged only after its row is in the table, or its dead letter in the stream.      `_flush`
2. One batch is one block of frozen rows under one token: a retry can't double it.                        `_insert`
3. A message that may have been seen before is looked up in the table, by its sequence, first.            `_unseen`
4. A row is inserted only while JetStream gives its message to nobody else, and ClickHouse itself
   refuses the insert after that. Before a look-up, inserts of others that still run are waited for.     `_insert`, `_unseen`
5. After anything that could have made JetStream forget, what is known is learnt again.                   `_resync`
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from itertools import repeat
from typing import TypeVar

import structlog
from structlog.typing import FilteringBoundLogger

from marketprism_api import reasons
from marketprism_api.reasons import Reason
from marketprism_consumer import logs
from marketprism_consumer.backoff import Backoff
from marketprism_consumer.errors import BrokerError, Fault, MessageError, StoreError
from marketprism_consumer.faultpoints import faultpoint
from marketprism_consumer.ingest.batch import Batch, BatchBounds, Batcher
from marketprism_consumer.ingest.broker import Broker, Durable, DurableState, StreamState
from marketprism_consumer.ingest.dead_letters import DeadLetter, Graveyard
from marketprism_consumer.ingest.decode import Row, decode
from marketprism_consumer.ingest.decode_fast import DECODERS
from marketprism_consumer.ingest.encode import Block, encode
from marketprism_consumer.ingest.flood import Flood
from marketprism_consumer.ingest.identity import content_indexes, place, stream_identity
from marketprism_consumer.ingest.message import Message
from marketprism_consumer.ingest.metrics import IngestAccount
from marketprism_consumer.ingest.source import MIN_PULL_BYTES, Source
from marketprism_consumer.ingest.store import Store, Stored
from marketprism_consumer.schema.tables import Table

log = structlog.get_logger()
T = TypeVar("T")

WATCH = 5.0  # how often it is asked whether the stream has lost unread messages [s]
TICK = 0.5  # how often holds and requests are looked after [s]
UNKNOWN_TRIES = 5  # a row refused alone, with a code that nobody has classified, this often becomes a dead letter
LEAST_HOLD = 1.0  # an insert isn't begun with less time than this [s]

Placed = tuple[Message, Row, str]
"""A row on its way into the table, between its message and the stream identity that it will have there."""

Encode = Callable[[Table, Sequence[Row], Sequence[int], Sequence[str]], Block]


class _GraceOverError(Exception):
    """The process must end now; what is held is left to its redelivery."""


class Ingest:
    """`run` until `stop`. Everything that it can't know for certain after a fault it asks JetStream and ClickHouse.

    What follows `account` is for the simulator, which has its own: blocks without bytes, crashes, a log, chance.
    """

    def __init__(
        self,
        durable: Durable,
        table: Table,
        broker: Broker,
        store: Store,
        graveyard: Graveyard,
        limits: BatchBounds,
        flood: Flood,
        account: IngestAccount,
        *,
        encode: Encode = encode,
        faultpoint: Callable[[str], None] = faultpoint,
        log: FilteringBoundLogger = log,
        backoff: Callable[[], Backoff] = Backoff,
    ) -> None:
        self.durable, self.table = durable, table
        self._now = asyncio.get_running_loop().time
        self.account = account
        self._set_state(reasons.RUNNING)
        self._broker, self._store, self._graveyard = broker, store, graveyard
        self._encode, self._faultpoint, self._log, self._backoff = encode, faultpoint, log, backoff
        self._source = Source(broker, durable, deliver=self._receive, ended=self._top_up, lost=self.resync)
        self._fast = DECODERS.get(table.data_type)
        self._batcher = Batcher(limits)
        self._limits, self._flood = limits, flood
        self._held: dict[int, Message] = {}
        self._held_bytes = 0
        self._wake = asyncio.Event()
        self._why_resync = "start"
        self._surely_ours = True
        self._paused_until = 0.0
        self._stop_by: float | None = None
        self._running: asyncio.Task[None] | None = None
        self._high_water = 0
        self._unburied: set[int] = set()
        self._read = 0  # the sequence up to which all was read when the stream was last asked
        self._created = ""
        self._stream = ""
        self._synced = False
        self._doubt = False
        self._made: tuple[str, float] = ("", 0.0)  # when stream and consumer were created, as last seen
        self._content = content_indexes(table)
        self.backlog = 0

    # --- from outside -------------------------------------------------------------------------------------------------

    def resync(self, why: str, still_ours: bool = False) -> None:
        """JetStream may have forgotten what it gave us (reconnect, new leader, consumer gone): learn it anew."""
        self._why_resync = why
        self._surely_ours = still_ours and self._surely_ours
        self._source.cancel()
        self._wake.set()

    def stop(self, grace: float) -> None:
        """Pull no more, store what is held, leave; what is not stored after `grace` seconds is left to its redelivery.
        With none it leaves whatever it waits for."""
        self._stop_by = self._now() + grace
        self._set_state(reasons.STOPPING)
        self._source.cancel()
        self._wake.set()
        if not grace and self._running:
            self._running.cancel()

    @property
    def held(self) -> int:
        """Messages delivered to this process and not acknowledged yet."""
        return len(self._held)

    @property
    def idle(self) -> bool:
        """Nothing in hand, and JetStream has said nothing of more."""
        return not self._held and self._synced and not self._why_resync

    def not_ready(self) -> str:
        """Why this data type does not store what comes just now; empty where it does."""
        if self.state is not reasons.RUNNING:
            return str(self.state)
        if self._why_resync or not self._synced:
            return f"synchronises with the stream ({self._why_resync or 'start'})"
        if self.account.last_insert_ok is False:
            return "the last insert was refused"
        return ""

    @property
    def stopping(self) -> bool:
        return self._stop_by is not None

    async def run(self) -> None:
        keeper, watch = asyncio.create_task(self._keep()), asyncio.create_task(self._watch())
        self._running = asyncio.current_task()
        try:
            while not (self.stopping and not len(self._batcher)):
                if self._why_resync and not self.stopping:
                    await self._resync()
                elif self._doubt and not self.stopping:
                    await self._verify()
                self._top_up()
                if await self._due():
                    await self._flush(self._batcher.take(self._now(), stopping=self.stopping))
        except (_GraceOverError, asyncio.CancelledError):
            if not self.stopping:
                raise
            self._log.warning("stopped with messages in hand; they are delivered again", data_type=self.table.data_type)
        finally:
            keeper.cancel()
            watch.cancel()
            self._source.cancel()

    # --- source → decode → batch --------------------------------------------------------------------------------------

    def _receive(self, messages: Sequence[Message]) -> None:
        now, batcher, held, fast = self._now(), self._batcher, self._held, self._fast
        changed = False
        for message in messages:
            ours = held.get(message.seq)
            if ours is not None:
                # Ours already, and given to us once more: the last delivery is the one to acknowledge.
                ours.reply, ours.hold_until, ours.delivered = message.reply, message.hold_until, message.delivered
                continue
            held[message.seq] = message
            self._held_bytes += len(message.payload)
            try:
                row = fast(message.payload, message.arrived) if fast else None
                if row is None:
                    row = decode(self.table.data_type, message.subject, message.payload, message.arrived)
            except MessageError as refusal:
                changed |= batcher.refuse(message, refusal, now)
            else:
                changed |= batcher.add(message, row, now)
        self._read = max(self._read, messages[-1].seq)
        self.backlog = messages[-1].pending
        if changed:
            self._wake.set()
        if self._source.outstanding * 2 < batcher.cap:
            self._top_up()

    def _top_up(self) -> None:
        """Keep on the way or in hand: a batch that is being inserted, one that fills meanwhile, and a request's worth more, or
        decoding would rest where an insert takes longer."""
        if self.stopping or self._why_resync or not self._synced or self._now() < self._paused_until:
            return
        rows = 5 * self._batcher.cap // 2 - len(self._held) - self._source.outstanding
        size = 2 * self._limits.max_bytes + MIN_PULL_BYTES - self._held_bytes - self._source.outstanding_bytes
        if size < MIN_PULL_BYTES and (self._held or self._source.outstanding):
            return
        if rows * 2 < self._batcher.cap:
            return
        if self._source.deaf:
            self._doubt = True
            self._wake.set()
        else:
            self._source.request(rows, max(size, MIN_PULL_BYTES))

    async def _due(self) -> bool:
        """Wait until the batch is due (True), or until something else is to be done first (False)."""
        while self.stopping or not (self._why_resync or self._doubt):
            wait = self._batcher.wait(self._now())
            if wait == 0.0 or self.stopping:
                return len(self._batcher) > 0
            if 0.0 < self._paused_until - self._now() < wait:
                wait = self._paused_until - self._now()
            self._wake.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(None if wait == float("inf") else wait):
                    await self._wake.wait()
            if self._paused_until and self._now() >= self._paused_until:
                return self._resume()
        return False

    # --- insert → ack -------------------------------------------------------------------------------------------------

    async def _flush(self, batch: Batch) -> None:
        self.account.received(batch, self.backlog, self._held_bytes)
        # What only comes again because it could not be buried is no news of the publisher.
        again = sum(message.seq in self._unburied for message, _ in batch.refused)
        if self._flood.record(self._now(), len(batch) - again, len(batch.refused) - again) and batch.refused:
            self._pause(batch)
        await self._bury([DeadLetter.of(message, refusal, self._stream) for message, refusal in batch.refused])
        self._faultpoint("after_decode")
        entries = await self._unseen(batch)
        if entries:
            self._high_water = max(self._high_water, max(message.seq for message, _, _ in entries))
            await self._insert(entries, batch.why)
        self._top_up()

    async def _unseen(self, batch: Batch) -> list[Placed]:
        """The batch's rows without those that the table has already; these are acknowledged."""
        high_water = self._high_water
        suspects = [m.seq for m in batch.messages if m.delivered > 1 or m.seq <= high_water]
        if not suspects:
            return list(zip(batch.messages, batch.rows, repeat(self._stream)))
        self.account.redelivered.inc(sum(message.delivered > 1 for message in batch.messages))
        found = await self._found(suspects)
        buried = await self._buried()
        unseen: list[Placed] = []
        known: list[Message] = []
        for message, row in zip(batch.messages, batch.rows, strict=True):
            stream = self._placed((message, row, self._stream), found)
            if stream is None or (message.seq, message.arrived) in buried:
                known.append(message)
                continue
            if stream != self._stream:
                self._alarm(reasons.STREAM_REGRESSED, seq=message.seq, stored_as=stream)
            unseen.append((message, row, stream))
        if known:
            self.account.skipped.inc(len(known))
            self._ack(known)
        return unseen

    async def _found(self, seqs: Sequence[int]) -> dict[int, list[Stored]]:
        """What the table has of these sequences, after every insert that may still bring one of them."""
        await self._patiently(lambda: self._store.settle(self.table))
        return await self._patiently(lambda: self._store.stored(self.table, self._stream, seqs))

    async def _buried(self) -> set[tuple[int, int]]:
        """What ClickHouse refused before, and was buried: it is not stored as well when it comes again."""
        backoff = self._backoff()
        while True:
            try:
                return await self._graveyard.buried(self.table.data_type, self._stream)
            except BrokerError as refused:
                wait = backoff.next()
                self._alarm(refused.reason, error=str(refused), next_try_in=round(wait, 1))
                await self._sleep(wait)

    def _placed(self, entry: Placed, found: dict[int, list[Stored]]) -> str | None:
        message, row, _ = entry
        return place(row, self._content, self._stream, found.get(message.seq, ()))

    async def _insert(self, entries: list[Placed], why: str) -> None:
        """Returns when every entry is stored and acknowledged, a dead letter, or given up to its redelivery."""
        backoff, sent, isolated = self._backoff(), 0, False
        while entries := self._still_ours(entries):
            if isolated or len(entries) < sent:
                # Another set has another token: what the last try may have stored must not be sent under it.
                entries = await self._without_stored(entries)
                if not entries:
                    return
            sent, started, isolated = len(entries), self._now(), False
            refusal = await self._send(entries)
            failed = [(entry, refusal) for entry in entries] if refusal else []
            if refusal and refusal.fault in (Fault.ROW, Fault.UNKNOWN) and len(entries) > 1:
                failed, isolated = await self._isolate(entries), True
            stored = [] if failed else entries
            if isolated:
                bad = {entry[0].seq for entry, _ in failed}
                # What was given up on the way is not held any more, and what was found stored neither.
                stored = [entry for entry in self._in_hand(entries) if entry[0].seq not in bad]
            if stored:
                self._faultpoint("after_insert_before_ack")
                seconds = self._now() - started
                self.account.inserted(len(stored), stored[0], stored[-1], seconds)
                self._log.debug(
                    "inserted",
                    table=self.table.name,
                    rows=len(stored),
                    seconds=round(seconds, 4),
                    why=why,
                    lag=self.backlog,
                )
                self._ack([message for message, _, _ in stored])
                self._faultpoint("after_ack")
            if not failed:
                return
            entries = [entry for entry, _ in failed]
            refused = failed[0][1]
            faults = {error.fault for _, error in failed}
            if faults <= {Fault.ROW} or (
                faults <= {Fault.ROW, Fault.UNKNOWN} and (stored or backoff.tries >= UNKNOWN_TRIES)
            ):
                # An earlier try may have stored what this one refuses: its answer was lost, say.
                missing = {message.seq for message, _, _ in await self._without_stored(entries)}
                letters = [(message, error) for (message, _, _), error in failed if message.seq in missing]
                await self._bury([DeadLetter.refused(message, error, self._stream) for message, error in letters])
                return
            wait = backoff.next()
            self._insert_refused(refused, wait)
            if self._stop_by is not None and self._now() + wait > self._stop_by:
                break
            await asyncio.sleep(wait)
        self._hand_back([message for message, _, _ in entries])

    async def _send(self, entries: Sequence[Placed]) -> StoreError | None:
        """One try at one block."""
        messages = [message for message, _, _ in entries]
        rows, streams = [row for _, row, _ in entries], [stream for _, _, stream in entries]
        block = self._encode(self.table, rows, [message.seq for message in messages], streams)
        try:
            self._faultpoint("before_insert")
            await self._store.insert(block, min(message.hold_until for message in messages))
        except StoreError as refused:
            return refused
        return None

    async def _isolate(self, entries: Sequence[Placed]) -> list[tuple[Placed, StoreError]]:
        """Halve what is refused for a row's sake until the rows at fault are alone; those are returned."""
        # It may have been stored in part: only what is not there goes on under the halves' own tokens.
        entries = await self._without_stored(entries)
        middle = len(entries) // 2
        failed: list[tuple[Placed, StoreError]] = []
        for half in (entries[:middle], entries[middle:]):
            half = self._still_ours(half)
            refused = await self._send(half) if half else None
            if refused and refused.fault in (Fault.ROW, Fault.UNKNOWN) and len(half) > 1:
                failed += await self._isolate(half)
            elif refused:
                failed += [(entry, refused) for entry in half]
        return failed

    async def _without_stored(self, entries: Sequence[Placed]) -> list[Placed]:
        """Those whose rows are not in the table, and that are ours after the look-up; what is there is acknowledged."""
        found = await self._found([message.seq for message, _, _ in entries])
        there = [entry for entry in entries if self._placed(entry, found) is None]
        if there:
            self.account.inserted(len(there), there[0], there[-1], 0.0)
            self._ack([message for message, _, _ in there])
        return self._still_ours(self._in_hand(entries))

    def _in_hand(self, entries: Sequence[Placed]) -> list[Placed]:
        return [entry for entry in entries if self._held.get(entry[0].seq) is entry[0]]

    def _still_ours(self, entries: list[Placed]) -> list[Placed]:
        """Without those that JetStream may have given to another meanwhile: they come again, and are looked up then."""
        until = math.inf if self._why_resync else self._now() + LEAST_HOLD
        lost = [message for message, _, _ in entries if message.hold_until < until]
        if not lost:
            return entries
        self._alarm(reasons.HOLD_LOST, messages=len(lost))
        self._drop(lost)
        return [entry for entry in entries if entry[0].hold_until >= until]

    async def _bury(self, letters: list[DeadLetter]) -> None:
        """Into the dead-letter stream, then acknowledged; left to its redelivery where the stream does not take it."""
        for letter in letters:
            try:
                await self._graveyard.bury(letter)
            except BrokerError as refused:
                self._alarm(refused.reason, seq=letter.message.seq, error=str(refused))
                self._unburied.add(letter.message.seq)
                self._drop([letter.message])
                continue
            self._unburied.discard(letter.message.seq)
            self.account.dead_lettered(letter.reason)
            self._ack([letter.message])

    def _ack(self, messages: Sequence[Message]) -> None:
        """Not after JetStream may have gone backwards, nor what is of a stream that was made anew since: the sequence could be
        another message's by now. What is stored comes again then, is found in the table, and acknowledged under its new
        delivery."""
        self._source.check()  # a process that was frozen since must not find that out after its acknowledgement
        if self._synced and not self._why_resync:
            self._broker.ack([message.reply for message in messages])
        self._drop(messages)

    def _hand_back(self, messages: Sequence[Message]) -> None:
        """JetStream delivers them again at once. Only for what is surely ours: it heeds a late nak as well, and would give
        away what another holds by now. What may not be ours any more is dropped, and comes again after ack_wait."""
        self._source.check()  # as before an acknowledgement
        if self._synced and not self._why_resync:
            until = self._now() + LEAST_HOLD
            self._broker.nak([message.reply for message in messages if message.hold_until >= until])
        self._drop(messages)

    def _drop(self, messages: Iterable[Message]) -> None:
        for message in messages:
            if self._held.get(message.seq) is message:  # and not a later delivery of it
                del self._held[message.seq]
                self._held_bytes -= len(message.payload)

    # --- holds, pauses, resync ----------------------------------------------------------------------------------------

    async def _keep(self) -> None:
        """Looks after requests, and keeps ours what is held for long."""
        while True:
            await asyncio.sleep(TICK)
            try:
                self._source.check()
                self._top_up()
                await self._extend_holds()
            except Exception:
                self._log.exception("looking after requests and holds failed", data_type=self.table.data_type)

    async def _watch(self) -> None:
        """Asks now and then whether the stream has lost something unread."""
        while True:
            await asyncio.sleep(WATCH)
            if self._synced and not self._why_resync:
                with suppress(BrokerError):
                    state = await self._broker.stream(self.durable.stream)
                    self._notice_missing(state, await self._broker.ensure(self.durable))

    def _notice_missing(self, state: StreamState, durable: DurableState) -> None:
        """Has the stream purged or discarded what was not read? It has where it now begins after what had been read when it
        was last asked: up to the last delivery, or up to its end where nothing was pending."""
        read = max(self._read, durable.delivered_seq if durable.pending else 0)
        if read and state.first_seq - 1 > read and self._created in ("", state.created):
            self._alarm(reasons.MESSAGES_MISSED, first=read + 1, last=state.first_seq - 1)
        self._read = durable.delivered_seq if durable.pending else state.last_seq

    async def _extend_holds(self) -> None:
        """Only of what is surely ours: JetStream heeds it as well for what another holds by now, and a process that was
        frozen would take that for its own again."""
        now = self._now()
        # After a reconnect it is not known whose these are: no more is claimed of them.
        ours = [] if self._why_resync else [message for message in self._held.values() if message.hold_until > now]
        if not ours or min(message.hold_until for message in ours) - now > self._source.hold * 2 / 3:
            return
        if await self._broker.extend([message.reply for message in ours]):
            for message in ours:
                message.hold_until = max(message.hold_until, now + self._source.hold)

    def _pause(self, batch: Batch) -> None:
        """Too many bad ones: none of them is buried. They go back, and after a while a few are looked at again."""
        self._set_state(reasons.DEAD_LETTER_FLOOD)
        self._paused_until = self._now() + min(30.0, self._flood.window)
        self._alarm(
            reasons.DEAD_LETTER_FLOOD, refused=len(batch.refused), of=len(batch), first=str(batch.refused[0][1])
        )
        self._source.cancel()
        refused, batch.refused = batch.refused, []
        self._hand_back([message for message, _ in refused])

    def _resume(self) -> bool:
        self._paused_until = 0.0
        self._flood.reset()
        self._set_state(reasons.RUNNING)
        self._top_up()
        return False

    async def _resync(self) -> None:
        why, self._why_resync = self._why_resync, ""
        self._source.last_delivery = 0
        self._log.info("resync", data_type=self.table.data_type, why=why)
        self._source.cancel()
        self._synced = False
        state, durable = await self._stream_state()
        if self._created and state.created != self._created:
            await self._leave_old_stream()
        elif len(self._batcher):
            batch = self._batcher.take(self._now())
            self._drop([*batch.messages, *(message for message, _ in batch.refused)])
        self._created = state.created
        self._stream = stream_identity(self.durable.stream, state.created)
        await self._patiently(lambda: self._store.settle(self.table))
        stored, first_stored = await self._patiently(lambda: self._store.high_water(self.table, self._stream))
        if first_stored < durable.created and durable.age < self.durable.ack_wait and stored:
            # The durable was deleted and made anew: another may still hold, and store, what its predecessor gave it.
            await self._sleep(self.durable.ack_wait - durable.age)
            await self._patiently(lambda: self._store.settle(self.table))
            stored, _ = await self._patiently(lambda: self._store.high_water(self.table, self._stream))
        self._high_water = max(self._high_water, stored)
        if state.last_seq < stored:
            self._alarm(reasons.STREAM_REGRESSED, stream_ends=state.last_seq, table_has=stored)
        self._surely_ours = True
        self._made = (state.created, durable.created)
        await self._verify()
        self._synced = not self._why_resync

    async def _verify(self) -> None:
        """Are stream and consumer still the same? While no request of ours was out there, nobody could tell us."""
        state, durable = await self._stream_state()
        if (state.created, durable.created) != self._made:
            self._why_resync = self._why_resync or "stream or consumer were made anew"
        self._source.heard = self._now()
        self._doubt = False

    async def _stream_state(self) -> tuple[StreamState, DurableState]:
        """The stream and our consumer on it, waited for where waiting can help."""
        backoff = self._backoff()
        while True:
            try:
                state = await self._broker.stream(self.durable.stream)
                durable = await self._broker.ensure(self.durable)
            except BrokerError as refused:
                if refused.lasting and not self._created:
                    raise
                wait = backoff.next()
                self._alarm(refused.reason, error=str(refused), next_try_in=round(wait, 1))
                await self._sleep(wait)
                continue
            self.backlog = durable.pending
            self._notice_missing(state, durable)
            return state, durable

    async def _leave_old_stream(self) -> None:
        """The stream was deleted and made again: what we hold of the old one exists nowhere else, so it is stored, unless
        another may have been given it before."""
        self._alarm(reasons.STREAM_RECREATED, was=self._stream)
        batch = self._batcher.take(self._now(), stopping=True)
        if self._surely_ours and len(batch):
            await self._flush(batch)
        self._drop(list(self._held.values()))
        self._high_water = self._read = 0

    async def _patiently(self, ask: Callable[[], Awaitable[T]]) -> T:
        backoff = self._backoff()
        while True:
            try:
                return await ask()
            except StoreError as refused:
                wait = backoff.next()
                self._insert_refused(refused, wait)
                await self._sleep(wait)

    async def _sleep(self, seconds: float) -> None:
        if self._stop_by is not None and (not self._synced or self._now() + seconds > self._stop_by):
            raise _GraceOverError
        await asyncio.sleep(seconds)

    def _insert_refused(self, refused: StoreError, wait: float) -> None:
        reason = reasons.INSERT_BLOCKED if refused.fault is Fault.SERVER else reasons.INSERT_RETRIED
        if refused.code == 0:
            reason = reasons.CLICKHOUSE_UNREACHABLE
        self.account.insert_failed(refused.code)
        self._alarm(reason, clickhouse_code=refused.code, error=str(refused)[:500], next_try_in=round(wait, 1))

    def _set_state(self, state: Reason) -> None:
        self.state = state
        self.account.state(state)

    def _alarm(self, reason: Reason, **details: object) -> None:
        self.account.alarm(reason)
        logs.reason(self._log, "warning", reason, data_type=self.table.data_type, **details)
