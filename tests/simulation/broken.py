"""Each rule of the guarantee, switched off: by a model that does not keep its part of it, or by a patch of the real code."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from typing import Any
from unittest.mock import patch

from marketprism_consumer.errors import Fault, StoreError
from marketprism_consumer.ingest import record as steps
from marketprism_consumer.ingest.batch import Batch
from marketprism_consumer.ingest.clickhouse_errors import refused
from marketprism_consumer.ingest.insert import Sent, insert_batch
from marketprism_consumer.ingest.keeper import RecordKeeper
from marketprism_consumer.ingest.lane import Lane
from marketprism_consumer.ingest.reader import Reader
from marketprism_consumer.ingest.record import Cut, Record
from marketprism_consumer.ingest.store import Clocks
from marketprism_consumer.ingest.work import ClaimWork
from tests.simulation.bucket import Bucket
from tests.simulation.clickhouse import ClickHouse, Server, SimBlock, StorePort, Tiering, sim_encode
from tests.simulation.faults import (
    delete_record,
    freeze_consumer,
    kill_consumer,
    make_bucket_anew,
    recreate_stream,
    restart_nats,
    set_stream_back,
    trouble,
)
from tests.simulation.world import Parts, World

INGEST = "marketprism_consumer.ingest"


@dataclass(frozen=True)
class Broken:
    """`patches`: by what is patched, as `module.name` or `module.Class.name`."""

    parts: Parts = field(default_factory=Parts)
    patches: dict[str, Any] = field(default_factory=dict)

    @contextmanager
    def applied(self) -> Iterator[Parts]:
        patchers = [patch(target, new) for target, new in self.patches.items()]
        for patcher in patchers:
            patcher.start()
        try:
            yield self.parts
        finally:
            for patcher in reversed(patchers):
                patcher.stop()


# --- the steady path --------------------------------------------------------------------------------------------------


class NoFence(StorePort):
    async def insert(self, block: Any, until: int) -> None:
        await super().insert(block, 1 << 40)


_tokens = count()


def another_token_each_time(table: Any, rows: Any, seqs: Any, streams: Any, token: str, *columns: Any) -> SimBlock:
    return sim_encode(table, rows, seqs, streams, f"{token}.{next(_tokens)}", *columns)


_store = ClaimWork._store


async def inserts_first(self: ClaimWork, batch: Batch) -> None:
    lane = self.lane
    (last, arrived), start = batch.last, self._position
    cut = Cut(last, arrived, await lane.until(), 0, lane.rules, lane.token())
    if batch.stored:
        sent, _ = await insert_batch(lane, batch, cut.token, cut.until)
        if sent is not Sent.STORED:
            await _store(self, batch)
            return
    await self.change(lambda r: self._cut_next(r, start, batch.first[0], cut))
    await lane.bury(batch.refused)
    self._position, self.finished = cut.end, cut


async def finds_all_rows(*_: Any) -> bool:
    return True


# --- the rare path ----------------------------------------------------------------------------------------------------


async def waits_for_nothing(_lane: Lane, _until: int) -> None: ...


class ClocksApart(ClickHouse):
    """Several servers, and requests that come late to the one that lags behind."""

    def __init__(self, world: World) -> None:
        super().__init__(world)
        apart = min(3.0, world.valid / 4)
        self.servers = [Server("clickhouse-ahead", apart, 0.1), Server("clickhouse-behind", -apart, 0.1)]
        self.atomic, self.torn, self.crashes, self.parked = True, 0.0, 0.0, 0.5


class FastestClock(StorePort):
    async def clocks(self) -> Clocks:
        fastest = (await super().clocks()).fastest
        return Clocks(fastest, fastest)


class NoLookUp(StorePort):
    async def stored(self, *_: Any) -> dict[Any, Any]:
        return {}


class HotOnly(StorePort):
    async def stored(self, *arguments: Any) -> dict[Any, Any]:
        return {} if self.tier == "cold" else await super().stored(*arguments)


class NoSettling(StorePort):
    async def settle(self, table: Any) -> None:
        await self._ask()


def blames_the_row(code: int, message: str) -> StoreError:
    return StoreError(code, message, Fault.ROW) if code == 77777 else refused(code, message)


class DropsAtOnce(Tiering):
    def may_drop(self, partition: int) -> bool:
        return True


# --- the record and the stream ----------------------------------------------------------------------------------------


def begins_a_record(record: Record, after: int, last: int, id: str, *, everything: bool) -> Record:
    known = record.end or record.claims or record.mark
    return steps.recovered(record, after, last, id, everything=everything) if known else record


def to_the_records_end(record: Record, after: int, last: int, id: str, *, everything: bool) -> Record:
    return steps.recovered(record, after, record.end, id, everything=everything)


def forgets_what_it_holds_back(
    record: Record, id: str, owner: str, cut: Cut, _earlier: str, _new: str
) -> Record | None:
    return steps.record_done(record, id, owner, cut)


def at_once(record: Record, after: int, last: int, id: str, *, everything: bool) -> Record:
    return steps.recovered(record, 0, last, id, everything=everything)


def notices_nothing(_lane: Any, record: Any, *_: Any) -> str:
    return "" if record.boot != "?" else "it was not looked into"


async def refreshes_anyhow(self: RecordKeeper) -> Record:
    revision, record = await self.read()
    if record is None:
        return await _refresh(self)
    self._take_in(revision, record)
    return record


_refresh = RecordKeeper._refresh


async def compares_no_mark(_lane: Any, record: Record, state: Any) -> str:
    return "the stream is shorter" if state.last_seq < record.end else ""


async def stays_in_its_generation(lane: Lane, least: int) -> tuple[int, int]:
    return least, (await lane.broker.stream(lane.id.stream)).last_seq


async def opens_anyhow(self: Reader) -> Reader:
    self.name, self.pending = await self._broker.make_reader(self._stream, self._subject, self.next)
    self._heard = self._now()
    return self


async def by_a_readers_word(lane: Lane, after: int) -> int:
    """What a consumer's server does not have yet is not pending."""
    made = await lane.broker.make_reader(lane.id.stream, lane.id.subject, after + 1)
    return after if made.pending else (await lane.broker.stream(lane.id.stream)).last_seq


class RevisionsAgain(Bucket):
    def make_anew(self) -> None:
        super().make_anew()
        self.last = self.ever = 0


BROKEN: dict[str, Broken] = {
    "no fence in ClickHouse": Broken(Parts(store=NoFence)),
    "another token at each try": Broken(Parts(encode=another_token_each_time)),
    "an insert before its cut is recorded": Broken(patches={f"{INGEST}.work.ClaimWork._store": inserts_first}),
    "no verifying after an unknown outcome": Broken(patches={f"{INGEST}.insert.verify": finds_all_rows}),
    "no waiting before an epoch": Broken(patches={f"{INGEST}.lane.Lane.wait_until_over": waits_for_nothing}),
    "waiting by the fastest clock": Broken(Parts(store=FastestClock, clickhouse=ClocksApart)),
    "no look-up in an epoch": Broken(Parts(store=NoLookUp)),
    "no waiting for inserts that still run": Broken(
        Parts(store=NoSettling, faults=(trouble, kill_consumer, restart_nats))
    ),
    "a look-up in hot only": Broken(Parts(store=HotOnly)),
    "a code that nobody knows buries": Broken(
        Parts(faults=(trouble,)), {"tests.simulation.clickhouse.refused": blames_the_row}
    ),
    "tiering drops a partition at once": Broken(Parts(tiering=DropsAtOnce)),
    "a missing record is a new one": Broken(patches={f"{INGEST}.set_back.recovered": begins_a_record}),
    "what is held back is forgotten": Broken(patches={f"{INGEST}.record.held_back": forgets_what_it_holds_back}),
    "recovery to the record's end": Broken(patches={f"{INGEST}.set_back.recovered": to_the_records_end}),
    "recovery at once": Broken(patches={f"{INGEST}.set_back.recovered": at_once}),
    "a record that is set back is not noticed": Broken(
        patches={
            f"{INGEST}.set_back.record_in_doubt": notices_nothing,
            f"{INGEST}.keeper.RecordKeeper._refresh": refreshes_anyhow,
        }
    ),
    "no mark is compared": Broken(
        Parts(faults=(set_stream_back, freeze_consumer)), {f"{INGEST}.set_back.stream_in_doubt": compares_no_mark}
    ),
    "generations come again": Broken(
        Parts(faults=(set_stream_back, delete_record)), {f"{INGEST}.set_back._generation": stays_in_its_generation}
    ),
    "the reader goes on in a stream that was made anew": Broken(
        Parts(faults=(recreate_stream,)), {f"{INGEST}.reader.Reader.open": opens_anyhow}
    ),
    "nothing is left by a reader's word": Broken(
        patches={f"{INGEST}.{module}.nothing_to": by_a_readers_word for module in ("ranges", "work", "epochs")}
    ),
    "revisions of a new bucket begin again": Broken(
        Parts(bucket=RevisionsAgain, faults=(make_bucket_anew, make_bucket_anew, freeze_consumer))
    ),
}
