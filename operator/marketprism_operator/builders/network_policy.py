"""Only the metrics ports take connections.

What Pods connect to is left open: NATS and ClickHouse are named by the user and may be anywhere, in the cluster or out of it,
and a policy knows addresses and labels, not names. Whoever knows theirs adds an egress policy of their own; policies add up.
"""

from __future__ import annotations

from marketprism_operator import naming
from marketprism_operator.builders import tiering
from marketprism_operator.builders.request import BuildRequest
from marketprism_operator.naming import Manifest


def build(request: BuildRequest) -> Manifest:
    ports = sorted({consumer.metrics_port for consumer in request.pipeline.spec.carriers.values()})
    if request.policy:
        ports = [tiering.PORT] if request.policy.spec.every else []
    return request.manifest(
        "networking.k8s.io/v1",
        "NetworkPolicy",
        naming.joined(request.name, "tiering" if request.policy else "storage"),
        "network",
        spec={
            "podSelector": {"matchLabels": request.selector},
            "policyTypes": ["Ingress"],
            "ingress": [{"ports": [{"port": port, "protocol": "TCP"} for port in ports]}] if ports else [],
        },
    )
