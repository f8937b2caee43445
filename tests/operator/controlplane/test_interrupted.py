"""Whatever is killed or restarted, in the end all is there, once."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from kubernetes.aio.client import ApiClient
from kubernetes.aio.client.exceptions import ApiException

from marketprism_operator.cluster import Cluster
from marketprism_operator.config import Config
from marketprism_operator.events import Events
from marketprism_operator.naming import Manifest
from marketprism_operator.reconcile import Reconciliation, reconcile
from tests.operator.controlplane.control_plane import ControlPlane
from tests.operator.controlplane.pipeline_world import World, until

SPEC = {
    "dataTypes": {"trade": {}, "orderbook": {}},
    "consumers": {"fast": {"dataTypes": ["trade"], "replicas": 2}, "slow": {"dataTypes": ["orderbook"]}},
}


class Killed(BaseException):
    """Like SIGKILL: nothing may catch it."""


class Mortal(Cluster):
    """Dies instead of its write number `writes`."""

    def __init__(self, api: ApiClient, writes: int) -> None:
        super().__init__(api)
        self._left = writes

    def _count(self) -> None:
        if self._left == 0:
            raise Killed
        self._left -= 1

    async def _apply(self, kind: str, body: Manifest, dry_run: str | None = None) -> Manifest:
        if not dry_run:
            self._count()
        return await super()._apply(kind, body, dry_run)

    async def write_status(self, *given: Any) -> None:
        self._count()
        await super().write_status(*given)

    async def delete(self, *given: str) -> None:
        self._count()
        await super().delete(*given)


async def brought_up(world: World, name: str, cluster: Cluster) -> None:
    """What the operator does for a new pipeline, and what the Job's controller does meanwhile."""
    for _ in range(2):
        live = await world.get("StoragePipeline", name)
        assert live
        await reconcile(Reconciliation(cluster, Config(), Events(live), live, renew=False))
        await world.jobs_succeed()


async def test_killed_before_any_of_its_writes_it_leaves_nothing_half_done(world: World) -> None:
    kills = 0
    while True:
        name = f"p{kills}"
        await world.pipeline(name, **SPEC)
        try:
            await brought_up(world, name, Mortal(world.api, kills))
            break
        except Killed:
            kills += 1
        await brought_up(world, name, Cluster(world.api))
        made = await world.children(name)
        assert sorted(child.replace(name, "main") for child in made) == [
            next(child.replace(name, "main") for child in made if child.startswith(f"ConfigMap/{name}-pipeline-")),
            "Deployment/main-fast",
            "Deployment/main-slow",
            next(child.replace(name, "main") for child in made if child.startswith(f"Job/{name}-schema-")),
            "NetworkPolicy/main-storage",
            "PodDisruptionBudget/main-fast",
            "PodDisruptionBudget/main-slow",
            "Service/main-metrics",
            "ServiceAccount/main-storage",
        ]
    assert kills >= 10, "nine children, and a status each time"


async def test_killed_by_the_system_it_goes_on_where_it_was(world: World) -> None:
    async with world.controllers():
        with world.operator() as process:
            await world.pipeline(**SPEC)
            await until(lambda: world.names("ConfigMap"))
            process.kill()
            await asyncio.to_thread(process.wait)
        with world.operator():
            await world.ready()


async def test_the_api_server_is_restarted_under_it(world: World, plane: ControlPlane) -> None:
    if plane.api_server is None:
        pytest.skip("THE API SERVER OF KUBECONFIG IS NOT OURS TO RESTART")
    with world.operator() as process:
        async with world.controllers():
            await world.pipeline(**SPEC)
            await world.ready()
            await asyncio.to_thread(plane.api_server.stop)
            await asyncio.to_thread(plane.api_server.start)

            async def edited() -> bool:
                try:
                    await world.pipeline(**{**SPEC, "suspend": True})
                except (ApiException, OSError):
                    return False
                return True

            await until(edited)

            async def followed() -> bool:
                live = await world.get("Deployment", "main-fast")
                return bool(live and live["spec"]["replicas"] == 0)

            await until(followed, seconds=60)
            assert process.poll() is None, "it went on by itself"
            # What was edited while nobody listened is found, too.
            await world.delete("Service", "main-metrics")
            await until(lambda: world.get("Service", "main-metrics"), seconds=60)
