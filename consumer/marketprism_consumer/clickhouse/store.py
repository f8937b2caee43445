"""The real store: ClickHouse over HTTP, through clickhouse-connect; one or several endpoints of the same tables.

Every setting whose default has changed between 23.8 and today is sent explicitly, and none that an old server lacks.
"""

from __future__ import annotations

import asyncio
import math
import time
import uuid
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import structlog
from clickhouse_connect.driver.exceptions import Error as ClickHouseConnectError

from marketprism_api import reasons
from marketprism_api.credentials import ClickHouseAuth
from marketprism_consumer.backoff import Breaker
from marketprism_consumer.clickhouse.client import connect
from marketprism_consumer.ingest.clickhouse_errors import Fault
from marketprism_consumer.ingest.encode import Block
from marketprism_consumer.ingest.identity import content_columns
from marketprism_consumer.ingest.store import InsertRefused, Stored
from marketprism_consumer.schema.tables import TIME, Table, nullable

log = structlog.get_logger()

INSERT_TIMEOUT = 30.0  # one attempt, server side and on the wire [s]
LOOKUP_CHUNK = 10_000  # sequences in one statement: 20 digits each stay below max_query_size (256 KiB)
SETTLE_POLL = 0.05  # [s]
CLOCK_EVERY = 60.0  # how often the server's clock is read again [s]

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


class Endpoint:
    """One server: its client, made at first use and again after a failure, its breaker, and its clock against ours."""

    def __init__(self, url: str, auth: Callable[[], ClickHouseAuth]) -> None:
        self.url = url
        self.breaker = Breaker()
        self._auth = auth
        self._client: Any = None
        self._making = asyncio.Lock()
        self._clock_offset = 0.0
        self.clock_read_at = -math.inf

    async def client(self) -> Any:
        async with self._making:  # one for all data types, though they ask at once
            if self._client is None:
                self._client = await connect(self.url, self._auth(), INSERT_TIMEOUT + 2)
            return self._client

    async def server_time(self, at: float) -> float:
        """A moment of our monotonic clock on the server's [s since 1970]. However long the reading of the server's clock
        took, the answer is too early, never too late."""
        if time.monotonic() - self.clock_read_at > CLOCK_EVERY:
            result = await (await self.client()).query("SELECT toUnixTimestamp64Milli(now64(3))")
            self.clock_read_at = time.monotonic()
            self._clock_offset = result.result_rows[0][0] / 1000 - self.clock_read_at
        return at + self._clock_offset

    async def close(self) -> None:
        client, self._client = self._client, None
        self.clock_read_at = -math.inf
        if client is not None:
            await client.close()


class ClickHouse:
    """`database` holds the tables. All calls raise InsertRefused, whatever went wrong."""

    def __init__(
        self,
        urls: Sequence[str],
        database: str,
        *,
        auth: Callable[[], ClickHouseAuth] = ClickHouseAuth,
        cluster: str = "",
    ) -> None:
        self.database = database
        self.cluster = cluster
        self.endpoints = [Endpoint(url, auth) for url in urls]
        self._current = 0

    def table(self, table: Table) -> str:
        return f"`{self.database}`.`{table.name}`"

    # --- the port -----------------------------------------------------------------------------------------------------

    async def insert(self, block: Block, deadline: float) -> None:
        async with self._endpoint() as endpoint:
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
                raise InsertRefused(0, f"{endpoint.url} answered, but not like ClickHouse: is a proxy in between?")

    async def stored(self, table: Table, stream: str, seqs: Sequence[int]) -> dict[int, list[Stored]]:
        columns = ", ".join(_comparable(table, name) for name in content_columns(table))
        found: dict[int, list[Stored]] = {}
        for start in range(0, len(seqs), LOOKUP_CHUNK):
            listed = ",".join(str(int(seq)) for seq in seqs[start : start + LOOKUP_CHUNK])
            rows = await self.query(
                f"SELECT _seq, _stream, {columns} FROM {self.table(table)}"
                f" WHERE _seq IN ({listed}) AND (_stream = {{stream:String}} OR startsWith(_stream, {{older:String}}))",
                {"stream": stream, "older": f"{stream}~"},
            )
            for seq, found_stream, *content in rows:
                found.setdefault(seq, []).append(Stored(found_stream, tuple(content)))
        return found

    async def high_water(self, table: Table, stream: str) -> tuple[int, float]:
        rows = await self.query(
            f"SELECT max(_seq), toUnixTimestamp64Milli(min(created_at)) FROM {self.table(table)}"
            " WHERE _stream = {stream:String}",
            {"stream": stream},
        )
        return int(rows[0][0]), rows[0][1] / 1000

    async def settle(self, table: Table) -> None:
        """Waits for the inserts that were running when it was called, by their ids; none outlives INSERT_TIMEOUT."""
        source = f"clusterAllReplicas('{self.cluster}', system.processes)" if self.cluster else "system.processes"
        sql = f"SELECT query_id FROM {source} WHERE Settings['log_comment'] = {{comment:String}}"
        comment = {"comment": insert_comment(self.database, table)}
        running = {row[0] for row in await self.query(sql, comment)}
        while running:
            await asyncio.sleep(SETTLE_POLL)
            running &= {row[0] for row in await self.query(sql, comment)}
        if self.cluster:
            await self.command(f"SYSTEM SYNC REPLICA {self.table(table)}")

    # --- what commands ask --------------------------------------------------------------------------------------------

    async def query(
        self, sql: str, parameters: Mapping[str, Any] | None = None, settings: Mapping[str, Any] | None = None
    ) -> list[tuple[Any, ...]]:
        """The rows of a SELECT; `parameters` are bound by the server, never spliced in."""
        async with self._endpoint() as endpoint:
            client = await endpoint.client()
            result = await client.query(sql, parameters=dict(parameters or {}), settings=dict(settings or {}))
            return [tuple(row) for row in result.result_rows]

    async def command(self, sql: str, settings: Mapping[str, Any] | None = None) -> None:
        async with self._endpoint() as endpoint:
            await (await endpoint.client()).command(sql, settings=dict(settings or {}))

    async def close(self) -> None:
        for endpoint in self.endpoints:
            await endpoint.close()

    @asynccontextmanager
    async def _endpoint(self) -> AsyncIterator[Endpoint]:
        """The endpoint in use, with whatever goes wrong on it told as InsertRefused, and another one next time."""
        loop = asyncio.get_running_loop()
        endpoint = await self._allowed()
        try:
            yield endpoint
        except (ClickHouseConnectError, aiohttp.ClientError, OSError, TimeoutError, InsertRefused) as error:
            refused = refusal(error, endpoint.url)
            if refused.code == 0 or refused.code in DENIED:
                # A new client reads rotated credentials and makes new connections.
                await endpoint.close()
            if refused.fault is Fault.LATE:
                endpoint.clock_read_at = -math.inf  # perhaps the server's clock was set
            if refused.fault in (Fault.PASSING, Fault.SERVER):
                endpoint.breaker.failed(loop.time())
                self._current = (self._current + 1) % len(self.endpoints)
            elif refused.fault is not Fault.UNKNOWN:
                endpoint.breaker.succeeded()  # it is the request that was late or wrong
            raise refused from error
        endpoint.breaker.succeeded()

    async def _allowed(self) -> Endpoint:
        """The first endpoint, from the current one on, whose breaker lets a try through; waits where none does."""
        loop = asyncio.get_running_loop()
        while True:
            waits = []
            for step in range(len(self.endpoints)):
                index = (self._current + step) % len(self.endpoints)
                wait = self.endpoints[index].breaker.wait(loop.time())
                if not wait:
                    self._current = index
                    return self.endpoints[index]
                waits.append(wait)
            await asyncio.sleep(min(waits))


DENIED = frozenset({192, 193, 194, 195, 497, 516})


def refusal(error: BaseException, url: str) -> InsertRefused:
    """Any failure of a request as InsertRefused, with the server's own code where it gave one."""
    if isinstance(error, InsertRefused):
        return error
    code = getattr(error, "code", None)
    where = redacted(url)
    if isinstance(code, int):
        reason = f"{reasons.CLICKHOUSE_DENIED}: " if code in DENIED else ""
        return InsertRefused(code, f"{reason}{where}: {error}")
    return InsertRefused(0, f"{reasons.CLICKHOUSE_UNREACHABLE}: {where}: {type(error).__name__}: {error}")


def redacted(url: str) -> str:
    parts = urlsplit(url)
    host = f"{parts.hostname}:{parts.port}" if parts.port else str(parts.hostname)
    return f"{parts.scheme}://{host}{parts.path}"


def _comparable(table: Table, name: str) -> str:
    """A content column as an integer or a text: what a decoded row holds."""
    type_ = table.column(name).type
    return f"toUnixTimestamp64Micro({name})" if type_ in (TIME, nullable(TIME)) else name
