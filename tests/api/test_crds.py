"""The CRDs: up to date, structural, described, bounded."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from marketprism_api.crds import KINDS, crd, main, text

if TYPE_CHECKING:
    from collections.abc import Iterator

CRDS = Path(__file__).parents[2] / "crds"

KNOWN = {
    "type",
    "description",
    "properties",
    "required",
    "additionalProperties",
    "items",
    "enum",
    "default",
    "format",
    "pattern",
    "minimum",
    "maximum",
    "minLength",
    "maxLength",
    "minItems",
    "maxItems",
    "minProperties",
    "maxProperties",
}


def nodes(node: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    yield path, node
    for name, child in node.get("properties", {}).items():
        yield from nodes(child, f"{path}.{name}")
    for key in ("items", "additionalProperties"):
        if key in node:
            yield from nodes(node[key], f"{path}[{key}]")


@pytest.fixture(params=KINDS, ids=lambda kind: kind.KIND)
def schema(request: pytest.FixtureRequest) -> dict[str, Any]:
    version = crd(request.param)["spec"]["versions"][0]
    found: dict[str, Any] = version["schema"]["openAPIV3Schema"]
    return found


def test_files_are_up_to_date(tmp_path: Path) -> None:
    assert main(["--check", str(CRDS)]) == 0
    assert main(["--check", str(tmp_path)]) == 1
    assert main([str(tmp_path)]) == 0
    assert main(["--check", str(tmp_path)]) == 0
    assert [yaml.safe_load(text(kind)) for kind in KINDS] == [crd(kind) for kind in KINDS]


def test_structural(schema: dict[str, Any]) -> None:
    for path, node in nodes(schema):
        unknown = {key for key in node if key not in KNOWN and not key.startswith("x-kubernetes-")}
        assert not unknown, path
        free = node.get("x-kubernetes-int-or-string")
        assert node.get("type") in ("object", "array", "string", "integer", "boolean") or free, path
        assert not ("properties" in node and "additionalProperties" in node), path
        if node.get("type") == "object" and path != ".metadata":
            assert node.keys() & {"properties", "additionalProperties", "x-kubernetes-preserve-unknown-fields"}, path
        assert node.get("default") is None or not isinstance(node["default"], list), path
        assert node.get("default", {}) == {} or not isinstance(node["default"], dict), path


def test_every_property_is_described(schema: dict[str, Any]) -> None:
    for path, node in nodes(schema):
        for name, child in node.get("properties", {}).items():
            assert f"{path}.{name}" == ".metadata" or child.get("description", "").endswith("."), f"{path}.{name}"


def test_no_defaults_in_list_items(schema: dict[str, Any]) -> None:
    for path, node in nodes(schema["properties"]["spec"]):
        assert "[items]" not in path or "default" not in node, path


def test_bounded(schema: dict[str, Any]) -> None:
    """CEL's cost is estimated from the bounds."""
    for path, node in nodes(schema["properties"]["spec"]):
        if node.get("type") == "array":
            assert "maxItems" in node, path
            assert "x-kubernetes-list-type" in node, path
        if "additionalProperties" in node:
            assert "maxProperties" in node, path
        if node.get("type") == "string":
            assert node.keys() & {"maxLength", "enum"}, path


def test_rules_say_what_to_do(schema: dict[str, Any]) -> None:
    for path, node in nodes(schema):
        for rule in node.get("x-kubernetes-validations", []):
            assert rule["message"], path
            assert "\n" not in rule["message"], path


def test_conventions() -> None:
    for kind in KINDS:
        found = crd(kind)["spec"]
        assert found["names"]["categories"] == ["marketprism"]
        assert found["versions"][0]["subresources"] == {"status": {}}
        columns = [column["name"] for column in found["versions"][0]["additionalPrinterColumns"]]
        assert columns[:2] == ["Ready", "Reason"]
        conditions = found["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["status"]["properties"][
            "conditions"
        ]
        assert conditions["x-kubernetes-list-map-keys"] == ["type"]
    assert [crd(kind)["spec"]["names"]["shortNames"] for kind in KINDS] == [["stpl"], ["tierp"]]


def test_unchangeable() -> None:
    spec = crd(KINDS[0])["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
    clickhouse = spec["properties"]["clickhouse"]["properties"]
    for name in ("hotDatabase", "coldDatabase", "cluster", "sharding"):
        assert any(rule["rule"] == "self == oldSelf" for rule in clickhouse[name]["x-kubernetes-validations"])
