"""Every statement of docs/queries.md, as it stands there but for the databases' names, on a small day of data."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from bench import a_day
from bench.queries import PAGE, documented
from marketprism_api.settings import effective
from marketprism_consumer.clickhouse import schema
from marketprism_consumer.clickhouse.client import ClickHouse
from marketprism_embedded.process import EmbeddedServer

HOT, COLD = "documented_hot", "documented_cold"
STATEMENTS = documented(PAGE.read_text())


@pytest.fixture(scope="module")
def clickhouse(clickhouse_server: EmbeddedServer, loop: asyncio.Runner) -> Iterator[ClickHouse]:
    """With a hole, so that there are gaps to be found."""
    made = ClickHouse([clickhouse_server.url])
    environ = {"CLICKHOUSE_HTTP_URL": clickhouse_server.url, "CLICKHOUSE_HOT_DB": HOT, "CLICKHOUSE_COLD_DB": COLD}

    async def fill() -> None:
        await schema.apply(made, effective(None, environ))
        await a_day.fill(made.command, HOT, COLD, trade_rows=60_000, book_rows=12_000)
        for table in ("trades", "orderbooks"):
            hole = "timestamp BETWEEN '2025-09-24 07:10:00' AND '2025-09-24 07:20:00' AND symbol = 'ETH-USDT'"
            await made.command(f"ALTER TABLE {COLD}.{table} DELETE WHERE {hole}", settings={"mutations_sync": 2})

    loop.run(fill())
    yield made
    loop.run(made.close())


def test_the_page_has_them_all() -> None:
    assert len(STATEMENTS) == PAGE.read_text().count("```sql") == 12


@pytest.mark.parametrize("title", STATEMENTS)
def test_a_documented_query_answers_with_rows(clickhouse: ClickHouse, loop: asyncio.Runner, title: str) -> None:
    sql = STATEMENTS[title].replace("marketprism_hot", HOT).replace("marketprism_cold", COLD)
    assert loop.run(clickhouse.query(sql))


def test_a_hole_is_told_where_it_is(clickhouse: ClickHouse, loop: asyncio.Runner) -> None:
    for title in ("trade-gaps", "book-gaps"):
        found = loop.run(clickhouse.query(STATEMENTS[title].replace("marketprism_hot", HOT)))
        assert {row[2] for row in found} == {"ETH-USDT"}
        assert len(found) == 3  # a venue each


def test_the_page_says_what_each_costs() -> None:
    costs = PAGE.read_text().partition("<!-- costs -->")[2].partition("<!-- /costs -->")[0]
    assert all(f"| {title} |" in costs for title in STATEMENTS)
