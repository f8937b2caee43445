"""One reconcile: the steps below, in this order, each time from what is there. Which trigger came makes no difference."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import yaml
from marketprism_api import reasons
from marketprism_api.load import Resource, parse
from marketprism_api.pipeline import PodTemplate, StoragePipeline
from marketprism_api.problems import ResourceError
from marketprism_api.tiering import TieringPolicy, misfits

from marketprism_operator import ask, metrics, naming, observe, status
from marketprism_operator.apply import Cluster, Done, Refused, controlled_by
from marketprism_operator.builders import children, deployment, goodbye_job, pod, schema_job, validation
from marketprism_operator.builders.request import Request
from marketprism_operator.config import Config
from marketprism_operator.events import Speaker
from marketprism_operator.naming import Manifest

RETRY = timedelta(minutes=1)
"""A schema Job that failed is made again so long after."""
LOOK_AT_LOOP = 60.0
"""Seconds: a loop's runs are no events."""


@dataclass
class Pass:
    """One look at one resource."""

    cluster: Cluster
    config: Config
    events: Speaker
    live: Manifest
    renew: bool
    """Whether the numbers that always move are written, too."""
    resource: Resource | None = None
    pipeline: StoragePipeline | None = None
    request: Request | None = None
    seen: observe.Seen = field(default_factory=observe.Seen)
    workload: Manifest | None = None
    run: tuple[Manifest, str] | None = None
    validating: tuple[Manifest, ...] = ()
    """The Pods that validate, or have."""
    again: float = 0.0
    """Come back after so many seconds; 0: when something happens."""

    @property
    def kind(self) -> str:
        return str(self.live["kind"])

    @property
    def namespace(self) -> str:
        return str(self.live["metadata"]["namespace"])

    @property
    def name(self) -> str:
        return str(self.live["metadata"]["name"])

    @property
    def uid(self) -> str:
        return str(self.live["metadata"]["uid"])

    @property
    def may_apply(self) -> bool:
        return self.request is not None and not self.seen.problems


Step = Callable[[Pass], Awaitable[None]]


async def reconcile(one: Pass) -> float:
    """All steps. Returns after how many seconds to come back, 0 for not before something happens."""
    for step in PIPELINE_STEPS if one.kind == StoragePipeline.KIND else POLICY_STEPS:
        try:
            await step(one)
        except Refused as refused:
            if str(refused) not in str(one.live.get("status")):
                one.events.warn(reasons.APPLY_REFUSED, str(refused))
            one.seen = replace(one.seen, refused=str(refused))
    return one.again


# --- steps ------------------------------------------------------------------------------------------------------------


async def read_spec(one: Pass) -> None:
    """By the same models that the commands use."""
    try:
        one.resource = parsed(one.live)
    except ResourceError as error:
        one.seen = replace(one.seen, problems=tuple(str(p).replace("\n", ";") for p in error.problems))
        return
    if isinstance(one.resource, StoragePipeline):
        one.pipeline = one.resource


def parsed(live: Manifest) -> Resource:
    """A parent as the commands would read it. Raises ResourceError."""
    metadata = {k: live["metadata"][k] for k in ("name", "namespace", "uid", "annotations") if k in live["metadata"]}
    (found,) = parse(yaml.safe_dump({**live, "status": {}, "metadata": metadata}))
    return found


async def find_pipeline(one: Pass) -> None:
    """A policy's pipeline, and whether the two go together."""
    if not isinstance(one.resource, TieringPolicy):
        return
    live = await one.cluster.get("StoragePipeline", one.namespace, str(one.resource.spec.pipeline_ref.name))
    if live is None:
        return
    try:
        found = parsed(live)
    except ResourceError:
        one.seen = replace(
            one.seen, problems=(f"pipeline {live['metadata']['name']} is not valid: see its conditions",)
        )
        return
    assert isinstance(found, StoragePipeline)
    one.pipeline = found
    problems = tuple(
        f"{reason.path} {reason.message}: {reason.hint or reason.allowed}" for reason in misfits(one.resource, found)
    )
    one.seen = replace(one.seen, problems=problems)


async def find_references(one: Pass) -> None:
    """Which Secrets and ConfigMaps are there, and at which version."""
    if one.resource is None or one.pipeline is None:
        return
    policy = one.resource if isinstance(one.resource, TieringPolicy) else None
    request = Request(one.pipeline, one.config.image, policy, one.config.pull_secrets)
    versions, missing = {}, []
    for name in sorted(referenced(request)):
        kind, _, object_name = name.partition("/")
        version = await one.cluster.version(kind, one.namespace, object_name)
        if version is None:
            missing.append(name)
        versions[name] = version or ""
    one.seen = replace(one.seen, missing=tuple(missing))
    one.request = replace(request, versions=versions, pod_monitors=await one.cluster.has_pod_monitors())


def referenced(request: Request) -> set[str]:
    """`Secret/name` and `ConfigMap/name` that any of its Pods needs."""
    templates: list[PodTemplate] = (
        [request.policy.spec.pod_template]
        if request.policy
        else [spec.pod_template for spec in request.pipeline.spec.carriers.values()]
    )
    found = {f"Secret/{name}" for names in pod.secrets(request).values() for name in names}
    return found.union(*(pod.references(template) for template in templates))


async def apply_common(one: Pass) -> None:
    """What Pods need to be there before them."""
    if one.may_apply:
        assert one.request
        for manifest in children.common(one.request):
            await _apply(one, manifest)


async def run_schema(one: Pass) -> None:
    """The tables first: consumers wait for them."""
    if not one.may_apply:
        return
    assert one.request
    wanted = schema_job.build(one.request)
    name = wanted["metadata"]["name"]
    live = await one.cluster.get("Job", one.namespace, name)
    if live and observe.job_state(live) == "Failed":
        ended = max((c["lastTransitionTime"] for c in live["status"]["conditions"]), default="")
        wait = datetime.fromisoformat(str(ended)) + RETRY - datetime.now(UTC)
        if wait <= timedelta():
            await one.cluster.delete("Job", one.namespace, name)
            live = None
        one.again = max(wait.total_seconds(), 1.0)
    if not one.seen.missing and not (live and live["metadata"].get("deletionTimestamp")):
        await _apply(one, wanted)
    one.seen = replace(one.seen, schema_job=await one.cluster.get("Job", one.namespace, name))


async def deploy(one: Pass) -> None:
    """The consumers, once the tables are there. To stand still nothing has to be there."""
    if not one.may_apply:
        return
    assert one.request
    job = one.seen.schema_job
    ready = not one.seen.missing and job and observe.job_state(job) == "Complete"
    for manifest in children.workloads(one.request):
        if ready or manifest["kind"] not in ("Deployment", "PodDisruptionBudget"):
            await _apply(one, manifest)
        elif manifest["kind"] == "Deployment":
            await _hold(one, manifest)


async def _hold(one: Pass, manifest: Manifest) -> None:
    """While a step before is not done, a Deployment that is there only follows in its number of Pods."""
    live = await one.cluster.get("Deployment", one.namespace, manifest["metadata"]["name"])
    if live and live["spec"].get("replicas") != manifest["spec"]["replicas"]:
        kept = {**manifest["spec"], "template": _ours(live["spec"]["template"])}
        await _apply(one, {**manifest, "spec": kept})


def _ours(template: Manifest) -> Manifest:
    metadata = {key: value for key, value in template["metadata"].items() if value is not None}
    return {**template, "metadata": metadata}


async def migrate(one: Pass) -> None:
    """The CronJob, or the Deployment that loops; and the run that was asked for, once."""
    if not one.may_apply:
        return
    assert one.request
    *others, manifest = children.migration(one.request)
    done = (one.live.get("status") or {}).get("runNow", "") == one.request.run_now
    for other in others:
        if not one.seen.missing and not (other["kind"] == "Job" and done):
            await _apply(one, other)
    if not one.seen.missing:
        await _apply(one, manifest)
        if one.request.run_now and not done:
            one.events.info(reasons.RUN_STARTED, f"{naming.RUN_NOW}: {one.request.run_now}")
    one.workload = await one.cluster.get(manifest["kind"], one.namespace, manifest["metadata"]["name"])


async def prune(one: Pass) -> None:
    """What was ours and is not wanted any more."""
    if not one.may_apply:
        return
    assert one.request
    wanted = {(m["kind"], m["metadata"]["name"]) for m in children.all_of(one.request)}
    monitors = ("PodMonitor",) if one.request.pod_monitors else ()
    for kind in ("Deployment", "PodDisruptionBudget", "Job", "CronJob", *monitors):
        found = await one.cluster.list(kind, one.namespace, one.request.selector)
        goodbyes = [  # to an earlier pipeline of the same name: this one needs the durable consumers
            child
            for child in found
            if child["metadata"]["labels"].get(naming.COMPONENT) == goodbye_job.COMPONENT
            and child["metadata"]["name"] != goodbye_job.name(one.request)
        ]
        for child in [*controlled_by(one.uid, found), *goodbyes]:
            name = child["metadata"]["name"]
            if (kind, name) not in wanted and not child["metadata"].get("deletionTimestamp"):
                await one.cluster.delete(kind, one.namespace, name)
                one.events.info(reasons.CHILD_REMOVED, f"{kind} {name}")


async def look(one: Pass) -> None:
    """At Deployments and Pods; and the Pods are asked themselves."""
    pods = await one.cluster.list(
        "Pod", one.namespace, {naming.MANAGED_BY: naming.FIELD_MANAGER, _label(one): one.name}
    )
    by_component: dict[str, list[Manifest]] = {}
    for found in pods:
        by_component.setdefault(found["metadata"]["labels"].get(naming.COMPONENT, ""), []).append(found)
    if one.kind == TieringPolicy.KIND:
        migrating = by_component.get("migrate", [])
        one.run = status.last_run(migrating)
        for word in (await ask.words(migrating)).values():
            if word.data_types.get("finished"):  # a loop tells its last run at its port
                one.run = dict(word.data_types), str(word.data_types["finished"])
        pending = tuple(p for p in migrating if p.get("status", {}).get("phase") == "Pending")
        one.seen = replace(one.seen, pods=pending, warnings=await _warnings(one, pending))
        return
    consumers = by_component.get(deployment.COMPONENT, [])
    one.validating = tuple(by_component.get(validation.COMPONENT, ()))
    deployments = {}
    if one.request:
        for consumer in one.request.pipeline.spec.carriers:
            name = deployment.name(one.request, str(consumer))
            deployments[str(consumer)] = await one.cluster.get("Deployment", one.namespace, name)
    job = one.seen.schema_job
    mine = [p for p in by_component.get(schema_job.COMPONENT, []) if job and controlled_by(job["metadata"]["uid"], [p])]
    waited_for = [job] if job and not mine and not observe.job_state(job) else mine
    one.seen = replace(
        one.seen,
        schema_pods=tuple(mine),
        pods=tuple(consumers),
        warnings=await _warnings(one, [*waited_for, *consumers, *one.validating]),
        words=await ask.words(consumers),
        deployments=deployments,
    )


def _label(one: Pass) -> str:
    return naming.PIPELINE if one.kind == StoragePipeline.KIND else naming.POLICY


async def _warnings(one: Pass, found: Iterable[Manifest]) -> dict[str, str]:
    """Why a Pod is not started, or a Job's not made, is in their Events only."""
    stuck = [each for each in found if each["kind"] == "Job" or observe.is_starting(each)]
    said = {each["metadata"]["name"]: await one.cluster.warning(each) for each in stuck}
    return {name: text for name, text in said.items() if text}


async def report(one: Pass) -> None:
    """The status, written only where something in it has changed."""
    before = one.live.get("status") or {}
    generation = one.live["metadata"].get("generation", 0)
    if one.kind == StoragePipeline.KIND:
        findings = observe.pipeline_findings(one.pipeline, one.seen)
        if one.pipeline:
            run = status.last_run(one.validating)
            starting = [each for each in one.validating if observe.is_starting(each)]
            known = before.get("conditions") or []
            findings += observe.validity(one.pipeline, run[0] if run else None, known, starting, one.seen)
        renew = one.renew or "lastInsertTime" not in before
        rest = status.of_pipeline(one.pipeline, one.config.image, one.seen, before, renew) if one.pipeline else {}
    else:
        policy = one.resource if isinstance(one.resource, TieringPolicy) else None
        rest = _policy_status(one, policy, before)
        findings = observe.policy_findings(
            policy, one.seen, pipeline_there=one.pipeline is not None, workload=one.workload, run=rest.get("lastRun")
        )
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    conditions = observe.conditions(findings, before.get("conditions") or [], generation, now)
    made = {**rest, "observedGeneration": generation, "conditions": conditions}
    if made != before:
        await one.cluster.apply_status(one.kind, one.namespace, one.name, made)
        _tell(one, before.get("conditions") or [], conditions)
    metrics.conditions(one.kind, one.namespace, one.name, {c["type"]: c["status"] for c in conditions})
    settled = any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)
    if not settled and not one.again:
        one.again = 15.0  # what Pods say of themselves is no event


def _policy_status(one: Pass, policy: TieringPolicy | None, before: Manifest) -> Manifest:
    kept: Manifest = {
        key: before[key] for key in ("lastRun", "lastRunTime", "lastSuccessTime", "runNow") if key in before
    }
    if one.run:
        report, at = one.run
        last = status.run_status(report)
        loops = bool(policy and policy.spec.every)
        known, known_at = kept.get("lastRun"), kept.get("lastRunTime", "")
        if at >= known_at and (one.renew or not loops or status.worth_telling(last, at, known, known_at)):
            kept |= {"lastRun": last, "lastRunTime": at}
            kept |= {"lastSuccessTime": at} if report.get("ok") else {}
    if policy:
        kept["schedule"] = str(policy.spec.schedule or f"every {policy.spec.every}")
        kept |= status.next_run(policy, datetime.now(UTC))
        if one.request and one.request.run_now and one.workload and not one.seen.missing:
            kept["runNow"] = one.request.run_now
        if policy.spec.every and not one.again:
            one.again = LOOK_AT_LOOP
    if one.workload:
        kept["workload"] = one.workload["metadata"]["name"]
    return kept


def _tell(one: Pass, before: list[Any], now: list[Any]) -> None:
    """Ready's changes are events, too."""
    old: Manifest = next((c for c in before if c["type"] == "Ready"), {})
    new = next(c for c in now if c["type"] == "Ready")
    if (old.get("status"), old.get("reason")) != (new["status"], new["reason"]):
        reason = reasons.BY_NAME[new["reason"]]
        quiet = new["status"] != "False" or reason in (reasons.SCHEMA_RUNNING, reasons.ROLLING_OUT, reasons.SUSPENDED)
        (one.events.info if quiet else one.events.warn)(reason, new["message"])
    _tell_verdict(one, before, now)


def _tell_verdict(one: Pass, before: list[Any], now: list[Any]) -> None:
    """What the last validation found, where it is another thing than before."""
    old: Manifest = next((c for c in before if c["type"] == "DataValid"), {})
    new: Manifest = next((c for c in now if c["type"] == "DataValid"), {})
    if new and new["reason"] in reasons.BY_NAME and new["message"] != old.get("message") and new["status"] != "Unknown":
        reason = reasons.BY_NAME[new["reason"]]
        (one.events.info if new["status"] == "True" else one.events.warn)(reason, new["message"])


async def _apply(one: Pass, manifest: Manifest) -> None:
    outcome = await one.cluster.apply(manifest)
    what = f"{manifest['kind']} {manifest['metadata']['name']}"
    if outcome.done is Done.CREATED:
        one.events.info(reasons.CHILD_CREATED, what)
    elif outcome.done is Done.CHANGED:
        one.events.info(reasons.CHILD_CHANGED, f"{what}: {', '.join(outcome.fields)}")
    elif outcome.done is Done.PUT_BACK:
        metrics.DRIFT.labels(manifest["kind"]).inc()
        one.events.warn(reasons.DRIFT_CORRECTED, f"{what}: {', '.join(outcome.fields)}")


PIPELINE_STEPS: tuple[Step, ...] = (read_spec, find_references, apply_common, run_schema, deploy, prune, look, report)
POLICY_STEPS: tuple[Step, ...] = (read_spec, find_pipeline, find_references, apply_common, migrate, prune, look, report)
