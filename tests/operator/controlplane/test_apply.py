"""What users apply, from client-side and server-side, in the order in which they edit it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.operator.controlplane.pipeline_world import World

EXAMPLES = Path(__file__).parents[3] / "examples"
BATCH = {"batch": {"maxRows": 500}}


async def data_types(world: World) -> dict[str, Any]:
    live = await world.get("StoragePipeline", "main")
    assert live
    found: dict[str, Any] = live["spec"]["dataTypes"]
    return found


async def test_a_data_type_gets_a_setting_and_loses_it_again(world: World) -> None:
    for settings in ({}, BATCH, {}, BATCH, {}):
        await world.pipeline(dataTypes={"trade": {}, "funding_rate": settings})
        found = await data_types(world)
        assert set(found) == {"trade", "funding_rate"}
        assert (found["funding_rate"].get("batch") or {}) == settings.get("batch", {})


@pytest.mark.parametrize(
    ("full", "empty"),
    [
        ({"validation": {"limits": {"trade": {"maxDelay": "1s"}}}}, {"validation": {"limits": {"trade": {}}}}),
        ({"validation": {"limits": {"trade": {"maxDelay": "1s"}}}}, {"validation": {"limits": {}}}),
        (
            {"consumers": {"one": {"dataTypes": ["trade"], "resources": {"limits": {"memory": "1Gi"}}}}},
            {"consumers": {"one": {"dataTypes": ["trade"], "resources": {"limits": {}}}}},
        ),
        ({"podTemplate": {"metadata": {"labels": {"a": "b"}}}}, {"podTemplate": {"metadata": {}}}),
    ],
    ids=lambda value: json.dumps(value)[:60],
)
async def test_the_last_entry_of_a_map_is_taken_away(world: World, full: dict[str, Any], empty: dict[str, Any]) -> None:
    for spec in (empty, full, empty):
        live = await world.pipeline(dataTypes={"trade": {}}, **spec)
        assert await world.dry_run("StoragePipeline", "main", spec={"dataTypes": {"trade": {}}, **spec}) == live


async def test_apply_of_an_example_is_answered_without_a_warning(world: World) -> None:
    api = f"/apis/storage.marketprism.io/v1alpha1/namespaces/{world.namespace}"
    for path in sorted(EXAMPLES.glob("*.yaml")):
        for manifest in yaml.safe_load_all(path.read_text()):
            plural = "storagepipelines" if manifest["kind"] == "StoragePipeline" else "tieringpolicies"
            name = manifest["metadata"]["name"]
            manifest["metadata"].pop("namespace", None)
            for content_type, query in (
                ("application/apply-patch+yaml", [("fieldManager", "kubectl"), ("force", "true")]),
                ("application/merge-patch+json", [("fieldManager", "kubectl-client-side-apply")]),
            ):
                request = await world.api.param_serialize(
                    "PATCH",
                    f"{api}/{plural}/{name}",
                    query_params=[*query, ("fieldValidation", "Warn")],
                    header_params={"Content-Type": content_type, "Accept": "application/json"},
                    body=manifest,
                    auth_settings=["BearerToken"],
                )
                answer = (await world.api.call_api(*request)).response
                assert answer.status in (200, 201), await answer.text()
                assert "Warning" not in answer.headers, (path.name, answer.headers["Warning"])
