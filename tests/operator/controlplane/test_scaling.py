"""Who scales a consumer: the spec, the operator by the lag, or somebody else; on a real API server."""

from __future__ import annotations

from typing import Any

from marketprism_operator import naming
from tests.operator.controlplane.pipeline_world import World, a_pod_that_says, until

FAST = {"dataTypes": ["trade"]}


async def replicas(world: World, name: str = "main-fast") -> int:
    live = await world.get("Deployment", name)
    return int(live["spec"]["replicas"]) if live else -1


async def brought_up(world: World, **fast: Any) -> None:
    await world.pipeline(dataTypes={"trade": {}}, consumers={"fast": {**FAST, **fast}})
    await world.ready()


async def reconciled(world: World) -> None:
    """Once more, from beginning to end."""
    before = await world.metric("marketprism_operator_reconciles_total")

    async def again() -> bool:
        return await world.metric("marketprism_operator_reconciles_total") > before + 1

    await until(again)


async def test_left_out_the_number_is_whoevers_scales_it(world: World) -> None:
    with world.operator():
        async with world.controllers():
            await brought_up(world)
            assert await replicas(world) == 1
            await world.edit("Deployment", "main-fast", {"spec": {"replicas": 3}})
            await reconciled(world)
            assert await replicas(world) == 3
            live = await world.get("StoragePipeline", "main")
            assert live
            assert live["status"]["replicas"] == 3
            assert not [event for event in await world.events() if event["reason"] == "DriftCorrected"]


async def test_a_number_that_is_left_out_from_now_on_stays_until_somebody_changes_it(world: World) -> None:
    with world.operator():
        async with world.controllers():
            await brought_up(world, replicas=4)
            assert await replicas(world) == 4
            await brought_up(world)
            await reconciled(world)
            assert await replicas(world) == 4
            live = await world.get("Deployment", "main-fast")
            assert live
            owners = {
                entry["manager"]
                for entry in live["metadata"]["managedFields"]
                if "f:replicas" in entry["fieldsV1"].get("f:spec", {})
            }
            assert naming.FIELD_MANAGER not in owners


async def test_suspended_it_has_no_pods_and_resumed_it_has_one_again(world: World) -> None:
    with world.operator():
        async with world.controllers():
            await brought_up(world)
            await world.edit("StoragePipeline", "main", {"spec": {"suspend": True}})
            await until(lambda: _is(world, 0))
            await world.edit("StoragePipeline", "main", {"spec": {"suspend": False}})
            await until(lambda: _is(world, 1))


async def test_the_operator_scales_by_the_lag_that_the_pods_tell(world: World) -> None:
    said = {"lag": 2_000_000, "lagSeconds": 95.0}
    with world.operator():
        async with world.controllers():
            await brought_up(world, autoscale={"min": 1, "max": 2, "targetLag": "30s"})
            async with a_pod_that_says(world, said):
                await until(lambda: _is(world, 2))

                async def told() -> bool:
                    events = [event["message"] for event in await world.events() if event["reason"] == "Scaled"]
                    return events == ["fast: 1 to 2 Pods; lag 95 s, target 30s"]

                await until(told)  # it is said after it is done

                async def at_most() -> bool:
                    return (await world.condition("StoragePipeline", "ScaledToLag")).get("reason") == "AtMostPods"

                await until(at_most)
                said["lagSeconds"] = 1.0

                async def in_time() -> bool:
                    return (await world.condition("StoragePipeline", "ScaledToLag")).get("status") == "True"

                await until(in_time)
                assert await replicas(world) == 2


async def _is(world: World, number: int) -> bool:
    return await replicas(world) == number
