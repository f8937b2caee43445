"""What a release names is there, and of one version."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from marketprism_api.load import parse

ROOT = Path(__file__).parents[2]
WORKFLOW = (ROOT / ".github/workflows/release.yaml").read_text()
JOBS: dict[str, Any] = yaml.safe_load(WORKFLOW)["jobs"]
CHART: dict[str, Any] = yaml.safe_load((ROOT / "helm/Chart.yaml").read_text())
HUB: dict[str, str] = CHART["annotations"]


def hub(name: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = yaml.safe_load(HUB[f"artifacthub.io/{name}"])
    return found


def test_all_parts_have_one_version() -> None:
    versions = {tomllib.loads(path.read_text())["project"]["version"] for path in ROOT.glob("*/pyproject.toml")}
    images = {each["image"].partition(":")[2] for each in hub("images")}
    assert versions == {CHART["version"]} == {str(CHART["appVersion"])} == images


def test_artifact_hub_is_told_the_images_of_the_values_and_their_platforms() -> None:
    values = yaml.safe_load((ROOT / "helm/values.yaml").read_text())
    named = [
        values["image"]["repository"],
        values["consumerImage"]["repository"],
        values["console"]["image"]["repository"],
    ]
    assert [each["image"].partition(":")[0] for each in hub("images")] == named
    (build,) = (step for step in JOBS["image"]["steps"] if step.get("id") == "build")
    assert all(",".join(each["platforms"]) == build["with"]["platforms"] for each in hub("images"))


def test_artifact_hub_is_told_the_definitions_and_examples_that_are_valid() -> None:
    there = [yaml.safe_load(path.read_text()) for path in sorted((ROOT / "crds").glob("*.yaml"))]
    assert [(each["name"], each["kind"], each["version"]) for each in hub("crds")] == [
        (crd["metadata"]["name"], crd["spec"]["names"]["kind"], crd["spec"]["versions"][0]["name"]) for crd in there
    ]
    kinds = [resource.KIND for resource in parse(yaml.safe_dump_all(hub("crdsExamples")))]
    assert kinds == [crd["spec"]["names"]["kind"] for crd in there]


def test_the_workflow_makes_and_builds_what_is_there() -> None:
    made = set(re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    wanted = {target for words in re.findall(r"run: make (.*)", WORKFLOW) for target in words.split()}
    assert wanted
    assert wanted <= made
    images = JOBS["image"]["strategy"]["matrix"]["image"]
    assert {f"Dockerfile.{image}" for image in images} == {path.name for path in ROOT.glob("Dockerfile.*")}


@pytest.mark.parametrize("job", JOBS)
def test_a_job_has_the_rights_that_it_needs_and_signs_without_a_key(job: str) -> None:
    assert yaml.safe_load(WORKFLOW)["permissions"] == {}
    signs = any("cosign sign" in step.get("run", "") for step in JOBS[job]["steps"])
    assert (JOBS[job]["permissions"].get("id-token") == "write") == signs
    assert "COSIGN_PRIVATE_KEY" not in WORKFLOW
