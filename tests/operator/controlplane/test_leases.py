"""Of several operators of the same namespaces one works, whatever release they are of; the others say why they don't."""

from __future__ import annotations

import asyncio

import pytest
from aiohttp import ClientError, ClientSession

from marketprism_operator.naming import MANAGED_BY
from tests.operator.controlplane.control_plane import ControlPlane
from tests.operator.controlplane.pipeline_world import World, until

SPEC = {"dataTypes": {"trade": {}}, "consumers": {"one": {"dataTypes": ["trade"]}}}


async def says(port: int, status: int, *parts: str) -> None:
    """Until /readyz says it."""

    async def said() -> bool:
        try:
            async with ClientSession() as session, session.get(f"http://127.0.0.1:{port}/readyz") as answer:
                text = await answer.text()
                return answer.status == status and all(part in text for part in parts)
        except ClientError:
            return False

    await until(said)


async def image(world: World) -> str:
    live = await world.get("Deployment", "main-one")
    return str(live["spec"]["template"]["spec"]["containers"][0]["image"]) if live else ""


@pytest.mark.parametrize("namespaced", [True, False], ids=["of a namespace", "of all"])
async def test_two_releases_do_not_fight(world: World, namespaced: bool) -> None:
    scope = world.namespace if namespaced else ""

    async def made_of(wanted: str) -> bool:
        return await image(world) == wanted

    async with world.controllers():
        with world.operator(
            MARKETPRISM_RELEASE="a/first", MARKETPRISM_IMAGE="x:1", MARKETPRISM_NAMESPACES=scope
        ) as first:
            await world.pipeline(**SPEC)
            await world.ready(seconds=60)
            await says(world.port, 200, "ok")
            generation = ((await world.get("Deployment", "main-one")) or {})["metadata"]["generation"]
            with world.operator(MARKETPRISM_RELEASE="b/second", MARKETPRISM_IMAGE="x:2", MARKETPRISM_NAMESPACES=scope):
                await says(
                    world.port, 503, "a/first/", world.namespace if namespaced else "all namespaces", "remove one"
                )
                assert await world.metric("marketprism_operator_standby") == 1
                assert await world.metric("marketprism_operator_leader") == 0
                live = await world.get("Deployment", "main-one")
                assert live
                assert live["metadata"]["generation"] == generation
                assert await made_of("x:1")
                first.terminate()
                await until(lambda: made_of("x:2"), seconds=60)
                await says(world.port, 200, "ok")


async def test_one_of_the_same_release_is_ready_while_it_stands_by(world: World) -> None:
    with world.operator(MARKETPRISM_RELEASE="a/first", POD_NAME="one"):
        await says(world.port, 200, "ok")
        with world.operator(MARKETPRISM_RELEASE="a/first", POD_NAME="two"):
            await says(world.port, 200, "stands by for a/first/one")


async def test_a_namespace_is_left_to_an_operator_of_its_own_and_taken_back(world: World) -> None:
    async def made_of(wanted: str) -> bool:
        return await image(world) == wanted

    async def counted(wanted: float) -> bool:
        return await world.metric("marketprism_operator_namespaces_left") == wanted

    async with world.controllers():
        with world.operator(MARKETPRISM_IMAGE="x:1", MARKETPRISM_NAMESPACES=""):
            of_all = world.port
            await world.pipeline(**SPEC)
            await until(lambda: made_of("x:1"), seconds=60)
            with world.operator(MARKETPRISM_IMAGE="x:2"):
                await until(lambda: made_of("x:2"))
                world.port = of_all
                await until(lambda: counted(1))
                resyncs = await world.metric("marketprism_operator_last_resync_time")

                async def again() -> bool:
                    return await world.metric("marketprism_operator_last_resync_time") > resyncs

                await until(again)
                assert await made_of("x:2")
            await until(lambda: made_of("x:1"))
            assert await counted(0)


async def test_it_ends_when_another_has_taken_its_lease(world: World) -> None:
    with world.operator(POD_NAME="one") as process:
        await says(world.port, 200, "ok")
        path = f"/apis/coordination.k8s.io/v1/namespaces/{world.namespace}/leases/marketprism-operator"
        taken = {"spec": {"holderIdentity": "another"}}
        await world.client.request("patch", path, body=taken, content_type="application/merge-patch+json")
        assert await asyncio.to_thread(process.wait, 20) == 1
        lease = (await world.client.request("get", path)).to_dict()
        assert lease["spec"]["holderIdentity"] == "another"
        assert lease["metadata"]["labels"] == {MANAGED_BY: "marketprism-operator"}


async def test_one_that_can_not_renew_its_lease_halts_and_goes_on_by_itself(world: World, plane: ControlPlane) -> None:
    if plane.api_server is None:
        pytest.skip("THE API SERVER OF KUBECONFIG IS NOT OURS TO STOP")

    async def suspended() -> bool:
        live = await world.get("Deployment", "main-one")
        return bool(live and live["spec"]["replicas"] == 0)

    with world.operator() as process:
        async with world.controllers():
            await world.pipeline(**SPEC)
            await world.ready(seconds=60)
            await asyncio.to_thread(plane.api_server.stop)
            await says(world.port, 503, "can't renew its Lease")
            await asyncio.to_thread(plane.api_server.start)
            await says(world.port, 200, "ok")
            assert await world.metric("marketprism_operator_standby") == 0
            await world.edit("StoragePipeline", "main", {"spec": {"suspend": True}})
            await until(suspended)
            assert process.poll() is None


async def test_it_says_when_it_may_not_take_its_lease(world: World, tmp_path_factory: pytest.TempPathFactory) -> None:
    kubeconfig = await world.kubeconfig_with([], tmp_path_factory.mktemp("nothing"))
    with world.operator(KUBECONFIG=str(kubeconfig)):
        await says(world.port, 503, "can't take its Lease", "leases.coordination.k8s.io", "forbidden")
