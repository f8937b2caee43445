"""The schema against a real server: ask what is there, run what is missing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from marketprism_api.settings import Settings
from marketprism_consumer.clickhouse.client import ClickHouse
from marketprism_consumer.clickhouse.servers import Sharded, refuse_split
from marketprism_consumer.clickhouse.shards import recorded, shards_now
from marketprism_consumer.schema.ddl import Change, Difference, Existing, ExistingTable, Plan, Target, plan
from marketprism_consumer.schema.tables import table_of

DDL_SETTINGS: Mapping[str, Any] = {"flatten_nested": 0}  # 23.x would take Array(Tuple) apart
ON_CLUSTER: Mapping[str, Any] = {
    # A host that is away does it when it is back: that is no error, and nobody waits for it any longer than this.
    "distributed_ddl_output_mode": "null_status_on_timeout",
    "distributed_ddl_task_timeout": 3,  # [s]
}


def target_of(settings: Settings) -> Target:
    retention = None if settings.hot_retention is None else int(settings.hot_retention)
    return Target(settings.hot_db, settings.cold_db, settings.cluster, retention)


async def existing(clickhouse: ClickHouse, target: Target) -> tuple[Existing, list[str]]:
    """The tables of both databases, and which of the databases exist."""
    both = {"databases": [target.hot, target.cold]}
    databases = await clickhouse.query(
        "SELECT name FROM system.databases WHERE name IN {databases:Array(String)}", both
    )
    tables = await clickhouse.query(
        "SELECT database, name, engine, engine_full, sorting_key, partition_key, create_table_query FROM system.tables"
        " WHERE database IN {databases:Array(String)}",
        both,
    )
    columns = await clickhouse.query(
        "SELECT database, table, name, type, default_kind, default_expression FROM system.columns"
        " WHERE database IN {databases:Array(String)} ORDER BY position",
        both,
    )
    found = {(row[0], row[1]): ExistingTable(row[2], row[3], row[4], row[5], row[6], {}) for row in tables}
    for database, table, name, type_, kind, default in columns:
        if (database, table) in found:
            entry = {"type": type_, "default_kind": kind, "default_expression": default}
            found[database, table].columns[name] = entry  # type: ignore[index]
    return found, [row[0] for row in databases]


async def current_plan(clickhouse: ClickHouse, settings: Settings) -> Plan:
    """Raises StoreError, also where the tables would be split among servers."""
    await refuse_split(clickhouse)
    target = target_of(settings)
    differences: list[Difference] = []
    if isinstance(clickhouse, Sharded):
        shards, differences = await _shards(clickhouse, target)
        target = replace(target, shards=shards)
    found, databases = await existing(clickhouse, target)
    tables = [table_of(each.declaration) for each in settings.data_types.values()]
    made = plan(target, found, databases, tables)
    return replace(made, differences=(*made.differences, *differences))


async def _shards(clickhouse: Sharded, target: Target) -> tuple[tuple[str, ...], list[Difference]]:
    """Those of the tables that are there already, for good; else all that the cluster has now."""
    shards = await recorded(clickhouse, [target.hot, target.cold])
    differences = []
    if not shards:
        shards = await shards_now(clickhouse)
    elif new := sorted(set(await clickhouse.place()) - set(shards)):
        what = f"its shard {', '.join(new)} gets no rows: the tables are spread over {', '.join(shards)} for good"
        differences = [Difference(clickhouse.cluster, what, blocking=False)]
    for name in shards:
        await clickhouse.shard(name)
    return shards, differences


async def apply(clickhouse: ClickHouse, settings: Settings, done: Callable[[Change], None] = lambda _: None) -> Plan:
    """Run what is missing. Safe to run twice at once: every statement says IF NOT EXISTS. Returns the plan that is left."""
    given = {**DDL_SETTINGS, **(ON_CLUSTER if settings.cluster else {})}
    for change in (await current_plan(clickhouse, settings)).changes:
        await clickhouse.command(change.sql, settings=given)
        done(change)
    return await current_plan(clickhouse, settings)
