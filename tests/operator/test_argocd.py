"""Argo CD's scripts, run as Argo CD runs them: `obj` goes in, a table comes out."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from lupa.lua51 import LuaRuntime

from marketprism_api.meta import GROUP
from marketprism_operator import naming
from marketprism_operator.conditions import Moment, Seen, UndatedCondition, dated, pipeline_conditions
from tests.operator.test_conditions import STUCK, WELL, pipeline

ROOT = Path(__file__).parents[2] / "contrib" / "argocd" / "resource_customizations" / GROUP
KINDS = ("StoragePipeline", "TieringPolicy")


def run(script: Path, obj: dict[str, Any]) -> Any:
    lua = LuaRuntime(unpack_returned_tuples=True)
    lua.globals().obj = lua.table_from(obj, recursive=True)
    return plain(lua.execute(script.read_text()))


def plain(value: Any) -> Any:
    """Lua's tables as dicts and lists."""
    if not hasattr(value, "items"):
        return value
    found = {key: plain(item) for key, item in value.items()}
    return list(found.values()) if found and all(isinstance(key, int) for key in found) else found


def read(path: Path) -> Any:
    return yaml.safe_load(path.read_text())


def health_tests() -> list[tuple[str, dict[str, Any]]]:
    return [(kind, test) for kind in KINDS for test in read(ROOT / kind / "health_test.yaml")["tests"]]


@pytest.mark.parametrize(
    ("kind", "test"), health_tests(), ids=lambda part: part if isinstance(part, str) else part["inputPath"]
)
def test_health(kind: str, test: dict[str, Any]) -> None:
    obj = read(ROOT / kind / test["inputPath"])
    assert obj["kind"] == kind
    assert run(ROOT / kind / "health.lua", obj) == test["healthStatus"]


def health_of(seen: Seen, **spec: Any) -> str:
    found = dated(pipeline_conditions(pipeline(**spec), seen), [], Moment("2026-01-01T00:00:00Z", 1))
    obj = {"metadata": {"generation": 1}, "spec": spec, "status": {"observedGeneration": 1, "conditions": found}}
    status: str = run(ROOT / "StoragePipeline" / "health.lua", obj)["status"]
    return status


@pytest.mark.parametrize("row", STUCK, ids=lambda row: row[0])
def test_what_somebody_has_to_mend_is_degraded_and_what_may_pass_is_progressing(row: Any) -> None:
    _, seen, _, reason, _ = row
    assert health_of(seen) == ("Degraded" if reason in ("InvalidResource", "ApplyRefused") else "Progressing")


def test_well_and_suspended() -> None:
    assert health_of(WELL) == "Healthy"
    assert health_of(WELL, suspend=True) == "Suspended"


@pytest.mark.parametrize("kind", KINDS)
def test_a_status_from_before_the_last_edit_says_nothing(kind: str) -> None:
    found = dated([UndatedCondition("Ready", "True", "Ready", "")], [], Moment("2026-01-01T00:00:00Z", 1))
    obj = {"metadata": {"generation": 2}, "spec": {}, "status": {"observedGeneration": 1, "conditions": found}}
    assert run(ROOT / kind / "health.lua", obj)["status"] == "Progressing"


@pytest.mark.parametrize("kind", KINDS)
def test_actions(kind: str) -> None:
    folder = ROOT / kind / "actions"
    tests = read(folder / "action_test.yaml")
    for test in tests["discoveryTests"]:
        found = run(folder / "discovery.lua", read(folder / test["inputPath"]))
        assert found == {action["name"]: {"disabled": action["disabled"]} for action in test["result"]}
    for test in tests["actionTests"]:
        found = run(folder / test["action"] / "action.lua", read(folder / test["inputPath"]))
        assert found == read(folder / test["expectedOutputPath"])


def test_run_now_sets_the_annotation_that_the_operator_follows() -> None:
    folder = ROOT / "TieringPolicy" / "actions"
    found = run(folder / "run-now" / "action.lua", read(folder / "testdata" / "running.yaml"))
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", found["metadata"]["annotations"][naming.RUN_NOW])
    kept = read(folder / "testdata" / "running.yaml")
    assert found["spec"] == kept["spec"]
