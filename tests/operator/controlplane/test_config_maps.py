"""What a Pod reads stays as it was: an edit makes another ConfigMap, and the Pods that it concerns go over to it once it is proven."""

from __future__ import annotations

import copy
import math
from typing import Any

import pytest
from kubernetes.aio.client.exceptions import ApiException

from marketprism_operator import reconcile as steps
from marketprism_operator.builders import pod
from marketprism_operator.cluster import Cluster
from marketprism_operator.config import Config
from marketprism_operator.events import Events
from marketprism_operator.reconcile import Reconciliation, reconcile
from tests.operator.controlplane.pipeline_world import Object, World

SPEC: Object = {
    "dataTypes": {"trade": {}, "orderbook": {}},
    "consumers": {"fast": {"dataTypes": ["trade"]}, "slow": {"dataTypes": ["orderbook"]}},
}


class Looks:
    """Reconciles of one pipeline, one after the other; what an operator remembers between them is in `unused`."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.cluster = Cluster(world.api)
        self.unused: dict[tuple[str, str], float] = {}

    async def take(self, **spec: Any) -> None:
        """As often as it takes until nothing more is to be done; the schema Job succeeds."""
        if spec:
            await self.world.pipeline(**spec)
        for _ in range(2):
            await self.once()
            await self.world.jobs_succeed()
        await self.once()

    async def once(self) -> None:
        live = await self.world.get("StoragePipeline", "main")
        assert live
        await reconcile(Reconciliation(self.cluster, Config(), Events(live), live, renew=False, unused=self.unused))

    async def read_by(self, consumer: str) -> str:
        live = await self.world.get("Deployment", f"main-{consumer}")
        assert live
        return pod.config_of(live["spec"]["template"])

    async def has_rolled_out(self, consumer: str) -> None:
        """What the Deployment's controller does: a ReplicaSet for each template."""
        live = await self.world.get("Deployment", f"main-{consumer}")
        assert live
        spec = {"replicas": 0, "selector": live["spec"]["selector"], "template": live["spec"]["template"]}
        labels = live["spec"]["template"]["metadata"]["labels"]
        name = f"main-{consumer}-{await self.read_by(consumer)}"
        await self.world.apply("ReplicaSet", name, metadata={"name": name, "labels": labels}, spec=spec)

    def time_passes(self) -> None:
        """Enough of it that a controller has seen the last change."""
        self.unused.update(dict.fromkeys(self.unused, -math.inf))


async def test_the_old_one_stays_while_it_is_not_proven_that_the_new_one_works(world: World) -> None:
    looks = Looks(world)
    await looks.take(**SPEC)
    first = await looks.read_by("fast")
    config = await world.get("ConfigMap", first)
    with pytest.raises(ApiException, match="Unprocessable"):
        await world.edit("ConfigMap", first, {"data": {"pipeline.yaml": "kind: Nothing"}})
    await world.pipeline(**SPEC, clickhouse={"url": "http://not-there:8123"})
    await looks.once()
    looks.time_passes()
    await looks.once()
    assert await looks.read_by("fast") == first
    assert await world.get("ConfigMap", first) == config
    await looks.take()
    assert await looks.read_by("fast") != first


async def test_an_edit_leaves_pods_that_it_does_not_concern_what_they_read(world: World) -> None:
    looks = Looks(world)
    await looks.take(**SPEC)
    before = await world.get("Deployment", "main-slow")
    first = await looks.read_by("slow")
    jobs = await world.names("Job")
    changed = copy.deepcopy(SPEC)
    changed["dataTypes"]["trade"] = {"batch": {"maxRows": 7}}
    await looks.take(**changed)
    looks.time_passes()
    await looks.take()
    assert await looks.read_by("fast") != first
    assert await world.get("Deployment", "main-slow") == before
    assert await world.names("Job") == jobs
    assert await world.names("ConfigMap") >= {first, await looks.read_by("fast")}


async def test_what_may_be_gone_back_to_is_kept_and_the_rest_removed(world: World) -> None:
    looks = Looks(world)
    spec: Object = {"dataTypes": {"trade": {}}, "consumers": {"one": {"dataTypes": ["trade"]}}}
    await looks.take(**spec)
    first = await looks.read_by("one")
    await looks.has_rolled_out("one")
    await looks.take(**spec, clickhouse={"url": "http://second:8123"})
    second = await looks.read_by("one")
    await looks.take(**spec, clickhouse={"url": "http://third:8123"})
    third = await looks.read_by("one")
    assert {first, second, third} <= await world.names("ConfigMap"), "a controller may still act on what it saw"
    looks.time_passes()
    await looks.once()
    assert {first, third} == await world.names("ConfigMap") - {"kube-root-ca.crt"}
    await world.delete("ReplicaSet", f"main-one-{first}")
    await looks.once()
    looks.time_passes()
    await looks.once()
    assert {third} == await world.names("ConfigMap") - {"kube-root-ca.crt"}
    assert steps.KEEP >= 60


async def test_one_that_is_deleted_is_made_again_under_the_same_pods(world: World) -> None:
    looks = Looks(world)
    await looks.take(**SPEC)
    name = await looks.read_by("fast")
    config = await world.get("ConfigMap", name)
    await world.delete("ConfigMap", name)
    await looks.take()
    assert await looks.read_by("fast") == name
    assert ((await world.get("ConfigMap", name)) or {})["data"] == (config or {})["data"]
