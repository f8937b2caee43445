"""All children of a resource, in the order in which they are applied. `render` shows them all, `reconcile` applies them in groups."""

from __future__ import annotations

from marketprism_operator.builders import (
    config_map,
    deployment,
    network_policy,
    pod_disruption_budget,
    pod_monitor,
    schema_job,
    service,
    service_account,
    tiering,
    validation,
)
from marketprism_operator.builders.request import BuildRequest
from marketprism_operator.naming import Manifest


def common(request: BuildRequest) -> list[Manifest]:
    """What workloads need to be there before them."""
    return [service_account.build(request), config_map.build(request)]


def workloads(request: BuildRequest) -> list[Manifest]:
    """The consumers, what goes with them, and what validates."""
    found: list[Manifest | None] = [network_policy.build(request), service.build(request), pod_monitor.build(request)]
    for key, spec in request.pipeline.spec.carriers.items():
        name = str(key)
        found += [deployment.build(request, name, spec), pod_disruption_budget.build(request, name, spec)]
    return [manifest for manifest in [*found, validation.build(request)] if manifest]


def all_of(request: BuildRequest) -> list[Manifest]:
    if request.policy:
        return [*common(request), *migration(request)]
    return [*common(request), schema_job.build(request), *workloads(request)]


def migration(request: BuildRequest) -> list[Manifest]:
    """What goes with the migration, then the migration itself."""
    found = [
        network_policy.build(request),
        pod_monitor.build(request),
        tiering.run_now(request),
        tiering.build(request),
    ]
    return [manifest for manifest in found if manifest]
