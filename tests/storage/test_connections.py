"""Tasks share the connections to a server; what one of them meets there ends nobody else's statement."""

from __future__ import annotations

import asyncio
from urllib.parse import urlsplit

import pytest

from marketprism_consumer.clickhouse.client import ClickHouse
from marketprism_consumer.errors import StoreError
from marketprism_embedded.process import EmbeddedServer
from tests.faults.proxy import Exchange, Fault, Proxy, answer_lost, clickhouse_error, forwarded, in_turn
from tests.waiting import until


@pytest.mark.parametrize("met", [answer_lost, clickhouse_error(516, "AUTHENTICATION_FAILED")])
def test_what_is_on_its_way_ends_well_where_another_statement_does_not(
    clickhouse_server: EmbeddedServer, loop: asyncio.Runner, met: Fault
) -> None:
    """An insert that is cut off is in doubt: its messages would wait for a minute because of another table's trouble."""
    held, go = asyncio.Event(), asyncio.Event()

    async def hold(exchange: Exchange) -> None:
        held.set()
        await go.wait()
        await forwarded(exchange)

    async def run() -> None:
        proxy = Proxy(urlsplit(clickhouse_server.url).port or 0)
        await proxy.start()
        clickhouse = ClickHouse([proxy.url])
        assert await clickhouse.value("SELECT 1") == 1
        proxy.spoil(in_turn(hold, met, met, met), everything=True)
        on_its_way = asyncio.create_task(clickhouse.value("SELECT 2"))
        await held.wait()
        with pytest.raises(StoreError):
            await clickhouse.value("SELECT 3")
        proxy.heal()
        go.set()
        assert await on_its_way == 2

        async def closed() -> bool:
            return proxy.connections == 0

        await until(closed, "the old connections are closed")
        assert await clickhouse.value("SELECT 4") == 4
        await clickhouse.close()
        await proxy.close()

    loop.run(run())
