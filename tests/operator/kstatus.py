"""How kstatus, and with it Flux, reads a resource of a kind that it does not know.

The rules of https://github.com/kubernetes-sigs/cli-utils/tree/master/pkg/kstatus#the-status-of-a-resource and of `Compute` in
pkg/kstatus/status/status.go there, in their order.
"""

from __future__ import annotations

from typing import Any


def kstatus(resource: dict[str, Any]) -> str:
    """Terminating, InProgress, Failed or Current."""
    metadata, status = resource["metadata"], resource.get("status") or {}
    if metadata.get("deletionTimestamp"):
        return "Terminating"
    if "generation" in metadata and status.get("observedGeneration", metadata["generation"]) != metadata["generation"]:
        return "InProgress"
    conditions = status.get("conditions") or []
    for condition in conditions:  # whichever comes first
        if condition["status"] == "True" and condition["type"] in ("Reconciling", "Stalled"):
            return "InProgress" if condition["type"] == "Reconciling" else "Failed"
    for condition in conditions:
        if condition["type"] == "Ready":
            return "Current" if condition["status"] == "True" else "InProgress"
    return "Current"
