"""Every state of a resource, as kstatus and Argo CD read it: on its way, stuck, or as it should be; and never on its way for ever."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from marketprism_api.load import of_manifest
from marketprism_operator.conditions import (
    Moment,
    Seen,
    UndatedCondition,
    after_failure,
    dated,
    pipeline_conditions,
    policy_conditions,
    while_paused,
)
from tests.operator.kstatus import kstatus
from tests.operator.test_argocd import ROOT as ARGO
from tests.operator.test_argocd import run
from tests.operator.test_conditions import STUCK, WELL, deployment, job, pipeline, policy

CRDS = Path(__file__).parents[2] / "crds"
START = Moment("2026-01-01T00:00:00Z", 1)
SOON = Moment("2026-01-01T00:09:59Z", 1)
LATE = Moment("2026-01-01T00:10:00Z", 1)
LATER = Moment("2026-01-01T01:00:00Z", 1)
AT_ONCE = ("InvalidResource", "ApplyRefused")
ROLLING_OUT = Seen(schema_job=job("Complete"), deployments={"default": deployment(0)})
Found = list[dict[str, Any]]


def resource(conditions: Found, at: Moment = START, kind: str = "StoragePipeline", **more: Any) -> dict[str, Any]:
    status = {"observedGeneration": at.generation, "conditions": conditions}
    return {"kind": kind, "metadata": {"generation": at.generation}, "spec": {}, "status": status, **more}


def of(seen: Seen, before: Found | None = None, at: Moment = START, **spec: Any) -> Found:
    return dated(pipeline_conditions(pipeline(**spec), seen), before or [], at)


def run_of(result: str | None, before: Found | None = None, at: Moment = START) -> Found:
    last = {"result": result, "message": "disk full"} if result else None
    found = policy_conditions(policy(), Seen(), pipeline_there=True, workload={"metadata": {}}, run=last)
    return dated(found, before or [], at)


def read(conditions: Found, at: Moment = START) -> tuple[str, str]:
    """By kstatus, and by Argo CD."""
    live = resource(conditions, at)
    return kstatus(live), run(ARGO / "StoragePipeline" / "health.lua", live)["status"]


def stalled(conditions: Sequence[dict[str, Any]]) -> dict[str, Any]:
    return next((condition for condition in conditions if condition["type"] == "Stalled"), {})


@pytest.mark.parametrize("row", STUCK, ids=lambda row: row[0])
def test_what_may_pass_is_in_progress_until_its_deadline_and_has_failed_from_then_on(row: Any) -> None:
    _, seen, _, reason, _ = row
    first = of(seen)
    if reason in AT_ONCE:
        assert read(first) == ("Failed", "Degraded")
        return
    assert read(first) == ("InProgress", "Progressing")
    second = of(seen, first, SOON)
    assert read(second, SOON) == ("InProgress", "Progressing")
    third = of(seen, second, LATE)
    assert read(third, LATE) == ("Failed", "Degraded")
    assert (stalled(third)["reason"], stalled(third)["lastTransitionTime"]) == ("ProgressDeadlineExceeded", LATE.now)
    ready, late = (next(one for one in found if one["type"] == "Ready") for found in (first, third))
    assert late == ready, "it says what is the matter, as before"
    assert ready["message"] in stalled(third)["message"]
    assert not any(condition["type"] == "Reconciling" for condition in third)
    fourth = of(seen, third, LATER)
    assert read(fourth, LATER) == ("Failed", "Degraded")
    assert stalled(fourth) == stalled(third), "nothing is written again"


def test_ready_ends_it_and_the_next_fault_has_its_own_deadline() -> None:
    late = of(ROLLING_OUT, of(ROLLING_OUT), LATE)
    well = of(WELL, late, LATER)
    assert read(well, LATER) == ("Current", "Healthy")
    assert read(of(ROLLING_OUT, well, LATER), LATER) == ("InProgress", "Progressing")


def test_an_edit_begins_a_deadline_of_its_own() -> None:
    late = of(ROLLING_OUT, of(ROLLING_OUT), LATE)
    edited = replace(LATER, generation=2)
    again = of(ROLLING_OUT, late, edited)
    assert read(again, edited) == ("InProgress", "Progressing")
    almost = of(ROLLING_OUT, of(ROLLING_OUT), SOON)
    edited = replace(LATE, generation=2)
    assert read(of(ROLLING_OUT, almost, edited), edited) == ("InProgress", "Progressing")


def test_the_deadline_is_the_specs() -> None:
    at = replace(LATE, deadline=timedelta(hours=1))
    assert read(of(ROLLING_OUT, of(ROLLING_OUT), at), at) == ("InProgress", "Progressing")


def test_what_is_wrong_with_the_spec_takes_no_deadline_and_hands_none_on() -> None:
    wrong = of(Seen(problems=("spec.x: there is no such field",)))
    mended = of(ROLLING_OUT, wrong, LATER)
    assert read(mended, LATER) == ("InProgress", "Progressing"), "it was Stalled for another reason"


def test_a_step_that_keeps_failing_is_stalled_too() -> None:
    well = of(WELL)
    first = after_failure("step observe: 500", well, SOON)
    assert read(first, SOON) == ("InProgress", "Progressing")
    second = after_failure("step observe: 500", first, LATER)
    assert read(second, LATER) == ("Failed", "Degraded")
    assert "step observe: 500" in stalled(second)["message"]


def test_a_policy_whose_run_failed_is_stalled_until_one_succeeds() -> None:
    first = run_of("Failed")
    assert kstatus(resource(first)) == "InProgress"
    second = run_of("Failed", first, LATE)
    assert kstatus(resource(second)) == "Failed"
    assert kstatus(resource(run_of("Succeeded", second, LATER))) == "Current"
    assert kstatus(resource(run_of(None))) == "Current"


def test_suspended() -> None:
    """kstatus has no word for it: what is not Ready is on its way, to it. Argo CD has."""
    live = resource(of(Seen(schema_job=job("Complete")), suspend=True), spec={"suspend": True})
    assert kstatus(live) == "InProgress"
    assert run(ARGO / "StoragePipeline" / "health.lua", live)["status"] == "Suspended"
    assert not any(
        condition["type"] == "Stalled" for condition in of(Seen(), of(Seen(), suspend=True), LATER, suspend=True)
    )


@pytest.mark.parametrize("kind", ["StoragePipeline", "TieringPolicy"])
def test_paused_and_its_deadline_begins_when_it_goes_on(kind: str) -> None:
    paused = while_paused(of(ROLLING_OUT), SOON)
    noted = {"generation": 2, "annotations": {"storage.marketprism.io/pause": "true"}}
    live = resource(paused, SOON, kind, metadata=noted)
    assert kstatus(live) == "InProgress"
    health = run(ARGO / kind / "health.lua", live)
    assert health["status"] == "Suspended", "though nobody has looked at the last edit"
    assert "pause" in health["message"]
    assert read(of(ROLLING_OUT, paused, LATER), LATER) == ("InProgress", "Progressing")


def test_deleted() -> None:
    deleted = {"generation": 1, "deletionTimestamp": START.now}
    assert kstatus(resource(of(WELL), metadata=deleted)) == "Terminating"


@pytest.mark.parametrize("kind", ["StoragePipeline", "TieringPolicy"])
def test_a_new_resource_is_in_progress_before_anybody_looks(kind: str) -> None:
    """With what the API server puts into its status; without that, kstatus takes it for Current."""
    plural = {"StoragePipeline": "storagepipelines", "TieringPolicy": "tieringpolicies"}[kind]
    (version,) = yaml.safe_load((CRDS / f"{plural}.yaml").read_text())["spec"]["versions"]
    status = version["schema"]["openAPIV3Schema"]["properties"]["status"]
    assert status["default"] == {}
    filled = {name: field["default"] for name, field in status["properties"].items() if "default" in field}
    live = {"kind": kind, "metadata": {"generation": 1}, "spec": {}, "status": filled}
    assert kstatus(live) == "InProgress"
    assert run(ARGO / kind / "health.lua", live)["status"] == "Progressing"


def test_an_edit_that_nobody_has_looked_at_is_in_progress() -> None:
    live = resource(of(WELL), metadata={"generation": 2})
    assert kstatus(live) == "InProgress"


def test_a_resource_is_read_with_its_default_status() -> None:
    spec = {"metadata": {"name": "main"}, "spec": {}, "status": {"observedGeneration": -1}}
    api = {"apiVersion": "storage.marketprism.io/v1alpha1", "kind": "StoragePipeline"}
    assert of_manifest({**api, **spec}).status.observed_generation == -1


def test_only_what_is_reconciling_can_be_late() -> None:
    told = dated([UndatedCondition("Ready", "True", "Ready", "")], [], START)
    assert dated([UndatedCondition("Ready", "True", "Ready", "")], told, LATER) == told
