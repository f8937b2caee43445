"""`marketprism types`: what is proposed for samples takes them, and what is checked is told."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from marketprism_consumer.cli import app
from marketprism_consumer.operations.infer import propose, samples_in

NOW = 1732000000000
KLINE = {
    "e": "kline",
    "E": NOW,
    "s": "BTCUSDT",
    "k": {"t": NOW, "T": NOW + 59999, "i": "1m", "o": "1.10", "n": 3, "x": True},
}
SAMPLES: dict[str, list[dict[str, Any]]] = {
    "nested, with names that differ in case only": [KLINE, {**KLINE, "k": {**KLINE["k"], "V": "1"}}],  # type: ignore[dict-item]
    "flat": [{"timestamp": "2026-01-02T03:04:05.123Z", "exchange": "okx", "symbol": "BTC", "iv": 0.55, "market_type": "options"}],
    "the only one of a list": [{"arg": {"instId": "BTC"}, "data": [{"ts": str(NOW), "px": "1.5", "from": "x"}]}],
    "of many kinds": [
        {"ts": NOW * 1000, "id": "123e4567-e89b-12d3-a456-426614174000", "big": 1 << 70, "neg": -1, "list": [1, 2], "flag": False,
         "odd name": 1, "empty": "", "nothing": None, "größe": "1e-9", "texts": ["a"], "deep": {"a": {"b": {"c": {"d": 1}}}}},
    ],
}  # fmt: skip


def pipeline(declared: dict[str, Any]) -> str:
    head = {"apiVersion": "storage.marketprism.io/v1alpha1", "kind": "StoragePipeline", "metadata": {"name": "main"}}
    return yaml.safe_dump({**head, "spec": {"dataTypes": declared}})


@pytest.mark.parametrize("samples", SAMPLES.values(), ids=SAMPLES)
def test_what_is_proposed_takes_the_samples(samples: list[dict[str, Any]], tmp_path: Path) -> None:
    file, data = tmp_path / "pipeline.yaml", tmp_path / "samples.ndjson"
    data.write_text("\n".join(map(json.dumps, samples)))
    proposed = CliRunner().invoke(app, ["types", "infer", "--name", "own", str(data)])
    assert proposed.exit_code == 0, proposed.output
    file.write_text(pipeline(yaml.safe_load(proposed.output)["dataTypes"]))
    checked = CliRunner().invoke(
        app, ["types", "check", "-f", str(file), "--subject", "own.okx.BTC", str(data), "-o", "json"]
    )
    assert checked.exit_code == 0, checked.output
    assert len(json.loads(checked.output)["messages"]) == len(samples)


def test_the_types_that_are_proposed() -> None:
    ((_, spec),) = propose(
        "own", [{"ts_ms": NOW, "s": "B", "a": 1, "b": "1.5", "c": "x"}, {"ts_ms": NOW, "s": "B", "b": 2}]
    ).items()
    assert spec["timestamp"] == {"from": ["ts_ms"], "unit": "ms"}
    assert {name: field.get("type") for name, field in spec["fields"].items()} == {
        "exchange": None,
        "market_type": None,
        "symbol": None,
        "a": "Nullable(UInt64)",
        "b": "Decimal(38, 18)",
        "c": "LowCardinality(Nullable(String))",
    }


@pytest.mark.parametrize(
    ("sample", "said"), [({"a": 1}, "is a time"), ({"ts": NOW, "symbol": "B"}, "nothing but a time")]
)
def test_what_can_not_be_proposed_is_told(sample: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        propose("own", [sample])


def test_samples_are_one_object_or_one_on_each_line() -> None:
    assert samples_in('{"a":\n 1}') == [b'{"a":\n 1}']
    assert samples_in('{"a": 1}\n\n{"a": 2}\n') == [b'{"a": 1}', b'{"a": 2}']
    with pytest.raises(ValueError, match="is empty"):
        samples_in(" \n")


def test_a_message_that_can_not_be_a_row_is_told_with_its_reason(tmp_path: Path) -> None:
    data = tmp_path / "one.json"
    data.write_text(json.dumps({"data_type": "trade", "price": "x"}))
    checked = CliRunner().invoke(app, ["types", "check", "--type", "trade", str(data)])
    assert checked.exit_code == 1
    assert "MP2201 MissingField" in checked.output
    assert "absent value" in checked.output
    for arguments, wanted in (
        (("--type", "kline"), "does not store kline"),
        ((), "which of"),
        (("--subject", "x.y"), "none of"),
    ):
        refused = CliRunner().invoke(app, ["types", "check", *arguments, str(data)])
        assert (refused.exit_code, wanted in refused.output) == (2, True), refused.output


def test_types_are_shown() -> None:
    shown = json.loads(CliRunner().invoke(app, ["types", "show", "orderbook", "-o", "json"]).output)
    assert [field["name"] for field in shown[0]["fields"]][-4:] == [
        "asks",
        "standardized_at",
        "data_source",
        "collected_at",
    ]
    assert "volatility_indices" in CliRunner().invoke(app, ["types", "show"]).output


def test_numbers_are_as_exact_as_they_were_written() -> None:
    (spec,) = propose("own", [{"ts": NOW, "x": Decimal("0.1"), "y": Decimal("1e-30")}]).values()
    assert {name: spec["fields"][name]["type"] for name in "xy"} == {"x": "Decimal(38, 18)", "y": "String"}
