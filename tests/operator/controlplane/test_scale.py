"""`make scale`: two hundred pipelines under one operator. Prints what it measured."""

from __future__ import annotations

import asyncio
import re
import time
from pathlib import Path

import pytest

from tests.operator.controlplane.pipeline_world import World, until

PIPELINES = 200
MEMORY = 200  # [MB]
REST = 120  # [s]
OURS = (
    "storagepipelines|tieringpolicies|serviceaccounts|configmaps|services|deployments|jobs|cronjobs|networkpolicies|"
    "poddisruptionbudgets|events"
)
WRITES = re.compile(
    r'apiserver_request_total\{(?=[^}]*dry_run="")(?=[^}]*resource="(?:' + OURS + r')")'
    r'(?=[^}]*verb="(?:POST|PUT|PATCH|APPLY|DELETE|DELETECOLLECTION)")[^}]*\} (\S+)'
)


async def writes(world: World) -> float:
    """To objects of our kinds, since the API server was started, by its own metrics."""
    request = await world.api.param_serialize("GET", "/metrics", auth_settings=["BearerToken"])
    answer = (await world.api.call_api(*request)).response
    assert answer.status == 200
    return sum(float(found[1]) for found in WRITES.finditer(await answer.text()))


def resident(pid: int) -> float:
    """MB."""
    found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found
    return int(found[1]) / 1024


@pytest.mark.scale
@pytest.mark.timeout(900)
async def test_two_hundred_pipelines(world: World) -> None:
    names = [f"p{number}" for number in range(PIPELINES)]
    spec = {
        "dataTypes": {"trade": {}, "orderbook": {}},
        "consumers": {"fast": {"dataTypes": ["trade"], "replicas": 2}, "slow": {"dataTypes": ["orderbook"]}},
    }
    with world.operator(MARKETPRISM_RESYNC_SECONDS="30") as process:
        began = time.monotonic()
        async with world.controllers():
            for name in names:
                await world.pipeline(name, **spec)

            async def all_ready() -> bool:
                await asyncio.sleep(1)
                found = await world.cluster.list("StoragePipeline", world.namespace)
                ready = [
                    resource["metadata"]["name"]
                    for resource in found
                    for condition in (resource.get("status") or {}).get("conditions") or []
                    if (condition["type"], condition["status"]) == ("Ready", "True")
                ]
                return len(ready) == PIPELINES

            await until(all_ready, seconds=600)
        up = time.monotonic() - began
        assert await writes(world) > PIPELINES, "they are counted"
        resync = await world.metric("marketprism_operator_last_resync_time")

        async def resynced() -> bool:
            return await world.metric("marketprism_operator_last_resync_time") > resync

        await until(resynced, seconds=60)
        await asyncio.sleep(15)  # the resync that has just begun ends
        before, busy = await writes(world), cpu(process.pid)
        await asyncio.sleep(REST)
        written, used, memory = await writes(world) - before, cpu(process.pid) - busy, resident(process.pid)
        print(
            f"\nscale: {PIPELINES} pipelines Ready in {up:.0f} s; {memory:.0f} MB; at rest in {REST} s:"
            f" {written:.0f} writes, {used / REST:.1%} of a core with a resync every 30 s"
        )
        assert written == 0
        assert memory < MEMORY


def cpu(pid: int) -> float:
    """Seconds used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100
