"""The numbers of one screen: what comes, what waits, what is stored where. Reads only, and little."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from marketprism_api.settings import Settings
from marketprism_consumer.camel import camel
from marketprism_consumer.clickhouse.client import ClickHouse
from marketprism_consumer.clickhouse.store import NO_SUCH_TABLE, ClickHouseStore
from marketprism_consumer.errors import StoreError
from marketprism_consumer.ingest.dead_letters import subjects_of
from marketprism_consumer.jetstream.broker import NatsBroker
from marketprism_consumer.jetstream.records import NatsRecords
from marketprism_consumer.operations import lanes
from marketprism_consumer.operations.lanes import FoundLane
from marketprism_consumer.schema.tables import Table, table_of
from marketprism_consumer.tiering.ledger import TABLE as LEDGER
from marketprism_consumer.tiering.ledger import Ledger, LedgerEntry
from marketprism_consumer.validation import record
from marketprism_consumer.validation.record import Verdict

MINUTE = 60  # over which a rate is taken [s]


@dataclass(frozen=True, slots=True)
class Tier:
    rows: int = 0
    bytes: int = 0
    parts: int = 0


@dataclass(slots=True)
class TypeStatus:
    """`rate`: rows stored per second, over the last minute. `age`: since the newest row in hot was stored [s]; None where
    hot has none. `lag`: messages not known to be stored, `set_aside` those that are looked up first; None without a record.
    `processes`: that have a stretch of it in hand, or its tail."""

    data_type: str
    stream: str
    state: str
    rate: float = 0.0
    age: float | None = None
    lag: int | None = None
    set_aside: int | None = None
    processes: int = 0
    dead_letters: int = 0
    hot: Tier = field(default_factory=Tier)
    cold: Tier = field(default_factory=Tier)


@dataclass(frozen=True, slots=True)
class Status:
    pipeline: str
    types: Sequence[TypeStatus]
    migration: LedgerEntry | None
    validation: Verdict | None

    @property
    def flows(self) -> bool:
        """Every data type is read by somebody."""
        return all(of_type.state == READ for of_type in self.types)

    def as_dict(self) -> dict[str, Any]:
        return {
            "ok": self.flows,
            "pipeline": self.pipeline,
            "types": camel(self.types),
            "lastMigration": camel(self.migration),
            "lastValidation": camel(self.validation),
        }


READ, UNREAD, NO_STREAM = "read", "nobody reads", "no stream"


async def status(settings: Settings, broker: NatsBroker, store: ClickHouseStore, cold: ClickHouseStore) -> Status:
    """`store`: hot's. Raises BrokerError and StoreError where NATS or ClickHouse can't be asked."""
    tables = [table_of(each.declaration) for each in settings.data_types.values()]
    sizes = (await _sizes(store, tables), await _sizes(cold, tables))
    ours = {data_type: await lanes.find_all(settings, broker, store, data_type) for data_type in settings.data_types}
    every = [lane for of_type in ours.values() for lane in of_type]
    read = await lanes.alive(NatsRecords(broker.client, settings.bucket), every)
    found = []
    for data_type, type_settings in settings.data_types.items():
        streams = ",".join(lane.stream for lane in ours[data_type]) or type_settings.stream
        made = TypeStatus(data_type, streams, _state(ours[data_type], read))
        made.processes = len(lanes.owners(ours[data_type]))
        waits = [await lanes.backlog(broker, lane) for lane in ours[data_type] if lane.record]
        if waits:
            made.lag, made.set_aside = sum(each.lag for each in waits), sum(each.set_aside for each in waits)
        graveyard = settings.dead_letters.stream
        letters = await broker.subjects(graveyard, subjects_of(graveyard, data_type))
        made.dead_letters = sum(letters.values())
        table = table_of(type_settings.declaration)
        made.hot, made.cold = (of.get(table.name, Tier()) for of in sizes)
        if made.hot.rows:
            made.rate, made.age = await _fresh(store, table)
        found.append(made)
    return Status(
        settings.pipeline_name,
        found,
        await _last_migration(cold.clickhouse, settings.cold_db),
        await record.last(store.clickhouse, settings.hot_db),
    )


def _state(of_type: Sequence[FoundLane], read: set[str]) -> str:
    """The worst of its lanes."""
    if not all(lane.stream for lane in of_type):
        return NO_STREAM
    return READ if all(lane.key in read for lane in of_type) else UNREAD


async def _sizes(store: ClickHouseStore, tables: Sequence[Table]) -> dict[str, Tier]:
    """By table, of all shards together, each by one of its replicas."""
    found: dict[str, Tier] = {}
    for shard in await shards_of(store):
        rows = await shard.clickhouse.query(
            "SELECT table, sum(rows), sum(bytes_on_disk), count() FROM system.parts"
            " WHERE active AND database = {database:String} GROUP BY table",
            {"database": shard.database},
        )
        of = {str(table): Tier(int(count), int(size), int(parts)) for table, count, size, parts in rows}
        for table in tables:
            mine, its = found.get(table.name, Tier()), of.get(shard.name(table), Tier())
            found[table.name] = Tier(mine.rows + its.rows, mine.bytes + its.bytes, mine.parts + its.parts)
    return found


async def shards_of(store: ClickHouseStore) -> list[ClickHouseStore]:
    """One where rows are not spread; none where there is no table. Raises StoreError."""
    try:
        return list((await store.shards()).values())
    except StoreError as refused:
        if refused.code in NO_SUCH_TABLE:
            return []
        raise


async def _fresh(store: ClickHouseStore, table: Table) -> tuple[float, float | None]:
    """Of all shards: the sum of their rates, and the least of their ages."""
    found = [await _fresh_in(shard.clickhouse, shard.database, shard.name(table)) for shard in await shards_of(store)]
    ages = [age for _, age in found if age is not None]
    return round(sum(rate for rate, _ in found), 2), min(ages) if ages else None


async def _fresh_in(server: ClickHouse, database: str, table: str) -> tuple[float, float | None]:
    """Only of the parts that changed in the last minute, and of the one with the newest block: cheap on any table."""
    of = "FROM system.parts WHERE active AND database = {database:String} AND table = {table:String}"
    rows = await server.query(
        f"SELECT countIf(created_at > now64(3) - INTERVAL {MINUTE} SECOND) / {MINUTE}, count(),"
        f" toUnixTimestamp64Milli(now64(3)) - toUnixTimestamp64Milli(max(created_at)) FROM `{database}`.`{table}`"
        f" WHERE _part IN (SELECT name {of} AND modification_time > now() - INTERVAL {MINUTE + 5} SECOND)"
        f" OR _part IN (SELECT name {of} ORDER BY max_block_number DESC LIMIT 1)",
        {"database": database, "table": table},
    )
    rate, count, age = rows[0]
    return round(float(rate), 2), max(0.0, int(age) / 1000) if count else None


async def _last_migration(cold: ClickHouse, database: str) -> LedgerEntry | None:
    if not await cold.has_table(database, LEDGER):
        return None
    entries = await Ledger(cold, database, "", "").history(1)
    return entries[0] if entries else None
