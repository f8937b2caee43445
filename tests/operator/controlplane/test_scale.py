"""What many pipelines cost under one operator. `make scale` takes a thousand, and prints what it measured."""

from __future__ import annotations

import asyncio
import re
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.operator.controlplane.pipeline_world import World, until
from tests.operator.controlplane.simulated import simulated

SPEC = {
    "dataTypes": {"trade": {}, "orderbook": {}},
    "consumers": {"fast": {"dataTypes": ["trade"], "replicas": 2}, "slow": {"dataTypes": ["orderbook"]}},
}
READ, WRITE = frozenset({"GET", "LIST"}), frozenset({"POST", "PUT", "PATCH", "APPLY", "DELETE", "DELETECOLLECTION"})
OURS = {
    "storagepipelines",
    "tieringpolicies",
    "serviceaccounts",
    "configmaps",
    "secrets",
    "services",
    "pods",
    "deployments",
    "jobs",
    "cronjobs",
    "networkpolicies",
    "poddisruptionbudgets",
    "podmonitors",
    "events",
}
_COUNTER = re.compile(r"^apiserver_request_total\{(.*)\} (\S+)$", re.MULTILINE)
_LABEL = re.compile(r'(\w+)="([^"]*)"')


@dataclass(frozen=True, slots=True)
class Requests:
    """Of the operator, since the API server was started, by its own metrics; watches are none."""

    reads: float
    writes: float

    @property
    def all(self) -> float:
        return self.reads + self.writes

    def __sub__(self, other: Requests) -> Requests:
        return Requests(self.reads - other.reads, self.writes - other.writes)


async def requests(world: World) -> Requests:
    request = await world.api.param_serialize("GET", "/metrics", auth_settings=["BearerToken"])
    answer = (await world.api.call_api(*request)).response
    assert answer.status == 200
    counts = {READ: 0.0, WRITE: 0.0}
    for found in _COUNTER.finditer(await answer.text()):
        labels = dict(_LABEL.findall(found[1]))
        simulated_ = labels["subresource"] == "status" and labels["resource"] in ("pods", "deployments", "jobs")
        if labels["resource"] in OURS and not simulated_:
            for verbs in counts:
                counts[verbs] += float(found[2]) if labels["verb"] in verbs else 0
    return Requests(counts[READ], counts[WRITE])


def resident(pid: int) -> float:
    """MB."""
    found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found
    return int(found[1]) / 1024


def cpu(pid: int) -> float:
    """Seconds used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100


@dataclass(frozen=True, slots=True)
class Costs:
    """Seconds, MB, cores, requests a second."""

    ready: float
    memory: float
    rest: Requests
    cpu_at_rest: float
    told: float
    """From the first Pod that is unready until every pipeline says so."""
    telling: Requests
    lasting: float
    """Requests a second while the outage goes on."""
    recovered: float


async def costs(world: World, pipelines: int, *, resync: int, rest: int, patience: float) -> Costs:
    """Makes that many, lets them be Ready, rest for `rest` seconds, lose NATS, and get it back."""

    async def ready(status: str) -> bool:
        # What it tells of so many costs it much: it is asked every few seconds, as by Prometheus.
        await asyncio.sleep(pipelines / 200)
        labels = ('type="Ready"', f'status="{status}"')
        return await world.metric("marketprism_operator_resource_condition{", *labels) == pipelines

    async def took(status: str) -> float:
        began = time.monotonic()
        await until(lambda: ready(status), patience)
        return time.monotonic() - began

    async def quiet() -> bool:
        """No more is read than a resync does."""
        before = await requests(world)
        await asyncio.sleep(5)
        since = await requests(world) - before
        return since.writes == 0 and since.reads <= 2 + 2 * pipelines * 5 / resync

    with world.operator(MARKETPRISM_RESYNC_SECONDS=str(resync)) as process:
        async with simulated(world) as simulation:
            await until(lambda: answers(world))
            began = time.monotonic()
            await create(world, pipelines)
            await took("True")
            up = time.monotonic() - began

            await until(quiet, patience)
            before, used, since = await requests(world), cpu(process.pid), time.monotonic()
            await asyncio.sleep(rest)
            passed = time.monotonic() - since
            at_rest, used = await requests(world) - before, (cpu(process.pid) - used) / passed
            memory = resident(process.pid)

            before, since = await requests(world), time.monotonic()
            await simulation.outage()
            await took("False")
            told, telling = time.monotonic() - since, await requests(world) - before
            before, since = await requests(world), time.monotonic()
            await asyncio.sleep(rest)
            lasting = (await requests(world) - before).all / (time.monotonic() - since)
            memory = max(memory, resident(process.pid))

            since = time.monotonic()
            await simulation.recovery()
            await took("True")
            return Costs(up, memory, at_rest, used, told, telling, lasting, time.monotonic() - since)


async def answers(world: World) -> bool:
    with suppress(OSError):
        await world.metric("marketprism")
        return True
    return False


async def create(world: World, pipelines: int) -> None:
    names = iter(range(pipelines))

    async def some() -> None:
        for number in names:
            await world.pipeline(f"p{number}", **SPEC)

    await asyncio.gather(*(some() for _ in range(4)))


@pytest.mark.timeout(280)
async def test_at_rest_only_the_resync_reads_and_an_outage_is_no_storm(world: World) -> None:
    pipelines, resync, rest = 50, 300, 30
    found = await costs(world, pipelines, resync=resync, rest=rest, patience=120)
    assert found.rest.writes == 0
    assert found.rest.reads <= 2 + 1.5 * pipelines * rest / resync, "one read of each resource in a resync"
    assert found.telling.all <= 15 * pipelines
    assert found.lasting <= 3 * pipelines / rest, "a look at each after 15 s, and after 30 s more: one read each"


@pytest.mark.scale
@pytest.mark.timeout(3000)
async def test_a_thousand_pipelines(world: World) -> None:
    pipelines, rest = 1000, 60
    found = await costs(world, pipelines, resync=300, rest=rest, patience=900)
    print(
        f"\nscale: {pipelines} pipelines Ready in {found.ready:.0f} s; {found.memory:.0f} MB;"
        f" at rest {found.cpu_at_rest:.1%} of a core, {found.rest.all / rest:.1f} requests/s;"
        f" an outage of NATS told of all in {found.told:.0f} s by {found.telling.all:.0f} requests, then"
        f" {found.lasting:.1f} requests/s; Ready again in {found.recovered:.0f} s"
    )
    assert found.ready < 300
    assert found.memory <= 200
    assert found.cpu_at_rest < 0.05
    assert found.rest.writes == 0
    assert found.rest.reads / rest <= 1.5 * pipelines / 300
    assert found.lasting <= pipelines / 15
