"""The Leases by which of several operators one works: the one that holds all of its own.

An operator of given namespaces has one in each of them, an operator of all namespaces a single one in `default`, which every
cluster has. So any two meet, wherever their releases are and whatever their names. Where both kinds are, the one of given
namespaces goes first, and the other leaves these to it.

No two clocks are compared: a Lease has expired when it has not changed for as long as it says.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import aiohttp
from kubernetes.aio.client import ApiClient
from kubernetes.aio.client.exceptions import ApiException
from kubernetes.aio.dynamic import DynamicClient

from marketprism_operator.naming import FIELD_MANAGER, MANAGED_BY, Manifest

GROUP = "/apis/coordination.k8s.io/v1"
IN_A_NAMESPACE = FIELD_MANAGER
OF_ALL = f"{FIELD_MANAGER}-all-namespaces"
HOME = "default"
"""Where the Lease of all namespaces is."""
DURATION = 12
"""Seconds without a change after which a Lease may be taken."""
DEADLINE = 8.0
"""Seconds without a renewal after which its holder halts: an interval and a last try later another may not take it yet."""
INTERVAL = 1.0
"""Seconds between two renewals, or tries."""
PATIENCE = 2.0
"""Seconds that the API server may take for one of them."""

FAILURES = (ApiException, aiohttp.ClientError, TimeoutError, OSError)


class Leases:
    """Those of one operator. `namespaces` empty: all of them."""

    def __init__(self, api: ApiClient, namespaces: Sequence[str], holder: str) -> None:
        self._client: Any = DynamicClient(api)  # type: ignore[no-untyped-call]
        # Always in the same order: two operators that share some can't each hold what the other waits for.
        self._places = [(namespace, IN_A_NAMESPACE) for namespace in sorted(namespaces)] or [(HOME, OF_ALL)]
        self._everywhere = not namespaces
        self._holder = holder
        self.taken_at = 0.0
        """When the last try began by which it took all of them [s]."""
        self._seen: dict[str, tuple[str, float]] = {}
        """Uid → the version last seen, and when it was first [s]."""

    async def take(self) -> str:
        """Takes or renews all of them. Returns who is in the way; nothing when they are held. Raises FAILURES."""
        began = time.monotonic()
        async with asyncio.timeout(PATIENCE):
            found = [await self._get(namespace, name) for namespace, name in self._places]
            for lease in found:
                if lease and (other := self._other(lease)):
                    return other
            for (namespace, name), lease in zip(self._places, found, strict=True):
                try:
                    await self._write(namespace, name, lease, self._holder)
                except ApiException as error:
                    if error.status == 409:
                        return "another one, which was quicker"
                    raise
        self.taken_at = began
        return ""

    async def release(self) -> None:
        """Lets another take them at once. Raises FAILURES."""
        async with asyncio.timeout(PATIENCE):
            for namespace, name in self._places:
                lease = await self._get(namespace, name)
                if lease and _holder(lease) == self._holder:
                    await self._write(namespace, name, lease, "")

    async def elsewhere(self) -> dict[str, str]:
        """The namespaces that one of all namespaces leaves to operators of their own, each with its operator. Raises FAILURES."""
        if not self._everywhere:
            return {}
        async with asyncio.timeout(PATIENCE):
            found = await self._client.request("get", f"{GROUP}/leases", label_selector=f"{MANAGED_BY}={FIELD_MANAGER}")
        leases = [lease for lease in found.to_dict()["items"] if lease["metadata"]["name"] == IN_A_NAMESPACE]
        held = {lease["metadata"]["namespace"]: self._other(lease) for lease in leases}
        return {namespace: other for namespace, other in held.items() if other}

    def _other(self, lease: Manifest) -> str:
        """Who else holds it, and renews it."""
        uid, version = lease["metadata"]["uid"], lease["metadata"]["resourceVersion"]
        now = time.monotonic()
        if self._seen.get(uid, ("", 0.0))[0] != version:
            self._seen[uid] = (version, now)
        live = now - self._seen[uid][1] < lease["spec"].get("leaseDurationSeconds", DURATION)
        return _holder(lease) if live and _holder(lease) != self._holder else ""

    async def _get(self, namespace: str, name: str) -> Manifest | None:
        try:
            found = await self._client.request("get", f"{GROUP}/namespaces/{namespace}/leases/{name}")
        except ApiException as error:
            if error.status == 404:
                return None
            raise
        lease: Manifest = found.to_dict()
        return lease

    async def _write(self, namespace: str, name: str, lease: Manifest | None, holder: str) -> None:
        """Refused with 409 where it has changed meanwhile."""
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        path = f"{GROUP}/namespaces/{namespace}/leases"
        spec = {"holderIdentity": holder, "leaseDurationSeconds": DURATION, "renewTime": now}
        if lease is None:
            metadata = {"name": name, "labels": {MANAGED_BY: FIELD_MANAGER}}
            spec |= {"acquireTime": now, "leaseTransitions": 0}
            await self._client.request("post", path, body={"metadata": metadata, "spec": spec})
            return
        if holder and _holder(lease) != holder:
            spec |= {"acquireTime": now, "leaseTransitions": lease["spec"].get("leaseTransitions", 0) + 1}
        body = {**lease, "spec": {**lease["spec"], **spec}}
        await self._client.request("put", f"{path}/{name}", body=body)


def _holder(lease: Manifest) -> str:
    return str(lease["spec"].get("holderIdentity") or "")
