"""The real store: the tables of one database, over a client.

Every setting whose default has changed between 23.10 and today is sent explicitly, and none that an old server lacks.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from marketprism_consumer.clickhouse.client import ClickHouse
from marketprism_consumer.clickhouse.replicas import NAME, UNKNOWN_TABLE, Replicas
from marketprism_consumer.errors import StoreError
from marketprism_consumer.ingest.clickhouse_errors import refused
from marketprism_consumer.ingest.encode import Block
from marketprism_consumer.ingest.identity import content_columns
from marketprism_consumer.ingest.store import Clocks, Stored
from marketprism_consumer.schema.tables import Table, exact

INSERT_TIMEOUT = 30.0  # one attempt on the server's side; the client waits a little longer for its answer [s]
LOOKUP_CHUNK = 10_000  # sequences in one statement: 20 digits each stay below max_query_size (256 KiB)

WHOLE_POLL = 0.2  # [s]
LAST_SEQUENCE = 2**64 - 1
NO_SUCH_TABLE = (UNKNOWN_TABLE, 81)

INSERT_SETTINGS: Mapping[str, Any] = {
    "async_insert": 0,  # on by default since 26.3: an answer would no longer mean stored
    "insert_deduplicate": 1,
    "insert_quorum": 0,  # see replicas.py
    "deduplicate_blocks_in_dependent_materialized_views": 1,
    "input_format_skip_unknown_fields": 0,
    "input_format_null_as_default": 0,
    "max_partitions_per_insert_block": 0,  # a replay may span more hours than the default of 100
    "max_execution_time": int(INSERT_TIMEOUT),
}


def insert_comment(database: str, table: Table) -> str:
    """Marks our inserts in system.processes, also where the query_id is not the client's."""
    return f"marketprism insert {database}.{table.name}"


class ClickHouseStore:
    """The port of `ingest/store.py`. `database` holds the tables, whose names end with `suffix`. `quorum`: on a cluster, stored is
    what a majority of the table's replicas have. `optional`: a table that no server has is an empty one, as cold's are before anything
    was moved. Without it a server that has no table knows nothing of its rows: it may be new, or on its way down."""

    def __init__(
        self, clickhouse: ClickHouse, database: str, *, quorum: bool = True, optional: bool = False, suffix: str = ""
    ) -> None:
        self.clickhouse = clickhouse
        self.database = database
        self.quorum = quorum
        self.optional = optional
        self._suffix = suffix

    async def shards(self) -> Mapping[str, ClickHouseStore]:
        """The stores that this one is made of. Raises StoreError."""
        return {"": self}

    def name(self, table: Table) -> str:
        return table.name + self._suffix

    def table(self, table: Table) -> str:
        return f"`{self.database}`.`{self.name(table)}`"

    async def insert(self, block: Block, until: int) -> None:
        settings = {
            **INSERT_SETTINGS,
            "insert_deduplication_token": block.token,
            "log_comment": insert_comment(self.database, block.table),
            "query_id": f"marketprism-{block.table.name}-{uuid.uuid4().hex}",
        }
        async with self.clickhouse.connections() as connections:
            await connections.insert(self.table(block.table), block.columns, block.expiring(until), settings)
        await self._kept(block.table)

    async def _kept(self, table: Table) -> None:
        """Returns when what is stored does not die with one replica. Raises StoreError."""
        if self.quorum and self.clickhouse.cluster:
            await self._replicas(table).majority()

    async def clock(self) -> float:
        async with self.clickhouse.connections() as connections:
            return await connections.server_time(time.monotonic())

    async def clocks(self) -> Clocks:
        now = "toUnixTimestamp64Milli(now64(3)) / 1000"
        source = self.clickhouse.all_replicas("system", "one")
        rows = await self.clickhouse.query(
            f"SELECT min({now}), max({now}) FROM {source}", settings=self.clickhouse.reachable
        )
        return Clocks(float(rows[0][0]), float(rows[0][1]))

    async def identity(self, table: Table) -> str:
        given = {"database": self.database, "table": self.name(table)}
        found = await self.clickhouse.query(
            "SELECT engine, toString(uuid) FROM system.tables WHERE database = {database:String} AND name = {table:String}",
            given,
        )
        if not found:
            raise refused(UNKNOWN_TABLE, f"{self.table(table)} does not exist")
        engine, id = found[0]
        if not engine.startswith("Replicated"):
            return str(id)
        # Replicas that were made one by one have other UUIDs; what they share is a path in Keeper. By default it has the UUID
        # of ON CLUSTER in it; where it has none, a table that is made again is taken for the same (docs/guarantee.md).
        path = await self.clickhouse.value(
            "SELECT zookeeper_path FROM system.replicas WHERE database = {database:String} AND table = {table:String}",
            given,
        )
        return str(path)

    async def has_all(self, table: Table, stream: str, seqs: Sequence[int]) -> bool:
        return set(seqs) <= await self.present(table, stream, seqs)

    async def present(self, table: Table, stream: str, seqs: Sequence[int]) -> set[int]:
        """Those of `seqs` that rows of this very identity have. Raises StoreError."""
        there: set[int] = set()
        for start in range(0, len(seqs), LOOKUP_CHUNK):
            there |= set(
                await self._from_a_whole_replica(
                    table,
                    f"SELECT groupUniqArray(_seq) FROM {self.table(table)}"
                    f" WHERE _seq IN ({_listed(seqs[start : start + LOOKUP_CHUNK])})"
                    " AND _stream = {stream:String}",
                    {"stream": stream},
                )
            )
        return there

    async def stored(self, table: Table, stream: str, seqs: Sequence[int]) -> dict[int, list[Stored]]:
        columns = ", ".join(exact(table.column(name)) for name in content_columns(table))
        found: dict[int, list[Stored]] = {}
        for start in range(0, len(seqs), LOOKUP_CHUNK):
            sql = (
                f"SELECT groupArray((_seq, _stream, {columns})) FROM {self.table(table)}"
                f" WHERE _seq IN ({_listed(seqs[start : start + LOOKUP_CHUNK])})"
                " AND (_stream = {stream:String} OR startsWith(_stream, {older:String}))"
            )
            try:
                rows = await self._from_a_whole_replica(table, sql, {"stream": stream, "older": f"{stream}~"})
                if rows:
                    await self._kept(table)
            except StoreError as error:
                if await self._is_nowhere(table, error):
                    return {}
                raise
            for seq, found_stream, *content in rows:
                found.setdefault(seq, []).append(Stored(found_stream, tuple(content)))
        return found

    async def rows(
        self, table: Table, expressions: Sequence[str], where: str, given: Mapping[str, Any]
    ) -> list[tuple[Any, ...]]:
        """The values of the rows that `where` holds for, by a server that knows of all inserts that are done. Raises StoreError."""
        sql = f"SELECT groupArray(tuple({', '.join(expressions)})) FROM {self.table(table)} WHERE {where}"
        return [tuple(row) for row in await self._from_a_whole_replica(table, sql, given)]

    async def _from_a_whole_replica(self, table: Table, sql: str, parameters: Mapping[str, Any]) -> Any:
        """The value of a SELECT, by a replica that has every part that Keeper knows of. Behind a balancer any may answer, and
        one that is behind would not know what is stored."""
        if not self.clickhouse.cluster:
            return await self.clickhouse.value(sql, parameters)
        replicas = self._replicas(table)
        given, named = {**replicas.given, **parameters}, sql.replace("SELECT ", f"SELECT {NAME}, ", 1)
        whole: set[str] = set()
        while True:
            whole |= await replicas.whole()
            name, value = (await self.clickhouse.query(named, given))[0]
            if name in whole:
                return value
            await asyncio.sleep(WHOLE_POLL)

    def _replicas(self, table: Table) -> Replicas:
        return Replicas(self.clickhouse, self.database, self.name(table))

    async def catch_up(self, table: Table) -> None:
        """Wait until the replica at hand has what the others have. Raises StoreError."""
        if self.clickhouse.cluster:
            await self.clickhouse.command(f"SYSTEM SYNC REPLICA {self.table(table)}")

    async def highest(self, table: Table, stream: str, above: int, to: int | None = None) -> int:
        # Of all that can be reached: one replica alone may be behind.
        source = self.clickhouse.all_replicas(f"`{self.database}`", f"`{self.name(table)}`")
        sql = (
            f"SELECT max(_seq) FROM {source}"
            " WHERE _seq > {above:UInt64} AND _seq <= {to:UInt64} AND _stream = {stream:String}"
        )
        given = {"stream": stream, "above": above, "to": LAST_SEQUENCE if to is None else to}
        try:
            return int((await self.clickhouse.query(sql, given, settings=self.clickhouse.reachable))[0][0])
        except StoreError as error:
            if await self._is_nowhere(table, error):
                return 0
            raise

    async def _is_nowhere(self, table: Table, error: StoreError) -> bool:
        """Is the table one that need not be, and was refused because no server has it? Raises StoreError, also where one can't be asked."""
        if not self.optional or error.code not in NO_SUCH_TABLE:
            return False
        source = self.clickhouse.all_replicas("system", "tables")
        sql = f"SELECT count() FROM {source} WHERE database = {{database:String}} AND name = {{table:String}}"
        return not await self.clickhouse.value(sql, {"database": self.database, "table": self.name(table)})

    async def settle(self, table: Table) -> None:
        """Waits for our inserts under way: none outlives INSERT_TIMEOUT."""
        await self.clickhouse.settle(insert_comment(self.database, table))


def _listed(seqs: Sequence[int]) -> str:
    return ",".join(str(int(seq)) for seq in seqs)
