"""From hot to cold where rows are spread over shards: each shard moves its own, by one of its replicas."""

from __future__ import annotations

import json
import subprocess
from typing import Any

import pytest

from marketprism_consumer.clickhouse.client import ClickHouse
from marketprism_consumer.operations.audit import audit
from marketprism_consumer.tiering.job import Job
from marketprism_consumer.tiering.run import Migration, Result
from tests.faults.harness import MARKETPRISM, World
from tests.replicated.conftest import Heal, Shards
from tests.waiting import wait_for

pytestmark = pytest.mark.timeout(300)


@pytest.fixture
def stored(sharded: World) -> World:
    """With trades in hot, and nobody who inserts."""
    feed = sharded.feed(types=["trade"])
    ingest = sharded.ingest()
    ingest.until_more(500, "trade")
    feed.stop()
    sharded.prove()
    ingest.process.terminate()
    ingest.ended()
    return sharded


def totals(world: World, database: str) -> tuple[int, int]:
    """Rows of all shards, and a sum over all values of all of them."""
    ((rows, total),) = world.query(f"SELECT count(), sum(toUInt128(cityHash64(*))) FROM `{database}`.trades")
    return int(rows), int(total or 0)


def local(world: World, node: str, database: str) -> set[tuple[int, str]]:
    """(sequence, symbol) of the rows that this node's shard has of itself."""
    asked = ClickHouse([node])
    try:
        return set(world.call(asked.query(f"SELECT _seq, symbol FROM `{database}`.trades_local")))
    finally:
        world.call(asked.close())


def migrate(world: World, shards: Shards) -> Result:
    urls = (*shards.nodes, *shards.second)
    job = Job(
        urls, (), world.hot, world.settings.cold_db, ("trades",), 0.1, 5_000_000, cluster=shards.cluster, sharded=True
    )
    return world.call(Migration(job, lease=2.0).run())


def test_each_shard_moves_its_own_rows(stored: World, shards: Shards) -> None:
    before = totals(stored, stored.hot)
    own = {node: local(stored, node, stored.hot) for node in (shards.nodes[0], shards.second[0])}
    result = migrate(stored, shards)
    assert result.ok, result.failures
    assert result.tables["trades"].rows == before[0]
    assert totals(stored, stored.hot) == (0, 0)
    assert totals(stored, stored.settings.cold_db) == before
    for node, rows in own.items():
        assert rows
        assert local(stored, node, stored.settings.cold_db) == rows
    report = stored.call(
        audit(stored.settings, stored.store, stored.client, data_types=stored.settings.data_types, deep=True)
    )
    assert report.holds, [one.findings for one in report.types]
    assert report["trade"].rows == before[0]


def test_while_a_shard_is_away_the_other_one_moves(stored: World, shards: Shards, heal: Heal) -> None:
    before = totals(stored, stored.hot)
    for node in shards.second:
        heal(lambda node=node: shards.do("node", "start", node))  # type: ignore[misc]
        shards.do("node", "kill", node)
    (failure,) = migrate(stored, shards).failures
    assert failure.table == "of shard 2"
    assert failure.reason.name == "ClickHouseUnreachable"
    for node in shards.second:
        shards.do("node", "start", node)
    left = wait_for(lambda: totals(stored, stored.hot), "an answer of both shards")
    assert 0 < left[0] < before[0]
    result = wait_for(lambda: (done := migrate(stored, shards)).ok and done, "both shards migrate")
    assert result.tables["trades"].rows == left[0]
    assert totals(stored, stored.settings.cold_db) == before


def test_what_is_where_and_what_was_moved_is_told_of_all_shards(stored: World, shards: Shards) -> None:
    nodes = ",".join((*shards.nodes, *shards.second))
    file = stored.write_file("nodes", clickhouse={**stored.spec["clickhouse"], "url": nodes})
    rows, _ = totals(stored, stored.hot)

    def said(*command: str, code: int = 0) -> Any:
        given = [*MARKETPRISM, *command, "-f", str(file), "--output", "json"]
        done = subprocess.run(given, capture_output=True, text=True, check=False, timeout=120)
        assert done.returncode == code, done.stdout[-2000:] + done.stderr[-2000:]
        return json.loads(done.stdout.splitlines()[-1])

    assert said("migrate", "--table", "trades", "--older-than", "1s")["rows"] == rows
    found = said("tiers", "--table", "trades")["tables"]["trades"]
    assert (found["hot"]["rows"], found["cold"]["rows"], found["doubles"]) == (0, rows, 0)
    assert sum(each["rows"] for each in said("migrate", "--history") if each["status"] == "done") == rows
    assert said("status", code=1)["lastMigration"]["table"] == "trades"
