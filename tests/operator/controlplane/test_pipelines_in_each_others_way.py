"""Of two pipelines that store the same messages in the same tables the younger one stands still, and says for whom."""

from __future__ import annotations

from typing import Any

from tests.operator.controlplane.pipeline_world import Object, World, until


def spec(world: World, **more: Any) -> Object:
    """Its servers are no other test's."""
    servers = {"nats": {"url": f"nats://nats.{world.namespace}"}, "clickhouse": {"url": f"http://db.{world.namespace}"}}
    return {**servers, "dataTypes": {"trade": {}}, "consumers": {"one": {"dataTypes": ["trade"]}}, **more}


async def younger(world: World, name: str, given: Object, than: Object) -> None:
    """Made in another second: the API server writes no shorter times."""

    async def made() -> bool:
        found = await world.pipeline(name, **given)
        if found["metadata"]["creationTimestamp"] > than["metadata"]["creationTimestamp"]:
            return True
        await world.delete("StoragePipeline", name)
        return False

    await until(made)


async def stands_still(world: World, name: str = "other") -> Object:
    async def told() -> Object | None:
        condition = await world.condition("StoragePipeline", "Ready", name)
        return condition if condition.get("reason") == "StoredByAnother" else None

    found: Object = await until(told)
    return found


async def replicas(world: World, deployment: str) -> int | None:
    live = await world.get("Deployment", deployment)
    return int(live["spec"]["replicas"]) if live else None


async def test_the_younger_one_starts_nothing_and_names_the_older(world: World) -> None:
    async with world.controllers():
        with world.operator():
            older = await world.pipeline(**spec(world))
            await world.ready()
            await younger(world, "other", spec(world), older)
            told = await stands_still(world)
            assert told["status"] == "False"
            assert f"pipeline {world.namespace}/main is older, and stores trade" in told["message"]
            assert (await world.condition("StoragePipeline", "Stalled", "other"))["status"] == "True"
        with world.operator():  # begun anew it knows both before it does anything
            await world.edit("StoragePipeline", "main", {"spec": {"dataTypes": {"trade": {"batch": {"maxRows": 7}}}}})
            await world.ready()
            await stands_still(world)
        assert {await replicas(world, "main-one"), await replicas(world, "other-one")} == {1, None}
        assert not {name for name in await world.names("Job") if name.startswith("other-")}


async def test_it_goes_on_when_the_older_one_is_out_of_its_way_and_stops_when_it_comes_back(world: World) -> None:
    async with world.controllers():
        with world.operator():
            older = await world.pipeline(**spec(world))
            await world.ready()
            await younger(world, "other", spec(world), older)
            await stands_still(world)
            await world.edit("StoragePipeline", "main", {"spec": {"suspend": True}})
            await world.ready("other")
            assert await replicas(world, "other-one") == 1

            await world.edit("StoragePipeline", "main", {"spec": {"suspend": False}})
            await stands_still(world)
            assert await replicas(world, "other-one") == 0
            await world.ready()

            await world.delete("StoragePipeline", "main")
            await world.ready("other")
            assert await replicas(world, "other-one") == 1


async def test_other_tables_or_other_types_are_in_nobodys_way(world: World) -> None:
    async with world.controllers():
        with world.operator():
            older = await world.pipeline(**spec(world))
            elsewhere = {"url": f"http://db.{world.namespace}", "hotDatabase": "another"}
            await younger(world, "other", spec(world, clickhouse=elsewhere), older)
            consumers = {"one": {"dataTypes": ["orderbook"]}}
            await younger(world, "third", spec(world, dataTypes={"orderbook": {}}, consumers=consumers), older)
            for name in ("main", "other", "third"):
                await world.ready(name)


async def test_it_is_the_same_in_another_namespace(world: World) -> None:
    given, path, first = spec(world), "/api/v1/namespaces", world.namespace
    async with world.controllers():
        with world.operator(MARKETPRISM_NAMESPACES=""):
            older = await world.pipeline(**given)
            await world.ready()
            world.namespace = f"{first}-b"
            await world.client.request("post", path, body={"metadata": {"name": world.namespace}})
            await younger(world, "main", given, older)
            assert f"pipeline {first}/main is older" in (await stands_still(world, "main"))["message"]
            assert await world.names("Deployment") == set()
