"""What doesn't get Ready is told to those who wait for it: it is Stalled, and not on its way for ever."""

from __future__ import annotations

from tests.operator.controlplane.pipeline_world import World, a_pod_that_says, until
from tests.operator.kstatus import kstatus


async def test_a_server_that_stays_away_stalls_the_pipeline_until_it_is_back(world: World) -> None:
    async def read() -> str:
        live = await world.get("StoragePipeline", "main")
        assert live
        return kstatus(live)

    async def reads(wanted: str) -> None:
        async def look() -> bool:
            return await read() == wanted

        await until(look)

    await world.pipeline(dataTypes={"trade": {}}, progressDeadline="10s")
    assert await read() == "InProgress", "nobody has looked at it"
    said = ["trade: MP3001 NATSUnreachable: nats://nats:4222: no answer"]
    async with world.controllers():
        with world.operator():
            await reads("Current")
            async with a_pod_that_says(world, {"lag": 0}, "main-default", said):
                await reads("InProgress")
                await reads("Failed")
                stalled = await world.condition("StoragePipeline", "Stalled")
                assert (stalled["status"], stalled["reason"]) == ("True", "ProgressDeadlineExceeded")
                assert "nats://nats:4222" in stalled["message"]
                assert (await world.condition("StoragePipeline", "Ready"))["reason"] == "NATSUnreachable"

                async def told() -> bool:
                    return any(event["reason"] == "ProgressDeadlineExceeded" for event in await world.events())

                await until(told)
                said.clear()
                await reads("Current")
    assert await world.condition("StoragePipeline", "Stalled") == {}
