"""What validates: a CronJob where the pipeline has a schedule for it. When it finds something, its Job fails and reports it."""

from __future__ import annotations

from marketprism_operator import naming
from marketprism_operator.builders import config_map, pod
from marketprism_operator.builders.request import BuildRequest
from marketprism_operator.naming import Manifest

COMPONENT = "validate"
NAME_LIMIT = 52  # a CronJob adds up to 11 characters to its name for its Jobs'


def name(request: BuildRequest) -> str:
    full = naming.joined(request.name, COMPONENT)
    return full if len(full) <= NAME_LIMIT else f"{full[: NAME_LIMIT - 9].rstrip('-')}-{naming.digest(full)}"


def build(request: BuildRequest) -> Manifest | None:
    spec = request.pipeline.spec.validation
    if not spec.schedule:
        return None
    template = pod.template(
        request,
        COMPONENT,
        ["validate", "-f", f"{pod.CONFIG_DIR}/{config_map.FILE}"],
        naming.digest(config_map.content(request)),
        restart="Never",
    )
    return request.manifest(
        "batch/v1",
        "CronJob",
        name(request),
        COMPONENT,
        spec={
            "schedule": str(spec.schedule),
            **({"timeZone": str(spec.time_zone)} if spec.time_zone else {}),
            "suspend": spec.suspend or request.pipeline.spec.suspend,
            "concurrencyPolicy": "Forbid",
            "startingDeadlineSeconds": 300,
            "successfulJobsHistoryLimit": 1,
            "failedJobsHistoryLimit": 3,
            "jobTemplate": {
                "metadata": {"labels": request.labels(COMPONENT)},
                "spec": {"backoffLimit": 0, "activeDeadlineSeconds": 3600, "template": template},
            },
        },
    )
