"""What migrates: a CronJob, or where `every` is set a Deployment that loops.

A scheduled run and one asked for by annotation are kept apart by the lease that a run takes.
"""

from __future__ import annotations

from marketprism_operator import naming
from marketprism_operator.builders import config_map, pod
from marketprism_operator.builders.request import BuildRequest
from marketprism_operator.naming import Manifest

COMPONENT = "migrate"
PORT = 9464


def name(request: BuildRequest) -> str:
    # A CronJob adds up to 11 characters to its name for its Jobs'.
    full = naming.joined(request.name, "migrate")
    return full if len(full) <= 52 else f"{full[:43].rstrip('-')}-{naming.digest(full)}"


def build(request: BuildRequest) -> Manifest:
    assert request.policy is not None
    spec = request.policy.spec
    every = str(spec.every) if spec.every else ""
    args = ["migrate", "-f", f"{pod.CONFIG_DIR}/{config_map.FILE}"]
    loop = ["--every", every, "--host", "0.0.0.0", "--port", str(PORT)] if every else []  # noqa: S104
    labels = request.labels(COMPONENT)
    template = pod.template(
        request,
        COMPONENT,
        [*args, *loop],
        naming.digest(config_map.content(request)),
        port=PORT if every else 0,
        resources=spec.resources,
        over=spec.pod_template,
        restart="Always" if every else "Never",
        cold=request.cold,
    )
    if every:
        if request.run_now:  # a new Pod runs at once
            template["metadata"]["annotations"][naming.RUN_NOW] = request.run_now
        return request.manifest(
            "apps/v1",
            "Deployment",
            name(request),
            COMPONENT,
            spec={
                "replicas": 0 if spec.suspend else 1,
                "revisionHistoryLimit": 3,
                "selector": {"matchLabels": labels},
                "strategy": {"type": "Recreate"},
                "template": template,
            },
        )
    zone = {"timeZone": str(spec.time_zone)} if spec.time_zone else {}
    return request.manifest(
        "batch/v1",
        "CronJob",
        name(request),
        COMPONENT,
        spec={
            "schedule": str(spec.schedule),
            **zone,
            "suspend": spec.suspend,
            "concurrencyPolicy": "Forbid",
            "startingDeadlineSeconds": 300,
            "successfulJobsHistoryLimit": 3,
            "failedJobsHistoryLimit": 3,
            "jobTemplate": {"metadata": {"labels": labels}, "spec": {"backoffLimit": 0, "template": template}},
        },
    )


def run_now(request: BuildRequest) -> Manifest | None:
    """The run that the annotation asks for, beside a CronJob; a loop is restarted by it instead."""
    workload = build(request)
    if not request.run_now or workload["kind"] != "CronJob":
        return None
    name_ = naming.joined(name(request), "now", naming.digest(request.run_now))
    spec = workload["spec"]["jobTemplate"]["spec"]
    return request.manifest("batch/v1", "Job", name_, COMPONENT, spec=spec)
