"""The real store: the tables of one database, over a client.

Every setting whose default has changed between 23.10 and today is sent explicitly, and none that an old server lacks.
"""

from __future__ import annotations

import math
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from marketprism_consumer.clickhouse.client import ClickHouse
from marketprism_consumer.ingest.clickhouse_errors import refused
from marketprism_consumer.ingest.encode import Block
from marketprism_consumer.ingest.identity import content_columns
from marketprism_consumer.ingest.store import Stored
from marketprism_consumer.schema.tables import TIME, Table, nullable

INSERT_TIMEOUT = 30.0  # one attempt on the server's side; the client waits a little longer for its answer [s]
LOOKUP_CHUNK = 10_000  # sequences in one statement: 20 digits each stay below max_query_size (256 KiB)

INSERT_SETTINGS: Mapping[str, Any] = {
    "async_insert": 0,  # on by default since 26.3: an answer would no longer mean stored
    "insert_deduplicate": 1,
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
    """The port of `ingest/store.py`. `database` holds the tables."""

    def __init__(self, clickhouse: ClickHouse, database: str) -> None:
        self.clickhouse = clickhouse
        self.database = database

    def table(self, table: Table) -> str:
        return f"`{self.database}`.`{table.name}`"

    async def insert(self, block: Block, deadline: float) -> None:
        async with self.clickhouse.endpoint() as endpoint:
            client = await endpoint.client()
            expires = math.floor(await endpoint.server_time(deadline))
            query_id = f"marketprism-{block.table.name}-{uuid.uuid4().hex}"
            settings = {
                **INSERT_SETTINGS,
                "insert_deduplication_token": block.token,
                "log_comment": insert_comment(self.database, block.table),
                "query_id": query_id,
            }
            summary = await client.raw_insert(
                self.table(block.table), block.columns, block.expiring(expires), settings, "Native"
            )
            if summary.summary.get("query_id") != query_id:
                raise refused(0, f"{endpoint.url} answered, but not like ClickHouse: is a proxy in between?")

    async def stored(self, table: Table, stream: str, seqs: Sequence[int]) -> dict[int, list[Stored]]:
        columns = ", ".join(_comparable(table, name) for name in content_columns(table))
        found: dict[int, list[Stored]] = {}
        for start in range(0, len(seqs), LOOKUP_CHUNK):
            listed = ",".join(str(int(seq)) for seq in seqs[start : start + LOOKUP_CHUNK])
            rows = await self.clickhouse.query(
                f"SELECT _seq, _stream, {columns} FROM {self.table(table)}"
                f" WHERE _seq IN ({listed}) AND (_stream = {{stream:String}} OR startsWith(_stream, {{older:String}}))",
                {"stream": stream, "older": f"{stream}~"},
            )
            for seq, found_stream, *content in rows:
                found.setdefault(seq, []).append(Stored(found_stream, tuple(content)))
        return found

    async def high_water(self, table: Table, stream: str) -> tuple[int, float]:
        rows = await self.clickhouse.query(
            f"SELECT max(_seq), toUnixTimestamp64Milli(min(created_at)) FROM {self.table(table)}"
            " WHERE _stream = {stream:String}",
            {"stream": stream},
        )
        return int(rows[0][0]), rows[0][1] / 1000

    async def settle(self, table: Table) -> None:
        """Waits for our inserts under way: none outlives INSERT_TIMEOUT."""
        await self.clickhouse.settle(insert_comment(self.database, table))
        if self.clickhouse.cluster:
            await self.clickhouse.command(f"SYSTEM SYNC REPLICA {self.table(table)}")


def _comparable(table: Table, name: str) -> str:
    """A content column as an integer or a text: what a decoded row holds."""
    type_ = table.column(name).type
    return f"toUnixTimestamp64Micro({name})" if type_ in (TIME, nullable(TIME)) else name
