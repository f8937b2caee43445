"""Each situation that a user may be stuck in, and what the conditions say of it."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, get_args

import pytest
from pydantic.alias_generators import to_camel

from marketprism_api import reasons
from marketprism_api.pipeline import StoragePipeline
from marketprism_api.tiering import Run, TableRun, TieringPolicy
from marketprism_consumer.tiering.run import Failure, Result, TableResult
from marketprism_consumer.validation.report import summary
from marketprism_consumer.validation.run import Report, TypeReport, ValidationFinding, ValidationRequest
from marketprism_operator import condition_types, status
from marketprism_operator.conditions import (
    Moment,
    Seen,
    UndatedCondition,
    Word,
    dated,
    pipeline_conditions,
    policy_conditions,
    validity,
)


def pipeline(**spec: Any) -> StoragePipeline:
    return StoragePipeline.model_validate({"metadata": {"name": "main"}, "spec": spec})


def job(state: str = "") -> dict[str, Any]:
    found = [{"type": state, "status": "True", "message": "it has reached its limit"}] if state else []
    return {"metadata": {"name": "main-schema-12345678"}, "status": {"conditions": found}}


def deployment(ready: int = 1, wanted: int = 1, **more: Any) -> dict[str, Any]:
    return {
        "metadata": {"name": "main-default", "generation": 1},
        "spec": {"replicas": wanted},
        "status": {
            "observedGeneration": 1,
            "replicas": wanted,
            "updatedReplicas": wanted,
            "readyReplicas": ready,
            **more,
        },
    }


def pod(state: dict[str, Any], last: dict[str, Any] | None = None, image: str = "image:1") -> dict[str, Any]:
    container = {"name": "consumer", "image": image, "state": state, "lastState": last or {}}
    return {"metadata": {"name": "p"}, "status": {"phase": "Running", "containerStatuses": [container]}}


def failed(message: str, code: int = 4) -> dict[str, Any]:
    return {
        "terminated": {"exitCode": code, "message": message, "reason": "Error", "finishedAt": "2026-01-01T00:00:00Z"}
    }


def schema_says(message: str, code: int = 4) -> Seen:
    return Seen(schema_job=job(), schema_pods=(pod(failed(message, code)),))


def consumer_says(text: str) -> Seen:
    return Seen(
        schema_job=job("Complete"),
        deployments={"default": deployment(0)},
        pods=(pod({"running": {}}),),
        words={"p": Word(False, text)},
    )


def consumers_have(state: dict[str, Any], last: dict[str, Any] | None = None) -> Seen:
    return Seen(schema_job=job("Complete"), deployments={"default": deployment(0)}, pods=(pod(state, last),))


WELL = Seen(
    schema_job=job("Complete"),
    deployments={"default": deployment()},
    pods=(pod({"running": {}}),),
    words={"p": Word(True, "", {"trade": {"lag": 5}})},
)

UNSCHEDULABLE = {
    "metadata": {"name": "p"},
    "status": {
        "phase": "Pending",
        "conditions": [{"type": "PodScheduled", "status": "False", "message": "0/3 nodes: Insufficient memory"}],
    },
}

STUCK = [
    (
        "a wrong spec",
        Seen(problems=("spec.x: there is no such field",)),
        "SpecValid",
        "InvalidResource",
        "correct the field",
    ),
    ("a missing Secret", Seen(missing=("Secret/nats-auth",)), "SpecValid", "SecretMissing", "Secret/nats-auth"),
    ("a missing ConfigMap", Seen(missing=("ConfigMap/extra",)), "SpecValid", "ConfigMapMissing", "create it"),
    (
        "a child refused",
        Seen(refused="Deployment main-default: spec.template: bad"),
        "SpecValid",
        "ApplyRefused",
        "podTemplate",
    ),
    (
        "ClickHouse's URL is wrong",
        schema_says("MP4001 ClickHouseUnreachable: http://nowhere:8123"),
        "ClickHouseReachable",
        "ClickHouseUnreachable",
        "spec.clickhouse.url",
    ),
    (
        "ClickHouse's password is wrong",
        schema_says("MP4002 ClickHouseDenied: http://c:8123: Code: 516. default: Authentication failed", 1),
        "ClickHouseReachable",
        "ClickHouseDenied",
        "authSecretRef",
    ),
    (
        "a statement is refused",
        schema_says("http://c:8123: Code: 243. Cannot reserve 1 MiB, not enough space", 1),
        "SchemaReady",
        "SchemaFailed",
        "not enough space",
    ),
    (
        "NATS's URL is wrong, and the tables fit",
        schema_says("MP3001 NATSUnreachable: nats://nowhere:4222: no answer"),
        "NATSReachable",
        "NATSUnreachable",
        "spec.nats.url",
    ),
    (
        "neither answers",
        schema_says("MP3001 NATSUnreachable: nats://nowhere:4222\nMP4001 ClickHouseUnreachable: http://nowhere:8123"),
        "ClickHouseReachable",
        "ClickHouseUnreachable",
        "spec.clickhouse.url",
    ),
    (
        "NATS refuses the schema Job",
        schema_says("MP3002 NATSDenied: nats://nats:4222: 'Authorization Violation'"),
        "NATSReachable",
        "NATSDenied",
        "spec.nats.authSecretRef",
    ),
    (
        "the schema Job's Pod is refused",
        Seen(schema_job=job(), warnings={"main-schema-12345678": "pods is forbidden: exceeded quota"}),
        "SchemaReady",
        "PodRefused",
        "exceeded quota",
    ),
    (
        "a Secret is missing, and the operator may not read Secrets",
        Seen(
            schema_job=job(),
            schema_pods=({"metadata": {"name": "p"}, "status": {"phase": "Pending"}},),
            warnings={"p": 'MountVolume.SetUp failed for volume "nats-auth" : secret "nats-auth" not found'},
        ),
        "SchemaReady",
        "SecretMissing",
        'secret "nats-auth" not found',
    ),
    (
        "a volume can't be mounted",
        Seen(
            schema_job=job("Complete"),
            deployments={"default": deployment(0)},
            pods=({"metadata": {"name": "p"}, "status": {"phase": "Pending"}},),
            warnings={"p": 'MountVolume.SetUp failed for volume "x" : no such device'},
        ),
        "ConsumersAvailable",
        "PodNotStarting",
        "no such device",
    ),
    ("the schema Job is at work", Seen(schema_job=job()), "SchemaReady", "SchemaRunning", "at work"),
    ("the schema Job failed", Seen(schema_job=job("Failed")), "SchemaReady", "SchemaFailed", "reached its limit"),
    (
        "the tables differ",
        schema_says("MP5002 SchemaDrift: trades.price", 1),
        "SchemaReady",
        "SchemaDrift",
        "schema plan",
    ),
    (
        "NATS does not answer",
        consumer_says("worker: not connected to NATS: MP3001 NATSUnreachable: nats://nats:4222: no answer"),
        "NATSReachable",
        "NATSUnreachable",
        "spec.nats.url",
    ),
    (
        "NATS refuses the password",
        consumer_says("worker: not connected to NATS: MP3002 NATSDenied: 'Authorization Violation'"),
        "NATSReachable",
        "NATSDenied",
        "authSecretRef",
    ),
    (
        "no stream",
        consumer_says("worker: waits for MP3003 StreamMissing: no stream holds trade.>"),
        "StreamsReady",
        "StreamMissing",
        "ensureStreams",
    ),
    (
        "a stream lacks a subject, and the schema Job finds it out",
        schema_says("MP3003 StreamMissing: stream MARKET_DATA exists and does not hold lsr_all_account.>", 1),
        "StreamsReady",
        "StreamMissing",
        "lsr_all_account.>",
    ),
    (
        "another stream has the subjects of the dead letters",
        consumer_says(
            "dead letters: MP3009 DeadLettersUnavailable: MARKETPRISM_DLQ can't be made: the stream X takes >"
        ),
        "StreamsReady",
        "DeadLettersUnavailable",
        "the stream X takes >",
    ),
    (
        "the stream deletes what has been read",
        consumer_says("trade: MP3012 StreamUnfit: MARKET_DATA has retention workqueue"),
        "StreamsReady",
        "StreamUnfit",
        "retention limits",
    ),
    (
        "the records of the lanes can't be read",
        consumer_says("trade: MP3010 RecordUnavailable: bucket MARKETPRISM_LANES: no answer"),
        "StreamsReady",
        "RecordUnavailable",
        "spec.nats.bucket",
    ),
    (
        "the bucket can't be made, and the schema Job finds it out",
        schema_says("MP3010 RecordUnavailable: bucket MARKETPRISM_LANES: no permission", 1),
        "StreamsReady",
        "RecordUnavailable",
        "no permission",
    ),
    (
        "the image can't be pulled",
        consumers_have({"waiting": {"reason": "ImagePullBackOff", "message": "not found"}}),
        "ConsumersAvailable",
        "ImagePullFailed",
        "pull secrets",
    ),
    (
        "a crash loop",
        consumers_have({"waiting": {"reason": "CrashLoopBackOff"}}, failed("KeyError: 'x'", 1)),
        "ConsumersAvailable",
        "CrashLoop",
        "KeyError",
    ),
    (
        "out of memory",
        consumers_have(
            {"waiting": {"reason": "CrashLoopBackOff"}}, {"terminated": {"reason": "OOMKilled", "exitCode": 137}}
        ),
        "ConsumersAvailable",
        "OutOfMemory",
        "limits.memory",
    ),
    (
        "no node",
        Seen(schema_job=job("Complete"), deployments={"default": deployment(0)}, pods=(UNSCHEDULABLE,)),
        "ConsumersAvailable",
        "Unschedulable",
        "Insufficient memory",
    ),
    (
        "inserts are refused",
        consumer_says("trade: MP4004 InsertBlocked: table is readonly"),
        "ConsumersAvailable",
        "InsertBlocked",
        "readonly",
    ),
    (
        "tables have gone",
        consumer_says("trade: MP5001 SchemaMissing: marketprism_hot.trades is not there any more"),
        "SchemaReady",
        "SchemaMissing",
        "marketprism_hot.trades",
    ),
    (
        "ClickHouse has gone",
        consumer_says("trade: MP4001 ClickHouseUnreachable: the last insert was refused"),
        "ClickHouseReachable",
        "ClickHouseUnreachable",
        "the last insert was refused",
    ),
    (
        "a quota",
        Seen(
            schema_job=job("Complete"),
            deployments={
                "default": deployment(
                    0, conditions=[{"type": "ReplicaFailure", "status": "True", "message": "exceeded quota"}]
                )
            },
        ),
        "ConsumersAvailable",
        "PodRefused",
        "exceeded quota",
    ),
    (
        "a roll-out",
        Seen(schema_job=job("Complete"), deployments={"default": deployment(0)}),
        "ConsumersAvailable",
        "RollingOut",
        "default",
    ),
]


@pytest.mark.parametrize(("seen", "kind", "reason", "said"), [row[1:] for row in STUCK], ids=[row[0] for row in STUCK])
def test_stuck(seen: Seen, kind: str, reason: str, said: str) -> None:
    found = {condition.type: condition for condition in pipeline_conditions(pipeline(), seen)}
    assert (found[kind].status, found[kind].reason) == ("False", reason)
    assert said in found[kind].message
    ready = found["Ready"]
    assert ready.status == "False"
    assert ("Stalled" in found) == (reason in ("InvalidResource", "ApplyRefused"))
    assert ("Reconciling" in found) != ("Stalled" in found)


def test_every_reason_is_of_the_closed_set() -> None:
    for row in STUCK:
        assert all(condition.reason in reasons.BY_NAME for condition in pipeline_conditions(pipeline(), row[1]))


def test_well() -> None:
    found = {condition.type: condition.status for condition in pipeline_conditions(pipeline(), WELL)}
    assert set(found.values()) == {"True"}
    assert "Reconciling" not in found
    assert "Stalled" not in found


def test_an_operator_that_reaches_no_pod_still_finds_ready() -> None:
    seen = Seen(schema_job=job("Complete"), deployments={"default": deployment()})
    found = {condition.type: condition for condition in pipeline_conditions(pipeline(), seen)}
    assert found["Ready"].status == "True"
    assert found["StreamsReady"].status == "Unknown"


def test_a_job_that_fails_before_it_tries_says_nothing_of_the_servers() -> None:
    found = {
        condition.type: condition.status
        for condition in pipeline_conditions(pipeline(), schema_says("KeyError: 'HOME'", 1))
    }
    assert (found["NATSReachable"], found["ClickHouseReachable"], found["SchemaReady"]) == (
        "Unknown",
        "Unknown",
        "False",
    )


def test_suspended() -> None:
    seen = Seen(schema_job=job("Complete"), deployments={"default": deployment(0, 0)})
    found = {condition.type: condition for condition in pipeline_conditions(pipeline(suspend=True), seen)}
    assert (found["Ready"].status, found["Ready"].reason) == ("False", "Suspended")
    assert found["Suspended"].status == "True"
    assert "Reconciling" not in found


def test_the_time_moves_only_when_the_status_flips() -> None:
    (first,) = dated([UndatedCondition("Ready", "False", "A", "a")], [], Moment("t1", 1))
    (same,) = dated([UndatedCondition("Ready", "False", "B", "b")], [first], Moment("t2", 2))
    (flipped,) = dated([UndatedCondition("Ready", "True", "C", "c")], [same], Moment("t3", 3))
    assert (same["lastTransitionTime"], same["reason"], same["observedGeneration"]) == ("t1", "B", 2)
    assert flipped["lastTransitionTime"] == "t3"


def test_numbers_are_renewed_only_when_asked() -> None:
    before = {"dataTypes": {"trade": {"pending": 2}}}
    at_rest = status.of_pipeline(pipeline(), "i:1", WELL, before, renew=False)
    renewed = status.of_pipeline(pipeline(), "i:1", WELL, before, renew=True)
    assert at_rest["dataTypes"]["trade"]["pending"] == 2
    assert renewed["dataTypes"]["trade"]["pending"] == renewed["pending"] == 5
    assert "lastInsertTime" not in renewed


def test_numbers_of_several_pods() -> None:
    def says(lag: int | None, in_hand: int, set_aside: int, at: float | None) -> Word:
        said = {"lag": lag, "inHand": in_hand, "setAside": set_aside, "lastInsertTime": at, "reads": lag is not None}
        return Word(True, "", {"trade": said})

    seen = replace(WELL, words={"a": says(5, 3, 1, 1_700_000_000.5), "b": says(None, 2, 1, None)})
    made = status.of_pipeline(pipeline(), "i:1", seen, {}, renew=True)
    assert made["dataTypes"]["trade"] == {
        "stream": "MARKET_DATA",
        "pending": 5,
        "inHand": 5,
        "setAside": 1,
        "lastInsertTime": "2023-11-14T22:13:20Z",
    }
    assert (made["pending"], made["inHand"], made["lastInsertTime"]) == (5, 5, "2023-11-14T22:13:20Z")
    started_anew = replace(WELL, words={"a": says(0, 0, 0, None)})
    kept = status.of_pipeline(pipeline(), "i:1", started_anew, made, renew=True)
    assert (kept["pending"], kept["lastInsertTime"]) == (0, "2023-11-14T22:13:20Z")


def test_what_waits_stays_as_it_was_while_nobody_reads_the_tail() -> None:
    stand_by = replace(WELL, words={"a": Word(True, "", {"trade": {"lag": None, "inHand": 0, "setAside": 0}})})
    made = status.of_pipeline(pipeline(), "i:1", stand_by, {"dataTypes": {"trade": {"pending": 7}}}, renew=True)
    assert (made["pending"], made["inHand"]) == (7, 0)


@pytest.mark.parametrize(
    ("spec", "due"),
    [
        ({"schedule": "*/5 * * * *"}, "2026-03-01T12:05:00Z"),
        ({"schedule": "0 9 * * *", "timeZone": "Asia/Tokyo"}, "2026-03-02T00:00:00Z"),
        ({"schedule": "0 9 * * *", "suspend": True}, None),
        ({"every": "30s"}, None),
    ],
)
def test_the_next_run(spec: dict[str, Any], due: str | None) -> None:
    rule = TieringPolicy.model_validate({"metadata": {"name": "m"}, "spec": {"pipelineRef": {"name": "m"}, **spec}})
    found = status.next_run(rule, datetime(2026, 3, 1, 12, 3, tzinfo=UTC))
    assert found == ({"nextRunTime": due} if due else {})


def policy(**spec: Any) -> TieringPolicy:
    return TieringPolicy.model_validate(
        {"metadata": {"name": "main"}, "spec": {"pipelineRef": {"name": "main"}, "every": "30s", **spec}}
    )


@pytest.mark.parametrize(
    ("there", "run", "ready", "reason"),
    [
        (False, None, "False", "PipelineMissing"),
        (True, None, "True", "Scheduled"),
        (True, {"result": "Succeeded", "rows": 7}, "True", "Ready"),
        (True, {"result": "LimitReached", "rows": 7}, "True", "Ready"),
        (True, {"result": "Failed", "message": "trades: disk full"}, "False", "RunFailed"),
        (True, {"result": "Failed", "message": "MP4001: no answer"}, "False", "ClickHouseUnreachable"),
    ],
)
def test_policies(there: bool, run: dict[str, Any] | None, ready: str, reason: str) -> None:
    found = policy_conditions(policy(), Seen(), pipeline_there=there, workload={"metadata": {}}, run=run)
    summary = next(condition for condition in found if condition.type == "Ready")
    assert (summary.status, summary.reason) == (ready, reason)


def test_the_last_run_is_read_from_the_termination_message() -> None:
    report = '{"ok": true, "result": "LimitReached", "rows": 9, "bytes": 1, "duration": "3s", "tables": {"trades": {"rows": 9}}}'
    ended = {"terminated": {"exitCode": 0, "message": f"line\n{report}\n", "finishedAt": "2026-01-01T00:00:00Z"}}
    found = status.last_run([pod(ended)])
    assert found
    assert found[1] == "2026-01-01T00:00:00Z"
    made = status.run_status(found[0])
    assert (made["result"], made["rows"], made["tables"]["trades"]["rows"]) == ("LimitReached", 9, 9)


def test_a_dry_run_does_not_claim_to_have_moved_anything() -> None:
    result = Result("r", "dry-run", 1.0)
    result.tables["trades"] = TableResult(rows=9, bytes=100, backlog_rows=9)
    made = status.run_status(result.as_dict())
    assert (made["rows"], made["bytes"], made["tables"]["trades"]["rows"], made["backlogRows"]) == (0, 0, 0, 9)
    found = policy_conditions(policy(), Seen(), pipeline_there=True, workload={"metadata": {}}, run=made)
    assert {c.type: c.message for c in found}["LastRunSucceeded"] == "dry run: 9 rows would move"


@pytest.mark.parametrize(
    ("run", "at", "told"),
    [
        ({"ok": False, "message": "disk full"}, "2026-01-01T00:00:10Z", True),
        ({"ok": True, "rows": 5}, "2026-01-01T00:00:30Z", False),
        ({"ok": True, "rows": 5}, "2026-01-01T00:01:00Z", True),
        ({"ok": True, "rows": 0}, "2026-01-01T01:00:00Z", False),
    ],
    ids=["another result", "rows, so soon", "rows, a minute later", "nothing, an hour later"],
)
def test_which_runs_of_a_loop_are_written(run: dict[str, Any], at: str, told: bool) -> None:
    known = status.run_status({"ok": True, "rows": 0})
    assert status.worth_writing(status.run_status(run), at, known, "2026-01-01T00:00:00Z") is told


def test_a_run_tells_what_is_left_and_what_failed() -> None:
    result = Result("r", "move", 3.0)
    result.tables["trades"] = TableResult(
        rows=9, bytes=100, oldest_in_hot="2026-01-01 00:00:00", backlog_rows=4, backlog_seconds=60
    )
    result.failures.append(Failure("trades", reasons.TIER_TAKES_NO_WRITES, 243, "disk full"))
    made = status.run_status(result.as_dict())
    assert (made["result"], made["backlogRows"], made["backlogSeconds"]) == ("Failed", 4, 60)
    assert made["tables"]["trades"] == {
        "rows": 9,
        "bytes": 100,
        "backlogRows": 4,
        "backlogSeconds": 60,
        "oldestInHot": "2026-01-01 00:00:00",
        "failure": "MP9010 TierTakesNoWrites: disk full",
    }
    known = TieringPolicy.model_validate(
        {
            "metadata": {"name": "m"},
            "spec": {"pipelineRef": {"name": "m"}, "every": "1m"},
            "status": {"lastRun": made, "nextRunTime": "x", "runNow": "y"},
        }
    )
    assert known.status.last_run
    assert set(made["tables"]["trades"]) <= {to_camel(name) for name in TableRun.model_fields}
    assert set(made) <= {to_camel(name) for name in Run.model_fields}, "the API server would drop what it doesn't know"


# --- is the data right ------------------------------------------------------------------------------------------------

SCHEDULED = pipeline(validation={"schedule": "15 0 * * *"})
FAULTS = {
    "ok": False,
    "verdict": "FINDINGS: 1 kind of fault in 10 rows",
    "findings": [{"code": "MP8001", "reason": "TradesMissing", "dataType": "trade", "count": 7}],
    "more": 2,
}
VERDICTS: list[tuple[str, dict[str, Any], str, str, str]] = [
    ("fine", {"ok": True, "verdict": "FINE: nothing wrong in 10 rows"}, "True", "DataFine", "FINE: nothing wrong"),
    ("faults", FAULTS, "False", "DataWrong", "MP8001 TradesMissing trade (7), and 2 more"),
    ("could not", {"ok": False, "message": "MP4001 ClickHouseUnreachable: x"}, "Unknown", "ClickHouseUnreachable", "MP4001"),
    ("nothing said", {"ok": False, "message": ""}, "Unknown", "ValidationFailed", "it has left no report"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("run", "state", "reason", "words"), [verdict[1:] for verdict in VERDICTS], ids=[verdict[0] for verdict in VERDICTS]
)
def test_the_last_verdict_is_a_condition(run: dict[str, Any], state: str, reason: str, words: str) -> None:
    (found,) = validity(SCHEDULED, run, [], [], Seen())
    assert (found.type, found.status, found.reason) == ("DataValid", state, reason)
    assert words in found.message


def test_without_a_schedule_nothing_is_said_of_the_data() -> None:
    assert validity(pipeline(), FAULTS, [], [], Seen()) == []


def test_a_verdict_stays_when_its_pod_is_gone() -> None:
    (told,) = validity(SCHEDULED, FAULTS, [], [], Seen())
    before = dated([told], [], Moment("2026-01-01T00:00:00Z", 1))
    assert validity(SCHEDULED, None, before, [], Seen()) == [told]
    (unknown,) = validity(SCHEDULED, None, [], [], Seen())
    assert unknown.status == "Unknown"


def test_a_validation_that_does_not_start_is_told() -> None:
    (found,) = validity(SCHEDULED, None, [], [UNSCHEDULABLE], Seen())
    assert (found.status, found.reason) == ("Unknown", "Unschedulable")


def test_the_report_of_validate_is_read_as_it_is_written() -> None:
    """A stand-in for the Pod, the message as the command leaves it."""
    request = ValidationRequest(0, 1, ["trade"])
    report = Report("hot", "cold", request, [TypeReport("trade", "trades", findings=[LOST])])
    left = {"containerStatuses": [{"state": {"terminated": {"finishedAt": "2026-01-01T00:00:00Z", "exitCode": 1,
            "message": json.dumps(summary(report, 20))}}}]}  # fmt: skip
    run = status.last_run([{"status": left}])
    assert run
    (found,) = validity(SCHEDULED, run[0], [], [], Seen())
    assert found.reason == "DataWrong"
    assert "MP8001 TradesMissing trade (3)" in found.message
    assert len(json.dumps(summary(Report("h", "c", request, [TypeReport("t", "t", findings=[LOST] * 99)]), 20))) < 4096


LOST = ValidationFinding(reasons.TRADES_MISSING, "trade", 3, 1)


def test_every_type_of_condition_is_explained() -> None:
    assert set(get_args(condition_types.ConditionType)) == {
        *condition_types.SUMMARY,
        *condition_types.PIPELINE,
        *condition_types.POLICY,
    }
