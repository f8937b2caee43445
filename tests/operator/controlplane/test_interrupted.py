"""Whatever is killed or restarted, in the end all is there, once."""

from __future__ import annotations

import asyncio

import pytest
from control_plane import ControlPlane
from kubernetes.aio.client.exceptions import ApiException
from pipeline_world import World, until

SPEC = {
    "dataTypes": {"trade": {}, "orderbook": {}},
    "consumers": {"fast": {"dataTypes": ["trade"], "replicas": 2}, "slow": {"dataTypes": ["orderbook"]}},
}


async def test_killed_at_any_step_it_leaves_nothing_half_done(world: World) -> None:
    """Killed as soon as there is one child more than when it was last killed, until there are all."""
    await world.pipeline(**SPEC)
    kills, count = 0, 0
    async with world.controllers():
        while count < 8:
            with world.operator() as process:

                async def more(count: int = count) -> bool:
                    return len(await world.children()) > count

                await until(more)
                process.kill()
                await asyncio.to_thread(process.wait)
            kills += 1
            count = len(await world.children())
        with world.operator():
            await world.ready()
            made = await world.children()
            assert sorted(made) == [
                "ConfigMap/main-pipeline",
                "Deployment/main-fast",
                "Deployment/main-slow",
                next(one for one in made if one.startswith("Job/main-schema-")),
                "NetworkPolicy/main-storage",
                "PodDisruptionBudget/main-fast",
                "Service/main-metrics",
                "ServiceAccount/main-storage",
            ]
    assert kills >= 2


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
