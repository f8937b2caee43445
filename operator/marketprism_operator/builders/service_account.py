"""The account that Pods run as. It has no rights and mounts no token."""

from __future__ import annotations

from marketprism_operator import naming
from marketprism_operator.builders.request import BuildRequest
from marketprism_operator.naming import Manifest


def name(request: BuildRequest) -> str:
    return naming.joined(request.name, "tiering" if request.policy else "storage")


def build(request: BuildRequest) -> Manifest:
    return request.manifest("v1", "ServiceAccount", name(request), "account", automountServiceAccountToken=False)
