"""A namespace, and what a test does in it: as a user, as the controllers that are not there, as an onlooker."""

from __future__ import annotations

import asyncio
import os
import secrets
import signal
import socket
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from kubernetes.aio.client import ApiClient
from kubernetes.aio.dynamic import DynamicClient
from marketprism_operator.apply import KINDS, Cluster

Object = dict[str, Any]


class World:
    """A namespace, and what a test does in it."""

    def __init__(self, api: ApiClient, kubeconfig: Path) -> None:
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
        return {one["metadata"]["name"] for one in await self.cluster.list(kind, self.namespace)}

    async def delete(self, kind: str, name: str) -> None:
        await self.cluster.delete(kind, self.namespace, name)

    async def condition(self, kind: str, type: str, name: str = "main") -> Object:
        live = await self.get("StoragePipeline", name)
        found = ((live or {}).get("status") or {}).get("conditions", [])
        return next((one for one in found if one["type"] == type), {})

    async def schema_done(self) -> str:
        """What the Job's controller would say."""

        async def job() -> Object | None:
            jobs = await self.cluster.list("Job", self.namespace)
            return next((one for one in jobs if not (one.get("status") or {}).get("conditions")), None)

        found = await until(job)
        now = "2030-01-01T00:00:00Z"
        true = {"status": "True", "lastTransitionTime": now, "lastProbeTime": now}
        conditions = [{"type": "SuccessCriteriaMet", **true}, {"type": "Complete", **true}]
        status = {"startTime": now, "completionTime": now, "succeeded": 1, "conditions": conditions}
        name: str = found["metadata"]["name"]
        await self.edit("Job", name, {"status": status}, "/status")
        return name

    async def events(self) -> list[Object]:
        found = await self.client.request("get", f"/api/v1/namespaces/{self.namespace}/events")
        items: list[Object] = found.to_dict()["items"]
        return items

    @contextmanager
    def operator(self, **environ: str) -> Iterator[subprocess.Popen[bytes]]:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        given = {
            "KUBECONFIG": str(self.kubeconfig),
            "MARKETPRISM_NAMESPACES": self.namespace,
            "MARKETPRISM_PORT": str(port),
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


async def until(look: Callable[[], Awaitable[Any]], seconds: float = 30) -> Any:
    """What `look` finds, as soon as it finds something."""
    deadline = asyncio.get_running_loop().time() + seconds
    while True:
        if found := await look():
            return found
        assert asyncio.get_running_loop().time() < deadline, f"not within {seconds} s"
        await asyncio.sleep(0.2)
