"""Each alert fires when its condition is caused, for long enough, and none does while all is well."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import CollectorRegistry, generate_latest

from marketprism_consumer.ingest.metrics import IngestAccount, IngestMetrics
from tests.monitoring.tools import LABELS, OTHERS, ROOT, SERIES, matched, names, rules, tool

RULES = {rule["alert"]: rule for rule in rules()}
RUNBOOKS = ROOT / "docs" / "runbooks"

READY = 'marketprism_operator_resource_condition{kind="StoragePipeline", namespace="n", name="main", type="Ready", status="%s"}'

# All is well: a minute a sample. 12 hours of it.
WELL = {
    'up{job="marketprism-main", instance="a:9464"}': "1x720",
    'marketprism_alarms_total{data_type="trade", reason="MessagesMissed"}': "0x720",
    'marketprism_state{data_type="trade", reason="Running"}': "1x720",
    'marketprism_state{data_type="trade", reason="DeadLetterFlood"}': "0x720",
    'marketprism_messages_received_total{data_type="trade"}': "0+6000x720",
    'marketprism_rows_inserted_total{data_type="trade"}': "0+6000x720",
    'marketprism_insert_failures_total{data_type="trade", code="0"}': "0x720",
    'marketprism_dead_letters_total{data_type="trade", reason="BadJSON"}': "0+1x720",
    'marketprism_stream_lag_seconds{data_type="trade"}': "2x720",
    'marketprism_stream_lag_messages{data_type="trade"}': "100x720",
    'marketprism_oldest_unstored_seconds{data_type="trade", instance="a:9464"}': "2x720",
    'marketprism_oldest_unstored_seconds{data_type="trade", instance="b:9464"}': "0x720",
    'marketprism_set_aside{data_type="trade"}': "0x99 1x5 0x615",
    'marketprism_reads_tail{data_type="trade", instance="a:9464"}': "1x720",
    'marketprism_reads_tail{data_type="trade", instance="b:9464"}': "0x720",
    'marketprism_insert_seconds_bucket{data_type="trade", le="0.1"}': "0+60x720",
    'marketprism_insert_seconds_bucket{data_type="trade", le="30"}': "0+60x720",
    'marketprism_insert_seconds_bucket{data_type="trade", le="+Inf"}': "0+60x720",
    'marketprism_freshness_seconds_bucket{data_type="trade", le="1"}': "0+60x720",
    'marketprism_freshness_seconds_bucket{data_type="trade", le="300"}': "0+60x720",
    'marketprism_freshness_seconds_bucket{data_type="trade", le="+Inf"}': "0+60x720",
    "marketprism_migration_last_success_time": "0+60x720",
    'marketprism_migration_backlog_seconds{table="trades"}': "300x720",
    "marketprism_validation_last_time": "0+60x720",
    READY % "True": "1x720",
    "marketprism_operator_last_resync_time": "0+60x720",
}  # fmt: skip
TRADE = {"data_type": "trade"}

# What differs, when it fires [minutes] and not yet [minutes, or None where it fires at once], and its labels.
CAUSES: dict[str, tuple[dict[str, str], int, int | None, dict[str, str]]] = {
    "MarketPrismConsumerDown": (
        {'up{job="marketprism-main", instance="a:9464"}': "1x9 0x100"}, 13, 11, {"job": "marketprism-main", "instance": "a:9464"},
    ),
    "MarketPrismMessagesLost": (
        {'marketprism_alarms_total{data_type="trade", reason="MessagesMissed"}': "0x9 1x100"}, 12, 9,
        {**TRADE, "reason": "MessagesMissed"},
    ),
    "MarketPrismVenueFloods": ({'marketprism_state{data_type="trade", reason="DeadLetterFlood"}': "0x9 1x100"}, 12, 9, TRADE),
    "MarketPrismInsertsFailing": (
        {'marketprism_insert_failures_total{data_type="trade", code="0"}': "0x19 0+5x100",
         'marketprism_rows_inserted_total{data_type="trade"}': "0+6000x19 120000x100"}, 35, 24, TRADE,
    ),
    "MarketPrismLagHigh": (
        {'marketprism_stream_lag_seconds{data_type="trade"}': "2x9 90x100",
         'marketprism_stream_lag_messages{data_type="trade"}': "0x9 50000x100"}, 22, 18, TRADE,
    ),
    "MarketPrismNotStored": (
        {'marketprism_oldest_unstored_seconds{data_type="trade", instance="a:9464"}': "2x9 60+60x100"}, 31, 27, TRADE,
    ),
    "MarketPrismSetAside": ({'marketprism_set_aside{data_type="trade"}': "0x9 1x100"}, 21, 18, TRADE),
    "MarketPrismTailUnread": (
        {'marketprism_reads_tail{data_type="trade", instance="a:9464"}': "1x9 0x100"}, 16, 13, TRADE,
    ),
    "MarketPrismInsertsSlow": (
        {'marketprism_insert_seconds_bucket{data_type="trade", le="0.1"}': "0x100"}, 25, 10, TRADE,
    ),
    "MarketPrismDeadLettersRising": (
        {'marketprism_dead_letters_total{data_type="trade", reason="BadJSON"}': "0+60x100"}, 25, 10, TRADE,
    ),
    "MarketPrismFeedSilent": (
        {'marketprism_messages_received_total{data_type="trade"}': "0+6000x9 60000x100",
         'marketprism_rows_inserted_total{data_type="trade"}': "0+6000x9 60000x100",
         'marketprism_dead_letters_total{data_type="trade", reason="BadJSON"}': "0x100",
         'marketprism_stream_lag_messages{data_type="trade"}': "0x100"}, 40, 25, TRADE,
    ),
    "MarketPrismNotFresh": ({'marketprism_freshness_seconds_bucket{data_type="trade", le="1"}': "0x100"}, 30, 14, TRADE),
    "MarketPrismTieringStalled": ({"marketprism_migration_last_success_time": "0x200"}, 80, 70, {}),
    "MarketPrismTieringBehind": (
        {'marketprism_migration_backlog_seconds{table="trades"}': "300x9 8000x100"}, 45, 35, {"table": "trades"},
    ),
    "MarketPrismTiersDiffer": (
        {'marketprism_validation_findings{data_type="trade", reason="TiersDiffer"}': "1x100"}, 1, None,
        {**TRADE, "reason": "TiersDiffer"},
    ),
    "MarketPrismDataWrong": (
        {'marketprism_validation_findings{data_type="trade", reason="TradesMissing"}': "4x100"}, 1, None,
        {**TRADE, "reason": "TradesMissing"},
    ),
    "MarketPrismValidationStale": ({"marketprism_validation_last_time": "0x3600"}, 2900, 2880, {}),
    "MarketPrismResourceNotReady": (
        {READY % "True": "stale",
         READY % "False": "1x100"},
        12, 8, {"kind": "StoragePipeline", "namespace": "n", "name": "main", "status": "False"},
    ),
    "MarketPrismDataNotValid": (
        {READY.replace("Ready", "DataValid") % "False": "1x100"}, 1, None, {"namespace": "n", "name": "main"},
    ),
    "MarketPrismReconcileFailing": (
        {READY.replace("Ready", "Reconciled") % "False": "1x100"},
        6, 4, {"kind": "StoragePipeline", "namespace": "n", "name": "main"},
    ),
    "MarketPrismOperatorIdle": ({"marketprism_operator_last_resync_time": "0x100"}, 45, 35, {}),
}  # fmt: skip


def promtool(
    tmp_path: Path, series: dict[str, str], expected: dict[str, list[tuple[int, dict[str, str] | None]]]
) -> None:
    """`expected`: alert → at a minute these labels, or None where it is silent."""
    cases = []
    for alert, moments in expected.items():
        rule = RULES[alert]
        for minute, labels in moments:
            fires = [] if labels is None else [{"exp_labels": {**labels, **rule["labels"]}}]
            cases.append({"eval_time": f"{minute}m", "alertname": alert, "exp_alerts": fires})
    given = [{"series": name, "values": values} for name, values in series.items()]
    # Summaries hold numbers that are formatted: what is compared are the labels.
    stripped = yaml.safe_load((ROOT / "monitoring" / "alerts.yaml").read_text())
    for group in stripped["groups"]:
        for rule in group["rules"]:
            rule.pop("annotations")
    (tmp_path / "alerts.yaml").write_text(yaml.safe_dump(stripped))
    test = {
        "rule_files": ["alerts.yaml"],
        "evaluation_interval": "1m",
        "tests": [{"interval": "1m", "input_series": given, "alert_rule_test": cases}],
    }
    (tmp_path / "test.yaml").write_text(yaml.safe_dump(test))
    ran = subprocess.run(
        [tool("promtool"), "test", "rules", "test.yaml"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr


def test_the_rules_are_valid() -> None:
    checked = subprocess.run(
        [tool("promtool"), "check", "rules", str(ROOT / "monitoring" / "alerts.yaml")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert f"{len(RULES)} rules found" in checked.stdout


def test_while_all_is_well_none_fires(tmp_path: Path) -> None:
    promtool(tmp_path, WELL, {alert: [(minute, None) for minute in (1, 30, 200, 700)] for alert in RULES})


@pytest.mark.parametrize("alert", CAUSES)
def test_an_alert_fires_when_it_is_caused_and_not_before(tmp_path: Path, alert: str) -> None:
    changed, fires, not_yet, labels = CAUSES[alert]
    moments: list[tuple[int, dict[str, str] | None]] = [(fires, labels)]
    if not_yet is not None:
        moments.append((not_yet, None))
    series = {name: values for name, values in (WELL | changed).items() if values != "stale"}
    promtool(tmp_path, series, {alert: moments})


def test_every_alert_has_a_cause_here() -> None:
    assert set(CAUSES) == set(RULES)


@pytest.mark.parametrize("alert", RULES)
def test_an_alert_is_about_metrics_that_there_are_and_has_a_runbook(alert: str) -> None:
    rule: dict[str, Any] = RULES[alert]
    assert names(rule["expr"])
    assert names(rule["expr"]) <= SERIES | OTHERS
    for metric, label in matched(rule["expr"]):
        assert label in LABELS[metric], f"{metric} has no label {label}"
    assert rule["labels"]["severity"] in ("critical", "warning")
    assert rule["annotations"]["summary"]
    page = (RUNBOOKS / f"{alert}.md").read_text()
    for part in ("**Meaning.** ", "**Impact.** ", "## Diagnosis", "## Mitigation", "```console\n$ "):
        assert part in page


def test_every_runbook_is_of_an_alert_and_in_the_list() -> None:
    pages = {path.stem for path in RUNBOOKS.glob("*.md")} - {"index"}
    assert pages == set(RULES)
    listed = (RUNBOOKS / "index.md").read_text()
    assert all(f"[{alert}]({alert}.md)" in listed for alert in RULES)


def test_a_loss_can_be_counted_from_the_first_one_on() -> None:
    """`increase` sees nothing where a series begins with 1."""
    registry = CollectorRegistry()
    IngestAccount(IngestMetrics(registry), "trade", "MARKET_DATA")
    text = generate_latest(registry).decode()
    for reason in ("MessagesMissed", "StreamRecreated", "StreamRegressed"):
        assert reason in RULES["MarketPrismMessagesLost"]["expr"]
        assert f'marketprism_alarms_total{{data_type="trade",reason="{reason}",stream="MARKET_DATA"}} 0.0' in text
