"""Three nats-servers, each stream and the bucket on all of them: leaders step down, are killed, and come back."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random

import pytest

from marketprism_api.credentials import NatsAuth
from marketprism_consumer.jetstream.client import PullClient
from marketprism_consumer.operations.check import check_nats
from tests.faults.harness import DEAD_LETTERS, STREAMS, Cluster, World, tell
from tests.waiting import free_port, wait_for

FLOWS_WITHIN = 10.0  # the promise: after a leader's death [s]
BUCKET = "KV_MARKETPRISM_LANES"


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    made = Cluster(tmp_path / "cluster")
    yield made
    made.kill()


def _whole_world(make_world: Callable[..., World], cluster: Cluster, **nats: object) -> World:
    world = make_world(nats=cluster, bare=True, spec={"nats": nats})
    world.make_streams(replicas=3)
    world.make_tables()
    world.until_whole(BUCKET)
    return world


@pytest.fixture
def clustered(make_world: Callable[..., World], cluster: Cluster) -> World:
    return _whole_world(make_world, cluster)


def _leader(world: World, stream: str) -> str:
    return wait_for(lambda: str(world.api(f"STREAM.INFO.{stream}")["cluster"].get("leader", "")), f"{stream}'s leader")


def _step_down(world: World, stream: str) -> None:
    before = _leader(world, stream)
    wait_for(
        lambda: world.api(f"STREAM.LEADER.STEPDOWN.{stream}") and _leader(world, stream) != before, "another leads"
    )


@pytest.mark.parametrize("processes", [2, *(pytest.param(count, marks=pytest.mark.slow) for count in (1, 5))])
def test_leaders_step_down_and_are_killed(clustered: World, cluster: Cluster, processes: int) -> None:
    moments = Random(processes)
    clustered.feed()
    ones = clustered.several(processes)
    clustered.until_more()
    for _ in range(3):
        for stream in (BUCKET, *STREAMS):
            _step_down(clustered, stream)
            clustered.until_more(moments.randrange(1, 300))
    for stream in ("MARKET_DATA", BUCKET):
        node = cluster.nodes[_leader(clustered, stream)]
        node.kill()
        tell(f"rows flow without the leader of {stream}", clustered.until_more(300), FLOWS_WITHIN)
        node.start()
        for each in (BUCKET, *STREAMS):
            clustered.until_whole(each)
    clustered.prove()
    assert clustered.api(f"STREAM.INFO.{DEAD_LETTERS}")["config"]["num_replicas"] == 3
    # Its replicas vouch for the record: who lost a connection need not wait for anything to be over.
    assert not any(one.alarms("RecordInDoubt") for one in ones)


def test_of_a_list_of_servers_one_that_answers_is_enough_and_tells_of_the_others(
    make_world: Callable[..., World], cluster: Cluster
) -> None:
    only = cluster.nodes["n0"]
    world = _whole_world(make_world, cluster, url=f"nats://127.0.0.1:{free_port()},{only.url}")
    world.feed()
    one = world.ingest()
    one.until_ready()
    assert cluster.of(world.client_name) == "n0"
    world.until_more()
    only.kill()
    tell("rows flow by a server that nobody has named", world.until_more(300), FLOWS_WITHIN)
    only.start()
    for each in (BUCKET, *STREAMS):
        world.until_whole(each)
    world.prove()


def test_a_server_that_is_about_to_end_is_left(clustered: World, cluster: Cluster) -> None:
    """Lame duck mode: JetStream ends at once, connections one after the other."""
    clustered.feed()
    one = clustered.ingest()
    one.until_ready()
    clustered.until_more()
    name = cluster.of(clustered.client_name)
    cluster.nodes[name].child.signal(signal.SIGUSR2)
    wait_for(lambda: cluster.of(clustered.client_name) not in ("", name), "it is connected to another")
    tell("rows flow without it", clustered.until_more(300), FLOWS_WITHIN)
    cluster.nodes[name].child.ended()
    cluster.nodes[name].start()
    for each in (BUCKET, *STREAMS):
        clustered.until_whole(each)
    clustered.prove()
    assert not one.log(event="stopped with messages in hand; they are in the stream")


def test_what_we_make_has_as_many_replicas_as_the_stream_and_check_names_what_has_fewer(clustered: World) -> None:
    clustered.feed(bad=0.1)
    one = clustered.ingest()
    one.until_ready()
    wait_for(clustered.dead_letters, "a dead letter")
    config = clustered.api(f"STREAM.INFO.{DEAD_LETTERS}")["config"]
    assert (config["num_replicas"], clustered.api(f"STREAM.INFO.{BUCKET}")["config"]["num_replicas"]) == (3, 3)
    clustered.api(f"STREAM.UPDATE.{DEAD_LETTERS}", {**config, "num_replicas": 1})

    async def checked() -> list[str]:
        client = PullClient()
        try:
            return [line.found async for line in check_nats(clustered.settings, NatsAuth, client)]
        finally:
            await client.close()

    assert f"{DEAD_LETTERS} has 1 replicas, MARKET_DATA has 3" in clustered.call(checked())
