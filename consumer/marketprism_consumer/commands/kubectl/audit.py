"""`kubectl marketprism audit`: the proof, from where the consumers run and with their credentials."""

from __future__ import annotations

import copy
import secrets
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Annotated, Any

import typer

from marketprism_consumer.commands.audit import BothTiers, Deep
from marketprism_consumer.commands.common import Json, OnlyTypes, Output, fail, stderr
from marketprism_consumer.commands.exits import Exit
from marketprism_consumer.commands.kubectl.common import (
    LOOK_EVERY,
    Context,
    Namespace,
    PipelineName,
    cluster,
    waited,
)
from marketprism_consumer.errors import KubernetesError
from marketprism_consumer.kubectl import (
    COMPONENT,
    CONSUMER,
    MANAGED_BY,
    OPERATOR,
    PIPELINE,
    PIPELINES,
    Kubectl,
    KubeObject,
)

EXAMPLES = """
Examples:

\b
  kubectl marketprism audit main -n market-data                every data type of pipeline main
  kubectl marketprism audit main --deep --type trade           and every value of trades
  kubectl marketprism audit main --output json > proof.json    what `marketprism audit` says of it

\b
A Job with a consumer's Pod template, so the same image, account, Secrets and file. It is removed at the end, by Ctrl-C too;
where even that is not done, by Kubernetes an hour after it has ended. You need the rights to make Jobs and read logs.
"""
NAME = "audit"
KEPT = 3600  # [s]


def audit(
    name: PipelineName,
    types: OnlyTypes = None,
    deep: Deep = False,
    both_tiers: BothTiers = True,
    wait: Annotated[str, typer.Option("--wait", help="How long to wait for its Pod to begin.")] = "2m",
    namespace: Namespace = "",
    context: Context = "",
    output: Json = Output.TEXT,
) -> None:
    """Prove in the cluster what became of every message, as `marketprism audit` does, in a Job with the pipeline's credentials."""
    limit = waited(wait)
    options = [f"--type={each}" for each in types or ()]
    options += [*(["--deep"] if deep else []), *([] if both_tiers else ["--hot-only"]), f"--output={output}"]
    with cluster(context, namespace) as kubectl:
        pipeline = kubectl.get(PIPELINES, name)
        consumers = kubectl.select("deployments.apps", {MANAGED_BY: OPERATOR, PIPELINE: name, COMPONENT: "consumer"})
        if not consumers:
            fail(
                f"pipeline {name} has no consumer yet, whose Pod the audit could run in: see its status", Exit.FINDINGS
            )
        # Known before it is made: who is interrupted meanwhile takes it away, too.
        own = f"{name[:40]}-audit-{secrets.token_hex(3)}"
        try:
            kubectl.create(job(own, pipeline, consumers[0]["spec"]["template"], options))
            pod = begun(kubectl, own, limit)
            with kubectl.lines("logs", "--follow", f"pod/{pod}", f"--container={NAME}") as said:
                for line in said:
                    typer.echo(line.rstrip("\n"))
            code = ended(kubectl, pod)
        finally:
            with suppress(KubernetesError):
                kubectl.run("delete", "job", own, "--cascade=background", "--wait=false", "--ignore-not-found")
    raise typer.Exit(code)


def job(own: str, pipeline: KubeObject, template: KubeObject, options: Sequence[str]) -> KubeObject:
    """Of a consumer's Pod its container alone, with another command. Its labels are none that a Service or a Deployment selects."""
    metadata = pipeline["metadata"]
    labels = {**template["metadata"]["labels"], COMPONENT: NAME}
    labels.pop(CONSUMER, None)
    spec = copy.deepcopy(template["spec"])
    (container,) = (each for each in spec["containers"] if each["name"] == "consumer")
    file = container["args"][container["args"].index("-f") + 1]
    container |= {"name": NAME, "args": [NAME, "-f", file, *options]}
    for key in ("ports", "livenessProbe", "readinessProbe", "startupProbe", "lifecycle"):
        container.pop(key, None)
    # Sidecars of the user's own would not end with it.
    spec |= {"containers": [container], "restartPolicy": "Never"}
    spec.pop("topologySpreadConstraints", None)
    owner = {key: pipeline[key] for key in ("apiVersion", "kind")} | {key: metadata[key] for key in ("name", "uid")}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": own,
            "namespace": metadata["namespace"],
            # Not the operator's, which takes away whatever it has not made.
            "labels": {**labels, MANAGED_BY: "kubectl-marketprism"},
            "ownerReferences": [owner],
        },
        "spec": {
            "backoffLimit": 0,
            "ttlSecondsAfterFinished": KEPT,
            "template": {"metadata": {"labels": labels}, "spec": spec},
        },
    }


def begun(kubectl: Kubectl, job_name: str, limit: float) -> str:
    """The Job's Pod, once its container runs or has ended."""
    deadline, why = time.monotonic() + limit, ""
    while True:
        for pod in kubectl.select("pods", {"batch.kubernetes.io/job-name": job_name}):
            state = container_state(pod)
            if "running" in state or "terminated" in state:
                return str(pod["metadata"]["name"])
            why = waits_for(pod)
        if time.monotonic() >= deadline:
            fail(f"the audit's Pod has not begun: {why or f'there is none of Job {job_name}'}", Exit.FINDINGS)
        time.sleep(LOOK_EVERY)


def ended(kubectl: Kubectl, pod: str) -> int:
    """The exit code of its container, whose log has ended."""
    while True:
        state = container_state(kubectl.get("pod", pod))
        if found := state.get("terminated"):
            code = int(found["exitCode"])
            if code not in tuple(Exit):
                stderr.print(f"the audit ended with {code}: {found.get('reason', '')}", style="red", markup=False)
                return int(Exit.FINDINGS)
            return code
        time.sleep(LOOK_EVERY)


def container_state(pod: KubeObject) -> Mapping[str, Any]:
    told = (pod.get("status") or {}).get("containerStatuses") or []
    return next((each.get("state") or {} for each in told if each["name"] == NAME), {})


def waits_for(pod: KubeObject) -> str:
    """Why it has not begun, as Kubernetes says it."""
    waiting = container_state(pod).get("waiting") or {}
    if waiting:
        return f"{waiting.get('reason', '')} {waiting.get('message', '')}".strip()
    told = (pod.get("status") or {}).get("conditions") or []
    return next((each.get("message") or "" for each in told if each["status"] == "False" and each.get("message")), "")
