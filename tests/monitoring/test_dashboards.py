"""Every panel asks for metrics that there are; and of a running pipeline a real Prometheus has an answer for each."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nats
import pytest
import yaml

from marketprism_api.data_types import BUILT_IN
from tests.monitoring.tools import LABELS, ROOT, SERIES, matched, names, tool
from tests.waiting import free_port, wait_for

FILES = sorted((ROOT / "monitoring" / "dashboards").glob("*.json"))


def panels() -> list[tuple[str, dict[str, Any], str]]:
    """Title, panel and expression of each query."""
    found = []
    for file in FILES:
        for panel in json.loads(file.read_text())["panels"]:
            for target in panel.get("targets", ()):
                found.append((f"{file.stem}: {panel['title']}", panel, target["expr"]))
    return found


@pytest.mark.parametrize(("title", "panel", "expression"), panels(), ids=[title for title, *_ in panels()])
def test_a_panel_is_about_metrics_that_there_are(title: str, panel: dict[str, Any], expression: str) -> None:
    assert names(expression)
    assert names(expression) <= SERIES
    for metric, label in matched(expression):
        assert label in LABELS[metric]
    assert panel["description"]
    assert panel["fieldConfig"]["defaults"]["unit"]


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_panels_lie_side_by_side(file: Path) -> None:
    taken: set[tuple[int, int]] = set()
    board = json.loads(file.read_text())
    for panel in board["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert place["x"] + place["w"] <= 24
        assert not cells & taken, panel["title"]
        taken |= cells
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])


# --- on a real Prometheus ---------------------------------------------------------------------------------------------

# Silent where all is well.
QUIET = {"pipeline: Refused", "tiering: Differences between the tiers"}
OWN, OWN_TABLE = "ticker", "tickers"
"""A data type that the pipeline itself declares: no panel knows of it."""


def declared() -> str:
    """The built-in data types, and those of the example."""
    example = yaml.safe_load((ROOT / "examples" / "own_types.yaml").read_text())
    example["spec"] = {"dataTypes": {name: {} for name in BUILT_IN} | example["spec"]["dataTypes"]}
    return yaml.safe_dump(example)


def get(url: str) -> str:
    with urllib.request.urlopen(url, timeout=5) as answer:
        text: str = answer.read().decode()
        return text


async def publish(url: str) -> None:
    """Messages of the own type, one of them bad, and one without what the others have."""
    client = await nats.connect(url)
    for number in range(20):
        message = {"exchange": "okx", "market_type": "spot", "symbol": "BTC", "ts_ms": int(time.time() * 1000)}
        message |= {"bid": "1.1", "ask": "1.2", "update_id": number if number else "none"}
        message |= {} if number == 1 else {"last": "1.15"}
        await client.jetstream().publish(f"{OWN}.okx.spot.BTC", json.dumps(message).encode())
    await client.close()


@dataclass(frozen=True)
class Watched:
    prometheus: str
    nats: str


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    """A pipeline with everything, scraped: consumers, migration, validation, some bad messages, types of its own."""
    program = tool("prometheus")
    place = tmp_path_factory.mktemp("watched")
    ports = {name: free_port() for name in ("nats", "clickhouse", "ingest", "migrate", "validate", "prometheus")}
    environ = {
        **os.environ,
        "MARKETPRISM_NATS_URL": "",
        "NATS_URL": f"nats://127.0.0.1:{ports['nats']}",
        "CLICKHOUSE_HTTP_URL": f"http://127.0.0.1:{ports['clickhouse']}",
    }
    own = {name: value for name, value in environ.items() if name not in ("NATS_URL", "CLICKHOUSE_HTTP_URL")}
    file = place / "pipeline.yaml"
    file.write_text(declared())
    with ExitStack() as stack:

        def start(*command: str, env: dict[str, str]) -> None:
            child = subprocess.Popen(command, env=env, cwd=place, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            stack.callback(child.wait, 30)
            stack.callback(child.terminate)

        cli = [sys.executable, "-m", "marketprism_consumer.cli"]
        start(*cli, "run", "-f", str(file), "--nats-port", str(ports["nats"]), "--clickhouse-port", str(ports["clickhouse"]),
              "--port", str(ports["ingest"]), env=own)  # fmt: skip
        wait_for(lambda: get(f"http://127.0.0.1:{ports['ingest']}/readyz") == "ok\n", "the pipeline is ready")
        start(*cli, "feed", "--rate", "200", "--bad", "5%", env=environ)
        start(*cli, "migrate", "-f", str(file), "--older-than", "1s", "--every", "2s", "--port", str(ports["migrate"]),
              env=environ)  # fmt: skip
        start(*cli, "validate", "-f", str(file), "--since", "1h", "--every", "3s", "--port", str(ports["validate"]),
              env=environ)  # fmt: skip
        targets = ", ".join(f"'127.0.0.1:{ports[name]}'" for name in ("ingest", "migrate", "validate"))
        (place / "prometheus.yml").write_text(
            "global: {scrape_interval: 1s}\n"
            f"scrape_configs: [{{job_name: marketprism, static_configs: [{{targets: [{targets}]}}]}}]\n"
        )
        url = f"http://127.0.0.1:{ports['prometheus']}"
        start(
            program,
            "--config.file=prometheus.yml",
            f"--web.listen-address=127.0.0.1:{ports['prometheus']}",
            env=environ,
        )
        yield Watched(url, environ["NATS_URL"])


def value(url: str, expression: str) -> list[Any]:
    answer = json.loads(get(f"{url}/api/v1/query?" + urllib.parse.urlencode({"query": expression})))
    assert answer["status"] == "success"
    found: list[Any] = answer["data"]["result"]
    return found


@pytest.mark.servers
@pytest.mark.timeout(180)
def test_every_panel_shows_something_of_a_running_pipeline_and_of_its_own_types(watched: Watched) -> None:
    empty = {title: expression.replace("$__rate_interval", "10s") for title, _, expression in panels()}

    def is_own(series: dict[str, Any]) -> bool:
        """Or of all data types together."""
        of = series["metric"]
        return (of.get("data_type", OWN), of.get("table", OWN_TABLE)) == (OWN, OWN_TABLE)

    def all_answer() -> bool:
        asyncio.run(publish(watched.nats))
        for title, expression in list(empty.items()):
            if any(map(is_own, value(watched.prometheus, expression))):
                del empty[title]
        return not set(empty) - QUIET

    wait_for(all_answer, lambda: f"something to see in {sorted(set(empty) - QUIET)}")
