"""Controllers and kubelets for thousands of objects: they watch, so that the requests which are counted are the operator's."""

from __future__ import annotations

import asyncio
import copy
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import aiohttp
from aiohttp import web
from kubernetes.aio.client.exceptions import ApiException

from tests.operator.controlplane.pipeline_world import Object, World

WORKERS = 8
UNREADY = "trade: MP3001 NATSUnreachable: no answer from nats://nats:4222"


class Simulated:
    """Every Job succeeds; every Deployment gets Pods that run, and whose port says how they are. `outage` makes all of them unready."""

    def __init__(self, world: World, port: int) -> None:
        self._world = world
        self._port = port
        self._todo: asyncio.Queue[tuple[str, Object]] = asyncio.Queue()
        self._pods: dict[str, int] = {}
        """By Deployment, how many there are."""
        self._observed: dict[str, int] = {}
        self.down = False

    async def outage(self) -> None:
        """NATS has gone: Pods say so, kubelets and controllers follow."""
        await self._turn(down=True)

    async def recovery(self) -> None:
        await self._turn(down=False)

    async def _turn(self, *, down: bool) -> None:
        self.down = down
        names = iter(dict(self._pods).items())

        async def work() -> None:
            for deployment, count in names:
                for number in range(count):
                    await self._say_ready(f"{deployment}-{number}")
                await self._count(deployment, count)

        await asyncio.gather(*(work() for _ in range(WORKERS)))

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            for kind, path in (("Job", "/apis/batch/v1"), ("Deployment", "/apis/apps/v1")):
                group.create_task(self._watch(kind, f"{path}/namespaces/{self._world.namespace}/{kind.lower()}s"))
            for _ in range(WORKERS):
                group.create_task(self._work())

    async def _watch(self, kind: str, path: str) -> None:
        client: Any = self._world.api
        while True:
            query = [("watch", "1"), ("timeoutSeconds", "3600")]
            request = await client.param_serialize("GET", path, query_params=query, auth_settings=["BearerToken"])
            answer = (await client.call_api(*request, _request_timeout=aiohttp.ClientTimeout(total=3600))).response
            with suppress(aiohttp.ClientError, ValueError):
                while line := await answer.content.readuntil(b"\n"):
                    event = json.loads(line)
                    if event["type"] in ("ADDED", "MODIFIED"):
                        self._todo.put_nowait((kind, event["object"]))

    async def _work(self) -> None:
        does: dict[str, Callable[[Object], Awaitable[None]]] = {"Job": self._succeed, "Deployment": self._roll_out}
        while True:
            kind, found = await self._todo.get()
            try:
                await does[kind](found)
            except ApiException as error:
                if error.status not in (404, 409):
                    raise

    async def _succeed(self, job: Object) -> None:
        if not (job.get("status") or {}).get("conditions"):
            await self._world.complete(job["metadata"]["name"])

    async def _roll_out(self, deployment: Object) -> None:
        name, generation = deployment["metadata"]["name"], deployment["metadata"]["generation"]
        if self._observed.get(name, 0) >= generation:
            return
        self._observed[name] = generation
        wanted = deployment["spec"]["replicas"]
        for number in range(self._pods.get(name, 0), wanted):
            await self._start(deployment, f"{name}-{number}")
        self._pods[name] = wanted
        await self._count(name, wanted)

    async def _start(self, deployment: Object, name: str) -> None:
        template = copy.deepcopy(deployment["spec"]["template"])
        for container in template["spec"]["containers"]:
            for port in container.get("ports") or []:
                port["containerPort"] = self._port
        owner = {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "x", "uid": "x", "controller": True}
        metadata = {"name": name, "labels": template["metadata"]["labels"], "ownerReferences": [owner]}
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template["spec"]}
        await self._world.client.request("post", f"/api/v1/namespaces/{self._world.namespace}/pods", body=pod)
        await self._say_ready(name)

    async def _say_ready(self, name: str) -> None:
        state = {"running": {"startedAt": "2020-01-01T00:00:00Z"}}
        container = {"name": "consumer", "image": "x", "imageID": "x", "restartCount": 0, "ready": not self.down}
        conditions = [{"type": "Ready", "status": str(not self.down)}]
        running = {"phase": "Running", "podIP": "127.0.0.1", "podIPs": [{"ip": "127.0.0.1"}], "conditions": conditions}
        running["containerStatuses"] = [{**container, "state": state}]
        await self._world.edit("Pod", name, {"status": running}, "/status")

    async def _count(self, name: str, count: int) -> None:
        ready = 0 if self.down else count
        status = {"observedGeneration": self._observed[name], "replicas": count, "updatedReplicas": count}
        status |= {"readyReplicas": ready, "availableReplicas": ready, "unavailableReplicas": count - ready}
        await self._world.edit("Deployment", name, {"status": status}, "/status")


@asynccontextmanager
async def simulated(world: World) -> AsyncIterator[Simulated]:
    async def status(_: web.Request) -> web.Response:
        now = {"pending": 5, "inHand": 3, "lagSeconds": 0.5}
        return web.json_response({"dataTypes": {"trade": now, "orderbook": now}})

    async def ready(_: web.Request) -> web.Response:
        return web.Response(text=UNREADY, status=503) if made.down else web.Response(text="ok")

    app = web.Application()
    app.add_routes([web.get("/status.json", status), web.get("/readyz", ready)])
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    made = Simulated(world, runner.addresses[0][1])
    task = asyncio.create_task(made.run())
    try:
        yield made
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        await runner.cleanup()
