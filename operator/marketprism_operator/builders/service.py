"""The Pods' metrics under one name, without an address of its own. The port's number may differ by consumer."""

from __future__ import annotations

from marketprism_operator import naming
from marketprism_operator.builders import deployment
from marketprism_operator.builders.request import BuildRequest
from marketprism_operator.naming import Manifest


def build(request: BuildRequest) -> Manifest:
    return request.manifest(
        "v1",
        "Service",
        naming.joined(request.name, "metrics"),
        "metrics",
        spec={
            "clusterIP": "None",
            "publishNotReadyAddresses": True,
            "selector": request.labels(deployment.COMPONENT),
            "ports": [{"name": "metrics", "port": 9464, "targetPort": "metrics", "protocol": "TCP"}],
        },
    )
