"""Cold on another ClickHouse: the same guarantees, through the migrator's own memory."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import AsyncIterator, Iterator

import pytest

from marketprism_api.credentials import ClickHouseAuth
from marketprism_consumer.tiering import run as tiering_run
from marketprism_consumer.tiering.job import Mode
from marketprism_consumer.tiering.servers import server as open_server
from marketprism_embedded import process
from marketprism_embedded.process import EmbeddedServer
from tests.tiering.tiering_place import HOUR, Place, make
from tests.waiting import PATIENCE


@pytest.fixture(scope="module")
def second(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedServer]:
    with process.start("clickhouse", tmp_path_factory.mktemp("second"), stderr=subprocess.DEVNULL) as server:
        yield server


@pytest.fixture
async def apart(clickhouse_server: EmbeddedServer, second: EmbeddedServer) -> AsyncIterator[tuple[Place, Place]]:
    """The pair, and cold's server with its databases of the same names."""
    place = await make(clickhouse_server.url, second.url)
    cold = Place(second.url, place.hot, place.cold, open_server([second.url], ClickHouseAuth, "test"))
    yield place, cold
    for one in (place, cold):
        for database in (one.hot, one.cold):
            await one.server.command(f"DROP DATABASE IF EXISTS {database} SYNC")
        await one.server.close()


async def test_rows_arrive_bit_for_bit_in_chunks(apart: tuple[Place, Place], monkeypatch: pytest.MonkeyPatch) -> None:
    place, cold = apart
    monkeypatch.setattr(tiering_run, "CHUNK_BYTES", 50_000)
    await place.fill(3000, hours_ago=12, span=2 * HOUR)
    await place.fill(7, hours_ago=12, span=60, seq="0")
    before = (await place.rows(identity=False))["hot"]
    result = await place.migrate()
    assert result.ok, result.failures
    assert await place.counts() == (0, 0)
    assert (await cold.rows(identity=False))["cold"] == before
    assert result.tables["trades"].rows == 3007
    await place.fill(100, hours_ago=12, span=HOUR, first=4001)
    assert (await place.migrate()).ok
    assert await cold.value("SELECT count() = 3107 AND uniqExact(_stream, _seq) = 3107 FROM {cold}.trades")
    assert not await place.value("SELECT count() FROM system.tables WHERE database = '{hot}' AND engine = 'Memory'")


async def test_a_copy_again_and_the_overview(apart: tuple[Place, Place]) -> None:
    place, cold = apart
    await place.fill(300, hours_ago=12, span=HOUR)
    for copied in (300, 0):
        assert (await place.migrate(mode=Mode.COPY)).tables["trades"].rows == copied
    code, found = place.cli("tiers", "--table", "trades", "--output", "json")
    assert (code, found["tables"]["trades"]["overlap"], found["tables"]["trades"]["doubles"]) == (0, 300, 0)
    await cold.run(
        "INSERT INTO {cold}.trades SELECT * FROM {cold}.trades WHERE _seq < 11 SETTINGS insert_deduplicate = 0"
    )
    code, found = place.cli("tiers", "--table", "trades", "--output", "json")
    assert (code, found["tables"]["trades"]["cold"]["doubles"]) == (1, 10)
    assert (await place.migrate()).ok
    assert await cold.value("SELECT count() = 300 AND uniqExact(_seq) = 300 FROM {cold}.trades")


async def test_a_column_of_the_users_own_is_taken_along(apart: tuple[Place, Place]) -> None:
    place, cold = apart
    await place.run("ALTER TABLE {hot}.trades ADD COLUMN note String DEFAULT trade_id")
    await place.fill(30, hours_ago=12, span=HOUR)
    (refused,) = (await place.migrate()).failures
    statement = f"ALTER TABLE {place.cold}.trades ADD COLUMN `note` String"
    assert f"{statement}, on cold's server" in refused.message
    await cold.server.command(statement)
    assert (await place.migrate()).ok
    assert await cold.value("SELECT countIf(note = trade_id) FROM {cold}.trades") == 30


@pytest.mark.parametrize("point", ["migrate_after_copy:kill", "migrate_mid_delete:kill:2"])
async def test_killed_in_between(apart: tuple[Place, Place], point: str) -> None:
    place, cold = apart
    await place.fill(600, hours_ago=12, span=2 * HOUR)
    before = (await place.rows())["hot"]
    killed = place.command("migrate", "--table", "trades", MARKETPRISM_FAULTPOINT=point)
    killed.communicate(timeout=PATIENCE)
    assert killed.returncode == -signal.SIGKILL
    assert (await place.migrate(lease=None)).ok
    assert (await cold.rows())["cold"] == before
    assert await place.counts() == (0, 0)


async def test_cold_unreachable_is_exit_4_and_deletes_nothing(apart: tuple[Place, Place]) -> None:
    place, _ = apart
    await place.fill(10, hours_ago=12, span=60)
    code, result = place.cli("migrate", "--table", "trades", "--cold-url", "http://127.0.0.1:1")
    assert (code, result["result"], result["failures"][0]["code"]) == (4, "Failed", "MP4001")
    assert (await place.counts())[0] == 10
