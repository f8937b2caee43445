"""A node: it runs the Pods of Jobs as processes here, with their files and variables, and hands out what they print as a kubelet does."""

from __future__ import annotations

import asyncio
import base64
import os
import ssl
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from aiohttp import ClientError, web
from kubernetes.aio.client.exceptions import ApiException

from tests.commands.certificates import authority, signed
from tests.operator.controlplane.pipeline_world import Object, World

COMPONENT = "app.kubernetes.io/component"
JOB_NAME = "batch.kubernetes.io/job-name"


class Node:
    """Of the namespace of `world`, for Jobs of these components; `environ` is added to what their Pods have."""

    def __init__(self, world: World, place: Path, components: tuple[str, ...], environ: dict[str, str]) -> None:
        self.world, self.place, self.components, self.environ = world, place, components, environ
        self.name = f"node-of-{world.namespace}"
        self.printed: dict[str, asyncio.Future[str]] = {}
        """By Pod: all that it prints, at its end."""

    async def serve(self) -> web.AppRunner:
        signed(authority(self.place / "tls"), "node")
        tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        tls.load_cert_chain(self.place / "tls/node.crt", self.place / "tls/node.key")
        app = web.Application()
        app.add_routes([web.get("/containerLogs/{namespace}/{pod}/{container}", self.logs)])
        runner = web.AppRunner(app)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls).start()
        await self.world.client.request("post", "/api/v1/nodes", body={"metadata": {"name": self.name}})
        status = {
            "addresses": [{"type": "InternalIP", "address": "127.0.0.1"}],
            "daemonEndpoints": {"kubeletEndpoint": {"Port": runner.addresses[0][1]}},
        }
        path = f"/api/v1/nodes/{self.name}/status"
        await self.world._patch(path, {"status": status}, "application/merge-patch+json")
        return runner

    async def logs(self, request: web.Request) -> web.Response:
        return web.Response(text=await self.printed[request.match_info["pod"]])

    async def work(self) -> None:
        while True:
            with suppress(ApiException, ClientError):
                for job in await self.world.cluster.list("Job", self.world.namespace):
                    name = job["metadata"]["name"]
                    of = job["spec"]["template"]["metadata"]["labels"].get(COMPONENT)
                    if of in self.components and name not in self.printed:
                        self.printed[name] = asyncio.get_running_loop().create_future()
                        await self.run(name, job["spec"]["template"])
            await asyncio.sleep(0.1)

    async def begin(self, name: str, template: Object, labels: dict[str, str]) -> Object:
        """A Pod that runs here, as its status says."""
        metadata = {"name": name, "labels": {**template["metadata"]["labels"], **labels}}
        spec = {**template["spec"], "nodeName": self.name}
        path = f"/api/v1/namespaces/{self.world.namespace}/pods"
        made = await self.world.client.request("post", path, body={"metadata": metadata, "spec": spec})
        await self.says(name, spec["containers"][0], "Running", {"running": {}})
        pod: Object = made.to_dict()
        return pod

    async def run(self, name: str, template: Object) -> None:
        pod = await self.begin(name, template, {JOB_NAME: name})
        container = pod["spec"]["containers"][0]
        root = self.place / name
        for mount in container["volumeMounts"]:
            (volume,) = (each for each in pod["spec"]["volumes"] if each["name"] == mount["name"])
            await self.write(volume, root / mount["mountPath"].lstrip("/"))
        last_word = root / "termination"
        last_word.touch()

        def here(text: str) -> str:
            return f"{root}{text}" if text.startswith(("/etc/", "/var/", "/tmp")) else text

        given = {each["name"]: here(each.get("value", "")) for each in container["env"]}
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "marketprism_consumer.cli",
            *map(here, container["args"]),
            env={**os.environ, **given, **self.environ, "MARKETPRISM_TERMINATION_LOG": str(last_word)},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        printed, _ = await process.communicate()
        now = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
        ended = {"exitCode": process.returncode, "finishedAt": now, "message": last_word.read_text()}
        await self.says(name, container, "Failed" if process.returncode else "Succeeded", {"terminated": ended})
        self.printed[name].set_result(printed.decode())

    async def says(self, pod: str, container: Object, phase: str, state: Object) -> None:
        told = {"name": container["name"], "image": container["image"], "imageID": "", "ready": False}
        told |= {"restartCount": 0, "state": state}
        await self.world.edit("Pod", pod, {"status": {"phase": phase, "containerStatuses": [told]}}, "/status")

    async def write(self, volume: Object, place: Path) -> None:
        place.mkdir(parents=True)
        sources = [("ConfigMap", volume["configMap"]["name"])] if "configMap" in volume else []
        sources += [("Secret", each["secret"]["name"]) for each in volume.get("projected", {}).get("sources", [])]
        for kind, name in sources:
            live = await self.world.get(kind, name) or {}
            for key, value in (live.get("data") or {}).items():
                (place / key).write_bytes(base64.b64decode(value) if kind == "Secret" else value.encode())


@asynccontextmanager
async def node(
    world: World, place: Path, components: tuple[str, ...] = (), environ: dict[str, str] | None = None
) -> AsyncIterator[Node]:
    made = Node(world, place, components, environ or {})
    runner = await made.serve()
    task = asyncio.create_task(made.work())
    try:
        yield made
    finally:
        task.cancel()
        await runner.cleanup()
        await world.client.request("delete", f"/api/v1/nodes/{made.name}")
