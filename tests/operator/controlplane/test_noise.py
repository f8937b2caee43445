"""Events tell what somebody should look at, once."""

from __future__ import annotations

from tests.operator.controlplane.pipeline_world import World, until

SPEC = {"dataTypes": {"trade": {}}, "consumers": {"one": {"dataTypes": ["trade"]}}}


async def test_a_normal_roll_out_is_no_warning(world: World) -> None:
    async with world.controllers():
        with world.operator():
            for change in ({}, {"dataTypes": {"trade": {"batch": {"maxRows": 700}}}}, {"schema": {"mode": "Verify"}}):
                await world.pipeline(**{**SPEC, **change})
                await world.ready()
            events = await world.events()
            assert {event["reason"] for event in events} >= {"Ready", "ChildCreated", "ChildChanged"}
            assert [event["message"] for event in events if event["type"] == "Warning"] == []


async def test_what_happens_again_is_the_same_event(world: World) -> None:
    async with world.controllers():
        with world.operator():
            await world.pipeline(**SPEC)
            await world.ready()
            for times in (1, 2, 3):
                await world.edit("Deployment", "main-one", {"spec": {"revisionHistoryLimit": 7}})

                async def counted(times: int = times) -> bool:
                    told = [event for event in await world.events() if event["reason"] == "DriftCorrected"]
                    return [event["count"] for event in told] == [times]

                await until(counted)
