"""Three nats-servers, replicas of ClickHouse, three consumers, and faults of all kinds, drawn from a seed: with one shard behind a
balancer, and with two.

A minute each by default; `make haul` takes half an hour each. MARKETPRISM_HAUL_SEED repeats a run's faults.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import pytest

from tests.faults.harness import STREAMS, Cluster, Ingest, Loop, World
from tests.replicated.conftest import Replicas, Shards
from tests.waiting import wait_for

SECONDS = float(os.environ.get("MARKETPRISM_HAUL_SECONDS", "60"))
SEED = int(os.environ.get("MARKETPRISM_HAUL_SEED", time.time_ns() % 1_000_000))
BUCKET = "KV_MARKETPRISM_LANES"
CONSUMERS = 3
PEAK_MB = 400  # of one consumer
DESCRIPTORS = 100  # of one consumer

EXPECTED = {
    "BlockSetAside", "ClickHouseUnreachable", "ClickHouseDenied", "InsertBlocked", "InsertRetried", "NATSUnreachable", "NoJetStream",
    "RecordUnavailable", "RecordInDoubt", "DeadLettersUnavailable", "DeadLetterFlood", "StreamMissing",
    "NATSBusy", "ReplicasBehind",
}  # fmt: skip
"""What these faults may be told as. Nothing here loses a message, sets a stream back, or takes a right away."""

pytestmark = pytest.mark.timeout(SECONDS + 600)


@dataclass
class Fault:
    name: str
    do: Callable[[], Any]
    undo: Callable[[], Any] = lambda: None

    @property
    def of(self) -> str:
        """What it befalls."""
        first, second, *_ = self.name.split()
        return "replicas" if first.startswith("replica") else f"{first} {second}"


class Haul:
    def __init__(self, world: World, nats: Cluster, replicas: Replicas, random: Random) -> None:
        self.world, self.nats, self.replicas, self.random = world, nats, replicas, random
        self.consumers = [world.ingest() for _ in range(CONSUMERS)]
        for one in self.consumers:
            one.until_ready()
        self.peak_mb = self.descriptors = 0.0

    def draw_several(self, count: int) -> list[Fault]:
        """One at most of all replicas, of each consumer and of each server: what is killed can't be thawed, and what is frozen does
        not end."""
        faults = {fault.of: fault for fault in [self.draw() for _ in range(count)]}
        return list(faults.values())

    def draw(self) -> Fault:
        random, do = self.random, self.replicas.do
        one = random.randrange(CONSUMERS)
        node = random.choice(self.replicas.all_nodes)
        name = node.rpartition(":")[2]
        server_name, server = random.choice(sorted(self.nats.nodes.items()))
        stream = random.choice((BUCKET, *STREAMS))
        second = self.replicas.second if isinstance(self.replicas, Shards) else []
        whole_shard = [
            Fault(
                "replicas of a whole shard are frozen",
                lambda: [do("node", "pause", each) for each in second],
                lambda: [do("node", "resume", each) for each in second],
            )
        ]
        return random.choice(
            [
                *(whole_shard if second else []),
                Fault(f"consumer {one} is killed", lambda: self._again(one, Ingest.kill)),
                Fault(f"consumer {one} is stopped", lambda: self._again(one, _terminate)),
                Fault(f"consumer {one} is frozen", self.consumers[one].freeze, self.consumers[one].thaw),
                Fault(f"the leader of {stream} steps down", lambda: self._step_down(stream)),
                Fault(f"nats-server {server_name} is killed", server.kill, server.start),
                Fault(f"nats-server {server_name} is frozen", server.child.freeze, server.child.thaw),
                Fault(f"replica {name} is killed", lambda: do("node", "kill", node), lambda: do("node", "start", node)),
                Fault(
                    f"replica {name} is frozen", lambda: do("node", "pause", node), lambda: do("node", "resume", node)
                ),
                Fault(
                    f"replica {name} fetches nothing",
                    lambda: do("node", "fetches", node, "off"),
                    lambda: do("node", "fetches", node, "on"),
                ),
                Fault("Keeper is frozen", lambda: do("keeper", "pause"), lambda: do("keeper", "resume")),
                Fault("answers are cut", lambda: do("balancer", "shard1", "cut", "4")),
                Fault("connections are reset", lambda: do("balancer", "shard1", "reset")),
                Fault(
                    "answers are late",
                    lambda: do("balancer", "shard1", "latency", "300"),
                    lambda: do("balancer", "shard1", "latency", "0"),
                ),
            ]
        )

    def _again(self, number: int, end: Callable[[Ingest], Any]) -> None:
        end(self.consumers[number])
        self.consumers[number] = self.world.ingest()

    def _step_down(self, stream: str) -> None:
        wait_for(lambda: self.world.api(f"STREAM.LEADER.STEPDOWN.{stream}"), f"the leader of {stream} steps down")

    def measure(self) -> None:
        for one in self.consumers:
            if one.running:
                status = Path(f"/proc/{one.process.pid}/status").read_text()
                self.peak_mb = max(self.peak_mb, int(status.partition("VmHWM:")[2].split()[0]) / 1024)
                self.descriptors = max(self.descriptors, len(list(Path(f"/proc/{one.process.pid}/fd").iterdir())))

    def alarms(self) -> set[str]:
        return {str(line["reason"]) for one in self.world.ingests for line in one.log() if "reason" in line}


def _terminate(one: Ingest) -> None:
    one.process.terminate()
    one.ended()


@pytest.fixture(params=["none", "bySymbol"])
def haul(request: pytest.FixtureRequest, tmp_path: Path, loop: Loop) -> Iterator[Haul]:
    replicas: Replicas = request.getfixturevalue("replicas" if request.param == "none" else "shards")
    nats = Cluster(tmp_path / "cluster")
    spec = {"clickhouse": {"cluster": replicas.cluster, "sharding": request.param}}
    world = World(nats, replicas, tmp_path, loop, spec=spec)  # type: ignore[arg-type]
    world.make_streams(replicas=3)
    world.make_tables()
    world.until_whole(BUCKET)
    yield Haul(world, nats, replicas, Random(SEED))
    unexpected = world.close()
    nats.kill()
    assert not unexpected, "in the log of ingest:\n" + "\n".join(unexpected)


def test_a_long_haul(haul: Haul) -> None:
    print(f"seed {SEED}, {SECONDS:.0f} s")
    world, random = haul.world, haul.random
    world.feed()
    began = time.monotonic()
    while (passed := time.monotonic() - began) < SECONDS:
        at_once = haul.draw_several(random.choice((1, 1, 2)))
        lasts = random.choice((0.0, 0.5, 2.0, 6.0))
        print(f"{passed:6.0f} s: {' and '.join(fault.name for fault in at_once)}, for {lasts} s", flush=True)
        try:
            for fault in at_once:
                fault.do()
            time.sleep(lasts)
        finally:
            for fault in at_once:
                fault.undo()
        print(f"        rows flow after {world.until_more(100):.1f} s", flush=True)
        haul.measure()
    world.prove(within=max(120.0, SECONDS / 4))  # what piled up is stored at the machine's pace
    print(f"peak {haul.peak_mb:.0f} MB, {haul.descriptors:.0f} descriptors, alarms: {sorted(haul.alarms())}")
    assert haul.peak_mb < PEAK_MB
    assert haul.descriptors < DESCRIPTORS
    assert haul.alarms() <= EXPECTED
