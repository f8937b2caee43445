"""What builders are given: the resource, and what the operator knows beside it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from marketprism_api.pipeline import StoragePipeline
from marketprism_api.tiering import Cold, TieringPolicy, cold_server
from marketprism_operator import naming
from marketprism_operator.config import Platform
from marketprism_operator.naming import Manifest


@dataclass(frozen=True, slots=True)
class BuildRequest:
    """`policy` is None where the pipeline's own children are built."""

    pipeline: StoragePipeline
    image: str
    policy: TieringPolicy | None = None
    pull_secrets: tuple[str, ...] = ()
    versions: Mapping[str, str] = field(default_factory=dict)
    """`Secret/name` and `ConfigMap/name` → what changes with its content, and doesn't reveal it."""
    configs: Mapping[str, str] = field(default_factory=dict)
    """Config hash → the ConfigMap of the Pods that have it already. A change that doesn't concern them leaves them that."""
    pod_monitors: bool = False
    """Whether the cluster has that API."""
    policies: tuple[TieringPolicy, ...] = ()
    """The pipeline's own, where its children are built."""
    platform: Platform = field(default_factory=Platform)

    @property
    def run_now(self) -> str:
        """What the annotation asks for; nothing while the policy is suspended."""
        if self.policy is None or self.policy.spec.suspend:
            return ""
        return self.policy.metadata.annotations.get(naming.RUN_NOW, "")

    @property
    def cold(self) -> Cold | None:
        """What is known of the cold tier where it is not, or need not be, on the pipeline's own server."""
        known = self.policy or cold_server(self.policies)
        return known.spec.cold if known else None

    @property
    def resource(self) -> StoragePipeline | TieringPolicy:
        return self.policy or self.pipeline

    @property
    def name(self) -> str:
        return str(self.resource.metadata.name)

    @property
    def selector(self) -> dict[str, str]:
        """Finds all that is made for the resource."""
        key = naming.POLICY if self.policy else naming.PIPELINE
        return {naming.MANAGED_BY: naming.FIELD_MANAGER, key: self.name}

    def labels(self, component: str) -> dict[str, str]:
        return naming.labels(naming.POLICY if self.policy else naming.PIPELINE, self.name, component)

    def manifest(self, api_version: str, kind: str, name: str, component: str, **rest: Any) -> Manifest:
        """An object with our labels, owned by the resource."""
        metadata: Manifest = {"name": name, "labels": self.labels(component)}
        if self.resource.metadata.namespace:
            metadata["namespace"] = self.resource.metadata.namespace
        if self.resource.metadata.uid:
            metadata["ownerReferences"] = [naming.owner(self.resource.KIND, self.name, self.resource.metadata.uid)]
        return {"apiVersion": api_version, "kind": kind, "metadata": metadata, **rest}
