"""Writes the Grafana dashboards: `python -m monitoring.dashboards`; with --check it says which are stale, and exits with 1."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

DIRECTORY = Path(__file__).parent / "dashboards"


@dataclass(frozen=True)
class Panel:
    """`queries`: legend → expression. `unit` as Grafana names it."""

    title: str
    unit: str
    queries: dict[str, str]
    text: str
    kind: str = "timeseries"
    width: int = 8


def _rate(metric: str, by: str = "data_type", where: str = "") -> str:
    return f"sum by ({by}) (rate(marketprism_{metric}{where}[$__rate_interval]))"


def _increase(metric: str) -> str:
    return f"sum by (data_type) (increase(marketprism_{metric}[10m]))"


def _quantile(part: str, metric: str) -> str:
    return f"histogram_quantile({part}, {_rate(f'{metric}_bucket', 'data_type, le')})"


def _now(title: str, unit: str, query: str, text: str) -> Panel:
    return Panel(title, unit, {"": query}, text, kind="stat", width=6)


DIFFERENCES = 'max by (data_type, reason) (marketprism_validation_findings{reason=~"TiersDiffer|RowDoubled"})'

PIPELINE: dict[str, list[Panel]] = {
    "Now": [
        _now("Stored", "rowsps", "sum(rate(marketprism_rows_inserted_total[$__rate_interval]))", "Rows that ClickHouse confirmed."),
        _now("Waiting", "short", "sum(marketprism_stream_lag_messages)", "Messages that are not read yet."),
        _now("Dead letters per hour", "short", "sum(increase(marketprism_dead_letters_total[1h]))", "Messages that can't be rows."),
        _now("Types not running", "short", 'sum(marketprism_state{reason!="Running"})', "A venue floods, or stopping."),
    ],
    "Intake": [
        Panel("Messages", "cps", {"{{data_type}}": _rate("messages_received_total")}, "Taken from JetStream."),
        Panel("Waiting", "short", {"{{data_type}}": "sum by (data_type) (marketprism_stream_lag_messages)"}, "Not read yet."),
        Panel("Lag", "s", {"{{data_type}}": "max by (data_type) (marketprism_stream_lag_seconds)"}, "Age of the oldest of the last batch."),
        Panel("In hand", "short", {"{{data_type}}": "sum by (data_type) (marketprism_in_hand_messages)"}, "Read, not stored yet."),
        Panel("In hand, bytes", "decbytes", {"{{data_type}}": "sum by (data_type) (marketprism_bytes_in_flight)"}, "Read, not stored yet."),
        Panel("Dead letters", "cps", {"{{data_type}} {{reason}}": _rate("dead_letters_total", "data_type, reason")}, "By reason."),
    ],
    "Inserts": [
        Panel("Rows", "rowsps", {"{{data_type}}": _rate("rows_inserted_total")}, "Confirmed by ClickHouse."),
        Panel("Rows per insert, median", "short", {"{{data_type}}": _quantile("0.5", "batch_rows")}, "Small ones make many parts."),
        Panel("Why batches were due", "cps", {"{{why}}": _rate("batches_total", "why")}, "Rows, bytes or time."),
        Panel("Time per insert, p99", "s", {"{{data_type}}": _quantile("0.99", "insert_seconds")}, "As the consumer sees it."),
        Panel("Refused", "cps", {"{{data_type}} code {{code}}": _rate("insert_failures_total", "data_type, code")},
              "By ClickHouse's code; 0 is no answer."),
        Panel("Alarms", "short", {"{{data_type}} {{reason}}": "sum by (data_type, reason) (increase(marketprism_alarms_total[10m]))"},
              "What a person should know of, per ten minutes."),
    ],
    "Lanes": [
        Panel("Oldest unstored", "s", {"{{data_type}}": "max by (data_type) (marketprism_oldest_unstored_seconds)"},
              "Age of the oldest message that is known and not stored."),
        Panel("Set aside", "short", {"{{data_type}}": "max by (data_type) (marketprism_set_aside)"},
              "Stretches that wait to be looked up; the lane goes on behind them."),
        Panel("Read by", "short", {"{{data_type}}": "sum by (data_type) (marketprism_reads_tail)"},
              "Processes that read the lane's end: one. The others stand by."),
        Panel("Looked up", "short", {"{{data_type}} look-ups": _increase("lookups_total"), "{{data_type}} anew": _increase("epochs_total")},
              "Look-ups in the table, and blocks that were made anew after one, per ten minutes."),
        Panel("Changes of hands", "short",
              {"{{data_type}} taken over": _increase("takeovers_total"), "{{data_type}} recovered": _increase("recoveries_total")},
              "Stretches taken from a process that fell silent, and records that were in doubt, per ten minutes."),
        Panel("Record written, p99", "s", {"{{data_type}}": _quantile("0.99", "record_write_seconds")}, "One write into the bucket."),
        Panel("Record written by somebody else", "short", {"{{data_type}}": _increase("record_conflicts_total")},
              "Writes that came second and were made again, per ten minutes."),
    ],
    "Freshness": [
        Panel("Event to visible, median", "s", {"{{data_type}}": _quantile("0.5", "freshness_seconds")}, "From the event's own time."),
        Panel("Event to visible, p99", "s", {"{{data_type}}": _quantile("0.99", "freshness_seconds")}, "From the event's own time."),
        Panel("State", "short", {"{{data_type}} {{reason}}": "max by (data_type, reason) (marketprism_state) == 1"}, "Of each type."),
    ],
    "Quality": [
        Panel("Findings", "short", {"{{data_type}} {{reason}}": "max by (data_type, reason) (marketprism_validation_findings)"},
              "Of the last validation."),
        Panel("Rows looked at", "short", {"{{data_type}}": "max by (data_type) (marketprism_validation_rows)"}, "By the last validation."),
        Panel("Since the last validation", "s", {"": "time() - max(marketprism_validation_last_time)"}, "Its age.", kind="stat"),
    ],
}  # fmt: skip

TIERING: dict[str, list[Panel]] = {
    "Now": [
        _now("Since the last success", "s", "time() - max(marketprism_migration_last_success_time)", "Of a migration."),
        _now("Rows due", "short", "sum(marketprism_migration_backlog_rows)", "Older than the policy's age, still in hot."),
        _now("Due for", "s", "max(marketprism_migration_backlog_seconds)", "How long the oldest of them has been due."),
        _now("Moved per hour", "short", "sum(increase(marketprism_migrated_rows_total[1h]))", "Rows: verified, then deleted."),
    ],
    "Migration": [
        Panel("Rows moved", "rowsps", {"{{table}}": _rate("migrated_rows_total", "table")}, "By table."),
        Panel("Bytes moved", "Bps", {"{{table}}": _rate("migrated_bytes_total", "table")}, "As cold keeps them."),
        Panel("Runs", "short", {"{{result}}": "sum by (result) (increase(marketprism_migrations_total[1h]))"}, "Finished runs per hour."),
        Panel("Rows due", "short", {"{{table}}": "max by (table) (marketprism_migration_backlog_rows)"}, "Still in hot."),
        Panel("Due for", "s", {"{{table}}": "max by (table) (marketprism_migration_backlog_seconds)"}, "The oldest row."),
        Panel("Differences between the tiers", "short",
              {"{{data_type}} {{reason}}": DIFFERENCES},
              "What validation found; none is good."),
    ],
}  # fmt: skip

DASHBOARDS = {
    "pipeline": ("MarketPrism pipeline", PIPELINE),
    "tiering": ("MarketPrism tiering", TIERING),
}


def dashboard(uid: str, title: str, rows: dict[str, list[Panel]]) -> dict[str, Any]:
    """As Grafana imports it; the data source is chosen there."""
    panels: list[dict[str, Any]] = []
    y = 0
    for name, own in rows.items():
        panels.append(
            {"id": len(panels) + 1, "type": "row", "title": name, "gridPos": {"x": 0, "y": y, "w": 24, "h": 1}}
        )
        x, y = 0, y + 1
        height = 4 if own[0].kind == "stat" else 8
        for panel in own:
            if x + panel.width > 24:
                x, y = 0, y + height
            panels.append(_panel(len(panels) + 1, panel, {"x": x, "y": y, "w": panel.width, "h": height}))
            x += panel.width
        y += height
    source = {
        "name": "source",
        "label": "Data source",
        "type": "datasource",
        "query": "prometheus",
        "current": {},
        "hide": 0,
    }
    return {
        "uid": f"marketprism-{uid}",
        "title": title,
        "tags": ["marketprism"],
        "schemaVersion": 39,
        "editable": True,
        "refresh": "30s",
        "time": {"from": "now-3h", "to": "now"},
        "templating": {"list": [source]},
        "panels": panels,
    }


def _panel(number: int, panel: Panel, place: dict[str, int]) -> dict[str, Any]:
    source = {"type": "prometheus", "uid": "${source}"}
    return {
        "id": number,
        "type": panel.kind,
        "title": panel.title,
        "description": panel.text,
        "datasource": source,
        "gridPos": place,
        "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0}, "overrides": []},
        "options": {"reduceOptions": {"calcs": ["lastNotNull"]}}
        if panel.kind == "stat"
        else {"tooltip": {"mode": "multi"}},
        "targets": [
            {"refId": chr(ord("A") + n), "datasource": source, "expr": query, "legendFormat": legend or "__auto"}
            for n, (legend, query) in enumerate(panel.queries.items())
        ],
    }


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m monitoring.dashboards", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing, exit 1 if a file is stale")
    check = parser.parse_args().check
    stale = False
    for name, (title, rows) in DASHBOARDS.items():
        path, wanted = DIRECTORY / f"{name}.json", json.dumps(dashboard(name, title, rows), indent=1) + "\n"
        if path.is_file() and path.read_text(encoding="utf-8") == wanted:
            continue
        if check:
            stale = True
            sys.stderr.write(f"{path} is stale: run `make crds`\n")
        else:
            path.parent.mkdir(exist_ok=True)
            path.write_text(wanted, encoding="utf-8")
            sys.stderr.write(f"{path} written\n")
    return int(stale)


if __name__ == "__main__":
    sys.exit(main())
