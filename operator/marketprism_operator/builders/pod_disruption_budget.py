"""Lets a node be drained one Pod at a time. None for a single Pod: it would only hold up the drain."""

from __future__ import annotations

from marketprism_api.pipeline import ConsumerSpec
from marketprism_operator.builders import deployment
from marketprism_operator.builders.request import BuildRequest
from marketprism_operator.naming import Manifest


def build(request: BuildRequest, consumer: str, spec: ConsumerSpec) -> Manifest | None:
    if spec.replicas in (0, 1) or request.pipeline.spec.suspend:
        return None
    return request.manifest(
        "policy/v1",
        "PodDisruptionBudget",
        deployment.name(request, consumer),
        deployment.COMPONENT,
        spec={"maxUnavailable": 1, "selector": {"matchLabels": deployment.selector(request, consumer)}},
    )
