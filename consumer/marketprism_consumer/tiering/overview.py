"""What is where: rows, parts, times, overlap, doubles and backlog of each table, hot and cold. Reads only."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

from marketprism_consumer import times
from marketprism_consumer.camel import camel
from marketprism_consumer.clickhouse.client import ClickHouse
from marketprism_consumer.tiering.job import Job
from marketprism_consumer.tiering.slices import HOUR, SECOND, Slice
from marketprism_consumer.tiering.two_tiers import (
    BY_HAND,
    IDENTITY,
    STORED_AS,
    Place,
    TwoTiers,
    condition,
    hashed,
    open_tiers,
    values,
)

DAY = 24 * HOUR
# What a person who copies rows by hand leaves out, or sets anew.
NOT_CONTENT = (*STORED_AS, "_stream", "_seq", "data_source", "collected_at")


@dataclass(slots=True)
class TierOverview:
    rows: int = 0
    bytes: int = 0
    parts: int = 0
    first: str | None = None
    last: str | None = None
    by_hand: int = 0
    """Rows that came without an identity."""
    doubles: int = 0
    """Rows beyond the first of their identity."""

    def add(self, other: TierOverview) -> None:
        """Another shard's."""
        self.rows += other.rows
        self.bytes += other.bytes
        self.parts += other.parts
        self.first = min(filter(None, (self.first, other.first)), default=None)
        self.last = max(filter(None, (self.last, other.last)), default=None)
        self.by_hand += other.by_hand
        self.doubles += other.doubles


@dataclass(slots=True)
class TableOverview:
    hot: TierOverview = field(default_factory=TierOverview)
    cold: TierOverview = field(default_factory=TierOverview)
    overlap: int = 0
    """Identities in both: copied, not yet deleted. Not an error."""
    doubles_by_hand: int = 0
    """Rows that came without an identity whose content another row has, in either tier."""
    backlog_rows: int = 0
    oldest_seconds: float = 0.0
    """Age of the oldest row in hot."""

    @property
    def doubles(self) -> int:
        return self.hot.doubles + self.cold.doubles + self.doubles_by_hand

    def add(self, other: TableOverview) -> None:
        """Another shard's."""
        for mine, its in ((self.hot, other.hot), (self.cold, other.cold)):
            mine.add(its)
        self.overlap += other.overlap
        self.doubles_by_hand += other.doubles_by_hand
        self.backlog_rows += other.backlog_rows
        self.oldest_seconds = max(self.oldest_seconds, other.oldest_seconds)

    def as_dict(self) -> dict[str, Any]:
        return {**camel(self), "doubles": self.doubles}


async def overview(job: Job, hot: ClickHouse, cold: ClickHouse, table: str, run: str) -> TableOverview:
    """A day at a time: the server never holds more identities in memory. Raises StoreError, TieringError."""
    tiers, found = await _sizes(job, hot, cold, table, run)
    days: set[int] = set()
    for place, tier in ((tiers.hot, found.hot), (tiers.cold, found.cold)):
        if tier.rows:
            rows = await place.server.query(
                "SELECT DISTINCT toUnixTimestamp(toStartOfDay(timestamp)) FROM " + place.name,
            )
            days |= {int(row[0]) * SECOND for row in rows}
    try:
        for day in sorted(days):
            await _day(tiers, found, Slice(day, day + DAY))
    finally:
        await tiers.close()
    return found


async def sizes(job: Job, hot: ClickHouse, cold: ClickHouse, table: str) -> TableOverview:
    """The part that reads no identity: overlap and doubles stay 0. Writes nothing. Raises StoreError, TieringError."""
    _, found = await _sizes(job, hot, cold, table, "")
    return found


async def _sizes(job: Job, hot: ClickHouse, cold: ClickHouse, table: str, run: str) -> tuple[TwoTiers, TableOverview]:
    tiers = await open_tiers(hot, job.hot_db, cold, job.cold_db, job.own(table), run, lambda: 0)
    found = TableOverview(await _tier(tiers.hot), await _tier(tiers.cold))
    await _backlog(tiers, job, found)
    return tiers, found


async def _tier(place: Place) -> TierOverview:
    given = {"database": place.database, "table": place.table}
    parts = await place.server.query(
        "SELECT count(), sum(bytes_on_disk) FROM system.parts"
        " WHERE database = {database:String} AND table = {table:String} AND active",
        given,
    )
    rows = await place.server.query(
        "SELECT count(), toUnixTimestamp64Micro(toDateTime64(min(timestamp), 6)),"
        f" toUnixTimestamp64Micro(toDateTime64(max(timestamp), 6)) FROM {place.name}"
    )
    count, first, last = rows[0]
    span = (times.shown(int(first)), times.shown(int(last))) if count else (None, None)
    return TierOverview(int(count), int(parts[0][1]), int(parts[0][0]), *span)


async def _day(tiers: TwoTiers, found: TableOverview, day: Slice) -> None:
    for place, tier in ((tiers.hot, found.hot), (tiers.cold, found.cold)):
        rows = await place.server.query(
            f"SELECT countIf(_seq != 0) - uniqExactIf({IDENTITY}, _seq != 0),"
            f" countIf(_seq = 0 OR startsWith(_stream, '{BY_HAND}')) FROM {place.name} WHERE {condition(day)}",
            values(day),
        )
        tier.doubles += int(rows[0][0])
        tier.by_hand += int(rows[0][1])
    content = hashed([column for column in tiers.columns if column.name not in NOT_CONTENT])
    what = f"toString(_stream) AS stream, _seq, {content} AS content"
    if tiers.remote:
        await _day_of_two(tiers, found, day, what)
        return
    both = " UNION ALL ".join(
        f"SELECT {what}, {tier} AS tier FROM {place.name} WHERE {condition(day)}"
        for tier, place in enumerate((tiers.hot, tiers.cold))
    )
    await _judge(tiers.hot.server, found, both, values(day))


async def _day_of_two(tiers: TwoTiers, found: TableOverview, day: Slice, what: str) -> None:
    """Cold is on another server: identities and hashes of both come together in hot's memory."""
    table = f"`{tiers.hot.database}`.`_migration_ids_{tiers.run}_overview`"
    server = tiers.hot.server
    await server.command(
        f"CREATE TABLE {table} (stream String, _seq UInt64, content UInt64, tier UInt8) ENGINE = Memory"
    )
    try:
        for tier, place in enumerate((tiers.hot, tiers.cold)):
            sql = f"SELECT {what}, toUInt8({tier}) AS tier FROM {place.name} WHERE {condition(day)}"
            if blocks := await place.server.read(sql, values(day)):
                await server.write(table, ("stream", "_seq", "content", "tier"), blocks)
        await _judge(server, found, f"SELECT * FROM {table}", {})
    finally:
        await server.command(f"DROP TABLE {table} SYNC")


async def _judge(server: ClickHouse, found: TableOverview, rows: str, given: dict[str, Any]) -> None:
    overlap = (
        f"SELECT count() FROM (SELECT 1 FROM ({rows}) WHERE _seq != 0 GROUP BY stream, _seq HAVING uniqExact(tier) = 2)"
    )
    found.overlap += int(await server.value(overlap, given))
    # A row by hand is a double when a message's row has the same content, or another by hand: all but one of these. A row by
    # hand that was named on its way to cold is one row while it is in both tiers.
    hand = f"_seq = 0 OR startsWith(stream, '{BY_HAND}')"
    by_hand = (
        f"SELECT countIf(_seq = 0) + uniqExactIf((stream, _seq), _seq != 0 AND ({hand})) AS hand, countIf(NOT ({hand})) AS known"
        f" FROM ({rows}) GROUP BY content HAVING hand > 0"
    )
    found.doubles_by_hand += int(await server.value(f"SELECT sum(hand - (known = 0)) FROM ({by_hand})", given) or 0)


async def _backlog(tiers: TwoTiers, job: Job, found: TableOverview) -> None:
    server = tiers.hot.server
    now = int(await server.value("SELECT toUnixTimestamp64Micro(now64(6))"))
    due = Slice(0, now - int(job.older_than * SECOND), 0, job.filter)
    rows = await server.query(f"SELECT count() FROM {tiers.hot.name} WHERE {condition(due)}", values(due))
    found.backlog_rows = int(rows[0][0])
    if found.hot.rows:
        oldest = await server.value(
            f"SELECT toUnixTimestamp64Micro(toDateTime64(min(timestamp), 6)) FROM {tiers.hot.name}"
        )
        found.oldest_seconds = round((now - int(oldest)) / SECOND, 1)


def run_name() -> str:
    return f"overview{time.time_ns():x}"
