"""The Prometheus programs, and the metrics that there are."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from pages.metrics import served_by

ROOT = Path(__file__).parents[2]
HOME = Path(os.environ.get("MARKETPRISM_TOOLS", Path.home() / ".cache" / "marketprism-tools"))
SERIES = {name for found in served_by().values() for metric in found for name in metric.series}
LABELS = {name: set(metric.labels) for found in served_by().values() for metric in found for name in metric.series}
# Not metrics of ours, but of every scrape.
OTHERS = {"up"}


def tool(name: str) -> str:
    found = shutil.which(name, path=f"{HOME}{os.pathsep}{os.environ['PATH']}")
    if not found:
        pytest.skip(f"NOT TESTED: {name} is not installed; `make monitoring-tools` builds it where Go is")
    return found


def rules() -> list[dict[str, Any]]:
    groups = yaml.safe_load((ROOT / "monitoring" / "alerts.yaml").read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def names(expression: str) -> set[str]:
    """The metrics in a PromQL expression."""
    return set(re.findall(r"\b(marketprism_\w+|up)\b(?=[\s{\[)]|$)", expression))


def matched(expression: str) -> set[tuple[str, str]]:
    """(metric, label) of each matcher and of what is summed by."""
    found = set()
    for metric, body in re.findall(r"\b(marketprism_\w+)\{([^}]*)\}", expression):
        found |= {(metric, label) for label in re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", body)}
    return found
