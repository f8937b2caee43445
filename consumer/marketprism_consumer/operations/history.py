"""The last hour of a data type, by minute: how many rows were stored, and how late."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from marketprism_api.settings import Settings
from marketprism_consumer.clickhouse.store import ClickHouseStore
from marketprism_consumer.operations.status import Status, shards_of
from marketprism_consumer.schema.tables import Table, table_of

MINUTES = 60


@dataclass(frozen=True, slots=True)
class Hour:
    """A value for each of `MINUTES`, the oldest first. `rates`: rows stored per second. `delays`: how old 95 % of a minute's rows were at
    most when they were stored [s]; None where none was stored."""

    rates: tuple[float, ...]
    delays: tuple[float | None, ...]


async def last_hour(settings: Settings, store: ClickHouseStore, found: Status) -> Mapping[str, Hour]:
    """By data type, of those that have rows in hot, whose `store` is. Raises StoreError."""
    declared = settings.data_types
    return {
        each.data_type: await _hour(store, table_of(declared[each.data_type].declaration))
        for each in found.types
        if each.hot.rows
    }


async def _hour(store: ClickHouseStore, table: Table) -> Hour:
    """Of all shards: their rates together, and the greatest of their delays. Reads only the parts that changed since."""
    rates = [0.0] * MINUTES
    delays: list[float | None] = [None] * MINUTES
    for shard in await shards_of(store):
        rows = await shard.clickhouse.query(
            "SELECT intDiv(dateDiff('millisecond', created_at, now64(3)), 60000) AS ago, count() / 60,"
            " greatest(0, quantile(0.95)(dateDiff('millisecond', timestamp, created_at)) / 1000)"
            f" FROM `{shard.database}`.`{shard.name(table)}` WHERE created_at > now64(3) - INTERVAL {MINUTES} MINUTE"
            " AND _part IN (SELECT name FROM system.parts WHERE active AND database = {database:String}"
            f" AND table = {{table:String}} AND modification_time > now() - INTERVAL {MINUTES + 1} MINUTE)"
            f" GROUP BY ago HAVING ago BETWEEN 0 AND {MINUTES - 1}",
            {"database": shard.database, "table": shard.name(table)},
        )
        for ago, rate, delay in rows:
            at = MINUTES - 1 - int(ago)
            rates[at] += float(rate)
            delays[at] = max(delays[at] or 0.0, float(delay))
    return Hour(tuple(rates), tuple(delays))
