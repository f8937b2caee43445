"""Points a Prometheus operator at the Pods. None where the cluster hasn't got that API."""

from __future__ import annotations

from marketprism_operator import naming
from marketprism_operator.builders import deployment, tiering
from marketprism_operator.builders.request import BuildRequest
from marketprism_operator.naming import Manifest


def build(request: BuildRequest) -> Manifest | None:
    if not request.pod_monitors or (request.policy and not request.policy.spec.every):
        return None  # a CronJob's Pods are gone before they would be asked
    return request.manifest(
        "monitoring.coreos.com/v1",
        "PodMonitor",
        naming.joined(request.name, "tiering" if request.policy else "storage"),
        "metrics",
        spec={
            "selector": {"matchLabels": request.labels(tiering.COMPONENT if request.policy else deployment.COMPONENT)},
            "podMetricsEndpoints": [{"port": "metrics"}],
        },
    )
