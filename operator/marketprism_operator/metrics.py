"""The operator's own metrics."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

REGISTRY = CollectorRegistry()
RECONCILES = Counter("marketprism_operator_reconciles", "Reconciles.", ["kind", "result"], registry=REGISTRY)
STEP_FAILURES = Counter(
    "marketprism_operator_step_failures", "Steps of a reconcile that failed.", ["kind", "step"], registry=REGISTRY
)
DURATION = Histogram(
    "marketprism_operator_reconcile_seconds", "How long a reconcile took.", ["kind"], registry=REGISTRY
)
DRIFT = Counter("marketprism_operator_drift_corrections", "Children put back.", ["kind"], registry=REGISTRY)
CONDITIONS = Gauge(
    "marketprism_operator_resource_condition",
    "1 for the status that a resource's condition has.",
    ["kind", "namespace", "name", "type", "status"],
    registry=REGISTRY,
)
LAST_RESYNC = Gauge(
    "marketprism_operator_last_resync_time", "Unix time of the last periodic resync.", registry=REGISTRY
)
LEADER = Gauge("marketprism_operator_leader", "1 while this one leads.", registry=REGISTRY)
STANDBY = Gauge(
    "marketprism_operator_standby",
    "1 while this one stands by for another, or can't take its Lease.",
    registry=REGISTRY,
)
LEFT = Gauge(
    "marketprism_operator_namespaces_left", "Namespaces that are left to an operator of their own.", registry=REGISTRY
)


_reported: dict[tuple[str, str, str], dict[str, str]] = {}


def conditions(kind: str, namespace: str, name: str, statuses: dict[str, str]) -> None:
    """Replaces what is exported for that resource; an empty `statuses` removes it."""
    key = (kind, namespace, name)
    for condition, status in _reported.pop(key, {}).items():
        CONDITIONS.remove(*key, condition, status)
    for condition, status in statuses.items():
        CONDITIONS.labels(*key, condition, status).set(1)
    if statuses:
        _reported[key] = statuses
