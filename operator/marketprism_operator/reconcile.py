"""One reconcile: the steps below, in this order, each time from what is there. Which trigger came makes no difference."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from kubernetes.aio.client.exceptions import ApiException

from marketprism_api import reasons
from marketprism_api.load import AnyResource, of_manifest
from marketprism_api.pipeline import PodTemplate, StoragePipeline
from marketprism_api.problems import ResourceError
from marketprism_api.tiering import TieringPolicy, misfits
from marketprism_operator import ask, conditions, metrics, naming, references, scaling, status, times
from marketprism_operator.builders import children, config_map, deployment, pod, schema_job, validation
from marketprism_operator.builders.request import BuildRequest
from marketprism_operator.cluster import (
    STANDS_STILL,
    ApplyRefusedError,
    Cluster,
    Done,
    StatusRefusedError,
    controlled_by,
    said_by,
)
from marketprism_operator.config import Config
from marketprism_operator.events import Speaker
from marketprism_operator.naming import Manifest
from marketprism_operator.rivals import Rivals

RETRY = timedelta(minutes=1)
"""After this long a schema Job that failed, or whose tables have gone, is made again."""
LOOK, LONGEST_LOOK = 15.0, 120.0
"""Seconds until the first look at what is not ready, and between any two at the most: what lasts is looked at ever less often."""
KEEP = 60.0
"""Seconds for which a ConfigMap is kept that no workload names any more: a controller may act on what it saw before."""
LOOP_INTERVAL = 60.0
"""Seconds between two looks at a loop: its runs cause no events."""


@dataclass
class Reconciliation:
    """One look at one resource."""

    cluster: Cluster
    config: Config
    events: Speaker
    live: Manifest
    renew: bool
    """Whether the numbers that change all the time are written, too."""
    scaled: dict[tuple[str, str, str], scaling.Memory] = field(default_factory=dict)
    """What is remembered of consumers that are scaled: by namespace, pipeline and consumer."""
    unused: dict[tuple[str, str], float] = field(default_factory=dict)
    """Since when no workload names a ConfigMap [s]: by namespace and name."""
    rivals: Rivals = field(default_factory=Rivals)
    """All pipelines, by what they store."""
    resource: AnyResource | None = None
    pipeline: StoragePipeline | None = None
    request: BuildRequest | None = None
    seen: conditions.Seen = field(default_factory=conditions.Seen)
    workload: Manifest | None = None
    run: tuple[Manifest, str] | None = None
    validating: tuple[Manifest, ...] = ()
    """The Pods that validate, or have."""
    looks: int = 0
    """How many looks before this one found it not ready, and nothing new to say of it."""
    again: float = 0.0
    """Come back after this many seconds; 0: when something happens."""
    news: bool = False
    """Whether its conditions have changed."""

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
        return self.request is not None and not self.seen.problems and not self.seen.rival


Step = Callable[[Reconciliation], Awaitable[None]]


class StepFailedError(Exception):
    """A step met what nobody expected: an error of the API server, or a bug."""

    def __init__(self, step: str, error: Exception) -> None:
        said = f"{error.status} {said_by(error)}" if isinstance(error, ApiException) else str(error)
        super().__init__(f"step {step}: {type(error).__name__}: {said}"[:1000])
        self.step = step


async def reconcile(current: Reconciliation) -> float:
    """All steps. Returns after how many seconds to come back; 0: when something happens.

    Where one fails the rest is left, and that is reported. Raises StepFailedError then.
    """
    if (current.live["metadata"].get("annotations") or {}).get(naming.PAUSE) == "true":
        await pause(current)
        return 0.0
    *steps, report_ = PIPELINE_STEPS if current.kind == StoragePipeline.KIND else POLICY_STEPS
    for step in steps:
        try:
            await step(current)
        except ApplyRefusedError as refused:
            if str(refused) not in str(current.live.get("status")):
                current.events.warn(reasons.APPLY_REFUSED, str(refused))
            current.seen = replace(current.seen, refused=str(refused))
        except Exception as error:
            failed = StepFailedError(step.__name__, error)
            metrics.STEP_FAILURES.labels(current.kind, failed.step).inc()
            with suppress(Exception):  # the metrics have it already, and the step's own error is the one to raise
                await report_failure(current, failed)
            raise failed from error
    try:
        await report_(current)
    except StatusRefusedError as refused:
        failed = StepFailedError(report_.__name__, refused)
        metrics.STEP_FAILURES.labels(current.kind, failed.step).inc()
        current.seen = replace(current.seen, failed=str(failed))
        await write_conditions(current, _status(current, current.live.get("status") or {}))
        raise failed from refused
    except Exception as error:
        metrics.STEP_FAILURES.labels(current.kind, report_.__name__).inc()
        raise StepFailedError(report_.__name__, error) from error
    return current.again


# --- steps ------------------------------------------------------------------------------------------------------------


async def read_spec(current: Reconciliation) -> None:
    """With the same models that the commands use."""
    try:
        current.resource = parsed(current.live)
    except ResourceError as error:
        current.seen = replace(current.seen, problems=tuple(str(p).replace("\n", ";") for p in error.problems))
        return
    if isinstance(current.resource, StoragePipeline):
        current.pipeline = current.resource


def parsed(live: Manifest) -> AnyResource:
    """A parent as the commands would read it. Raises ResourceError."""
    metadata = {k: live["metadata"][k] for k in ("name", "namespace", "uid", "annotations") if k in live["metadata"]}
    return of_manifest({**live, "status": {}, "metadata": metadata})


async def suspend(current: Reconciliation) -> None:
    """No Pods, whatever else is wrong with the spec or the cluster: to stand still takes nothing but Deployments and CronJobs."""
    if not (current.live.get("spec") or {}).get("suspend"):
        return
    await _stand_still(current)


async def _stand_still(current: Reconciliation) -> None:
    for kind in STANDS_STILL:
        found = await current.cluster.list(kind, current.namespace, {_label(current): current.name})
        for workload in controlled_by(current.uid, found):
            await current.cluster.stop_pods(workload)


async def stand_aside(current: Reconciliation) -> None:
    """No Pods where an older pipeline stores the same messages in the same tables."""
    first = current.rivals.first((current.namespace, current.name)) if current.pipeline else None
    if first:
        (namespace, name), types = first
        rival = f"pipeline {namespace}/{name} is older, and stores {', '.join(types)} of the same streams in the same tables"
        current.seen = replace(current.seen, rival=rival)
        await _stand_still(current)


async def find_pipeline(current: Reconciliation) -> None:
    """A policy's pipeline, and whether the two go together."""
    if not isinstance(current.resource, TieringPolicy):
        return
    live = await current.cluster.get("StoragePipeline", current.namespace, str(current.resource.spec.pipeline_ref.name))
    if live is None:
        return
    try:
        found = parsed(live)
    except ResourceError:
        current.seen = replace(
            current.seen, problems=(f"pipeline {live['metadata']['name']} is not valid: see its conditions",)
        )
        return
    assert isinstance(found, StoragePipeline)
    current.pipeline = found
    problems = tuple(
        f"{objection.path} {objection.message}: {objection.hint or objection.allowed}"
        for objection in misfits(current.resource, found, await _policies(current, str(found.metadata.name)))
    )
    current.seen = replace(current.seen, problems=problems)


async def _policies(current: Reconciliation, pipeline: str) -> list[TieringPolicy]:
    """All of the pipeline's that can be read."""
    found = []
    for live in await current.cluster.list("TieringPolicy", current.namespace):
        if live["spec"]["pipelineRef"]["name"] == pipeline:
            with suppress(ResourceError):
                found.append(parsed(live))
    return [policy for policy in found if isinstance(policy, TieringPolicy)]


async def find_references(current: Reconciliation) -> None:
    """Which Secrets and ConfigMaps are there, and at which version."""
    if current.resource is None or current.pipeline is None:
        return
    policy = current.resource if isinstance(current.resource, TieringPolicy) else None
    request = BuildRequest(
        current.pipeline,
        current.config.image,
        policy,
        current.config.pull_secrets,
        policies=() if policy else tuple(await _policies(current, current.name)),
        platform=current.config.platform,
    )
    versions, missing = {}, []
    for name in sorted(referenced(request)):
        kind, _, object_name = name.partition("/")
        version = await current.cluster.version(kind, current.namespace, object_name)
        if version is None:
            missing.append(name)
        versions[name] = version or ""
    current.seen = replace(current.seen, missing=tuple(missing))
    current.request = replace(
        request,
        versions=versions,
        configs=await _configs(current, request),
        pod_monitors=await current.cluster.has_pod_monitors(current.namespace),
    )


async def _configs(current: Reconciliation, request: BuildRequest) -> dict[str, str]:
    """Config hash → the ConfigMap that Pods with that hash read. Only what can't have been edited since."""
    configs = controlled_by(current.uid, await current.cluster.list("ConfigMap", current.namespace, request.selector))
    unchanged = {config["metadata"]["name"] for config in configs if config.get("immutable")}
    found = {}
    for kind in ("Job", "CronJob", "Deployment"):
        workloads = await current.cluster.list(kind, current.namespace, request.selector)
        for template in map(pod.template_of, controlled_by(current.uid, workloads)):
            hash_ = ((template.get("metadata") or {}).get("annotations") or {}).get(naming.CONFIG_HASH)
            if hash_ and pod.config_of(template) in unchanged:
                found[hash_] = pod.config_of(template)
    return found


def referenced(request: BuildRequest) -> set[str]:
    """`Secret/name` and `ConfigMap/name` that any of its Pods needs."""
    pipeline = request.pipeline.spec
    parts: list[PodTemplate] = (
        [request.policy.spec.pod_template]
        if request.policy
        else [spec.pod_template for spec in pipeline.carriers.values()]
    )
    found = {f"Secret/{name}" for names in pod.secrets(request, request.cold).values() for name in names}
    return found.union(*(pod.references(template) for template in [pipeline.pod_template, *parts]))


async def apply_common(current: Reconciliation) -> None:
    """What has to be there before the Pods."""
    if current.may_apply:
        assert current.request
        for manifest in children.common(current.request):
            await _apply(current, manifest)


async def run_schema(current: Reconciliation) -> None:
    """The tables first: consumers wait for them."""
    if not current.may_apply:
        return
    assert current.request
    wanted = schema_job.build(current.request)
    name = wanted["metadata"]["name"]
    live = await current.cluster.get("Job", current.namespace, name)
    if live and conditions.job_state(live) == "Failed":
        wait = _ended(live) + RETRY - datetime.now(UTC)
        if wait <= timedelta():
            await current.cluster.delete("Job", current.namespace, name, live["metadata"]["uid"])
            live = None
        current.again = max(wait.total_seconds(), 1.0)
    if not current.seen.missing and not (live and live["metadata"].get("deletionTimestamp")):
        await _apply(current, wanted)
    current.seen = replace(current.seen, schema_job=await current.cluster.get("Job", current.namespace, name))


async def deploy(current: Reconciliation) -> None:
    """The consumers, once the tables are there. What needs no tables doesn't wait for them."""
    if not current.may_apply:
        return
    assert current.request
    job = current.seen.schema_job
    ready = not current.seen.missing and job and conditions.job_state(job) == "Complete"
    refused: ApplyRefusedError | None = None
    for manifest in children.workloads(current.request):
        try:
            if ready or manifest["kind"] not in ("Deployment", "PodDisruptionBudget"):
                await _apply(current, manifest)
            elif manifest["kind"] == "Deployment":
                await _hold(current, manifest)
        except ApplyRefusedError as error:  # the other consumers are none the worse for it
            refused = refused or error
    if refused:
        raise refused


async def _hold(current: Reconciliation, manifest: Manifest) -> None:
    """While an earlier step is not done, an existing Deployment only gets its new number of Pods."""
    live = await current.cluster.read("Deployment", current.namespace, manifest["metadata"]["name"])
    if live and live["spec"].get("replicas") != manifest["spec"].get("replicas", live["spec"].get("replicas")):
        kept = {**manifest["spec"], "template": _ours(live["spec"]["template"])}
        await _apply(current, {**manifest, "spec": kept})


def _ours(template: Manifest) -> Manifest:
    metadata = {key: value for key, value in template["metadata"].items() if value is not None}
    return {**template, "metadata": metadata}


async def migrate(current: Reconciliation) -> None:
    """The CronJob, or the Deployment that loops; and, once, the run that was asked for."""
    if not current.may_apply:
        return
    assert current.request
    *others, manifest = children.migration(current.request)
    done = (current.live.get("status") or {}).get("runNow", "") == current.request.run_now
    for other in others:
        if not current.seen.missing and not (other["kind"] == "Job" and done):
            await _apply(current, other)
    if not current.seen.missing:
        await _apply(current, manifest)
        if current.request.run_now and not done:
            current.events.info(reasons.RUN_STARTED, f"{naming.RUN_NOW}: {current.request.run_now}")
    current.workload = await current.cluster.get(manifest["kind"], current.namespace, manifest["metadata"]["name"])


async def prune(current: Reconciliation) -> None:
    """Deletes what is ours and no longer wanted."""
    if not current.may_apply:
        return
    assert current.request
    wanted = {(m["kind"], m["metadata"]["name"]) for m in children.all_of(current.request)}
    monitors = ("PodMonitor",) if current.request.pod_monitors else ()
    for kind in ("Deployment", "PodDisruptionBudget", "Job", "CronJob", *monitors):
        found = await current.cluster.list(kind, current.namespace, current.request.selector)
        for child in controlled_by(current.uid, found):
            name = child["metadata"]["name"]
            if (kind, name) not in wanted and not child["metadata"].get("deletionTimestamp"):
                await current.cluster.delete(kind, current.namespace, name, child["metadata"]["uid"])
                current.events.info(reasons.CHILD_REMOVED, f"{kind} {name}")
    await _prune_configs(current, current.request)


async def _prune_configs(current: Reconciliation, request: BuildRequest) -> None:
    """Deletes the ConfigMaps that no Pod will read any more: not those of a Deployment's former ReplicaSets, to which it may go back."""
    used = {config_map.name(request)}
    for kind in ("Deployment", "ReplicaSet", "Job", "CronJob"):
        workloads = await current.cluster.list(kind, current.namespace, request.selector)
        used |= {pod.config_of(pod.template_of(workload)) for workload in workloads}
    now = time.monotonic()
    configs = await current.cluster.list("ConfigMap", current.namespace, request.selector)
    for config in controlled_by(current.uid, configs):
        name = config["metadata"]["name"]
        key = (current.namespace, name)
        if name in used:
            current.unused.pop(key, None)
        elif now - current.unused.setdefault(key, now) < KEEP:
            current.again = min(current.again or KEEP, KEEP)
        else:
            await current.cluster.delete("ConfigMap", *key, config["metadata"]["uid"])
            del current.unused[key]
            current.events.info(reasons.CHILD_REMOVED, f"ConfigMap {name}")


async def observe(current: Reconciliation) -> None:
    """Looks at Deployments and Pods, and asks the Pods themselves."""
    pods = await current.cluster.list(
        "Pod", current.namespace, {naming.MANAGED_BY: naming.FIELD_MANAGER, _label(current): current.name}
    )
    by_component: dict[str, list[Manifest]] = {}
    for found in pods:
        by_component.setdefault(found["metadata"]["labels"].get(naming.COMPONENT, ""), []).append(found)
    if current.kind == TieringPolicy.KIND:
        migrating = by_component.get("migrate", [])
        current.run = status.last_run(migrating)
        for word in (await ask.words(migrating)).values():
            if word.data_types.get("finished"):  # a loop reports its last run at its port
                current.run = dict(word.data_types), str(word.data_types["finished"])
        pending = tuple(p for p in migrating if p.get("status", {}).get("phase") == "Pending")
        current.seen = replace(current.seen, pods=pending, warnings=await _warnings(current, pending))
        return
    consumers = by_component.get(deployment.COMPONENT, [])
    current.validating = tuple(by_component.get(validation.COMPONENT, ()))
    deployments = {}
    if current.request:
        for consumer in current.request.pipeline.spec.carriers:
            name = deployment.name(current.request, str(consumer))
            deployments[str(consumer)] = await current.cluster.get("Deployment", current.namespace, name)
    job = current.seen.schema_job
    mine = [p for p in by_component.get(schema_job.COMPONENT, []) if job and controlled_by(job["metadata"]["uid"], [p])]
    waited_for = [job] if job and not mine and not conditions.job_state(job) else mine
    current.seen = replace(
        current.seen,
        schema_pods=tuple(mine),
        pods=tuple(consumers),
        warnings=await _warnings(current, [*waited_for, *consumers, *current.validating]),
        words=await ask.words(consumers),
        deployments=deployments,
    )


async def renew_schema(current: Reconciliation) -> None:
    """Tables that have gone since they were made are made again: by the Job, which is removed and so made anew."""
    job = current.seen.schema_job
    if not current.may_apply or current.pipeline is None or current.pipeline.spec.table_schema.mode != "Apply":
        return
    if job is None or not conditions.tables_are_gone(current.seen):
        return
    wait = _ended(job) + RETRY - datetime.now(UTC)  # what Pods say may be from before it
    if wait <= timedelta():
        await current.cluster.delete("Job", current.namespace, job["metadata"]["name"], job["metadata"]["uid"])
        current.events.warn(reasons.SCHEMA_MISSING, f"Job {job['metadata']['name']} is run again: tables are gone")
    current.again = max(wait.total_seconds(), 1.0)


def _ended(job: Manifest) -> datetime:
    times_ = [str(c["lastTransitionTime"]) for c in job["status"]["conditions"]]
    return datetime.fromisoformat(max(times_))


async def scale(current: Reconciliation) -> None:
    """More Pods while rows come late, fewer when they have not for a while."""
    if not current.may_apply or current.pipeline is None or current.pipeline.spec.suspend:
        return
    for key, spec in current.pipeline.spec.carriers.items():
        consumer, live = str(key), current.seen.deployments.get(str(key))
        if spec.autoscale is None or live is None:
            continue
        current.again = min(current.again or scaling.LOOK_EVERY, scaling.LOOK_EVERY)
        present = live["spec"].get("replicas", 1)
        own = [
            pod["metadata"]["name"]
            for pod in current.seen.pods
            if pod["metadata"]["labels"].get(naming.CONSUMER) == consumer
        ]
        late = scaling.lag(spec, [current.seen.words[name] for name in own if name in current.seen.words])
        memory = current.scaled.setdefault((current.namespace, current.name, consumer), scaling.Memory())
        number = scaling.wanted(spec.autoscale, present, late, memory, time.monotonic())
        if number != present:
            await current.cluster.scale(current.namespace, live["metadata"]["name"], number)
            live["spec"]["replicas"] = number
            said = "not known" if late is None else f"{late:.0f} s"
            current.events.info(
                reasons.SCALED,
                f"{consumer}: {present} to {number} Pods; lag {said}, target {spec.autoscale.target_lag}",
            )
        if late is not None and late > spec.autoscale.target_lag.seconds and number == spec.autoscale.max:
            current.seen = replace(current.seen, at_most=(*current.seen.at_most, consumer))


def _label(current: Reconciliation) -> str:
    return naming.PIPELINE if current.kind == StoragePipeline.KIND else naming.POLICY


async def _warnings(current: Reconciliation, found: Iterable[Manifest]) -> dict[str, str]:
    """Why a Pod doesn't start, or a Job's Pod isn't made, is in their Events only."""
    stuck = [each for each in found if each["kind"] == "Job" or conditions.is_starting(each)]
    said = {each["metadata"]["name"]: await current.cluster.warning(each) for each in stuck}
    return {name: text for name, text in said.items() if text}


async def report(current: Reconciliation) -> None:
    """The status, written only where something in it has changed; what an alert watches is set before that can fail."""
    before = current.live.get("status") or {}
    made = _status(current, before)
    _export(current, made)
    if made != before:
        await current.cluster.write_status(current.kind, current.namespace, current.name, made)
        _announce(current, before.get("conditions") or [], made["conditions"])
    settled = any(c["type"] == "Ready" and c["status"] == "True" for c in made["conditions"])
    if not settled and not current.again:
        current.again = min(LOOK * 2.0**current.looks, LONGEST_LOOK)  # what Pods say of themselves causes no event
    left = conditions.until_stalled(made["conditions"], _moment(current)).total_seconds()
    current.again = min(current.again, max(left, 1.0))


async def pause(current: Reconciliation) -> None:
    """Nothing but to say so."""
    before = current.live.get("status") or {}
    told = conditions.while_paused(before.get("conditions") or [], _moment(current))
    await write_conditions(current, {"observedGeneration": before.get("observedGeneration", -1), "conditions": told})


async def report_failure(current: Reconciliation, failed: StepFailedError) -> None:
    """That a step failed. What is known from before stays, and nothing of it makes the resource Ready."""
    before = current.live.get("status") or {}
    told = conditions.after_failure(str(failed), before.get("conditions") or [], _moment(current))
    await write_conditions(current, {"observedGeneration": before.get("observedGeneration", -1), "conditions": told})


async def write_conditions(current: Reconciliation, made: Manifest) -> None:
    """Of a status its conditions alone. Where even that fails, the metrics have said it before."""
    _export(current, made)
    before = (current.live.get("status") or {}).get("conditions") or []
    if made["conditions"] != before:
        await current.cluster.write_conditions(current.kind, current.namespace, current.name, made, current.live)
        _announce(current, before, made["conditions"])


def _export(current: Reconciliation, made: Manifest) -> None:
    statuses = {c["type"]: c["status"] for c in made["conditions"]}
    metrics.conditions(current.kind, current.namespace, current.name, statuses)


def _status(current: Reconciliation, before: Manifest) -> Manifest:
    """All of it: numbers, names and conditions."""
    known = before.get("conditions") or []
    if current.kind == StoragePipeline.KIND:
        undated = conditions.pipeline_conditions(current.pipeline, current.seen)
        if current.pipeline:
            run = status.last_run(current.validating)
            starting = [each for each in current.validating if conditions.is_starting(each)]
            undated += conditions.validity(current.pipeline, run[0] if run else None, known, starting, current.seen)
            undated += conditions.scaling(current.pipeline, current.seen)
        renew = current.renew or "lastInsertTime" not in before
        rest = (
            status.of_pipeline(current.pipeline, current.config.image, current.seen, before, renew)
            if current.pipeline
            else {}
        )
    else:
        policy = current.resource if isinstance(current.resource, TieringPolicy) else None
        rest = _policy_status(current, policy, before)
        undated = conditions.policy_conditions(
            policy,
            current.seen,
            pipeline_there=current.pipeline is not None,
            workload=current.workload,
            run=rest.get("lastRun"),
        )
    at = _moment(current)
    return {**rest, "observedGeneration": at.generation, "conditions": conditions.dated(undated, known, at)}


def _moment(current: Reconciliation) -> conditions.Moment:
    generation = current.live["metadata"].get("generation", 0)
    if current.resource is None:
        return conditions.Moment(times.now(), generation)
    return conditions.Moment(times.now(), generation, current.resource.spec.progress_deadline.timedelta)


def _policy_status(current: Reconciliation, policy: TieringPolicy | None, before: Manifest) -> Manifest:
    kept: Manifest = {
        key: before[key] for key in ("lastRun", "lastRunTime", "lastSuccessTime", "runNow") if key in before
    }
    if current.run:
        report, at = current.run
        last = status.run_status(report)
        loops = bool(policy and policy.spec.every)
        known, known_at = kept.get("lastRun"), kept.get("lastRunTime", "")
        if at >= known_at and (current.renew or not loops or status.worth_writing(last, at, known, known_at)):
            kept |= {"lastRun": last, "lastRunTime": at}
            kept |= {"lastSuccessTime": at} if report.get("ok") else {}
    if policy:
        kept["schedule"] = str(policy.spec.schedule or f"every {policy.spec.every}")
        kept |= status.next_run(policy, datetime.now(UTC))
        if current.request and current.request.run_now and current.workload and not current.seen.missing:
            kept["runNow"] = current.request.run_now
        if policy.spec.every and not current.again:
            current.again = LOOP_INTERVAL
    if current.workload:
        kept["workload"] = current.workload["metadata"]["name"]
    return kept


def _announce(current: Reconciliation, before: list[Any], now: list[Any]) -> None:
    """Ready's changes are events, too."""
    current.news = before != now
    old: Manifest = next((c for c in before if c["type"] == "Ready"), {})
    new = next(c for c in now if c["type"] == "Ready")
    if (old.get("status"), old.get("reason")) != (new["status"], new["reason"]):
        reason = reasons.BY_NAME[new["reason"]]
        quiet = new["status"] != "False" or reason in (reasons.SCHEMA_RUNNING, reasons.ROLLING_OUT, reasons.SUSPENDED)
        (current.events.info if quiet else current.events.warn)(reason, new["message"])
    exceeded = reasons.DEADLINE_EXCEEDED
    late, was_late = ([c for c in told if c["reason"] == exceeded.name] for told in (now, before))
    if late and not was_late:
        current.events.warn(exceeded, late[0]["message"])
    _announce_verdict(current, before, now)


def _announce_verdict(current: Reconciliation, before: list[Any], now: list[Any]) -> None:
    """What the last validation found, where it differs from before."""
    old: Manifest = next((c for c in before if c["type"] == "DataValid"), {})
    new: Manifest = next((c for c in now if c["type"] == "DataValid"), {})
    if new and new["reason"] in reasons.BY_NAME and new["message"] != old.get("message") and new["status"] != "Unknown":
        reason = reasons.BY_NAME[new["reason"]]
        (current.events.info if new["status"] == "True" else current.events.warn)(reason, new["message"])


async def _apply(current: Reconciliation, manifest: Manifest) -> None:
    if manifest["kind"] == "Deployment":
        live = await current.cluster.get("Deployment", current.namespace, manifest["metadata"]["name"])
        manifest = references.unmoved(manifest, live)
    outcome = await current.cluster.apply(manifest)
    what = f"{manifest['kind']} {manifest['metadata']['name']}"
    if outcome.done is Done.CREATED:
        current.events.info(reasons.CHILD_CREATED, what)
    elif outcome.done is Done.CHANGED:
        current.events.info(reasons.CHILD_CHANGED, f"{what}: {', '.join(outcome.fields)}")
    elif outcome.done is Done.PUT_BACK:
        metrics.DRIFT.labels(manifest["kind"]).inc()
        current.events.warn(reasons.DRIFT_CORRECTED, f"{what}: {', '.join(outcome.fields)}")


PIPELINE_STEPS: tuple[Step, ...] = (
    read_spec,
    suspend,
    stand_aside,
    find_references,
    apply_common,
    run_schema,
    deploy,
    prune,
    observe,
    renew_schema,
    scale,
    report,
)
POLICY_STEPS: tuple[Step, ...] = (
    read_spec,
    suspend,
    find_pipeline,
    find_references,
    apply_common,
    migrate,
    prune,
    observe,
    report,
)
