"""Only the metrics ports take connections. What Pods connect to is the user's: by name, which no policy can say."""

from __future__ import annotations

from marketprism_operator import naming
from marketprism_operator.builders.request import Request
from marketprism_operator.naming import Manifest


def build(request: Request) -> Manifest:
    ports = sorted({consumer.metrics_port for consumer in request.pipeline.spec.carriers.values()})
    return request.manifest(
        "networking.k8s.io/v1",
        "NetworkPolicy",
        naming.joined(request.name, "storage"),
        "network",
        spec={
            "podSelector": {"matchLabels": {naming.MANAGED_BY: naming.FIELD_MANAGER, naming.PIPELINE: request.name}},
            "policyTypes": ["Ingress"],
            "ingress": [{"ports": [{"port": port, "protocol": "TCP"} for port in ports]}],
        },
    )
