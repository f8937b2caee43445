"""Makes conditions of what is there. Pure: no client and no clock.

A cause is reported where it is felt: the schema Job and the consumers say themselves what they can't reach.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from marketprism_api import reasons
from marketprism_api.pipeline import PROGRESS_DEADLINE, StoragePipeline
from marketprism_api.reasons import Reason
from marketprism_api.tiering import TieringPolicy
from marketprism_operator.condition_types import SUMMARY, ConditionType
from marketprism_operator.naming import Manifest


@dataclass(frozen=True, slots=True)
class UndatedCondition:
    """A condition without its times."""

    type: ConditionType
    status: str
    reason: str
    message: str

    @property
    def good(self) -> bool:
        return self.status == "True"


@dataclass(frozen=True, slots=True)
class Word:
    """What a Pod says at its own port: /readyz and /status.json."""

    ready: bool
    text: str = ""
    data_types: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Seen:
    """Everything that a status is made of."""

    problems: tuple[str, ...] = ()
    """What is wrong with the spec."""
    rival: str = ""
    """The older pipeline that stores the same in the same tables."""
    missing: tuple[str, ...] = ()
    """`Secret/name` and `ConfigMap/name` that are referred to and not there."""
    refused: str = ""
    """What the API server said of a child that it did not take."""
    failed: str = ""
    """The step that failed, and what was said."""
    schema_job: Manifest | None = None
    schema_pods: tuple[Manifest, ...] = ()
    deployments: Mapping[str, Manifest | None] = field(default_factory=dict)
    """By consumer; None where it is not there yet."""
    at_most: tuple[str, ...] = ()
    """Consumers that have as many Pods as they may, and are late nevertheless."""
    pods: tuple[Manifest, ...] = ()
    """The consumers'."""
    words: Mapping[str, Word] = field(default_factory=dict)
    """By Pod."""
    warnings: Mapping[str, str] = field(default_factory=dict)
    """By Pod or Job that hasn't started: the last Warning among its Events."""


def _true(kind: ConditionType, reason: Reason, message: str = "") -> UndatedCondition:
    return UndatedCondition(kind, "True", reason.name, message or reason.text)


def _false(kind: ConditionType, reason: Reason, message: str = "") -> UndatedCondition:
    """The message gives the cause, and what to do."""
    said = f"{message or reason.text}: {reason.hint}" if reason.hint else message or reason.text
    return UndatedCondition(kind, "False", reason.name, said)


def _unknown(kind: ConditionType, message: str = "") -> UndatedCondition:
    return UndatedCondition(kind, "Unknown", reasons.WAITING.name, message or reasons.WAITING.text)


def pipeline_conditions(pipeline: StoragePipeline | None, seen: Seen) -> list[UndatedCondition]:
    """Every condition of a pipeline; `pipeline` is None where it can't be read."""
    spec = _spec_valid(seen)
    suspended = bool(pipeline and pipeline.spec.suspend)
    ignored = bool(pipeline and pipeline.spec.table_schema.mode == "Ignore")
    reachable = [_reachable(kind, causes, seen) for kind, causes in _SERVERS]
    schema = _schema(seen, spec, ignored)
    steps = [spec, *reachable, schema, _streams(seen), _available(seen, schema, suspended)]
    return [_reconciled(seen), *steps, *_summary(steps, suspended, seen)]


def _reconciled(seen: Seen) -> UndatedCondition:
    if seen.failed:
        return _false("Reconciled", reasons.RECONCILE_FAILED, seen.failed)
    return _true("Reconciled", reasons.RECONCILED)


def _spec_valid(seen: Seen) -> UndatedCondition:
    if seen.problems:
        return _false("SpecValid", reasons.INVALID_RESOURCE, "; ".join(seen.problems))
    if seen.rival:
        return _false("SpecValid", reasons.STORED_BY_ANOTHER, seen.rival)
    for kind, reason in (("Secret", reasons.SECRET_MISSING), ("ConfigMap", reasons.CONFIG_MAP_MISSING)):
        names = [name for name in seen.missing if name.startswith(f"{kind}/")]
        if names:
            return _false("SpecValid", reason, f"{', '.join(names)} is referred to and does not exist")
    if seen.refused:
        return _false("SpecValid", reasons.APPLY_REFUSED, seen.refused)
    return _true("SpecValid", reasons.VALID)


# --- servers and schema -----------------------------------------------------------------------------------------------

_NATS = (reasons.NATS_UNREACHABLE, reasons.NATS_DENIED, reasons.NATS_UNTRUSTED, reasons.NO_JETSTREAM)
_CLICKHOUSE = (reasons.CLICKHOUSE_UNREACHABLE, reasons.CLICKHOUSE_DENIED)
_SERVERS: tuple[tuple[ConditionType, tuple[Reason, ...]], ...] = (
    ("NATSReachable", _NATS),
    ("ClickHouseReachable", _CLICKHOUSE),
)


def _reachable(kind: ConditionType, causes: Sequence[Reason], seen: Seen) -> UndatedCondition:
    """The schema Job tries both servers before anything else; from then on the consumers report."""
    done = bool(seen.schema_job and job_state(seen.schema_job) == "Complete")
    for said in [*([] if done else _last_words(seen.schema_pods)), *_spoken(seen)]:
        reason = reason_of(said)
        if reason in causes:
            assert reason
            return _false(kind, reason, said)
    if done or any(reason_of(said) for said in _last_words(seen.schema_pods)):  # it has come far enough to try both
        return _true(kind, reasons.REACHABLE)
    return _unknown(kind, "the schema Job will find out")


def _schema(seen: Seen, spec: UndatedCondition, ignored: bool) -> UndatedCondition:
    kind: ConditionType = "SchemaReady"
    job = seen.schema_job
    if job is None:
        return _unknown(kind, "" if spec.good else "waits for a valid spec")
    if job_state(job) == "Complete":
        for line in _spoken(seen):
            if (reason := reason_of(line)) in (
                reasons.SCHEMA_MISSING,
                reasons.SCHEMA_DRIFT,
                reasons.RECORDED_ELSEWHERE,
            ):
                assert reason
                return _false(kind, reason, line)
        return _true(kind, reasons.SCHEMA_IGNORED if ignored else reasons.SCHEMA_DONE)
    said = _last_words(seen.schema_pods)
    elsewhere = (*_NATS, *_CLICKHOUSE, *_STREAMS)
    if said and all(reason_of(line) in elsewhere for line in said):
        return _unknown(kind, "waits for both servers and the streams")
    if said:
        about = next(line for line in said if reason_of(line) not in elsewhere)
        return _false(kind, reason_of(about) or reasons.SCHEMA_FAILED, f"schema Job {_name(job)}: {about}")
    if trouble := _pod_trouble(seen.schema_pods, seen.warnings):
        return _false(kind, *trouble)
    if job_state(job) == "Failed":
        why = next((c.get("message", "") for c in _conditions(job) if c["type"] == "Failed"), "")
        return _false(kind, reasons.SCHEMA_FAILED, f"schema Job {_name(job)}: {why or 'failed'}")
    if refused := seen.warnings.get(_name(job)):
        return _false(kind, reasons.POD_REFUSED, f"schema Job {_name(job)}: {refused}")
    return _false(kind, reasons.SCHEMA_RUNNING)


def tables_are_gone(seen: Seen) -> bool:
    """Do consumers miss tables that the schema Job has made?"""
    done = seen.schema_job is not None and job_state(seen.schema_job) == "Complete"
    return done and any(reason_of(said) is reasons.SCHEMA_MISSING for said in _spoken(seen))


def job_state(job: Manifest) -> str:
    """Complete, Failed or nothing yet."""
    return next(
        (c["type"] for c in _conditions(job) if c["type"] in ("Complete", "Failed") and c["status"] == "True"), ""
    )


# --- consumers --------------------------------------------------------------------------------------------------------


_STREAMS = (
    reasons.STREAM_MISSING,
    reasons.STREAM_UNFIT,
    reasons.RECORD_UNAVAILABLE,
    reasons.DEAD_LETTERS_UNAVAILABLE,
    reasons.FED_BY_ANOTHER,
    reasons.NATS_LIMIT,
    reasons.NATS_BUSY,
    reasons.NATS_REFUSED,
)


def _streams(seen: Seen) -> UndatedCondition:
    """The schema Job makes what is missing; from then on the consumers report."""
    kind: ConditionType = "StreamsReady"
    done = bool(seen.schema_job and job_state(seen.schema_job) == "Complete")
    for said in [*([] if done else _last_words(seen.schema_pods)), *_spoken(seen)]:
        reason = reason_of(said)
        if reason in _STREAMS:
            assert reason
            return _false(kind, reason, said)
    if any(word.ready or word.data_types for word in seen.words.values()):
        return _true(kind, reasons.STREAMS_FOUND)
    return _unknown(kind, "a consumer will find out")


def _spoken(seen: Seen) -> list[str]:
    said = [line for word in seen.words.values() if not word.ready for line in word.text.splitlines() if line]
    return [*said, *_last_words(seen.pods)]


_CODE = re.compile(r"\bMP\d{4}\b")


def reason_of(said: str) -> Reason | None:
    """The reason whose code a Pod has given."""
    found = _CODE.search(said)
    return reasons.ALL.get(found[0]) if found else None


# --- Pods -------------------------------------------------------------------------------------------------------------


def _available(seen: Seen, schema: UndatedCondition, suspended: bool) -> UndatedCondition:
    kind: ConditionType = "ConsumersAvailable"
    if suspended:
        left = len(seen.pods)
        return UndatedCondition(
            kind, "False", reasons.SUSPENDED.name, f"{left} Pods are draining" if left else reasons.SUSPENDED.text
        )
    if seen.rival:
        left = len(seen.pods)
        return _false(kind, reasons.STORED_BY_ANOTHER, f"{left} Pods are draining" if left else "")
    if not seen.deployments or all(live is None for live in seen.deployments.values()):
        return _unknown(kind, "waits for the schema" if not schema.good else "")
    behind = [name for name, live in seen.deployments.items() if not live or not _rolled_out(live)]
    if not behind:
        return _true(kind, reasons.AVAILABLE)
    if trouble := _pod_trouble(seen.pods, seen.warnings):
        return _false(kind, *trouble)
    for live in seen.deployments.values():
        for condition in _conditions(live or {}):
            if condition["type"] == "ReplicaFailure" and condition["status"] == "True":
                return _false(kind, reasons.POD_REFUSED, f"{_name(live or {})}: {condition.get('message', '')}")
    for pod, word in sorted(seen.words.items()):
        # What has no code is a step of a start, such as "synchronises with the stream".
        if not word.ready and (reason := reason_of(word.text)):
            return _false(kind, reason, f"Pod {pod}: {word.text.strip()}")
    return _false(kind, reasons.ROLLING_OUT, f"consumers {', '.join(behind)}: Pods are started or replaced")


def _rolled_out(deployment: Manifest) -> bool:
    wanted = deployment.get("spec", {}).get("replicas", 1)
    status = deployment.get("status", {})
    return bool(
        status.get("observedGeneration", 0) >= deployment["metadata"].get("generation", 0)
        and status.get("updatedReplicas", 0) >= wanted
        and status.get("readyReplicas", 0) >= wanted
        and status.get("replicas", 0) <= wanted
    )


def is_starting(pod: Manifest) -> bool:
    """No container runs yet, and none has said why."""
    if pod.get("status", {}).get("phase", "Pending") != "Pending":
        return False
    waiting = [status.get("state", {}).get("waiting", {}).get("reason") for status in _containers(pod)]
    return all(reason in (None, "ContainerCreating", "PodInitializing") for reason in waiting)


_NOT_FOUND = (("secret", reasons.SECRET_MISSING), ("configmap", reasons.CONFIG_MAP_MISSING))


def _pod_trouble(pods: Iterable[Manifest], warnings: Mapping[str, str]) -> tuple[Reason, str] | None:
    """Why a Pod does not run; the first cause found."""
    for pod in pods:
        where = f"Pod {_name(pod)}"
        for status in _containers(pod):
            waiting = status.get("state", {}).get("waiting", {})
            last = status.get("lastState", {}).get("terminated") or status.get("state", {}).get("terminated") or {}
            if waiting.get("reason") in ("ErrImagePull", "ImagePullBackOff", "InvalidImageName"):
                return reasons.IMAGE_PULL_FAILED, f"{where}: {status.get('image', '')}: {waiting.get('message', '')}"
            if last.get("reason") == "OOMKilled":
                return reasons.OUT_OF_MEMORY, f"{where}: {status['name']} was killed for using too much memory"
            if waiting.get("reason") == "CrashLoopBackOff":
                said = "; ".join(_worth_quoting(last.get("message", "")))
                return reasons.CRASH_LOOP, f"{where}: exit code {last.get('exitCode')}" + (f": {said}" if said else "")
            if waiting.get("reason") in ("CreateContainerConfigError", "CreateContainerError", "RunContainerError"):
                return reasons.POD_NOT_STARTING, f"{where}: {waiting.get('message') or waiting['reason']}"
        for condition in _conditions(pod):
            if condition["type"] == "PodScheduled" and condition["status"] == "False":
                return reasons.UNSCHEDULABLE, f"{where}: {condition.get('message', '')}"
        if why := warnings.get(_name(pod)):
            missing = next((r for what, r in _NOT_FOUND if re.search(rf'{what} "[^"]*" not found', why)), None)
            return missing or reasons.POD_NOT_STARTING, f"{where}: {why}"
    return None


def _last_words(pods: Iterable[Manifest]) -> list[str]:
    """What the last container that failed has left: its lines with a code, or else the last one."""
    ended = [
        found
        for pod in pods
        for status in _containers(pod)
        for found in (status.get("state", {}).get("terminated"), status.get("lastState", {}).get("terminated"))
        if found and found.get("exitCode") and found.get("message")
    ]
    ended.sort(key=lambda state: str(state.get("finishedAt", "")))
    return _worth_quoting(ended[-1]["message"]) if ended else []


def _worth_quoting(message: str) -> list[str]:
    """The lines that say something, each cut to what a condition should hold."""
    lines = [line.strip()[-600:] for line in message.splitlines() if line.strip()]
    # Each once: a log may repeat a line for every attempt. Log lines are JSON; the plain ones are for people.
    coded = list(dict.fromkeys(line for line in lines if _CODE.search(line)))
    return [line for line in coded if not line.startswith("{")] or coded or lines[-1:]


def _containers(pod: Manifest) -> list[Manifest]:
    status = pod.get("status", {})
    return [*status.get("initContainerStatuses", []), *status.get("containerStatuses", [])]


def _conditions(manifest: Manifest) -> list[Manifest]:
    return list(manifest.get("status", {}).get("conditions") or [])


def _name(manifest: Manifest) -> str:
    return str(manifest.get("metadata", {}).get("name", ""))


# --- summary ----------------------------------------------------------------------------------------------------------

_STALLED = {
    reasons.INVALID_RESOURCE.name,
    reasons.APPLY_REFUSED.name,
    reasons.PIPELINE_MISSING.name,
    reasons.STORED_BY_ANOTHER.name,
}
"""Waiting won't fix these: somebody has to act."""


def _summary(steps: Sequence[UndatedCondition], suspended: bool, seen: Seen) -> list[UndatedCondition]:
    """Ready, and as kstatus has them Reconciling and Stalled: there only while they are true."""
    if seen.failed:
        return _unknown_because(_reconciled(seen))
    bad = next((step for step in steps if step.status == "False"), None)
    stalled = next((step for step in steps if step.reason in _STALLED), None)
    if stalled:
        return [_of("Ready", stalled, "False"), _of("Stalled", stalled, "True")]
    if suspended and (bad is None or bad.reason == reasons.SUSPENDED.name):
        message = f"{reasons.SUSPENDED.text}: {reasons.SUSPENDED.hint}"
        found = [
            UndatedCondition("Ready", "False", reasons.SUSPENDED.name, message),
            _true("Suspended", reasons.SUSPENDED),
        ]
        return [*found, _true("Reconciling", reasons.SUSPENDED, "Pods are draining")] if seen.pods else found
    if bad:
        return [_of("Ready", bad, "False"), _of("Reconciling", bad, "True")]
    waiting = next((step for step in steps if step.status == "Unknown"), None)
    if waiting and steps[-1].good:
        # The Pods are ready, so everything unknown here is fine: it is unknown only because their port can't be reached.
        return [_true("Ready", reasons.READY)]
    if waiting:
        return [_of("Ready", waiting, "Unknown"), _of("Reconciling", waiting, "True")]
    return [_true("Ready", reasons.READY)]


def _unknown_because(failed: UndatedCondition) -> list[UndatedCondition]:
    """Whatever else is known is from before, or only half of it: it is no ground for either answer."""
    return [_of("Ready", failed, "Unknown"), _of("Reconciling", failed, "True")]


def _of(kind: ConditionType, cause: UndatedCondition, status: str) -> UndatedCondition:
    return UndatedCondition(kind, status, cause.reason, f"{cause.type}: {cause.message}")


# --- tiering ----------------------------------------------------------------------------------------------------------


def policy_conditions(
    policy: TieringPolicy | None, seen: Seen, *, pipeline_there: bool, workload: Manifest | None, run: Manifest | None
) -> list[UndatedCondition]:
    """Every condition of a policy; `run` is the status' lastRun."""
    spec = _spec_valid(seen)
    if spec.good and not pipeline_there:
        spec = _false("SpecValid", reasons.PIPELINE_MISSING)
    suspended = bool(policy and policy.spec.suspend)
    if suspended:
        active = UndatedCondition("ScheduleActive", "False", reasons.SUSPENDED.name, reasons.SUSPENDED.text)
    elif workload:
        active = _true("ScheduleActive", reasons.SCHEDULED)
    else:
        active = _unknown("ScheduleActive")
    trouble = _pod_trouble(seen.pods, seen.warnings)
    if trouble:
        last = _false("LastRunSucceeded", *trouble)
    elif run is None:
        last = _unknown("LastRunSucceeded", "no run has ended yet")
    elif run["result"] != "Failed":
        last = _true(
            "LastRunSucceeded", reasons.RUN_SUCCEEDED, run.get("message") or f"{run.get('rows', 0)} rows moved"
        )
    else:
        said = str(run.get("message", ""))
        last = _false("LastRunSucceeded", reason_of(said) or reasons.RUN_FAILED, said)
    steps = [spec, active, last]
    if spec.good and active.good and last.status == "Unknown" and not seen.failed:
        return [_reconciled(seen), *steps, _true("Ready", reasons.SCHEDULED, "no run has ended yet")]
    return [_reconciled(seen), *steps, *_summary(steps, suspended, Seen(failed=seen.failed))]


def scaling(pipeline: StoragePipeline, seen: Seen) -> list[UndatedCondition]:
    """Whether the Pods that autoscale allows are enough; nothing where it is not asked for."""
    scaled = [str(name) for name, spec in pipeline.spec.carriers.items() if spec.autoscale]
    if not scaled or pipeline.spec.suspend:
        return []
    if seen.at_most:
        return [
            _false("ScaledToLag", reasons.AT_MOST_PODS, f"{', '.join(seen.at_most)}: rows come later than targetLag")
        ]
    return [_true("ScaledToLag", reasons.SCALED)]


def validity(
    pipeline: StoragePipeline, run: Manifest | None, before: Sequence[Manifest], pods: Sequence[Manifest], seen: Seen
) -> list[UndatedCondition]:
    """The condition DataValid, where validation is scheduled. It is no part of Ready: wrong data is stored as well as right.
    `run` is the last validation's own report, of a Pod that is still there; without one the last verdict stays."""
    kind: ConditionType = "DataValid"
    if not pipeline.spec.validation.schedule:
        return []
    if trouble := _pod_trouble(pods, seen.warnings):
        reason, message = trouble
        return [UndatedCondition(kind, "Unknown", reason.name, f"{message}: {reason.hint}")]
    if run is None:
        known = next((condition for condition in before if condition["type"] == kind), None)
        return (
            [UndatedCondition(kind, known["status"], known["reason"], known["message"])] if known else [_unknown(kind)]
        )
    said = str(run.get("verdict", ""))
    if not said:
        why = "; ".join(_worth_quoting(str(run.get("message", "")))) or "it has left no report"
        reason = reason_of(why) or reasons.VALIDATION_FAILED
        return [
            UndatedCondition(kind, "Unknown", reason.name, f"{reasons.VALIDATION_FAILED.text}: {why}: {reason.hint}")
        ]
    if run.get("ok"):
        return [_true(kind, reasons.DATA_FINE, said)]
    found = ["{code} {reason} {dataType} ({count})".format_map(finding) for finding in run.get("findings", ())]
    more = [f"and {run['more']} more"] if run.get("more") else []
    return [_false(kind, reasons.DATA_WRONG, f"{said}: {', '.join([*found, *more])}")]


# --- times ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Moment:
    """When, and of which spec, conditions are found."""

    now: str
    generation: int
    deadline: timedelta = PROGRESS_DEADLINE.timedelta
    """For how long it may be Reconciling, until it is Stalled."""


def dated(conditions: Sequence[UndatedCondition], before: Sequence[Manifest], at: Moment) -> list[Manifest]:
    """As metav1 has them: the time moves only when the status flips. For Reconciling it begins anew with each spec, which has a
    deadline of its own."""
    old = {condition["type"]: condition for condition in before}
    made = []
    for condition in conditions:
        known = old.get(condition.type, {})
        same = known.get("status") == condition.status
        if condition.type == "Reconciling":
            same = same and known["observedGeneration"] == at.generation
        made.append(
            {
                "type": condition.type,
                "status": condition.status,
                "reason": condition.reason,
                "message": condition.message[:4000],
                "lastTransitionTime": known.get("lastTransitionTime", at.now) if same else at.now,
                "observedGeneration": at.generation,
            }
        )
    return _stalled_in_time(made, before, at)


def _stalled_in_time(made: list[Manifest], before: Sequence[Manifest], at: Moment) -> list[Manifest]:
    """Nobody waits for ever: what is Reconciling past its deadline is Stalled instead, until it is Ready or has another spec."""
    reconciling = next((condition for condition in made if condition["type"] == "Reconciling"), None)
    if reconciling is None:
        return made
    known = next((condition for condition in before if condition["type"] == "Stalled"), {})
    still = known.get("reason") == _EXCEEDED and known["observedGeneration"] == at.generation
    if not still and until_stalled(made, at) > timedelta():
        return made
    since = known["lastTransitionTime"] if still else at.now
    message = f"{reasons.DEADLINE_EXCEEDED.text}; {reconciling['message']}"[:4000]
    stalled = {"type": "Stalled", "reason": _EXCEEDED, "message": message, "lastTransitionTime": since}
    return [{**condition, **stalled} if condition is reconciling else condition for condition in made]


_EXCEEDED = reasons.DEADLINE_EXCEEDED.name


def until_stalled(made: Iterable[Manifest], at: Moment) -> timedelta:
    """How long it may go on as it is; without an end where it is not Reconciling."""
    began = next((c["lastTransitionTime"] for c in made if c["type"] == "Reconciling"), None)
    if began is None:
        return timedelta.max
    return datetime.fromisoformat(began) + at.deadline - datetime.fromisoformat(at.now)


def while_paused(before: Sequence[Manifest], at: Moment) -> list[Manifest]:
    """What was known stays; but nobody looks, so nobody knows whether it is Ready."""
    message = "the annotation storage.marketprism.io/pause is true: nothing is changed, and nothing looked at"
    paused = UndatedCondition("Paused", "True", reasons.PAUSED.name, message)
    told = dated([UndatedCondition("Ready", "Unknown", reasons.PAUSED.name, message), paused], before, at)
    return [*(known for known in before if known["type"] not in SUMMARY), *told]


def after_failure(failed: str, before: Sequence[Manifest], at: Moment) -> list[Manifest]:
    """Where a step failed: what was known stays as it was, and is no ground for Ready any more."""
    reconciled = _false("Reconciled", reasons.RECONCILE_FAILED, failed)
    told = dated([reconciled, *_unknown_because(reconciled)], before, at)
    renewed = {"Reconciled", *SUMMARY}
    return [told[0], *(known for known in before if known["type"] not in renewed), *told[1:]]
