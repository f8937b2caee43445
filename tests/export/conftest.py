"""Two tiers on the embedded ClickHouse with a day of everything, and `marketprism` as people call it."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from typer.testing import CliRunner

from marketprism_api.data_types import BUILT_IN
from marketprism_api.settings import Settings, effective
from marketprism_consumer import times
from marketprism_consumer.cli import app
from marketprism_consumer.clickhouse import schema
from marketprism_consumer.clickhouse.client import ClickHouse
from marketprism_consumer.clickhouse.store import ClickHouseStore
from marketprism_consumer.feed import messages
from marketprism_consumer.ingest.decode import decode
from marketprism_consumer.schema.tables import BY_DATA_TYPE, Table
from marketprism_embedded.process import EmbeddedServer
from tests.blocks import block_of, seconds_from_now
from tests.commands.command import NO_URLS

STREAM = "S@1"
_numbers = itertools.count(1)


@dataclass
class Warehouse:
    environ: dict[str, str]
    settings: Settings
    hot: ClickHouseStore
    cold: ClickHouseStore
    loop: asyncio.Runner
    stored: dict[str, list[dict[str, Any]]] = field(default_factory=lambda: defaultdict(list))
    """Rows by table, as dicts of what `decode` gave, with `_seq`."""

    def insert(self, table: Table, rows: list[tuple[Any, ...]], first_seq: int, tier: str = "hot") -> None:
        block = block_of(table, rows, range(first_seq, first_seq + len(rows)), [STREAM] * len(rows))

        async def insert() -> None:
            await (self.hot if tier == "hot" else self.cold).insert(block, seconds_from_now())

        self.loop.run(insert())

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        sql = sql.format(hot=self.hot.database, cold=self.cold.database)
        return self.loop.run(self.hot.clickhouse.query(sql))

    def change(self, sql: str) -> None:
        sql = sql.format(hot=self.hot.database, cold=self.cold.database)
        self.loop.run(self.hot.clickhouse.command(sql, settings={"mutations_sync": 2}))

    def call(self, *arguments: str) -> Any:
        """What `marketprism … --output json` says."""
        done = self.invoke(*arguments, "--output", "json")
        assert done.exit_code in (0, 1), done.output
        return json.loads(done.stdout)

    def invoke(self, *arguments: str) -> Any:
        return CliRunner().invoke(app, list(arguments), env={**NO_URLS, **self.environ}, catch_exceptions=False)

    @property
    def span(self) -> tuple[str, str]:
        """`--from` and `--to` of all of it."""
        moments = [row["timestamp"] for rows in self.stored.values() for row in rows]
        return times.iso(min(moments)), times.iso(max(moments) + 1)


@pytest.fixture(scope="module")
def make_warehouse(clickhouse_server: EmbeddedServer, loop: asyncio.Runner) -> Iterator[Callable[[int], Warehouse]]:
    """Of so many messages of the feed: the older third in cold only, the youngest in hot only, what is between in both."""
    made: list[Warehouse] = []

    def make(count: int) -> Warehouse:
        number = next(_numbers)
        environ = {
            "CLICKHOUSE_HTTP_URL": clickhouse_server.url,
            "CLICKHOUSE_HOT_DB": f"export_{number}_hot",
            "CLICKHOUSE_COLD_DB": f"export_{number}_cold",
        }
        settings = effective(None, environ)
        clickhouse = ClickHouse(settings.clickhouse_urls)
        loop.run(schema.apply(clickhouse, settings))
        house = Warehouse(
            environ,
            settings,
            ClickHouseStore(clickhouse, settings.hot_db),
            ClickHouseStore(clickhouse, settings.cold_db),
            loop,
        )
        made.append(house)
        rows: dict[str, list[tuple[Any, ...]]] = defaultdict(list)
        for message in itertools.islice(messages(seed=7, rate=10, book_levels=6), count):
            rows[message.data_type].append(
                decode(BUILT_IN[message.data_type], message.subject, message.payload, 1 << 60)
            )
        for data_type, own in rows.items():
            table = BY_DATA_TYPE[data_type]
            names = [column.name for column in table.inserted]
            own.sort(key=lambda row: row[0])
            third = len(own) // 3
            if own[: 2 * third]:
                house.insert(table, own[: 2 * third], 1, "cold")
            house.insert(table, own[third:], third + 1, "hot")
            house.stored[table.name] = [dict(zip(names, row, strict=True), _seq=n) for n, row in enumerate(own, 1)]
        return house

    yield make
    for house in made:
        loop.run(house.hot.clickhouse.close())


@pytest.fixture(scope="module")
def house(make_warehouse: Callable[[int], Warehouse]) -> Warehouse:
    return make_warehouse(3000)
