"""Tells a Prometheus operator of the Pods. None where the cluster hasn't got that API."""

from __future__ import annotations

from marketprism_operator import naming
from marketprism_operator.builders import deployment
from marketprism_operator.builders.request import Request
from marketprism_operator.naming import Manifest


def build(request: Request) -> Manifest | None:
    if not request.pod_monitors:
        return None
    return request.manifest(
        "monitoring.coreos.com/v1",
        "PodMonitor",
        naming.joined(request.name, "storage"),
        "metrics",
        spec={
            "selector": {"matchLabels": request.labels(deployment.COMPONENT)},
            "podMetricsEndpoints": [{"port": "metrics"}],
        },
    )
