"""The closed set of condition types, with what each says while it is True."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

ConditionType = Literal[
    "Ready",
    "Reconciling",
    "Stalled",
    "Suspended",
    "Paused",
    "Reconciled",
    "SpecValid",
    "NATSReachable",
    "ClickHouseReachable",
    "SchemaReady",
    "StreamsReady",
    "ConsumersAvailable",
    "DataValid",
    "ScaledToLag",
    "ScheduleActive",
    "LastRunSucceeded",
]

SUMMARY: Mapping[ConditionType, str] = {
    "Ready": "all below are True (DataValid and ScaledToLag aside); otherwise it has the reason of the first that is not",
    "Reconciling": "on the way to what the spec says; present only while this is so",
    "Stalled": "waiting won't fix it, or has not for longer than spec.progressDeadline: somebody has to act; present instead of "
    "Reconciling, only while this is so",
    "Suspended": "suspended because the spec says so; present only while this is so",
    "Paused": "left alone, since the annotation storage.marketprism.io/pause is true; present only while this is so",
}
PIPELINE: Mapping[ConditionType, str] = {
    "Reconciled": "every step of the last reconcile was taken; where it is False, the others may be old and Ready is Unknown",
    "SpecValid": "the spec can be obeyed, what it refers to exists, no older pipeline stores the same in the same tables, "
    "and the API server took every child",
    "NATSReachable": "NATS answers, takes the credentials and has JetStream",
    "ClickHouseReachable": "ClickHouse answers and takes the credentials",
    "SchemaReady": "the schema Job has made, compared or left the tables, as spec.schema.mode says",
    "StreamsReady": "the streams are there and fit to be read; each consumer has found its own, the records of its lanes, and the "
    "subjects of its dead letters",
    "ConsumersAvailable": "every Deployment has rolled out, and its Pods are ready",
    "DataValid": "the last validation found nothing wrong; only where spec.validation.schedule is given",
    "ScaledToLag": "no consumer is late with as many Pods as it may have; only where a consumer has autoscale",
}
POLICY: Mapping[ConditionType, str] = {
    "Reconciled": PIPELINE["Reconciled"],
    "SpecValid": PIPELINE["SpecValid"],
    "ScheduleActive": "the CronJob or the Deployment is there and not suspended",
    "LastRunSucceeded": "the last migration finished every table, or reached its limit",
}
