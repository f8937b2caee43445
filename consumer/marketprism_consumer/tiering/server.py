"""A ClickHouse server as a migration talks to it: few statements, long ones, some of them streams of bytes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import aiohttp
from clickhouse_connect.driver.exceptions import Error as ClickHouseConnectError

from marketprism_api import reasons
from marketprism_api.credentials import ClickHouseAuth
from marketprism_consumer.clickhouse.client import connect
from marketprism_consumer.clickhouse.store import refusal
from marketprism_consumer.tiering.algorithm import TieringRefused

PATIENCE = 1800.0  # for the answer to one statement: an hour of a busy table on a slow disk [s]
POLL = 0.05  # [s]
SETTLED_WITHIN = 300.0  # [s]

# Defaults that differ between servers are sent. `mutations_sync` 2 makes DELETE and UPDATE wait, also on 23.8.
SETTINGS: Mapping[str, Any] = {
    "async_insert": 0,
    "insert_deduplicate": 1,
    "mutations_sync": 2,
    "deduplicate_blocks_in_dependent_materialized_views": 1,
    "max_partitions_per_insert_block": 0,
    "max_threads": 1,  # one core: readers and ingest have the others; and the same blocks at a second try
}


class Server:
    """`comment` marks every statement in system.processes. All calls raise InsertRefused, whatever went wrong."""

    def __init__(self, urls: Sequence[str], auth: Callable[[], ClickHouseAuth], comment: str) -> None:
        self.urls = tuple(urls)
        self.comment = comment
        self._auth = auth
        self._client: Any = None
        self._current = 0

    @property
    def url(self) -> str:
        return self.urls[self._current]

    async def query(
        self, sql: str, parameters: Mapping[str, Any] | None = None, settings: Mapping[str, Any] | None = None
    ) -> list[tuple[Any, ...]]:
        result = await self._do("query", sql, parameters=dict(parameters or {}), settings=self._settings(settings))
        return [tuple(row) for row in result.result_rows]

    async def value(self, sql: str, parameters: Mapping[str, Any] | None = None) -> Any:
        return (await self.query(sql, parameters))[0][0]

    async def has_table(self, database: str, table: str) -> bool:
        found = "SELECT count() FROM system.tables WHERE database = {database:String} AND name = {table:String}"
        return bool(await self.value(found, {"database": database, "table": table}))

    async def command(
        self, sql: str, parameters: Mapping[str, Any] | None = None, settings: Mapping[str, Any] | None = None
    ) -> None:
        await self._do("command", sql, parameters=dict(parameters or {}), settings=self._settings(settings))

    async def read(self, sql: str, parameters: Mapping[str, Any]) -> bytes:
        """The answer as Native blocks."""
        found = await self._do("raw_query", sql, dict(parameters), settings=self._settings(None), fmt="Native")
        return bytes(found) if not isinstance(found, bytes) else found

    async def write(self, table: str, columns: Sequence[str], blocks: bytes, token: str = "") -> None:
        settings = {"insert_deduplication_token": token} if token else {}
        settings["input_format_skip_unknown_fields"] = "0"
        await self._do("raw_insert", table, list(columns), blocks, self._settings(settings), "Native")

    async def settle(self, prefix: str, mine: str = "") -> None:
        """Return when no statement whose comment begins with `prefix` runs any more, those of `mine` aside. Raises
        TieringRefused when that takes too long."""
        sql = (
            "SELECT count() FROM system.processes WHERE startsWith(Settings['log_comment'], {prefix:String})"
            " AND (Settings['log_comment'] != {mine:String} OR {mine:String} = '')"
            " AND position(query, 'system.processes') = 0"
        )
        deadline = time.monotonic() + SETTLED_WITHIN
        while await self.value(sql, {"prefix": prefix, "mine": mine}):
            if time.monotonic() > deadline:
                what = f"statements of an earlier run ({prefix}) are still running on {self.url}"
                raise TieringRefused(reasons.MIGRATION_BUSY, f"{what}: look at system.processes, or KILL QUERY")
            await asyncio.sleep(POLL)

    async def close(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            await client.close()

    def _settings(self, more: Mapping[str, Any] | None) -> dict[str, Any]:
        return {**SETTINGS, "log_comment": self.comment, **(more or {})}

    async def _do(self, method: str, *arguments: Any, **named: Any) -> Any:
        try:
            if self._client is None:
                self._client = await connect(self.url, self._auth(), PATIENCE)
            return await getattr(self._client, method)(*arguments, **named)
        except (ClickHouseConnectError, aiohttp.ClientError, OSError, TimeoutError) as error:
            refused = refusal(error, self.url)
            if refused.code == 0:
                await self.close()
                self._current = (self._current + 1) % len(self.urls)
            raise refused from error
