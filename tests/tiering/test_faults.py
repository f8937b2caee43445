"""Whatever dies in between, the next run finishes the work: the migrator, ClickHouse, or both servers' patience.

The default run has a seeded handful of random kills; MARKETPRISM_TIERING_KILLS=50 has more.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from random import Random

import pytest

from marketprism_api import reasons
from marketprism_api.credentials import ClickHouseAuth
from marketprism_api.reasons import Reason
from marketprism_consumer.clickhouse.client import ClickHouse
from marketprism_consumer.errors import StoreError
from marketprism_consumer.faultpoints import MIGRATE
from marketprism_consumer.ingest.clickhouse_errors import refused as refused_by_clickhouse
from marketprism_consumer.tiering import run as tiering_run
from marketprism_consumer.tiering import servers as tiering_servers
from marketprism_consumer.tiering.run import Migration, Result
from marketprism_consumer.tiering.servers import server as open_server
from tests.tiering.tiering_place import HOUR, STREAM, Place, make, start_clickhouse
from tests.waiting import PATIENCE, wait_for

KILLS = int(os.environ.get("MARKETPRISM_TIERING_KILLS", "2"))


@pytest.mark.parametrize("point", MIGRATE)
async def test_killed_at_every_step(place: Place, point: str) -> None:
    await place.fill(300, hours_ago=12, span=2 * HOUR)
    await place.fill(20, hours_ago=12, span=2 * HOUR, seq="0", first=1000)  # of two hours, whatever the time
    # A part that stays: the hour that the age cuts goes by a mutation.
    await place.fill(100, hours_ago=8.3, span=HOUR, first=2000)
    before = (await place.rows(identity=False))["hot"]
    killed = place.command("migrate", "--table", "trades", MARKETPRISM_FAULTPOINT=f"{point}:kill")
    killed.communicate(timeout=PATIENCE)
    assert killed.returncode == -signal.SIGKILL
    between = await place.rows(identity=False)
    assert set(between["hot"]) | set(between["cold"]) == set(before)
    assert (await place.migrate(lease=None)).ok  # or it would wait for the dead run's lease to end
    after = await place.rows(identity=False)
    assert sorted(after["hot"] + after["cold"]) == before
    assert await place.value("SELECT min(timestamp) > now() - INTERVAL 8 HOUR FROM {hot}.trades")


async def test_two_runs_at_once_wait_for_nobody_and_double_nothing(place: Place) -> None:
    await place.fill(5000, hours_ago=12, span=3 * HOUR)
    before = (await place.rows())["hot"]
    results = await asyncio.gather(*(place.migrate(lease=None) for _ in range(3)))
    for _ in range(2):
        results.append(await place.migrate(lease=None))
    after = await place.rows()
    assert (after["hot"], after["cold"]) == ([], before), [r.failures for r in results]


async def test_a_holder_that_stands_still_is_overtaken_and_does_no_harm_when_it_wakes(place: Place) -> None:
    await place.fill(300, hours_ago=12, span=3 * HOUR)
    holder = place.command(
        "migrate", "--table", "trades", "--lease", "1s", MARKETPRISM_FAULTPOINT="migrate_after_verify:stop"
    )
    try:
        wait_for(lambda: Path(f"/proc/{holder.pid}/stat").read_text().split()[2] == "T", "the holder stands still")
        result = await place.migrate(lease=10.0)
        assert result.ok, result.failures
        assert result.tables["trades"].rows == 300
        os.kill(holder.pid, signal.SIGCONT)
        holder.communicate(timeout=PATIENCE)
    finally:
        holder.kill()
    assert await place.counts() == (0, 300)
    assert await place.value("SELECT uniqExact(_seq) FROM {cold}.trades") == 300


async def test_a_living_holder_is_not_overtaken(place: Place) -> None:
    await place.fill(10, hours_ago=12, span=3 * HOUR)
    server = open_server([place.url], ClickHouseAuth, "another")
    holder = tiering_run.Lease(server, place.cold, place.job().pair, "another", "host a pid 1", 0.9)
    async with holder.held():
        result = await place.migrate(lease=2.0)
        assert [failure.reason for failure in result.failures] == [reasons.MIGRATION_BUSY]
        assert "host a pid 1" in result.failures[0].message
    assert (await place.migrate(lease=2.0)).ok
    await server.close()


async def test_of_many_one_holds_the_lease(place: Place) -> None:
    holding, most = 0, 0

    async def contend(name: str) -> None:
        nonlocal holding, most
        server = open_server([place.url], ClickHouseAuth, name)
        with suppress(tiering_run.TieringError):
            async with tiering_run.Lease(server, place.cold, "pair", name, name, 0.5).held():
                holding += 1
                most = max(most, holding)
                await asyncio.sleep(0.05)
                holding -= 1
        await server.close()

    await asyncio.gather(*(contend(f"run {number}") for number in range(6)))
    assert most == 1


async def test_refusals_delete_nothing_and_are_mended(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiering_run, "TRIES", 0)
    await place.fill(500, hours_ago=12, span=HOUR)
    before = (await place.rows())["hot"]

    async def refused(reason: Reason, code: int) -> None:
        result = await place.migrate()
        assert [(failure.reason, failure.code) for failure in result.failures] == [(reason, code)]
        assert await place.value("SELECT count() FROM {hot}.trades") == 500

    await place.run("ALTER TABLE {cold}.trades MODIFY SETTING parts_to_throw_insert = 1, parts_to_delay_insert = 1")
    await place.run("INSERT INTO {cold}.trades SELECT * FROM {hot}.trades LIMIT 1")
    await refused(reasons.MIGRATION_PARTS, 252)
    await place.run("ALTER TABLE {cold}.trades RESET SETTING parts_to_throw_insert, parts_to_delay_insert")
    await place.run("ALTER TABLE {cold}.trades DROP COLUMN is_maker")
    await refused(reasons.SCHEMA_DRIFT, 0)
    await place.run("ALTER TABLE {cold}.trades ADD COLUMN is_maker Nullable(String)")
    await refused(reasons.SCHEMA_DRIFT, 0)
    await place.run("ALTER TABLE {cold}.trades MODIFY COLUMN is_maker Nullable(Bool)")
    await place.run("RENAME TABLE {cold}.trades TO {cold}.elsewhere")
    await refused(reasons.SCHEMA_MISSING, 0)
    await place.run("RENAME TABLE {cold}.elsewhere TO {cold}.trades")
    await place.run("TRUNCATE TABLE {cold}.trades")
    assert (await place.migrate()).ok
    assert (await place.rows())["cold"] == before


async def test_too_little_memory_is_told_and_mended(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    await place.fill(60_000, hours_ago=12, span=1800)
    monkeypatch.setattr(tiering_run, "TRIES", 1)
    monkeypatch.setattr(tiering_servers, "SETTINGS", {**tiering_servers.SETTINGS, "max_memory_usage": 5_000_000})
    result = await place.migrate()
    assert [failure.code for failure in result.failures] == [241]
    assert sum(await place.counts()) == 60_000  # a short first hour may have fitted
    monkeypatch.undo()
    assert (await place.migrate()).ok
    assert await place.counts() == (0, 60_000)
    assert await place.value("SELECT uniqExact(_seq) FROM {cold}.trades") == 60_000


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (241, reasons.MIGRATION_MEMORY),
        (164, reasons.TIER_TAKES_NO_WRITES),
        (243, reasons.TIER_TAKES_NO_WRITES),
    ],
)
async def test_a_passing_refusal_is_tried_again_and_told_when_it_stays(
    place: Place, monkeypatch: pytest.MonkeyPatch, code: int, reason: Reason
) -> None:
    await place.fill(500, hours_ago=12, span=HOUR)
    real, left = ClickHouse.command, 0

    async def command(self: ClickHouse, sql: str, *rest: object, **named: object) -> None:
        nonlocal left
        if "cold_" in sql and "INSERT INTO" in sql and "NOT IN" in sql and left:
            left -= 1
            raise refused_by_clickhouse(code, "not now")
        await real(self, sql, *rest, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(ClickHouse, "command", command)
    monkeypatch.setattr(tiering_run.Backoff, "next", lambda self: setattr(self, "tries", self.tries + 1) or 0.0)
    left = 1000
    result = await place.migrate()
    assert [(failure.code, failure.reason) for failure in result.failures] == [(code, reason)]
    assert (await place.counts()) == (500, 0)
    left = 2
    assert (await place.migrate()).ok
    assert (await place.counts()) == (0, 500)


async def test_a_right_that_is_missing_is_told_at_once(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    await place.fill(10, hours_ago=12, span=60)
    real, tries = ClickHouse.command, 0

    async def command(self: ClickHouse, sql: str, *rest: object, **named: object) -> None:
        nonlocal tries
        if "cold_" in sql and "INSERT INTO" in sql and "NOT IN" in sql:
            tries += 1
            raise refused_by_clickhouse(497, "no grant INSERT")
        await real(self, sql, *rest, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(ClickHouse, "command", command)
    assert [failure.reason for failure in (await place.migrate()).failures] == [reasons.CLICKHOUSE_DENIED]
    assert (tries, await place.counts()) == (1, (10, 0))


async def test_a_ledger_that_can_not_be_written_stops_nothing(place: Place) -> None:
    await place.fill(50, hours_ago=12, span=HOUR)
    await place.run("CREATE TABLE {cold}._migrations (nothing UInt8) ENGINE = Memory")
    assert (await place.migrate()).ok
    assert await place.counts() == (0, 50)


async def test_the_ledger_tells_what_was_moved(place: Place) -> None:
    await place.fill(50, hours_ago=12, span=60)
    result = await place.migrate()
    code, history = place.cli("migrate", "--history", "--output", "json")
    assert code == 0
    assert sum(one["rows"] for one in history) == 50
    assert {(one["run"], one["mode"], one["status"], one["table"]) for one in history} == {
        (result.run, "move", "done", "trades")
    }


async def test_a_copy_that_came_after_anothers_delete_is_found_by_the_ledger(place: Place) -> None:
    await place.fill(50, hours_ago=12, span=60)
    before = (await place.rows())["hot"]
    assert (await place.migrate()).ok
    await place.run(
        "INSERT INTO {cold}.trades SELECT * FROM {cold}.trades WHERE _seq < 9 SETTINGS insert_deduplicate = 0"
    )
    await place.run(
        "INSERT INTO {cold}._migrations (run, table, slice_from, slice_to, started, mode, status)"
        " SELECT 'dead', table, slice_from, slice_to, started, mode, status FROM {cold}._migrations WHERE status = 'began'"
    )
    assert (await place.migrate()).ok
    assert (await place.rows())["cold"] == before


async def test_a_copy_after_the_lease_has_ended_is_refused_by_the_server(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    await place.fill(50, hours_ago=12, span=60)
    monkeypatch.setattr(tiering_run._TableRun, "_fence", lambda _: 1)
    assert [failure.reason for failure in (await place.migrate()).failures] == [reasons.LEASE_LOST]
    assert await place.counts() == (50, 0)


# --- ClickHouse killed ------------------------------------------------------------------------------------------------


class Reader:
    """Asks all the time, hot first and cold second, whether every identity that was ever inserted is in one of them."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self.inserted = 0
        self.looked = 0

    async def look(self) -> None:
        known = self.inserted
        ids = "SELECT _seq FROM {tier}.trades WHERE _stream != ''"
        hot = {row[0] for row in await self.place.query(ids.replace("tier", "hot"))}
        cold = {row[0] for row in await self.place.query(ids.replace("tier", "cold"))}
        missing = set(range(1, known + 1)) - hot - cold
        assert not missing, f"{len(missing)} rows are in neither tier, such as {min(missing)}"
        self.looked += 1


@pytest.fixture
async def own(tmp_path: Path) -> AsyncIterator[tuple[Place, Path]]:
    server = start_clickhouse(tmp_path / "clickhouse")
    made = await make(server.url)
    made.process = server  # type: ignore[attr-defined]
    yield made, tmp_path / "clickhouse"
    made.process.kill()  # type: ignore[attr-defined]
    await made.server.close()


@pytest.mark.timeout(300 + 60 * KILLS)
async def test_clickhouse_killed_at_random_moments_under_ingest(own: tuple[Place, Path]) -> None:
    place, directory = own
    random = Random(11)
    reader = Reader(place)
    port = int(place.url.rpartition(":")[2])
    for _ in range(KILLS):
        migrator: subprocess.Popen[str] | None = None
        # Late rows of all hours that move, in many small inserts, before and while it runs.
        for _ in range(3):
            await place.fill(400, hours_ago=12, span=3 * HOUR, first=reader.inserted + 1)
            reader.inserted += 400
        migrator = place.command("migrate", "--table", "trades", "--lease", "1s", "--batch-limit", "100000")
        kill_at = time.monotonic() + 0.6 + random.random() * 1.2
        with suppress(StoreError):
            while time.monotonic() < kill_at:
                await place.fill(50, hours_ago=12, span=3 * HOUR, first=reader.inserted + 1)
                reader.inserted += 50
                await reader.look()
        place.process.kill()  # type: ignore[attr-defined]
        if random.random() < 0.5:
            migrator.kill()
        migrator.communicate(timeout=PATIENCE)
        place.process = start_clickhouse(directory, port)  # type: ignore[attr-defined]
        await place.server.close()
        await reader.look()
    result: Result = await Migration(place.job(), lease=10.0).run()
    assert result.ok, result.failures
    await reader.look()
    assert reader.looked > 2 * KILLS
    hot, cold = await place.counts()
    assert (hot, cold) == (0, reader.inserted)
    wrong = (
        "SELECT countIf(trade_id != toString(_seq)), count() - uniqExact(_seq), countIf(_stream != '" + STREAM + "')"
        " FROM {cold}.trades"
    )
    assert await place.query(wrong) == [(0, 0, 0)]
