"""Checks, from where the consumers run, that NATS and ClickHouse answer, that the streams are there, and that the tables are
as the pipeline says.

Its name has the hash of all that it depends on: a change makes another Job.
"""

from __future__ import annotations

from marketprism_api.data_types import BUILT_IN, Declaration
from marketprism_operator import naming
from marketprism_operator.builders import pod
from marketprism_operator.builders.config_map import FILE
from marketprism_operator.builders.request import BuildRequest
from marketprism_operator.naming import Manifest

COMPONENT = "schema"


def build(request: BuildRequest) -> Manifest:
    spec = request.pipeline.spec
    concerns = {
        "nats": spec.nats.model_dump(mode="json"),
        "clickhouse": spec.clickhouse.model_dump(mode="json"),
        "schema": spec.table_schema.model_dump(mode="json"),
        "dataTypes": [_concerns(each) for each in spec.declarations.values()],
    }
    template = pod.template(
        request,
        COMPONENT,
        ["schema", "ensure", "-f", f"{pod.CONFIG_DIR}/{FILE}"],
        naming.digest(concerns),
        restart="Never",
    )
    job = {"backoffLimit": 3, "activeDeadlineSeconds": 600, "template": template}
    name = naming.joined(request.name, "schema", naming.digest(job))
    return request.manifest("batch/v1", "Job", name, COMPONENT, spec=job)


def _concerns(declaration: Declaration) -> object:
    """Its name, where it is as it is built in; else what makes its stream and tables."""
    if BUILT_IN.get(declaration.name) == declaration:
        return declaration.name
    columns = [column for each in declaration.all_fields for column in each.columns]
    return [declaration.subject, declaration.table, columns, declaration.order_by, declaration.partition]
