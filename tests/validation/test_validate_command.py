"""`marketprism validate` as people and scripts meet it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from marketprism_consumer import times
from marketprism_consumer.cli import app
from tests.validation.clean_days import SECOND, Day, Site
from tests.waiting import free_port

TYPES = ["--type", "trade"]


@pytest.fixture
def faulty(day: Any) -> Day:
    made: Day = day("trade")
    made.of("C'C")[300]["price"] = "1030"
    made.rows.remove(made.of("AAA")[100])
    made.store()
    return made


def environ(site: Site) -> dict[str, str]:
    return {
        "CLICKHOUSE_HTTP_URL": site.settings.clickhouse_urls[0],
        "CLICKHOUSE_HOT_DB": site.settings.hot_db,
        "CLICKHOUSE_COLD_DB": site.settings.cold_db,
    }


def window(day: Day) -> list[str]:
    def iso(us: int) -> str:
        return times.exact(us).replace(" ", "T")

    return ["--from", iso(day.start), "--to", iso(day.start + 700 * SECOND)]


def run(day: Day, *arguments: str, **more: str) -> Any:
    return CliRunner().invoke(app, ["validate", *window(day), *TYPES, *arguments], env={**environ(day.site), **more})


def test_a_verdict_comes_first_then_each_finding_with_its_place_and_query(faulty: Day) -> None:
    answer = run(faulty)
    assert answer.exit_code == 1
    lines = answer.stdout.splitlines()
    assert lines[0].startswith("FINDINGS: 2 kinds of fault in 1,799 rows of 3 series, ")
    assert lines[2] == "MP8001 TradesMissing trade: numbers are missing in a venue's sequence of trades (1)"
    assert "e m AAA" in lines[3]
    assert "trade_id 1100 missing" in lines[3]
    assert lines[4].startswith("  see: SELECT * FROM `validated_hot`.`all_trades` WHERE exchange = 'e'")
    assert lines[5].startswith("  hint: ")
    assert "1,799 rows      3 series" in answer.stdout.replace("          3 series", "      3 series")


def test_json_has_findings_coverage_and_a_sample(faulty: Day) -> None:
    answer = run(faulty, "--output", "json")
    assert answer.exit_code == 1
    found = json.loads(answer.stdout)
    assert found["ok"] is False
    assert [(one["reason"], one["count"]) for one in found["findings"]] == [("TradesMissing", 1), ("PriceJump", 1)]
    assert found["findings"][1]["examples"][0]["symbol"] == "C'C"
    trades = found["coverage"]["trade"]
    assert [(one["symbol"], one["rows"]) for one in trades["series"]] == [("AAA", 599), ("BBB", 600), ("C'C", 600)]
    assert trades["sample"]["trade_id"] == "1599"


def test_markdown_is_a_report(faulty: Day) -> None:
    answer = run(faulty, "-o", "markdown")
    assert answer.stdout.startswith("# FINDINGS: 2 kinds of fault")
    assert "## MP8006 PriceJump trade: " in answer.stdout
    assert "| trade | e | m | AAA | 599 | " in answer.stdout


def test_a_pipelines_limits_hold(faulty: Day, tmp_path: Path) -> None:
    file = tmp_path / "pipeline.yaml"
    file.write_text(
        "apiVersion: storage.marketprism.io/v1alpha1\nkind: StoragePipeline\nmetadata: {name: test}\n"
        'spec: {validation: {limits: {trade: {maxJump: "0"}}}}\n'
    )
    answer = run(faulty, "-f", str(file), "-o", "json")
    assert [one["reason"] for one in json.loads(answer.stdout)["findings"]] == ["TradesMissing"]


def test_nothing_wrong_is_exit_code_0(day: Any) -> None:
    clean = day("trade")
    clean.store()
    answer = run(clean)
    assert answer.exit_code == 0
    assert answer.stdout.startswith("FINE: nothing wrong in 1,800 rows of 3 series, ")


def test_metrics_go_to_a_file(faulty: Day, tmp_path: Path) -> None:
    file = tmp_path / "validate.prom"
    assert run(faulty, "--metrics", str(file)).exit_code == 1
    text = file.read_text()
    assert 'marketprism_validation_findings{data_type="trade",reason="PriceJump"} 1.0' in text
    assert "marketprism_validation_ok 0.0" in text


COULD_NOT = [
    (2, ["--from", "yesterday"], {}, "'yesterday' is neither a time"),
    (2, ["--since", "1 day"], {}, "--since"),
    (2, ["--from", "2025-09-25", "--to", "2025-09-24"], {}, "is not after"),
    (2, ["--type", "nonsense"], {}, "nonsense"),
    (2, ["-f", "/nowhere/pipeline.yaml"], {}, "/nowhere/pipeline.yaml"),
    (4, [], {"CLICKHOUSE_HTTP_URL": "http://127.0.0.1:9"}, "MP4001"),
    (1, [], {"CLICKHOUSE_HOT_DB": "no_such_database"}, "no_such_database"),
]


@pytest.mark.parametrize(("code", "arguments", "more", "words"), COULD_NOT)
def test_what_could_not_be_checked_is_told_by_words_and_exit_code(
    site: Site, code: int, arguments: list[str], more: dict[str, str], words: str
) -> None:
    answer = CliRunner().invoke(app, ["validate", *arguments], env={**environ(site), **more})
    assert answer.exit_code == code
    assert words in answer.stderr


def test_with_every_it_goes_on_and_is_scraped(faulty: Day) -> None:
    port = str(free_port())
    child = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "marketprism_consumer.cli",
            "validate",
            *window(faulty),
            *TYPES,
            "--every",
            "1h",
            "--port",
            port,
        ],
        env={**os.environ, **environ(faulty.site)},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert child.stdout is not None
        assert child.stdout.readline().startswith("FINDINGS")
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
            assert (
                'marketprism_validation_findings{data_type="trade",reason="TradesMissing"} 1.0'
                in answer.read().decode()
            )
    finally:
        child.terminate()
        assert child.wait(60) == 0
        child.stdout.close()
