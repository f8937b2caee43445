"""Events with a reason of the closed set, on the parent: one for each thing to say, counted where it is said again. They only
inform: nothing waits for them or fails with them."""

from __future__ import annotations

import logging
from typing import Any, Protocol

from kubernetes.aio.client import ApiClient
from kubernetes.aio.client.exceptions import ApiException
from kubernetes.aio.dynamic import DynamicClient

from marketprism_api.reasons import Reason
from marketprism_operator import times
from marketprism_operator.naming import FIELD_MANAGER, Manifest, digest

log = logging.getLogger(__name__)


class Speaker(Protocol):
    """Where events go."""

    def info(self, reason: Reason, message: str) -> None: ...
    def warn(self, reason: Reason, message: str) -> None: ...


class Events:
    """Of one parent; posted by `post`."""

    def __init__(self, parent: Manifest) -> None:
        self._parent = parent
        self._said: list[tuple[str, str, str]] = []

    def info(self, reason: Reason, message: str) -> None:
        self._said.append(("Normal", reason.name, message))

    def warn(self, reason: Reason, message: str) -> None:
        self._said.append(("Warning", reason.name, message))

    async def post(self, api: ApiClient) -> None:
        metadata = self._parent["metadata"]
        client: Any = DynamicClient(api)  # type: ignore[no-untyped-call]
        for kind, reason, message in self._said:
            log.info("%s/%s %s: %s", metadata["namespace"], metadata["name"], reason, message)
            now = times.now()
            name = f"{metadata['name'][:50]}.{digest([metadata['uid'], kind, reason, message])}"
            body = {
                "apiVersion": "v1",
                "kind": "Event",
                "metadata": {"name": name, "namespace": metadata["namespace"]},
                "involvedObject": {
                    "apiVersion": self._parent["apiVersion"],
                    "kind": self._parent["kind"],
                    "name": metadata["name"],
                    "namespace": metadata["namespace"],
                    "uid": metadata["uid"],
                },
                "type": kind,
                "reason": reason,
                "message": message[:1000],
                "source": {"component": FIELD_MANAGER},
                "reportingComponent": FIELD_MANAGER,
                "firstTimestamp": now,
                "lastTimestamp": now,
                "count": 1,
            }
            try:
                await _post(client, f"/api/v1/namespaces/{metadata['namespace']}/events", body)
            except ApiException as error:
                log.warning("an event could not be posted: %s", error.reason)
        self._said.clear()


async def _post(client: Any, path: str, event: Manifest) -> None:
    try:
        await client.request("post", path, body=event)
        return
    except ApiException as error:
        if error.status != 409:
            raise
    name = event["metadata"]["name"]
    found = (await client.request("get", path, field_selector=f"metadata.name={name}")).to_dict().get("items") or [{}]
    again = {"count": (found[0].get("count") or 1) + 1, "lastTimestamp": event["lastTimestamp"]}
    await client.request("patch", f"{path}/{name}", body=again, content_type="application/merge-patch+json")
