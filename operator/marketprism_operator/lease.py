"""The library's lock on a Lease, with a `create` that works: that of kubernetes 37 sends a boolean where the API takes only a text."""

from __future__ import annotations

from typing import Any

from kubernetes.aio import client
from kubernetes.aio.client.exceptions import ApiException
from kubernetes.aio.leaderelection.resourcelock.leaselock import LeaseLock


class LeaderLease(LeaseLock):
    async def create(self, name: str, namespace: str, election_record: Any) -> bool:
        lease = client.V1Lease(metadata=client.V1ObjectMeta(name=name), spec=self.update_lease(election_record))
        try:
            await self.api_instance.create_namespaced_lease(namespace, lease)
        except ApiException:
            return False  # another was quicker, or the next try will show why
        return True

    async def give_up(self) -> None:
        """Another may take it at once; else it has to wait until it has expired. Raises ApiException."""
        held = await self.api_instance.read_namespaced_lease(self.name, self.namespace)
        if held.spec and held.metadata and held.spec.holder_identity == self.identity:
            nobody = {"metadata": {"resourceVersion": held.metadata.resource_version}, "spec": {"holderIdentity": None}}
            await self.api_instance.patch_namespaced_lease(self.name, self.namespace, nobody)
