"""Tables on the embedded ClickHouse: a database of its own for whoever asks."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from marketprism_consumer.clickhouse.client import ClickHouse
from marketprism_consumer.clickhouse.schema import DDL_SETTINGS
from marketprism_consumer.clickhouse.store import ClickHouseStore
from marketprism_consumer.ingest.encode import Block
from marketprism_consumer.schema.ddl import Target, create_database, create_table
from marketprism_consumer.schema.tables import Table
from marketprism_embedded.process import EmbeddedServer
from tests.blocks import seconds_from_now

_numbers = itertools.count(1)


@dataclass
class Place:
    """One database with some tables, and the store on it, for tests that are not coroutines."""

    store: ClickHouseStore
    loop: asyncio.Runner

    @property
    def database(self) -> str:
        return self.store.database

    def insert(self, block: Block, seconds: float = 60.0) -> None:
        """As ingest does it, with a deadline so many seconds from now."""

        async def insert() -> None:
            await self.store.insert(block, seconds_from_now(seconds))

        self.loop.run(insert())

    def query(self, sql: str, parameters: dict[str, Any] | None = None) -> list[tuple[Any, ...]]:
        return self.loop.run(self.store.clickhouse.query(sql, parameters))

    def command(self, sql: str) -> None:
        self.loop.run(self.store.clickhouse.command(sql))

    def count(self, table: Table) -> int:
        return int(self.query(f"SELECT count() FROM {self.store.table(table)}")[0][0])


@pytest.fixture(scope="session")
def make_place(clickhouse_server: EmbeddedServer, loop: asyncio.Runner) -> Iterator[Callable[..., Place]]:
    stores = []

    def make(*tables: Table, url: str = clickhouse_server.url) -> Place:
        target = Target(f"place_{next(_numbers)}", "unused")
        store = ClickHouseStore(ClickHouse([url]), target.hot)
        stores.append(store)

        async def create() -> None:
            await store.clickhouse.command(create_database(target.hot, ""))
            for table in tables:
                await store.clickhouse.command(create_table(target, "hot", table), settings=DDL_SETTINGS)

        loop.run(create())
        return Place(store, loop)

    yield make
    for store in stores:
        loop.run(store.clickhouse.close())
