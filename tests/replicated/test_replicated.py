"""Two replicas behind a balancer that gives each connection to another one: nothing is lost, nothing doubled.

A replicated table commits a token with its part, so nothing has to be looked up as long as blocks can be sent again.
"""

from __future__ import annotations

import json
import os
import subprocess
import time

import pytest

from marketprism_api.load import load_pipeline
from marketprism_api.settings import effective
from marketprism_consumer.clickhouse import schema
from marketprism_consumer.clickhouse.client import ClickHouse
from marketprism_consumer.schema.tables import TRADES
from tests.faults.harness import MARKETPRISM, VALID, World
from tests.replicated.conftest import Heal, Replicas, lookups
from tests.waiting import free_port, wait_for

pytestmark = pytest.mark.timeout(300)


def test_both_replicas_know_the_table_as_the_same(world: World, replicas: Replicas) -> None:
    identity = world.call(world.store.identity(TRADES))
    assert world.call(world.store.identity(TRADES)) == identity


def test_nothing_is_looked_up_while_all_is_well(world: World) -> None:
    world.feed()
    ingests = world.several(2)
    world.until_more(2000)
    world.prove()
    assert lookups(ingests) == 0


without_quorum = pytest.mark.parametrize("quorum", ["none"])


@without_quorum
def test_a_replica_that_fetches_nothing(world: World, replicas: Replicas, heal: Heal) -> None:
    """Whoever is sent a block again may be the one that has not got it yet: Keeper knows its token."""
    world.feed()
    ingests = world.several(2)
    for node in replicas.nodes:
        heal(lambda node=node: replicas.do("node", "fetches", node, "on"))  # type: ignore[misc]
        replicas.do("node", "fetches", node, "off")
        replicas.do("balancer", "shard1", "cut", "2")
        world.until_more(800)
        replicas.do("node", "fetches", node, "on")
    world.prove()
    assert lookups(ingests) == 0


def test_answers_cut_and_connections_reset(world: World, replicas: Replicas) -> None:
    world.feed()
    ingests = world.several(2)
    replicas.cut_and_reset(world, 5)
    world.prove()
    assert lookups(ingests) == 0


@without_quorum
def test_one_replica_is_enough_where_no_quorum_is_asked_for(world: World, replicas: Replicas, heal: Heal) -> None:
    world.feed()
    world.several(2)
    for node in replicas.nodes:
        heal(lambda node=node: replicas.do("node", "start", node))  # type: ignore[misc]
        replicas.do("node", "kill", node)
        world.until_more(800)
        replicas.do("node", "start", node)
        world.until_more(300)
    world.prove()


def test_both_replicas_are_waited_for_when_one_is_killed(world: World, replicas: Replicas, heal: Heal) -> None:
    world.feed()
    ingest = world.ingest()
    ingest.until_more(300)
    for node in replicas.nodes:
        heal(lambda node=node: replicas.do("node", "start", node))  # type: ignore[misc]
        replicas.do("node", "kill", node)
        told = ingest.alarms("ReplicasBehind")
        wait_for(lambda told=told: ingest.alarms("ReplicasBehind") > told, "that one is away is told")  # type: ignore[misc]
        assert "1 can't be asked" in ingest.until_logged("ReplicasBehind")["error"]
        replicas.do("node", "start", node)
        world.until_more(300)
    world.prove()


def test_what_is_recorded_as_stored_does_not_die_with_a_replica(world: World, replicas: Replicas, heal: Heal) -> None:
    """One replica has blocks that the other one never got, and is gone for good."""
    world.feed()
    ingest = world.ingest()
    ingest.until_more(300)
    doomed, left = replicas.nodes
    heal(lambda: replicas.do("node", "start", doomed))
    heal(lambda: replicas.do("node", "fetches", left, "on"))
    replicas.do("node", "fetches", left, "off")
    ingest.until_alarm("ReplicasBehind")
    replicas.do("node", "kill", doomed)
    replicas.do("node", "fetches", left, "on")
    one = ClickHouse([left])
    away = (
        "SELECT arrayJoin(mapKeys(mapFilter((name, active) -> NOT active, replica_is_active))) FROM system.replicas"
        f" WHERE database = '{world.hot}' AND table = 'trades'"
    )
    ((name,),) = wait_for(lambda: world.call(one.query(away)), "one is known to be away")
    world.call(one.command(f"SYSTEM DROP REPLICA '{name}' FROM DATABASE `{world.hot}`"))
    world.call(one.close())
    world.until_more(500)
    world.prove()


def test_keeper_is_paused(world: World, replicas: Replicas, heal: Heal) -> None:
    world.feed()
    (one, _) = world.several(2)
    world.until_more(300)
    heal(lambda: replicas.do("keeper", "resume"))
    replicas.do("keeper", "pause")
    wait_for(lambda: one.metric("marketprism_insert_failures_total") > 0, "an insert that can't be done")
    replicas.do("keeper", "resume")
    world.until_more(800)
    world.prove()


@without_quorum
def test_what_a_killed_process_left_is_looked_up_in_a_replica_that_is_whole(
    world: World, replicas: Replicas, heal: Heal
) -> None:
    """Its block is too old to be sent again when somebody comes: it may be in the one replica and not yet in the other."""
    world.feed()
    doomed = world.ingest(fault="after_insert:kill:5")
    behind, _ = replicas.nodes
    doomed.until_more(100)
    heal(lambda: replicas.do("node", "fetches", behind, "on"))
    replicas.do("node", "fetches", behind, "off")
    doomed.ended()
    killed = time.monotonic()
    wait_for(lambda: time.monotonic() - killed > VALID + 2, "its block is too late")
    again = world.ingest()
    wait_for(lambda: again.metric("marketprism_epochs_total") > 0, "a new epoch")
    replicas.do("node", "fetches", behind, "on")
    world.until_more(500)
    world.prove()


def test_replicas_behind_one_url_are_refused_where_the_pipeline_names_no_cluster(
    world: World, replicas: Replicas
) -> None:
    """Schema on one, ingest on the other: the tables would be split, and nobody would see it."""
    alone = world.write_file(
        "alone", clickhouse={"url": replicas.url, "hotDatabase": "h_alone", "coldDatabase": "c_alone"}
    )
    one = world.ingest(file=alone)
    line = one.until_logged("SeveralServers")
    assert "spec.clickhouse.cluster names no cluster" in str(line["problems"])
    assert one.running
    made = world.query("SELECT count() FROM system.databases WHERE name IN ('h_alone', 'c_alone')")
    assert made == [(0,)]


def test_nothing_is_moved_to_several_servers_that_are_no_cluster(world: World, replicas: Replicas) -> None:
    """What is written to one would be looked for at the other."""
    environ = {"CLICKHOUSE_HTTP_URL": replicas.nodes[0], "CLICKHOUSE_COLD_HTTP_URL": replicas.url}
    done = subprocess.run(
        [*MARKETPRISM, "migrate", "--table", "trades"],
        env={**os.environ, **environ},
        capture_output=True,
        text=True,
        check=False,
    )
    (refused,) = json.loads(done.stdout.splitlines()[-1])["failures"]
    assert (done.returncode, refused["cause"]) == (1, "SeveralServers")


def test_shards_behind_one_url_are_refused(world: World, replicas: Replicas) -> None:
    """A block that is sent again would go to a shard that does not know its token."""
    everywhere = os.environ.get("CLICKHOUSE_BALANCED_ALL")
    if not everywhere or not os.environ.get("CLICKHOUSE_SHARD2"):
        pytest.skip("NOT TESTED: the cluster has one shard (CLICKHOUSE_BALANCED_ALL, CLICKHOUSE_SHARD2)")
    file = world.write_file("everywhere", clickhouse={**world.spec["clickhouse"], "url": everywhere})
    one = world.ingest(file=file)
    line = one.until_logged("SeveralServers")
    assert f"more than one shard of {replicas.cluster} answers" in str(line["problems"])
    assert world.stored() == 0


def test_of_a_clusters_urls_one_that_answers_is_enough_to_begin(world: World, replicas: Replicas) -> None:
    away = f"http://127.0.0.1:{free_port()}"
    file = world.write_file("one-away", clickhouse={**world.spec["clickhouse"], "url": f"{away},{replicas.nodes[0]}"})
    world.feed()
    world.ingest(file=file)
    world.until_more(300)
    world.prove()


def test_a_replica_that_is_away_gets_its_tables_when_it_is_back(world: World, replicas: Replicas, heal: Heal) -> None:
    there, away = replicas.nodes
    heal(lambda: replicas.do("node", "start", away))
    replicas.do("node", "kill", away)
    new = world.write_file(
        "new", clickhouse={**world.spec["clickhouse"], "hotDatabase": "h_new", "coldDatabase": "c_new"}
    )
    settings = effective(load_pipeline(new), {})
    one = ClickHouse([there], cluster=replicas.cluster)
    wait_for(lambda: not world.call(schema.apply(one, settings)).changes, "the schema, though a replica is away")
    replicas.do("node", "start", away)
    count = "SELECT count() FROM system.tables WHERE database = 'h_new' AND name = 'trades'"
    back = ClickHouse([away])
    wait_for(lambda: world.call(back.value(count)) == 1, "its table")
    for database in ("h_new", "c_new"):
        world.call(one.command(f"DROP DATABASE {database} ON CLUSTER '{replicas.cluster}' SYNC"))
    world.call(one.close())
    world.call(back.close())
