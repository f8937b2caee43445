"""From hot to cold on two replicas: what leaves hot is on both, and nothing is concluded from one replica's parts about another's."""

from __future__ import annotations

from dataclasses import replace

import pytest

from marketprism_consumer.clickhouse.client import ClickHouse
from marketprism_consumer.clickhouse.shards import store_of
from marketprism_consumer.errors import StoreError
from marketprism_consumer.schema.tables import TRADES
from marketprism_consumer.tiering.job import Job
from marketprism_consumer.tiering.run import Migration, Result
from tests.faults.harness import World
from tests.replicated.conftest import Heal, Replicas
from tests.waiting import wait_for

pytestmark = pytest.mark.timeout(300)


@pytest.fixture
def stored(world: World) -> World:
    """With trades in hot, and nobody who inserts."""
    feed = world.feed(types=["trade"])
    ingest = world.ingest()
    ingest.until_more(500)
    feed.stop()
    world.prove()
    ingest.process.terminate()
    ingest.ended()
    return world


def totals(database: str) -> str:
    """Rows, and a sum over all values of all of them."""
    return f"SELECT count(), sum(toUInt128(cityHash64(*))) FROM `{database}`.trades"


def in_hot(world: World) -> tuple[int, int]:
    ((rows, total),) = world.query(totals(world.hot))
    return int(rows), int(total)


def migrate(world: World, *urls: str) -> Result:
    job = Job(urls, (), world.hot, world.settings.cold_db, ("trades",), 0.1, 5_000_000, cluster=world.settings.cluster)
    job = replace(job, quorum=world.settings.insert_quorum)
    return world.call(Migration(job, lease=2.0).run())


def seen_by(world: World, node: str) -> tuple[int, int]:
    """What is in cold by this replica's word; hot has to be empty."""
    clickhouse = ClickHouse([node])
    try:
        hot = world.call(clickhouse.value(f"SELECT count() FROM `{world.hot}`.trades"))
        rows = world.call(clickhouse.query(totals(world.settings.cold_db)))
    finally:
        world.call(clickhouse.close())
    return (-1, hot) if hot else (int(rows[0][0]), int(rows[0][1]))


def test_a_balancer_is_refused_as_one_replicas_parts_are_not_anothers(stored: World, replicas: Replicas) -> None:
    before = in_hot(stored)
    (failure,) = migrate(stored, replicas.url).failures
    assert failure.reason.name == "MigrationUnpinned"
    assert "CLICKHOUSE_HTTP_URL" in failure.reason.hint
    assert in_hot(stored) == before


def test_all_moves_by_one_replica_and_the_other_one_has_it(stored: World, replicas: Replicas) -> None:
    before = in_hot(stored)
    result = migrate(stored, *replicas.nodes)
    assert result.ok, result.failures
    for node in replicas.nodes:
        again = migrate(stored, node)
        assert again.ok, again.failures
        assert again.tables["trades"].backlog_rows == 0
        assert seen_by(stored, node) == before


def test_nothing_leaves_hot_before_another_replica_has_it_in_cold(
    stored: World, replicas: Replicas, heal: Heal
) -> None:
    here, other = replicas.nodes
    before = in_hot(stored)
    heal(lambda: replicas.do("node", "fetches", other, "on"))
    replicas.do("node", "fetches", other, "off")
    (failure,) = migrate(stored, here).failures
    assert failure.reason.name == "ReplicasBehind", failure
    replicas.do("node", "fetches", other, "on")
    assert in_hot(stored) == before
    assert migrate(stored, here).ok
    assert seen_by(stored, other) == before


@pytest.mark.parametrize("quorum", ["none"])
def test_a_replica_that_is_away_follows_later(stored: World, replicas: Replicas, heal: Heal) -> None:
    """The next one is taken for the run; what is deleted in hot meanwhile is deleted there when it is back."""
    away, here = replicas.nodes
    before = in_hot(stored)
    heal(lambda: replicas.do("node", "start", away))
    replicas.do("node", "kill", away)
    result = migrate(stored, away, here)
    assert result.ok, result.failures
    replicas.do("node", "start", away)
    wait_for(lambda: seen_by(stored, away) == before, "it has followed")


def test_a_replica_without_cold_s_table_does_not_speak_for_the_other(stored: World, replicas: Replicas) -> None:
    """Look-ups take what is nowhere for empty, and a replica that is new has nothing yet."""
    database = stored.settings.cold_db
    here = ClickHouse([replicas.nodes[0]], cluster=stored.settings.cluster)
    cold = store_of(here, database, optional=True)
    try:
        stored.call(here.command(f"DROP TABLE `{database}`.trades SYNC"))
        with pytest.raises(StoreError) as refused:
            stored.call(cold.stored(TRADES, "any", [1]))
        assert refused.value.reason.name == "SchemaMissing"
        nowhere = store_of(here, f"{database}_never_made", optional=True)
        assert stored.call(nowhere.stored(TRADES, "any", [1])) == {}
    finally:
        stored.call(here.close())
