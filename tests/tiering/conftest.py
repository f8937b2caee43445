from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from marketprism_embedded.process import EmbeddedServer
from tests.tiering.tiering_place import Place, make


@pytest.fixture
async def place(clickhouse_server: EmbeddedServer) -> AsyncIterator[Place]:
    made = await make(clickhouse_server.url)
    yield made
    for database in (made.hot, made.cold):
        await made.server.command(f"DROP DATABASE IF EXISTS {database} SYNC")
    await made.server.close()
