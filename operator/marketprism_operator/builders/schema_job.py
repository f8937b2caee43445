"""Makes the tables, or compares them. Its name has the hash of all that it depends on: a change is another Job."""

from __future__ import annotations

from marketprism_operator import naming
from marketprism_operator.builders import pod
from marketprism_operator.builders.config_map import FILE
from marketprism_operator.builders.request import Request
from marketprism_operator.naming import Manifest

COMPONENT = "schema"


def build(request: Request) -> Manifest | None:
    spec = request.pipeline.spec
    if spec.table_schema.mode == "Ignore":
        return None
    verb = "apply" if spec.table_schema.mode == "Apply" else "verify"
    applied = {
        "clickhouse": spec.clickhouse.model_dump(mode="json"),
        "schema": spec.table_schema.model_dump(mode="json"),
        "dataTypes": list(spec.stored),
    }
    template = pod.template(
        request,
        COMPONENT,
        ["schema", verb, "-f", f"{pod.CONFIG_DIR}/{FILE}", "--output", "json"],
        naming.digest(applied),
        restart="Never",
    )
    job = {"backoffLimit": 3, "activeDeadlineSeconds": 600, "template": template}
    name = naming.joined(request.name, "schema", naming.digest(job))
    return request.manifest("batch/v1", "Job", name, COMPONENT, spec=job)
