"""A resource that is paused is left alone, and says so."""

from __future__ import annotations

from tests.operator.controlplane.pipeline_world import World, until

PAUSE = "storage.marketprism.io/pause"


async def test_paused_nothing_is_put_back_and_after_it_everything_is(world: World) -> None:
    with world.operator():
        async with world.controllers():
            await world.pipeline()
            await world.ready()
            await world.edit("StoragePipeline", "main", {"metadata": {"annotations": {PAUSE: "true"}}})

            async def paused() -> bool:
                return (await world.condition("StoragePipeline", "Paused")).get("status") == "True"

            await until(paused)
            ready = await world.condition("StoragePipeline", "Ready")
            assert (ready["status"], ready["reason"]) == ("Unknown", "Paused")
            await world.edit("Deployment", "main-default", {"spec": {"revisionHistoryLimit": 7}})
            before = await world.metric("marketprism_operator_reconciles_total")

            async def looked_at_again() -> bool:
                return await world.metric("marketprism_operator_reconciles_total") > before + 1

            await until(looked_at_again)
            live = await world.get("Deployment", "main-default")
            assert live
            assert live["spec"]["revisionHistoryLimit"] == 7

            await world.edit("StoragePipeline", "main", {"metadata": {"annotations": {PAUSE: None}}})

            async def back() -> bool:
                found = await world.get("Deployment", "main-default")
                return bool(found and found["spec"]["revisionHistoryLimit"] == 3)

            await until(back)
            await world.ready()
            assert await world.condition("StoragePipeline", "Paused") == {}
