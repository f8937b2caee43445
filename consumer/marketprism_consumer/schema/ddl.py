"""The schema as DDL, and the difference between it and what a server has. Pure: `clickhouse/schema.py` asks and runs.

Additive only: nothing that holds data is ever dropped, narrowed or rewritten. What adding can't fix is reported, not done.
Nothing here needs more than ClickHouse 23.10, the oldest that is tested: no newer setting, type or syntax.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from marketprism_api import reasons
from marketprism_api.reasons import Reason
from marketprism_consumer.schema.incidents import TABLE as INCIDENTS
from marketprism_consumer.schema.incidents import create_incidents
from marketprism_consumer.schema.tables import TABLES, Column, Table
from marketprism_consumer.schema.views import MARK, View, views_of

TierName = Literal["hot", "cold"]

# Hourly in hot, so that a migrated hour is dropped as a whole; daily in cold, so that years stay few parts.
PARTITION = {"hour": "toStartOfHour(timestamp)", "day": "toYYYYMMDD(timestamp)"}
# Without GCD: it gains where prices never move, and mostly loses where they do (`python -m bench.codecs`).
ZSTD: Mapping[TierName, str] = {"hot": "ZSTD(1)", "cold": "ZSTD(3)"}
SEQ_INDEX = "_seq_range _seq TYPE minmax GRANULARITY 1"
WINDOW = 10_000  # insert tokens remembered per table
LOCAL = "_local"  # ends the name of a shard's own table; the one over all shards has the name itself
SHARDS = "marketprism shards "
"""Begins the comment of a shard's own table, which lists the shards for good, in the order that decides on rows."""
RECORDS = "marketprism records in the bucket "
"""Begins the comment of `_stream` in hot, which names the bucket for good. Records in two buckets know nothing of each other: each
message would be stored twice. It is made with the table, so of two who come at once one has made it."""


@dataclass(frozen=True, slots=True)
class Target:
    """Where the schema goes. `retention` in seconds, counted from when a row was stored; None keeps rows for ever. `shards`: over
    which rows are spread; none without sharding. `bucket`: of the records of lanes; empty where nobody asks."""

    hot: str
    cold: str
    cluster: str = ""
    retention: int | None = None
    shards: tuple[str, ...] = ()
    bucket: str = ""

    @property
    def suffix(self) -> str:
        """Of tables that hold rows."""
        return LOCAL if self.shards else ""

    def database(self, tier: TierName) -> str:
        return self.hot if tier == "hot" else self.cold


@dataclass(frozen=True, slots=True)
class Change:
    """One statement, and why it is needed. `convenience`: ingest does its work without it. `makes`: the table of hot that is
    there after it, and was not before."""

    sql: str
    why: str
    convenience: bool = False
    makes: Table | None = None


@dataclass(frozen=True, slots=True)
class Difference:
    """What a person has to decide on. `blocking`: ingest would not be safe, or not possible, with it."""

    where: str
    what: str
    blocking: bool
    reason: Reason = reasons.SCHEMA_DRIFT


@dataclass(frozen=True, slots=True)
class Plan:
    changes: tuple[Change, ...]
    differences: tuple[Difference, ...]

    @property
    def fits(self) -> bool:
        return not self.changes and not any(d.blocking for d in self.differences)


@dataclass(frozen=True, slots=True)
class ExistingTable:
    """From system.tables and system.columns."""

    engine: str
    engine_full: str
    sorting_key: str
    partition_key: str
    create: str
    columns: Mapping[str, Mapping[str, Any]]


Existing = Mapping[tuple[str, str], ExistingTable]
"""(database, table) → what is there. A database without tables has no entry."""


# --- rendering ------------------------------------------------------------------------------------------------------


def create_database(database: str, cluster: str) -> str:
    return f"CREATE DATABASE IF NOT EXISTS `{database}`{_on(cluster)}"


def partition_of(tier: TierName, table: Table) -> str:
    return PARTITION[table.partition if tier == "hot" else "day"]


def create_table(target: Target, tier: TierName, table: Table) -> str:
    lines = [f"    {column_ddl(column, tier, noted(target, tier, column))}" for column in table.columns]
    lines.append(f"    INDEX {SEQ_INDEX}")
    ttl = f"\nTTL {ttl_of(target)}" if tier == "hot" and target.retention else ""
    return (
        f"CREATE TABLE IF NOT EXISTS {full_name(target, tier, table)}{_on(target.cluster)}\n(\n"
        + ",\n".join(lines)
        + f"\n)\nENGINE = {'ReplicatedMergeTree' if target.cluster else 'MergeTree'}"
        + f"\nPARTITION BY {partition_of(tier, table)}\nORDER BY ({', '.join(table.order_by)}){ttl}"
        + f"\nSETTINGS {settings_of(target)}"
        + (f"\nCOMMENT '{SHARDS}{','.join(target.shards)}'" if target.shards else "")
    )


def create_distributed(target: Target, tier: TierName, table: Table) -> str:
    """Over the shards' own tables. To be read: without a sharding key ClickHouse refuses an INSERT into it, whose rows would go to
    other shards than ours, and whose `_expires` would be looked at before they do."""
    database, name = target.database(tier), table.name
    return (
        f"CREATE TABLE IF NOT EXISTS `{database}`.`{name}`{_on(target.cluster)} AS `{database}`.`{name}{LOCAL}`"
        f"\nENGINE = Distributed('{target.cluster}', '{database}', '{name}{LOCAL}')"
    )


def shards_in(comment: str) -> tuple[str, ...]:
    return tuple(comment.removeprefix(SHARDS).split(","))


def noted(target: Target, tier: TierName, column: Column) -> str:
    """What is said of the column for good."""
    return f"{RECORDS}{target.bucket}" if target.bucket and tier == "hot" and column.name == "_stream" else ""


def column_ddl(column: Column, tier: TierName, comment: str = "") -> str:
    parts = [f"`{column.name}`", column.type]
    if column.default or column.kind != "DEFAULT":
        parts += [column.kind, column.default]
    if comment:
        parts.append(f"COMMENT '{comment}'")
    if column.kind == "DEFAULT":
        parts.append(f"CODEC({codec(column, tier)})")
    return " ".join(part for part in parts if part)


def codec(column: Column, tier: TierName) -> str:
    return (column.codec or "ZSTD").replace("ZSTD", ZSTD[tier])


def settings_of(target: Target) -> str:
    """Without a window a token is forgotten at once, and a retried insert doubles its rows."""
    if target.cluster:
        return f"replicated_deduplication_window = {WINDOW}, replicated_deduplication_window_seconds = 604800"
    return f"non_replicated_deduplication_window = {WINDOW}"


def ttl_of(target: Target) -> str:
    return f"toDateTime(created_at) + toIntervalSecond({target.retention})"


def full_name(target: Target, tier: TierName, table: Table) -> str:
    """Of the table that holds rows."""
    return f"`{target.database(tier)}`.`{table.name}{target.suffix}`"


def _on(cluster: str) -> str:
    return f" ON CLUSTER `{cluster}`" if cluster else ""


def render(target: Target, tables: Sequence[Table] = TABLES) -> list[Change]:
    """All of it, for an empty server."""
    return list(plan(target, {}, databases=(), tables=tables).changes)


# --- difference -----------------------------------------------------------------------------------------------------


def plan(target: Target, existing: Existing, databases: Iterable[str], tables: Sequence[Table] = TABLES) -> Plan:
    changes: list[Change] = []
    differences: list[Difference] = []
    there = set(databases)
    for tier in ("hot", "cold"):
        database = target.database(tier)
        if database not in there:
            changes.append(Change(create_database(database, target.cluster), f"database {database} does not exist"))
            there.add(database)
        for table in tables:
            name = table.name + target.suffix
            found = existing.get((database, name))
            if found is None:
                why = f"table {database}.{name} does not exist"
                makes = table if tier == "hot" else None
                changes.append(Change(create_table(target, tier, table), why, makes=makes))
            else:
                more, reported = _compare(target, tier, table, found)
                changes += more
                differences += reported
            if target.shards:
                more, reported = _compare_distributed(target, tier, table, existing.get((database, table.name)))
                changes += more
                differences += reported
    for table in tables:
        name = table.name + target.suffix
        if hot := existing.get((target.hot, name)):
            more, reported = _taken_along(target, table, hot, existing.get((target.cold, name)))
            changes += more
            differences += reported
    if (target.hot, INCIDENTS) not in existing:
        sql = create_incidents(target.hot, _on(target.cluster))
        changes.append(Change(sql, f"table {target.hot}.{INCIDENTS} does not exist", convenience=True))
    for view in views_of(tables):
        more, reported = _compare_view(target, view, existing.get((target.hot, view.name)))
        changes += more
        differences += reported
    return Plan(tuple(changes), tuple(differences))


def _compare(
    target: Target, tier: TierName, table: Table, found: ExistingTable
) -> tuple[list[Change], list[Difference]]:
    name = full_name(target, tier, table)
    where = f"{target.database(tier)}.{table.name}{target.suffix}"
    alter = f"ALTER TABLE {name}{_on(target.cluster)}"
    changes: list[Change] = []
    differences: list[Difference] = []

    def differs(what: str, *, blocking: bool, column: str = "") -> None:
        differences.append(Difference(f"{where}.{column}" if column else where, what, blocking))

    if not found.engine.endswith("MergeTree"):
        differs(f"its engine is {found.engine}, which has no insert tokens; a MergeTree is needed", blocking=True)
        return changes, differences
    previous = ""
    for column in sorted(table.columns, key=lambda column: column.kind != "EPHEMERAL"):  # others' defaults refer to it
        have = found.columns.get(column.name)
        if have is None:
            after = f" AFTER `{previous}`" if previous else " FIRST"
            definition = column_ddl(column, tier, noted(target, tier, column))
            sql = f"{alter} ADD COLUMN IF NOT EXISTS {definition}{after if column.kind == 'DEFAULT' else ''}"
            changes.append(Change(sql, f"{where} lacks the column {column.name}"))
        else:
            for what, blocking in _column_differences(column, have):
                differs(what, blocking=blocking, column=column.name)
            if note := noted(target, tier, column):
                more, reported = _compare_note(alter, f"{where}.{column.name}", note, have.get("comment", ""))
                changes += more
                differences += reported
        if column.kind == "DEFAULT":
            previous = column.name
    for name_there, have in found.columns.items() if tier == "hot" else ():
        if all(column.name != name_there for column in table.columns) and not have["default_kind"]:
            differs("a column of the user's own; ingest leaves it to its default", blocking=False, column=name_there)
    if "_seq_range" not in found.create:
        changes.append(Change(f"{alter} ADD INDEX IF NOT EXISTS {SEQ_INDEX}", f"{where} lacks the index for look-ups"))
    if not _has_window(found):
        changes.append(
            Change(f"{alter} MODIFY SETTING {settings_of(target)}", f"{where} forgets insert tokens at once")
        )
    retention, ttl = ttl_of(target) if tier == "hot" and target.retention else "", _ttl(found)
    if _plain(retention) != _plain(ttl):
        if retention:
            changes.append(Change(f"{alter} MODIFY TTL {retention}", f"{where} has another retention"))
        else:
            differs(f"its TTL deletes rows, though no retention is set for it: TTL {ttl}", blocking=False)
    order_by, partition = ", ".join(table.order_by), partition_of(tier, table)
    if _plain(found.sorting_key) != _plain(order_by):
        differs(f"ORDER BY is ({found.sorting_key}), not ({order_by}): slower for one symbol", blocking=False)
    if _plain(found.partition_key) != _plain(partition):
        differs(f"PARTITION BY is {found.partition_key or 'absent'}, not {partition}", blocking=False)
    return changes, differences


def _compare_note(alter: str, where: str, wanted: str, there: str) -> tuple[list[Change], list[Difference]]:
    if there == wanted:
        return [], []
    if not there:
        why = f"{where} does not say in which bucket its records are"
        return [Change(f"{alter} COMMENT COLUMN `_stream` '{wanted}'", why, convenience=True)], []
    if not there.startswith(RECORDS):
        what = f"its comment is somebody's own: pipelines with another bucket than {wanted.removeprefix(RECORDS)} are not noticed"
        return [], [Difference(where, what, blocking=False)]
    bucket, other = wanted.removeprefix(RECORDS), there.removeprefix(RECORDS)
    what = f"its records are in the bucket {other}, not in {bucket}"
    return [], [Difference(where, what, blocking=True, reason=reasons.RECORDED_ELSEWHERE)]


def _compare_distributed(
    target: Target, tier: TierName, table: Table, found: ExistingTable | None
) -> tuple[list[Change], list[Difference]]:
    """It holds no rows; what it lacks of columns is added."""
    where = f"{target.database(tier)}.{table.name}"
    if found is None:
        return [Change(create_distributed(target, tier, table), f"table {where} does not exist")], []
    if found.engine != "Distributed":
        what = f"its engine is {found.engine}; with sharding it is a Distributed one over {table.name}{LOCAL}"
        return [], [Difference(where, what, blocking=True)]
    alter = f"ALTER TABLE `{target.database(tier)}`.`{table.name}`{_on(target.cluster)} ADD COLUMN IF NOT EXISTS"
    lacking = [column for column in table.columns if column.name not in found.columns]
    return [
        Change(f"{alter} {column_ddl(column, tier)}", f"{where} lacks the column {column.name}")
        for column in sorted(lacking, key=lambda column: column.kind != "EPHEMERAL")
    ], []


def _taken_along(
    target: Target, table: Table, hot: ExistingTable, cold: ExistingTable | None
) -> tuple[list[Change], list[Difference]]:
    """Columns of the user's own in hot, which cold needs before rows can move."""
    changes: list[Change] = []
    differences: list[Difference] = []
    ours = {column.name for column in table.columns}
    for name, have in hot.columns.items():
        if name in ours or have["default_kind"] not in ("", "DEFAULT", "MATERIALIZED"):
            continue
        there = cold.columns.get(name) if cold else None
        if there is None:
            default = f" {have['default_kind']} {have['default_expression']}" if have["default_kind"] else ""
            sql = f"ALTER TABLE {full_name(target, 'cold', table)}{_on(target.cluster)} ADD COLUMN IF NOT EXISTS"
            why = f"{target.cold}.{table.name}{target.suffix} lacks the column {name}, a user's own in {target.hot}"
            changes.append(Change(f"{sql} `{name}` {have['type']}{default}", why, convenience=True))
        elif there["type"] != have["type"]:
            what = f"its type is {there['type']}, in {target.hot} it is {have['type']}: no row is moved until they are equal"
            differences.append(Difference(f"{target.cold}.{table.name}.{name}", what, blocking=False))
    return changes, differences


def _compare_view(target: Target, view: View, found: ExistingTable | None) -> tuple[list[Change], list[Difference]]:
    """A view holds no data: one of ours with another definition is replaced, what isn't ours is left alone."""
    where = f"{target.hot}.{view.name}"
    if found is None:
        sql = view.create(target.hot, target.cold, _on(target.cluster))
        return [Change(sql, f"view {where} does not exist", convenience=True)], []
    if MARK not in found.create:
        what = "it has the name of a view of ours, and is somebody's own; it is left alone"
        return [], [Difference(where, what, blocking=False)]
    if view.mark(target.hot, target.cold) not in found.create:
        sql = view.create(target.hot, target.cold, _on(target.cluster), replace=True)
        return [Change(sql, f"view {where} has another definition", convenience=True)], []
    return [], []


def _column_differences(column: Column, have: Mapping[str, Any]) -> Iterable[tuple[str, bool]]:
    kind = have["default_kind"] or "DEFAULT"
    if _plain(have["type"]) != _plain(column.type):
        yield f"its type is {have['type']}, not {column.type}: change it by hand, it is not narrowed or rewritten", True
    if kind != column.kind:
        yield f"it is {kind}, not {column.kind}", True
    elif column.default and _plain(have["default_expression"]) != _plain(column.default):
        blocking = column.name == "created_at"
        yield f"its default is {have['default_expression'] or 'absent'}, not {column.default}", blocking


def _has_window(found: ExistingTable) -> bool:
    if found.engine.startswith("Replicated"):
        return not re.search(r"\breplicated_deduplication_window = 0\b", found.engine_full)
    return bool(re.search(r"\bnon_replicated_deduplication_window = [1-9]", found.engine_full))


def _ttl(found: ExistingTable) -> str:
    match = re.search(r"\bTTL (.+?)(?: SETTINGS |$)", found.engine_full)
    return match[1] if match else ""


def _plain(text: str) -> str:
    """Types and expressions as ClickHouse writes them back differ in blanks, quotes and brackets."""
    return re.sub(r"[\s`()]", "", text)
