"""`kubectl marketprism render` and `diff`: what the operator makes of a pipeline, and what of that is not so in the cluster.

The operator's own program makes the manifests: `marketprism-operator render`.
"""

from __future__ import annotations

import difflib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml

from marketprism_api.load import load
from marketprism_api.meta import GROUP
from marketprism_api.pipeline import StoragePipeline
from marketprism_api.tiering import TieringPolicy
from marketprism_consumer.commands.common import Json, Output
from marketprism_consumer.commands.exits import Exit
from marketprism_consumer.commands.kubectl.common import Context, Namespace, PipelineName, cluster
from marketprism_consumer.errors import KubernetesError
from marketprism_consumer.kubectl import (
    COMPONENT,
    MANAGED_BY,
    OPERATOR,
    PIPELINE,
    PIPELINES,
    POLICIES,
    POLICY,
    Kubectl,
    KubeObject,
)

RENDER_EXAMPLES = """
Examples:

\b
  kubectl marketprism render main -n market-data       all that the operator makes of pipeline main and its policies
  kubectl marketprism render main --output json | jq '.items[].metadata.name'

\b
As the marketprism-operator beside this program makes them, with the image that the running one uses.
"""
DIFF_EXAMPLES = """
Examples:

\b
  kubectl marketprism diff main -n market-data         what was edited by hand, or what another version would change
  kubectl marketprism diff main -f pipeline.yaml       what this file would change, before it is applied
  kubectl marketprism diff main --output json | jq '.[] | {kind, name, change}'

\b
The API server merges what would be applied, and writes nothing: the rights to patch are needed. What is not compared: when Secrets changed.
"""
NOT_INSTALLED = "marketprism-operator is not installed here: pip install 'marketprism-consumer[kubectl]'"
CONFIG_HASH = f"{GROUP}/config-hash"
WITH_CONFIG = "configmaps,deployments.apps,jobs.batch,cronjobs.batch"
UNCOMPARED = (f"{GROUP}/applied-hash", f"{GROUP}/secrets-hash", f"{GROUP}/config-maps-hash")
PRUNED = "deployments.apps,poddisruptionbudgets.policy,jobs.batch,cronjobs.batch"
"""What the operator takes away where it is not wanted any more."""


def render(name: PipelineName, namespace: Namespace = "", context: Context = "", output: Json = Output.TEXT) -> None:
    """Print all that the operator makes of a pipeline of the cluster, and of its policies."""
    with cluster(context, namespace) as kubectl:
        live = live_resources(kubectl, name)
        found = rendered(kubectl, [bare(each) for each in live], live)
    if output == "json":
        typer.echo(json.dumps({"apiVersion": "v1", "kind": "List", "items": found}))
    else:
        typer.echo(yaml.safe_dump_all(found, sort_keys=False, explicit_start=True), nl=False)


def diff(
    name: PipelineName,
    file: Annotated[
        str, typer.Option("--file", "-f", help="Instead of the cluster's, these resources; - reads stdin.")
    ] = "",
    namespace: Namespace = "",
    context: Context = "",
    output: Json = Output.TEXT,
) -> None:
    """Show what the operator would change in the cluster if it looked at a pipeline and its policies now."""
    with cluster(context, namespace) as kubectl:
        live = live_resources(kubectl, name, or_none=bool(file))
        resources = given(file, name, live) if file else [bare(each) for each in live]
        wanted = rendered(kubectl, resources, live)
        found = changes(kubectl, live, wanted)
    if output == "json":
        typer.echo(json.dumps(found))
    else:
        for each in found:
            typer.echo(each["diff"], nl=False)
    raise typer.Exit(int(Exit.FINDINGS if found else Exit.OK))


# --- what is wanted ---------------------------------------------------------------------------------------------------


def live_resources(kubectl: Kubectl, name: str, *, or_none: bool = False) -> list[KubeObject]:
    """The pipeline and its policies, as the cluster has them."""
    try:
        pipelines = [kubectl.get(PIPELINES, name)]
    except KubernetesError as refused:
        if not (or_none and "(NotFound)" in str(refused)):
            raise
        pipelines = []
    return pipelines + [each for each in kubectl.select(POLICIES) if each["spec"]["pipelineRef"]["name"] == name]


def bare(live: KubeObject) -> KubeObject:
    """A resource as somebody wrote it, and whose its children are."""
    metadata = {
        key: live["metadata"][key] for key in ("name", "namespace", "uid", "annotations") if key in live["metadata"]
    }
    return {
        "apiVersion": live["apiVersion"],
        "kind": live["kind"],
        "metadata": metadata,
        "spec": live.get("spec") or {},
    }


def given(file: str, name: str, live: Iterable[KubeObject]) -> list[KubeObject]:
    """Those of a file in place of the cluster's. Raises ResourceError for a wrong file, KubernetesError for another pipeline's."""
    found = {key_of(each): bare(each) for each in live}
    for each in load(file):
        of = each.spec.pipeline_ref.name if isinstance(each, TieringPolicy) else each.metadata.name
        manifest = each.manifest()
        kind, own = key_of(manifest)
        if of != name:
            raise KubernetesError(f"{file}: {kind} {own} is not of pipeline {name}", usage=True)
        known = found.get((kind, own), {"metadata": {}})["metadata"]
        same = {key: known[key] for key in ("namespace", "uid") if key in known}
        found[kind, own] = manifest | {"metadata": {**manifest["metadata"], **same}}
    if (StoragePipeline.KIND, name) not in found:
        raise KubernetesError(f"there is no pipeline {name}, neither in {file} nor in the cluster", usage=True)
    return list(found.values())


def environment(kubectl: Kubectl, live: Iterable[KubeObject]) -> dict[str, str]:
    """What the running operator was told, by what it has made."""
    found = {}
    for pipeline in live:
        if pipeline["kind"] == StoragePipeline.KIND and (image := (pipeline.get("status") or {}).get("image")):
            labels = {MANAGED_BY: OPERATOR, PIPELINE: pipeline["metadata"]["name"]}
            made = kubectl.select("deployments.apps,networkpolicies.networking.k8s.io", labels)
            pods = [each["spec"]["template"]["spec"] for each in made if each["kind"] == "Deployment"]
            secrets = (secret["name"] for pod in pods for secret in pod.get("imagePullSecrets") or [])
            uids = bool(pods) and not any("runAsUser" in (pod.get("securityContext") or {}) for pod in pods)
            egress = any(
                "Egress" in each["spec"].get("policyTypes", ()) for each in made if each["kind"] == "NetworkPolicy"
            )
            found = {
                "MARKETPRISM_IMAGE": image,
                "MARKETPRISM_PULL_SECRETS": ",".join(dict.fromkeys(secrets)),
                "MARKETPRISM_PLATFORM_UIDS": str(uids).lower(),
                "MARKETPRISM_EGRESS": str(egress).lower(),
            }
    return found


def configs(kubectl: Kubectl, live: Iterable[KubeObject]) -> dict[str, str]:
    """Config hash → the ConfigMap of the Pods that have it already, which a change that doesn't concern them leaves them."""
    made = [child for resource in live for child in children(kubectl, resource, WITH_CONFIG)]
    immutable = {each["metadata"]["name"] for each in made if each.get("immutable")}
    found = {}
    for workload in (each for each in made if each["kind"] != "ConfigMap"):
        spec = workload["spec"].get("jobTemplate", workload)["spec"]["template"]
        volumes = {each["name"]: each for each in spec["spec"].get("volumes") or []}
        name = volumes.get("config", {}).get("configMap", {}).get("name")
        hash_ = (spec["metadata"].get("annotations") or {}).get(CONFIG_HASH)
        if hash_ and name in immutable:
            found[hash_] = name
    return found


def rendered(kubectl: Kubectl, resources: Iterable[KubeObject], live: Sequence[KubeObject]) -> list[KubeObject]:
    """Their children, in the order in which they are applied, beside what is there of `live`."""
    environ = environment(kubectl, live)
    options = ["--pod-monitors"] if kubectl.serves("monitoring.coreos.com/v1") else []
    options += [f"--config={hash_}={name}" for hash_, name in configs(kubectl, live).items()]
    beside = Path(sys.executable).with_name(OPERATOR)
    program = str(beside) if beside.exists() else shutil.which(OPERATOR)
    if not program:
        raise KubernetesError(NOT_INSTALLED, usage=True)
    done = subprocess.run(
        [program, "render", "-f", "-", *options],
        input=yaml.safe_dump_all(resources),
        env={**os.environ, **environ},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise KubernetesError(done.stderr.strip(), usage=True)
    return [manifest for manifest in yaml.safe_load_all(done.stdout) if manifest]


# --- what of it is not so ---------------------------------------------------------------------------------------------


def changes(kubectl: Kubectl, live: Iterable[KubeObject], wanted: list[KubeObject]) -> list[dict[str, str]]:
    """Kind, name, change (added, changed or removed), and a unified diff."""
    before = {key_of(each): each for each in kubectl.existing(wanted)}
    after = {key_of(each): each for each in kubectl.dry_run(wanted)}
    found = [change(key, before.get(key), each) for key, each in after.items() if not _was_run(each, before.get(key))]
    found += [change(key_of(each), each, None) for each in left_over(kubectl, live, after)]
    return [each for each in found if each]


def left_over(
    kubectl: Kubectl, live: Iterable[KubeObject], wanted: Mapping[tuple[str, str], Any]
) -> Iterator[KubeObject]:
    """What the operator made of the resources, and does not want any more."""
    for resource in live:
        yield from (child for child in children(kubectl, resource, PRUNED) if key_of(child) not in wanted)


def children(kubectl: Kubectl, resource: KubeObject, kinds: str) -> Iterator[KubeObject]:
    """What the operator made of it."""
    own, label = resource["metadata"], PIPELINE if resource["kind"] == StoragePipeline.KIND else POLICY
    for child in kubectl.select(kinds, {MANAGED_BY: OPERATOR, label: own["name"]}):
        owners = child["metadata"].get("ownerReferences") or []
        if any(each["uid"] == own["uid"] and each.get("controller") for each in owners):
            yield child


def _was_run(manifest: KubeObject, before: KubeObject | None) -> bool:
    """The Job of a run that was asked for once: it is not made again when it has gone."""
    return manifest["kind"] == "Job" and manifest["metadata"]["labels"][COMPONENT] == "migrate" and before is None


def change(key: tuple[str, str], before: KubeObject | None, after: KubeObject | None) -> dict[str, str]:
    """Empty where nothing would change."""
    old, new = (
        yaml.safe_dump(compared(each), sort_keys=False).splitlines(keepends=True) if each else []
        for each in (before, after)
    )
    name = "/".join(key)
    text = "".join(difflib.unified_diff(old, new, f"{name} in the cluster", f"{name} by the operator"))
    if not text:
        return {}
    said = "changed" if before and after else "removed" if before else "added"
    return {"kind": key[0], "name": key[1], "change": said, "diff": text}


def compared(value: Any, key: str = "") -> Any:
    """Without what the API server adds, and what only the operator knows."""
    if isinstance(value, list):
        return [compared(each) for each in value]
    if not isinstance(value, dict):
        return value
    dropped: tuple[str, ...] = ("status",) if "apiVersion" in value else ()
    if key == "metadata":
        dropped = ("managedFields", "resourceVersion", "generation", "creationTimestamp", "uid")
    if key == "annotations":
        dropped = UNCOMPARED
    found = {name: compared(each, name) for name, each in value.items() if name not in dropped}
    return {name: each for name, each in found.items() if each or name != "annotations"}


def key_of(manifest: KubeObject) -> tuple[str, str]:
    return manifest["kind"], manifest["metadata"]["name"]
