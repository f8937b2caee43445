"""A cache that no watch fills: it knows our own writes, and of what others do only what a test tells it."""

from __future__ import annotations

from typing import Any

import pytest

from marketprism_operator import watches
from marketprism_operator.cache import Cache
from marketprism_operator.cluster import ApplyRefusedError, Cluster, Done
from marketprism_operator.config import Config
from marketprism_operator.events import Events
from marketprism_operator.naming import FIELD_MANAGER, MANAGED_BY, PIPELINE
from marketprism_operator.reconcile import Reconciliation, reconcile
from tests.operator.controlplane.pipeline_world import World, until

LABELS = {MANAGED_BY: FIELD_MANAGER, PIPELINE: "main"}


class Behind:
    """A Cluster whose watches are silent."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.cache: Cache = watches.cache(())
        for store in (*self.cache.whole.values(), *self.cache.references.values()):
            store.complete = store.kind != "PodMonitor"
        self.cluster = Cluster(world.api, self.cache)

    async def tell(self, kind: str, name: str) -> None:
        """As its watch does at last."""
        live = await self._world.get(kind, name)
        store = self.cache.of(kind, self._world.namespace)
        assert live
        assert store
        store.put(live)

    async def reconcile(self) -> None:
        live = await self._world.get("StoragePipeline", "main")
        assert live
        events = Events(live)
        await reconcile(Reconciliation(self.cluster, Config(), events, live, renew=False))
        await events.post(self._world.api)


@pytest.fixture
def behind(world: World) -> Behind:
    return Behind(world)


def config_map(world: World, value: str) -> dict[str, Any]:
    metadata = {"name": "a", "namespace": world.namespace, "labels": LABELS}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"key": value}}


async def versions(world: World) -> dict[str, str]:
    kinds = ("ServiceAccount", "ConfigMap", "Service", "NetworkPolicy", "Job", "Deployment", "PodDisruptionBudget")
    return {
        f"{kind}/{child['metadata']['name']}": child["metadata"]["resourceVersion"]
        for kind in kinds
        for child in await world.cluster.list(kind, world.namespace, {PIPELINE: "main"})
    }


async def test_what_we_have_made_is_not_made_again_though_no_watch_has_told_of_it(world: World, behind: Behind) -> None:
    await world.pipeline(dataTypes={"trade": {}})
    await behind.reconcile()
    job = await world.schema_done()
    before = await versions(world)
    await behind.reconcile()
    assert await versions(world) == before
    await behind.tell("Job", job)
    await behind.reconcile()
    all_of_it = await versions(world)
    assert all_of_it.keys() - before.keys() == {"Deployment/main-default", "PodDisruptionBudget/main-default"}
    await behind.reconcile()
    assert await versions(world) == all_of_it
    told = {event["reason"] for event in await world.events()}
    assert not told & {"ChildChanged", "DriftCorrected"}


async def test_a_schema_job_that_failed_is_made_again_though_no_watch_tells_of_its_end(
    world: World, behind: Behind
) -> None:
    await world.pipeline(dataTypes={"trade": {}})
    await behind.reconcile()
    (name,) = await world.names("Job")
    before = await world.get("Job", name)
    assert before
    at = "2020-01-01T00:00:00Z"
    failed = [{"type": kind, "status": "True", "lastTransitionTime": at} for kind in ("FailureTarget", "Failed")]
    await world.edit("Job", name, {"status": {"startTime": at, "failed": 1, "conditions": failed}}, "/status")
    await behind.tell("Job", name)
    await behind.reconcile()

    async def made_again() -> bool:
        live = await world.get("Job", name)
        return bool(live and live["metadata"]["uid"] != before["metadata"]["uid"])

    await until(made_again)
    await behind.reconcile()
    live = await world.get("Job", name)
    assert live
    assert not (live.get("status") or {}).get("conditions")


async def test_an_edit_is_put_back_once_a_watch_has_told_of_it(world: World, behind: Behind) -> None:
    wanted = config_map(world, "ours")
    assert (await behind.cluster.apply(wanted)).done is Done.CREATED
    await world.edit("ConfigMap", "a", {"data": {"key": "theirs"}})
    assert (await behind.cluster.apply(wanted)).done is Done.UNCHANGED
    await behind.tell("ConfigMap", "a")
    outcome = await behind.cluster.apply(wanted)
    assert (outcome.done, outcome.fields) == (Done.PUT_BACK, ("data.key",))
    assert (await behind.cluster.apply(wanted)).done is Done.UNCHANGED


async def test_what_others_have_done_meanwhile_is_no_change_of_ours(world: World, behind: Behind) -> None:
    """Only what our new manifest changes is told: the object is read before it is compared."""
    await behind.cluster.apply(config_map(world, "one"))
    await world.edit("ConfigMap", "a", {"data": {"theirs": "x"}})
    outcome = await behind.cluster.apply(config_map(world, "two"))
    assert (outcome.done, outcome.fields) == (Done.CHANGED, ("data.key",))


async def test_what_the_cache_lacks_may_be_somebody_elses(world: World, behind: Behind) -> None:
    owner = {"apiVersion": "v1", "kind": "Namespace", "name": "x", "uid": "x", "controller": True}
    body = {"metadata": {"name": "a", "ownerReferences": [owner]}, "data": {"theirs": "yes"}}
    await world.client.request("post", f"/api/v1/namespaces/{world.namespace}/configmaps", body=body)
    ours = config_map(world, "ours")
    ours["metadata"]["ownerReferences"] = [{**owner, "uid": "y"}]
    with pytest.raises(ApplyRefusedError, match="belongs to somebody else"):
        await behind.cluster.apply(ours)


async def test_a_child_that_has_gone_is_made_again_once_that_is_told(world: World, behind: Behind) -> None:
    wanted = config_map(world, "ours")
    await behind.cluster.apply(wanted)
    live = await world.get("ConfigMap", "a")
    assert live
    await world.delete("ConfigMap", "a")
    store = behind.cache.of("ConfigMap", world.namespace)
    assert store
    gone = {"metadata": {**live["metadata"], "resourceVersion": str(int(live["metadata"]["resourceVersion"]) + 1)}}
    store.remove(gone)
    assert (await behind.cluster.apply(wanted)).done is Done.CREATED


async def test_only_the_object_that_was_seen_is_deleted(world: World, behind: Behind) -> None:
    wanted = config_map(world, "ours")
    await behind.cluster.apply(wanted)
    seen = await behind.cluster.get("ConfigMap", world.namespace, "a")
    assert seen
    await world.delete("ConfigMap", "a")
    await world.apply("ConfigMap", "a", data={"another": "object"})
    await behind.cluster.delete("ConfigMap", world.namespace, "a", seen["metadata"]["uid"])
    assert await world.get("ConfigMap", "a")
