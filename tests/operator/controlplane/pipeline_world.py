"""A namespace, and what a test does in it: as a user, as the controllers that are not there, as an onlooker."""

from __future__ import annotations

import asyncio
import os
import secrets
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any

import yaml
from aiohttp import ClientError, ClientSession, web
from kubernetes.aio.client import ApiClient
from kubernetes.aio.client.exceptions import ApiException
from kubernetes.aio.dynamic import DynamicClient

from marketprism_operator.cluster import KINDS, Cluster
from marketprism_operator.naming import PIPELINE

Object = dict[str, Any]


class World:
    """A namespace, and what a test does in it."""

    def __init__(self, api: ApiClient, kubeconfig: Path) -> None:
        self.api = api
        self.client: Any = DynamicClient(api)
        self.cluster = Cluster(api)
        self.kubeconfig = kubeconfig
        self.namespace = f"test-{secrets.token_hex(4)}"

    async def apply(self, kind: str, name: str, **rest: Any) -> Object:
        """As a user does, with a field manager of their own."""
        api_version, plural = KINDS[kind]
        prefix = "/apis/" if "/" in api_version else "/api/"
        path = f"{prefix}{api_version}/namespaces/{self.namespace}/{plural}/{name}"
        body = {"apiVersion": api_version, "kind": kind, "metadata": {"name": name}, **rest}
        return await self._patch(path, body, "application/apply-patch+yaml")

    async def dry_run(self, kind: str, name: str, **rest: Any) -> Object:
        """What would be there after the same `apply`."""
        api_version, plural = KINDS[kind]
        path = f"/apis/{api_version}/namespaces/{self.namespace}/{plural}/{name}"
        body = {"apiVersion": api_version, "kind": kind, "metadata": {"name": name}, **rest}
        apply = {"field_manager": "user", "content_type": "application/apply-patch+yaml", "dry_run": "All"}
        found: Object = (await self.client.request("patch", path, body=body, **apply)).to_dict()
        return found

    async def kubeconfig_with(self, rules: list[Object], place: Path) -> Path:
        """Of a ServiceAccount that has a Role with these rules in this namespace, and nothing else."""
        rbac = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{self.namespace}"
        who = {"kind": "ServiceAccount", "name": "operator", "namespace": self.namespace}
        role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "operator"}
        for path, body in (
            (f"/api/v1/namespaces/{self.namespace}/serviceaccounts", {}),
            (f"{rbac}/roles", {"rules": rules}),
            (f"{rbac}/rolebindings", {"roleRef": role, "subjects": [who]}),
        ):
            await self.client.request("post", path, body={"metadata": {"name": "operator"}, **body})
        path = f"/api/v1/namespaces/{self.namespace}/serviceaccounts/operator/token"
        token = await self.client.request("post", path, body={"spec": {"expirationSeconds": 3600}})
        config = yaml.safe_load(self.kubeconfig.read_text())
        config["users"][0]["user"] = {"token": token.to_dict()["status"]["token"]}
        made = place / "kubeconfig"
        made.write_text(yaml.safe_dump(config))
        return made

    async def create(self, kind: str, name: str, spec: Object) -> None:
        api_version, plural = KINDS[kind]
        body = {"apiVersion": api_version, "kind": kind, "metadata": {"name": name}, "spec": spec}
        path = f"/apis/{api_version}/namespaces/{self.namespace}/{plural}"
        await self.client.request("post", path, body=body, field_manager="user")

    async def edit(self, kind: str, name: str, patch: Object, subresource: str = "") -> Object:
        api_version, plural = KINDS[kind]
        prefix = "/apis/" if "/" in api_version else "/api/"
        path = f"{prefix}{api_version}/namespaces/{self.namespace}/{plural}/{name}{subresource}"
        return await self._patch(path, patch, "application/merge-patch+json")

    async def _patch(self, path: str, body: Object, content_type: str) -> Object:
        apply = {"field_manager": "user", "force_conflicts": True} if "apply" in content_type else {}
        found = await self.client.request("patch", path, body=body, content_type=content_type, **apply)
        plain: Object = found.to_dict()
        return plain

    async def pipeline(self, name: str = "main", **spec: Any) -> Object:
        return await self.apply("StoragePipeline", name, spec=spec)

    async def get(self, kind: str, name: str) -> Object | None:
        return await self.cluster.get(kind, self.namespace, name)

    async def names(self, kind: str) -> set[str]:
        return {child["metadata"]["name"] for child in await self.cluster.list(kind, self.namespace)}

    async def delete(self, kind: str, name: str) -> None:
        await self.cluster.delete(kind, self.namespace, name)

    async def condition(self, kind: str, type: str, name: str = "main") -> Object:
        live = await self.get(kind, name)
        found = ((live or {}).get("status") or {}).get("conditions", [])
        return next((condition for condition in found if condition["type"] == type), {})

    async def schema_done(self) -> str:
        """What the Job's controller would say."""

        async def job() -> Object | None:
            jobs = await self.cluster.list("Job", self.namespace)
            return next((found for found in jobs if not (found.get("status") or {}).get("conditions")), None)

        name: str = (await until(job))["metadata"]["name"]
        await self.complete(name)
        return name

    async def complete(self, job: str) -> None:
        now = "2020-01-01T00:00:00Z"  # long enough ago for whatever waits after it
        true = {"status": "True", "lastTransitionTime": now, "lastProbeTime": now}
        conditions = [{"type": "SuccessCriteriaMet", **true}, {"type": "Complete", **true}]
        status = {"startTime": now, "completionTime": now, "succeeded": 1, "conditions": conditions}
        await self.edit("Job", job, {"status": status}, "/status")

    async def jobs_succeed(self) -> None:
        for job in await self.cluster.list("Job", self.namespace):
            if not (job.get("status") or {}).get("conditions"):
                await self.complete(job["metadata"]["name"])

    async def _roll_out(self, deployment: Object) -> None:
        count = deployment["spec"]["replicas"]
        wanted = {"observedGeneration": deployment["metadata"]["generation"]}
        wanted |= dict.fromkeys(("replicas", "updatedReplicas", "readyReplicas", "availableReplicas"), count)
        known = deployment.get("status") or {}
        if {key: known.get(key) or 0 for key in wanted} != wanted:
            await self.edit("Deployment", deployment["metadata"]["name"], {"status": wanted}, "/status")

    @asynccontextmanager
    async def controllers(self) -> AsyncIterator[None]:
        """Every Job succeeds, every Deployment is rolled out, a moment after it is asked for."""

        async def work() -> None:
            while True:
                with suppress(ApiException, ClientError, OSError):  # gone in the meantime, or the API server is down
                    await self.jobs_succeed()
                    for deployment in await self.cluster.list("Deployment", self.namespace):
                        await self._roll_out(deployment)
                await asyncio.sleep(0.1)

        task = asyncio.create_task(work())
        try:
            yield
        finally:
            task.cancel()

    async def ready(self, name: str = "main", seconds: float = 30) -> None:
        async def found() -> bool:
            live = await self.get("StoragePipeline", name) or {}
            condition = await self.condition("StoragePipeline", "Ready", name)
            generation = (live.get("metadata") or {}).get("generation")
            return condition.get("status") == "True" and condition.get("observedGeneration") == generation

        await until(found, seconds)

    async def children(self, of: str) -> set[str]:
        return {
            f"{kind}/{child['metadata']['name']}"
            for kind in KINDS
            if kind not in ("PodMonitor", "Pod", "Secret")
            for child in await self.cluster.list(kind, self.namespace, {PIPELINE: of})
        }

    async def events(self) -> list[Object]:
        found = await self.client.request("get", f"/api/v1/namespaces/{self.namespace}/events")
        items: list[Object] = found.to_dict()["items"]
        return items

    async def metric(self, name: str, *labels: str) -> float:
        """The sum over its labels, of the lines that have these."""
        async with ClientSession() as session, session.get(f"http://127.0.0.1:{self.port}/metrics") as answer:
            lines = (await answer.text()).splitlines()
        found = [line for line in lines if line.startswith(name) and all(label in line for label in labels)]
        return sum(float(line.split()[-1]) for line in found)

    @contextmanager
    def operator(self, **environ: str) -> Iterator[subprocess.Popen[bytes]]:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        given = {
            "KUBECONFIG": str(self.kubeconfig),
            "MARKETPRISM_NAMESPACES": self.namespace,
            "MARKETPRISM_PORT": str(self.port),
            "MARKETPRISM_RESYNC_SECONDS": "3",
            **environ,
        }
        command = [sys.executable, "-c", "from marketprism_operator.cli import main; raise SystemExit(main(['run']))"]
        process = subprocess.Popen(command, env={**os.environ, **given})
        try:
            yield process
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
                try:
                    process.wait(15)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()


@asynccontextmanager
async def a_pod_that_says(
    world: World, said: Object, deployment: str = "main-fast", unready: list[str] | None = None
) -> AsyncIterator[None]:
    """Of a consumer: its port answers with `said` of its data type, and is unready while there is a line in `unready`."""

    async def status(_: web.Request) -> web.Response:
        return web.json_response({"dataTypes": {"trade": said}})

    async def ready(_: web.Request) -> web.Response:
        return web.Response(text="\n".join(unready or ["ok"]), status=503 if unready else 200)

    app = web.Application()
    app.add_routes([web.get("/status.json", status), web.get("/readyz", ready)])
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    live = await world.get("Deployment", deployment)
    assert live
    container = {"name": "consumer", "image": "x", "ports": [{"name": "metrics", "containerPort": port}]}
    pod = {
        "metadata": {"name": f"{deployment}-0", "labels": live["spec"]["template"]["metadata"]["labels"]},
        "spec": {"containers": [container]},
    }
    path = f"/api/v1/namespaces/{world.namespace}/pods"
    await world.client.request("post", path, body={"apiVersion": "v1", "kind": "Pod", **pod})
    running = {"phase": "Running", "podIP": "127.0.0.1", "podIPs": [{"ip": "127.0.0.1"}]}
    await world.edit("Pod", f"{deployment}-0", {"status": running}, "/status")
    try:
        yield
    finally:
        await runner.cleanup()


async def until(look: Callable[[], Awaitable[Any]], seconds: float = 30) -> Any:
    """What `look` finds, as soon as it finds something."""
    deadline = asyncio.get_running_loop().time() + seconds
    while True:
        if found := await look():
            return found
        assert asyncio.get_running_loop().time() < deadline, f"not within {seconds} s"
        await asyncio.sleep(0.2)
