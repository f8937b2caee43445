"""A replicated ClickHouse behind a balancer, from the environment: CLICKHOUSE_CLUSTER, CLICKHOUSE_SHARD1 (URLs of its replicas),
CLICKHOUSE_BALANCED, for sharding CLICKHOUSE_SHARD2 and CLICKHOUSE_BALANCED_ALL, and for the faults CLICKHOUSE_CLUSTER_CONTROL, a folder
with the commands `node`, `keeper` and `balancer`."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from tests.faults.harness import Ingest, Loop, Server, World

VARIABLES = ("CLICKHOUSE_CLUSTER", "CLICKHOUSE_SHARD1", "CLICKHOUSE_BALANCED", "CLICKHOUSE_CLUSTER_CONTROL")


class Replicas:
    """In place of an embedded server: what a World asks of one, and the faults."""

    def __init__(self) -> None:
        if missing := [name for name in VARIABLES if not os.environ.get(name)]:
            pytest.skip(f"NOT TESTED: a replicated ClickHouse is not there ({', '.join(missing)})")
        self.cluster = os.environ["CLICKHOUSE_CLUSTER"]
        self.url = os.environ["CLICKHOUSE_BALANCED"]
        self.nodes = os.environ["CLICKHOUSE_SHARD1"].split(",")
        self.all_nodes = list(self.nodes)
        self._control = Path(os.environ["CLICKHOUSE_CLUSTER_CONTROL"])

    def do(self, command: str, *arguments: str) -> None:
        subprocess.run([self._control / command, *arguments], check=True, capture_output=True, timeout=120)

    def cut_and_reset(self, world: World, times: int) -> None:
        """Answers that end early, and connections that are reset, while rows flow."""
        for _ in range(times):
            self.do("balancer", "shard1", "cut", "2")
            world.until_more(300)
            self.do("balancer", "shard1", "reset")
            world.until_more(300)


class Shards(Replicas):
    """All of a cluster's: the first behind its balancer, of the second each replica."""

    def __init__(self) -> None:
        super().__init__()
        if not os.environ.get("CLICKHOUSE_SHARD2"):
            pytest.skip("NOT TESTED: the cluster has one shard (CLICKHOUSE_SHARD2)")
        self.second = os.environ["CLICKHOUSE_SHARD2"].split(",")
        self.all_nodes += self.second
        self.url = ",".join([self.url, *self.second])


@pytest.fixture(scope="session")
def replicas() -> Replicas:
    return Replicas()


@pytest.fixture(scope="session")
def shards() -> Shards:
    return Shards()


@pytest.fixture
def loop() -> Iterator[Loop]:
    made = Loop()
    yield made
    made.close()


@pytest.fixture(scope="session")
def nats(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server("nats", tmp_path_factory.mktemp("servers") / "nats")
    yield server
    with suppress(ProcessLookupError):
        server.child.kill()


@pytest.fixture
def quorum() -> str:
    """Tests that want another one parametrize it."""
    return "auto"


@contextmanager
def _made(servers: Replicas, nats: Server, place: Path, loop: Loop, **clickhouse: str) -> Iterator[World]:
    spec = {"clickhouse": {"cluster": servers.cluster, **clickhouse}}
    made = World(nats, servers, place, loop, spec=spec)  # type: ignore[arg-type]
    made.clean()
    made.make_streams()
    made.make_tables()
    yield made
    unexpected = made.close()
    assert not unexpected, "in the log of ingest:\n" + "\n".join(unexpected)


@pytest.fixture
def world(replicas: Replicas, nats: Server, tmp_path: Path, loop: Loop, quorum: str) -> Iterator[World]:
    with _made(replicas, nats, tmp_path, loop, insertQuorum=quorum) as made:
        yield made


@pytest.fixture
def sharded(shards: Shards, nats: Server, tmp_path: Path, loop: Loop, quorum: str) -> Iterator[World]:
    """A pipeline over all shards."""
    with _made(shards, nats, tmp_path, loop, sharding="bySymbol", insertQuorum=quorum) as made:
        yield made


def lookups(ingests: Iterable[Ingest]) -> float:
    return sum(one.metric("marketprism_lookups_total") for one in ingests)


Heal = Callable[[Callable[[], Any]], None]


@pytest.fixture
def heal() -> Iterator[Heal]:
    """What is to be done at the end, however the test ends."""
    left: list[Callable[[], Any]] = []
    yield left.append
    for undo in left:
        undo()
