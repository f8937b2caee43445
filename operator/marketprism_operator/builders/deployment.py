"""One Deployment per consumer, with the data types assigned to it."""

from __future__ import annotations

from dataclasses import astuple

from marketprism_api.data_types import BUILT_IN, Declaration
from marketprism_api.pipeline import ConsumerSpec
from marketprism_operator import naming
from marketprism_operator.builders import pod
from marketprism_operator.builders.config_map import FILE
from marketprism_operator.builders.request import BuildRequest
from marketprism_operator.naming import Manifest

COMPONENT = "consumer"
SUBJECTS = f"{naming.GROUP}/subjects"


def name(request: BuildRequest, consumer: str) -> str:
    return naming.joined(request.name, consumer)


def selector(request: BuildRequest, consumer: str) -> dict[str, str]:
    return {**request.labels(COMPONENT), naming.CONSUMER: consumer}


def build(request: BuildRequest, consumer: str, spec: ConsumerSpec) -> Manifest:
    labels = selector(request, consumer)
    port = spec.metrics_port
    template = pod.template(
        request,
        COMPONENT,
        ["ingest", "-f", f"{pod.CONFIG_DIR}/{FILE}", "--consumer", consumer, "--host", "0.0.0.0", "--port", str(port)],  # noqa: S104 - a Pod's own address
        naming.digest(concerns(request, spec)),
        selector=labels,
        port=port,
        resources=spec.resources,
        over=spec.pod_template,
        # What has been moved there may be looked for, too. A policy's own Pods read it in their file.
        env={"CLICKHOUSE_COLD_HTTP_URL": str(request.cold.url)} if request.cold else {},
        cold=request.cold,
    )
    made = request.manifest(
        "apps/v1",
        "Deployment",
        name(request, consumer),
        COMPONENT,
        spec={
            **_replicas(request, spec),
            "revisionHistoryLimit": 3,
            "selector": {"matchLabels": labels},
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
            "template": template,
        },
    )
    made["metadata"]["labels"] = labels
    declared = request.pipeline.spec.declarations
    made["metadata"]["annotations"] = {SUBJECTS: " ".join(declared[str(name)].subject for name in spec.data_types)}
    return made


def _replicas(request: BuildRequest, spec: ConsumerSpec) -> dict[str, int]:
    """Nothing where somebody else scales it, or the operator by the lag."""
    if request.pipeline.spec.suspend:
        return {"replicas": 0}  # each Pod is asked to end, and stores what it holds before it does
    return {} if spec.replicas is None else {"replicas": spec.replicas}


def concerns(request: BuildRequest, spec: ConsumerSpec) -> Manifest:
    """What of the pipeline this consumer reads: a change of the rest doesn't roll its Pods."""
    whole = request.pipeline.spec
    declared = whole.declarations
    return {
        "nats": whole.nats.model_dump(mode="json", exclude={"streams"}),
        "clickhouse": whole.clickhouse.model_dump(mode="json"),
        "schema": whole.table_schema.mode,
        "deadLetters": whole.dead_letters.model_dump(mode="json"),
        "messages": whole.messages.model_dump(mode="json"),
        "dataTypes": {
            str(name): [
                whole.stream(name),
                whole.streams(name),
                list(astuple(whole.batch(name))),
                *_told(declared[str(name)]),
            ]
            for name in spec.data_types
        },
    }


def _told(declaration: Declaration) -> list[str]:
    """Of a data type, where it is not as it is built in: what decides on its rows."""
    return [] if BUILT_IN.get(declaration.name) == declaration else [declaration.subject, declaration.decoding]
