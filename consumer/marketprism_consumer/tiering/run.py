"""One run: lease, then table by table what `algorithm.py` says, and a result that reports all of it."""

from __future__ import annotations

import asyncio
import os
import socket
import time
import uuid
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

import structlog

from marketprism_api import reasons
from marketprism_api.credentials import ClickHouseAuth
from marketprism_api.reasons import Reason
from marketprism_consumer import logs, times
from marketprism_consumer.backoff import Backoff
from marketprism_consumer.clickhouse.client import DENIED, ClickHouse
from marketprism_consumer.clickhouse.servers import refuse_split
from marketprism_consumer.errors import Fault, StoreError, TieringError
from marketprism_consumer.ingest.clickhouse_errors import LATE_INSERT
from marketprism_consumer.tiering import retention
from marketprism_consumer.tiering.algorithm import Moved, move_slices, plan
from marketprism_consumer.tiering.job import Job, Mode
from marketprism_consumer.tiering.lease import Lease
from marketprism_consumer.tiering.ledger import Ledger
from marketprism_consumer.tiering.servers import by_shard, one_replica, server, settle
from marketprism_consumer.tiering.slices import SECOND, Slice, together, within
from marketprism_consumer.tiering.two_tiers import BROUGHT, TwoTiers, condition, open_tiers, values

log = structlog.get_logger()

SLICE_ROWS = 1_000_000  # the identities of a slice are a set in the server's memory
CHUNK_BYTES = 8 << 20  # of a slice that goes through this process
SMALLEST = 1000  # rows of a slice, where the server's memory is short
TRIES = 3
ROUNDS = 3  # planning anew, for rows that came late or whose part a merge replaced
MEMORY_LIMIT = 241
LEASE = 30.0  # [s]


@dataclass(frozen=True, slots=True)
class Failure:
    """`code` is ClickHouse's, 0 where the refusal is ours or there was no answer."""

    table: str
    reason: Reason
    code: int
    message: str

    def __str__(self) -> str:
        where = f"{self.table}: " if self.table else ""
        return f"{where}{self.reason}: {self.message}"


@dataclass(slots=True)
class TableResult:
    """`rows` are those moved; in a copy those copied; in a dry run those that would move. Of all shards together."""

    rows: int = 0
    bytes: int = 0
    seconds: float = 0.0
    limit_reached: bool = False
    oldest_in_hot: str | None = None
    backlog_rows: int = 0
    backlog_seconds: float = 0.0
    expired_rows: int = 0
    notes: list[str] = field(default_factory=list)

    def add(self, other: TableResult) -> None:
        """Another shard's."""
        self.rows += other.rows
        self.bytes += other.bytes
        self.seconds += other.seconds
        self.limit_reached |= other.limit_reached
        self.oldest_in_hot = min(filter(None, (self.oldest_in_hot, other.oldest_in_hot)), default=None)
        self.backlog_rows += other.backlog_rows
        self.backlog_seconds = max(self.backlog_seconds, other.backlog_seconds)
        self.expired_rows += other.expired_rows
        self.notes += [note for note in other.notes if note not in self.notes]


@dataclass(slots=True)
class Result:
    run: str
    mode: str
    seconds: float = 0.0
    stopped: bool = False
    finished: str = ""
    """RFC 3339."""
    tables: dict[str, TableResult] = field(default_factory=dict)
    failures: list[Failure] = field(default_factory=list)

    def add(self, shard: str, other: Result) -> None:
        """What was done in one shard."""
        for name, of_table in other.tables.items():
            self.tables.setdefault(name, TableResult()).add(of_table)
        self.failures += [replace(each, table=f"{each.table} of shard {shard}".strip()) for each in other.failures]

    @property
    def ok(self) -> bool:
        return not self.failures

    @property
    def result(self) -> str:
        if self.failures:
            return "Failed"
        return "LimitReached" if any(of_table.limit_reached for of_table in self.tables.values()) else "Succeeded"

    @property
    def unreachable(self) -> bool:
        return any(failure.reason is reasons.CLICKHOUSE_UNREACHABLE for failure in self.failures)

    def as_dict(self) -> dict[str, Any]:
        return {
            "ok": self.ok,
            "result": self.result,
            "run": self.run,
            "mode": self.mode,
            "rows": sum(of_table.rows for of_table in self.tables.values()),
            "bytes": sum(of_table.bytes for of_table in self.tables.values()),
            "seconds": round(self.seconds, 3),
            "duration": f"{self.seconds:.0f}s",
            "stopped": self.stopped,
            "finished": self.finished,
            "tables": {
                name: {
                    "rows": of_table.rows,
                    "bytes": of_table.bytes,
                    "seconds": round(of_table.seconds, 3),
                    "limitReached": of_table.limit_reached,
                    "oldestInHot": of_table.oldest_in_hot,
                    "backlogRows": of_table.backlog_rows,
                    "backlogSeconds": round(of_table.backlog_seconds),
                    **({"expiredRows": of_table.expired_rows} if of_table.expired_rows else {}),
                    **({"notes": of_table.notes} if of_table.notes else {}),
                }
                for name, of_table in self.tables.items()
            },
            "failures": [
                {
                    "table": f.table,
                    "code": f.reason.code,
                    "cause": f.reason.name,
                    "clickhouseCode": f.code,
                    "message": f.message[:600],
                }
                for f in self.failures
            ],
            "message": "; ".join(map(str, self.failures))[:1000],
        }


Progress = Callable[[str, int, int, int], None]
"""table, rows done, rows planned, bytes done"""


class Migration:
    """`lease` None takes none: for tests of what must hold without it."""

    def __init__(
        self,
        job: Job,
        auth: Callable[[], ClickHouseAuth] = ClickHouseAuth,
        cold_auth: Callable[[], ClickHouseAuth] | None = None,
        *,
        lease: float | None = LEASE,
        slice_rows: int = SLICE_ROWS,
        progress: Progress = lambda *_: None,
    ) -> None:
        self.job = job
        self.stopping = False
        self._auth, self._cold_auth = auth, cold_auth or auth
        self._lease_seconds = lease
        self._slice_rows = slice_rows
        self._progress = progress
        self._of_shard: Migration | None = None

    def stop(self) -> None:
        """Ends the run after the slice that it is working on."""
        self.stopping = True
        if self._of_shard:
            self._of_shard.stop()

    async def run(self) -> Result:
        return await self._run_shards() if self.job.sharded and not self.job.shard else await self._run()

    async def _run_shards(self) -> Result:
        """A run for each shard, one after the other: a row's cold place is on its own shard."""
        started = time.monotonic()
        result = Result(uuid.uuid4().hex[:12], self.job.mode.value)
        try:
            for job in await by_shard(self.job, self._auth):
                if not self.stopping:
                    self._of_shard = Migration(
                        job,
                        self._auth,
                        self._cold_auth,
                        lease=self._lease_seconds,
                        slice_rows=self._slice_rows,
                        progress=self._progress,
                    )
                    result.add(job.shard, await self._of_shard.run())
        except (StoreError, TieringError) as error:
            result.failures.append(failure("", error))
        result.seconds, result.finished, result.stopped = time.monotonic() - started, _now(), self.stopping
        return result

    async def _run(self) -> Result:
        started = time.monotonic()
        job = self.job
        result = Result(uuid.uuid4().hex[:12], job.mode.value)
        async with AsyncExitStack() as stack:
            comment = f"marketprism migrate {job.pair}"
            try:
                urls = [await one_replica(job.hot_urls, self._auth)] if job.cluster else job.hot_urls
            except (StoreError, TieringError) as error:
                result.failures.append(failure("", error))
                result.finished = _now()
                return result
            hot = server(urls, self._auth, f"{comment} {result.run}", job.cluster)
            cold = server(job.cold_urls, self._cold_auth, hot.comment) if job.cold_urls else hot
            keeper_auth = self._cold_auth if job.cold_urls else self._auth
            keeper = server(cold.urls, keeper_auth, "marketprism migrate's lease", cold.cluster)
            for opened in (hot, cold, keeper):
                stack.push_async_callback(opened.close)
            try:
                for each in {hot, cold}:
                    await refuse_split(each)
                lease = await self._begin(stack, keeper, result)
                if lease:
                    for each in {hot, cold}:
                        await settle(each, comment, mine=hot.comment)
                if hot is not cold:
                    await _drop_brought(hot, job.hot_db)
                ledger = Ledger(keeper, job.cold_db, result.run, job.mode.value)
                if job.mode is not Mode.DRY_RUN:
                    await ledger.create()
                for table in job.tables:
                    if not self.stopping:
                        await _TableRun(self, table, hot, cold, ledger, result, lease).run()
            except (StoreError, TieringError) as error:
                result.failures.append(failure("", error))
            result.seconds = time.monotonic() - started
            result.finished = _now()
        result.stopped = self.stopping
        return result

    async def _begin(self, stack: AsyncExitStack, keeper: ClickHouse, result: Result) -> Lease | None:
        """A dry run writes nothing, so it takes no lease either."""
        if self._lease_seconds is None or self.job.mode is Mode.DRY_RUN:
            return None
        who = f"{socket.gethostname()} pid {os.getpid()} run {result.run}"
        lease = Lease(keeper, self.job.cold_db, self.job.pair, result.run, who, self._lease_seconds)
        return await stack.enter_async_context(lease.held())


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


class _TableRun:
    def __init__(
        self,
        migration: Migration,
        table: str,
        hot: ClickHouse,
        cold: ClickHouse,
        ledger: Ledger,
        result: Result,
        lease: Lease | None,
    ) -> None:
        self._migration, self._job = migration, migration.job
        self._table, self._hot, self._cold = table, hot, cold
        self._ledger, self._result, self._lease = ledger, result, lease
        self._per_row, self._estimated_at = 0.0, float("-inf")
        self.done = TableResult()

    async def run(self) -> None:
        started = time.monotonic()
        self._result.tables[self._table] = self.done
        try:
            tiers = await open_tiers(
                self._hot, self._job.hot_db, self._cold, self._job.cold_db, self._job.own(self._table), self._result.run,
                self._fence, quorum=self._job.quorum,
            )  # fmt: skip
            await self._ttl(tiers)
            try:
                await self._move(tiers)
            finally:
                await self._left(tiers)
                await tiers.close()
            if self._job.cold_retention:
                expired = await retention.drop_expired(
                    tiers.cold, self._job.cold_retention, dry_run=self._job.mode is Mode.DRY_RUN
                )
                self.done.expired_rows = sum(expired.values())
        except (StoreError, TieringError) as error:
            failed = failure(self._table, error)
            self._result.failures.append(failed)
            # The table is not finished; hot keeps what is not proven.
            logs.reason(
                log, "error", failed.reason, table=failed.table, clickhouse_code=failed.code, detail=failed.message
            )
        self.done.seconds = time.monotonic() - started

    def _fence(self) -> int:
        return self._lease.expires if self._lease else 1 << 62

    async def _ttl(self, tiers: TwoTiers) -> None:
        ttl = await retention.ttl_of(tiers.hot)
        if not ttl:
            return
        seconds = retention.ttl_seconds(ttl)
        if seconds is not None and seconds <= self._job.older_than:
            what = f"hot's TTL ({ttl}) deletes rows before they are older than {self._job.older_than:.0f} s and moved"
            raise TieringError(
                reasons.TTL_BEFORE_MOVE, f"{what}: lower olderThan, or raise or remove the TTL (schema.hotRetention)"
            )
        note = f"hot has a TTL, {ttl}: it deletes rows whether cold has them or not. Set hotRetention: 0s and remove it"
        self.done.notes.append(note)
        log.warning("hot has a TTL", table=self._table, detail=note)

    async def _move(self, tiers: TwoTiers) -> None:
        job = self._job
        for slice_ in await self._ledger.unfinished(self._table) if job.mode is Mode.MOVE else ():
            if await tiers.doubles(slice_):
                await tiers.repair(slice_)
        end = await self._cutoff()
        if job.end is not None:
            end = min(end, job.end)
        start = job.start if job.start is not None else await self._oldest(tiers)
        left, planned = job.batch_limit, 0
        for _ in range(ROUNDS):
            if start is None or start >= end:
                break
            size = min(await self._slice_rows(tiers), left)
            slices = await plan(tiers, start, end, size, job.filter)
            chosen = slices if job.mode is Mode.COPY else within(slices, left)
            if job.mode is Mode.DRY_RUN:
                self.done.rows = sum(slice_.rows for slice_ in chosen)
            planned += sum(slice_.rows for slice_ in chosen)
            before = self.done.rows
            # A copy counts what was copied, which only the slice itself shows: one at a time.
            groups = together(chosen) if job.mode is Mode.MOVE else [[slice_] for slice_ in chosen]
            for group in groups if job.mode is not Mode.DRY_RUN else ():
                if self._migration.stopping:
                    break
                if left <= 0 or (self.done.rows and sum(slice_.rows for slice_ in group) > left):
                    left = 0
                    break
                moved = await self._group(tiers, group, size)
                rows = moved.deleted if job.mode is Mode.MOVE else moved.copied
                left -= rows
                self.done.rows += rows
                self._migration._progress(self._table, self.done.rows, planned, self.done.bytes)
            self.done.limit_reached = left <= 0 or len(chosen) < len(slices)
            if job.mode is not Mode.MOVE or self.done.limit_reached or self.done.rows == before:
                break
            start = await self._oldest(tiers)
        if job.mode is Mode.MOVE:
            await tiers.sweep()

    async def _group(self, tiers: TwoTiers, slices: list[Slice], size: int) -> Moved:
        """Tried again from the start: every step may be repeated."""
        began, backoff = time.time(), Backoff()
        await self._ledger.note(self._table, slices, "began", began, Moved())
        while True:
            try:
                moved = await move_slices(
                    tiers,
                    slices,
                    self._result.run,
                    delete=self._job.mode is Mode.MOVE,
                    stop=lambda: self._migration.stopping,
                )
                bytes_ = int(moved.verified * await self._bytes_per_row(tiers))
                self.done.bytes += bytes_ if moved.deleted or moved.copied else 0
                await self._ledger.note(self._table, slices, "done", began, moved, bytes_)
                return moved
            except TieringError as refused:
                await self._ledger.note(self._table, slices, "failed", began, Moved(), error=str(refused))
                raise
            except StoreError as refused:
                if refused.code == LATE_INSERT:
                    raise TieringError(
                        reasons.LEASE_LOST, "another run may hold the lease; the next run goes on"
                    ) from refused
                if refused.fault is not Fault.PASSING or backoff.tries >= TRIES:
                    await self._ledger.note(self._table, slices, "failed", began, Moved(), error=str(refused))
                    raise
                log.warning("tried again", table=self._table, slice=str(slices[0]), error=str(refused))
                await asyncio.sleep(backoff.next())
                # A statement whose answer was lost may still run.
                for each in {self._hot, self._cold}:
                    await settle(each, each.comment)
                if refused.code == MEMORY_LIMIT:
                    size = max(size // 4, SMALLEST)
                    slices = await plan(tiers, slices[0].start, slices[-1].end, size, self._job.filter)

    async def _slice_rows(self, tiers: TwoTiers) -> int:
        if not tiers.remote:
            return self._migration._slice_rows
        rows = await self._hot.query(
            "SELECT sum(data_uncompressed_bytes), sum(rows) FROM system.parts"
            " WHERE database = {database:String} AND table = {table:String} AND active",
            {"database": tiers.hot.database, "table": tiers.hot.table},
        )
        size, count = int(rows[0][0]), int(rows[0][1])
        return max(1, min(self._migration._slice_rows, CHUNK_BYTES * max(count, 1) // max(size, 1)))

    async def _bytes_per_row(self, tiers: TwoTiers) -> float:
        """In cold, compressed: an estimate, made anew once a second at most."""
        if time.monotonic() - self._estimated_at < 1.0:
            return self._per_row
        rows = await self._cold.query(
            "SELECT sum(bytes_on_disk) / greatest(sum(rows), 1) FROM system.parts"
            " WHERE database = {database:String} AND table = {table:String} AND active",
            {"database": tiers.cold.database, "table": tiers.cold.table},
        )
        self._per_row, self._estimated_at = float(rows[0][0] or 0), time.monotonic()
        return self._per_row

    async def _cutoff(self) -> int:
        """By the server's clock."""
        now = int(await self._hot.value("SELECT toUnixTimestamp64Micro(now64(6))"))
        return now - int(self._job.older_than * SECOND)

    async def _oldest(self, tiers: TwoTiers) -> int | None:
        everything = Slice(0, 1 << 53, 0, self._job.filter)
        rows = await self._hot.query(
            f"SELECT count(), toUnixTimestamp64Micro(toDateTime64(min(timestamp), 6)) FROM {tiers.hot.name}"
            f" WHERE {condition(everything)}",
            values(everything),
        )
        return int(rows[0][1]) if rows[0][0] else None

    async def _left(self, tiers: TwoTiers) -> None:
        oldest, cutoff = await self._oldest(tiers), await self._cutoff()
        if oldest is None:
            return
        self.done.oldest_in_hot = times.shown(oldest)
        if oldest < cutoff:
            rest = Slice(oldest, cutoff, 0, self._job.filter)
            self.done.backlog_rows = int(
                await self._hot.value(f"SELECT count() FROM {tiers.hot.name} WHERE {condition(rest)}", values(rest))
            )
            self.done.backlog_seconds = (cutoff - oldest) / SECOND


async def _drop_brought(hot: ClickHouse, database: str) -> None:
    """What dead runs left in memory."""
    rows = await hot.query(
        "SELECT name FROM system.tables WHERE database = {database:String} AND startsWith(name, {prefix:String})",
        {"database": database, "prefix": BROUGHT},
    )
    for (name,) in rows:
        await hot.command(f"DROP TABLE IF EXISTS `{database}`.`{name}`")


REASONS: Mapping[int, Reason] = {
    **dict.fromkeys(DENIED, reasons.CLICKHOUSE_DENIED),
    **dict.fromkeys((241, 173), reasons.MIGRATION_MEMORY),
    252: reasons.MIGRATION_PARTS,
    **dict.fromkeys((75, 164, 242, 243), reasons.TIER_TAKES_NO_WRITES),
}
"""By ClickHouse's code."""


def failure(table: str, error: StoreError | TieringError) -> Failure:
    if isinstance(error, TieringError):
        return Failure(table, error.reason, 0, error.detail)
    reason = REASONS.get(error.code, reasons.MIGRATION_REFUSED) if error.code else error.reason
    return Failure(table, reason, error.code, str(error).removeprefix(f"{reason}: "))
