"""A leaf node with a JetStream of its own, and a hub that holds the streams: each in its domain."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import nats
import pytest

from marketprism_embedded import process
from tests.commands.command import call
from tests.faults.harness import NatsByHand
from tests.pipelines import trade
from tests.waiting import free_port, wait_for

PIPELINE = """\
apiVersion: storage.marketprism.io/v1alpha1
kind: StoragePipeline
metadata: {{name: main}}
spec:
  nats: {{streams: {{default: MARKET_DATA}}{domain}}}
  dataTypes: {{trade: {{batch: {{maxRows: 1, maxDelay: 100ms}}}}}}
"""


@pytest.fixture
def servers(tmp_path: Path) -> Iterator[dict[str, str]]:
    """Connected to the leaf; the hub has three trades."""
    leaves = free_port()
    hub = NatsByHand(
        tmp_path / "hub",
        lambda: f'jetstream {{domain: hub, store_dir: "{tmp_path}/hub/js"}}\nleafnodes {{listen: 127.0.0.1:{leaves}}}',
    )
    leaf = NatsByHand(
        tmp_path / "leaf",
        lambda: (
            f'jetstream {{domain: leaf, store_dir: "{tmp_path}/leaf/js"}}\nleafnodes {{remotes: [{{url: "nats://127.0.0.1:{leaves}"}}]}}'
        ),
    )
    asyncio.run(_fill(hub.url))
    with process.start("clickhouse", tmp_path / "clickhouse") as clickhouse:
        yield {"MARKETPRISM_NATS_URL": leaf.url, "CLICKHOUSE_HTTP_URL": clickhouse.url, "HUB": hub.url}
    for one in (hub, leaf):
        with suppress(ProcessLookupError):
            one.kill()


async def _fill(url: str) -> None:
    connection: Any = await nats.connect(url)
    js = connection.jetstream()
    await js.add_stream(name="MARKET_DATA", subjects=["trade.>"])
    for number in range(3):
        await js.publish("trade.binance_spot.spot.BTC-USDT", json.dumps(trade(trade_id=str(number))).encode())
    await connection.close()


def streams(url: str) -> list[str]:
    async def look() -> list[str]:
        connection: Any = await nats.connect(url)
        found = [one.config.name for one in await connection.jetstream().streams_info()]
        await connection.close()
        return found

    return asyncio.run(look())


def file(place: Path, domain: str = "") -> str:
    path = place / "pipeline.yaml"
    path.write_text(PIPELINE.format(domain=domain))
    return str(path)


def test_at_a_leaf_no_stream_is_made_before_the_domain_is_named(servers: dict[str, str], tmp_path: Path) -> None:
    """An empty one of its own would be stored, and proven, for ever; the trades are in the hub."""
    done = call("schema", "ensure", "-f", file(tmp_path), environ=servers)
    assert done.returncode != 0
    assert "not in the JetStream domain leaf" in done.stderr
    assert "spec.nats.domain" in done.stderr
    assert streams(servers["MARKETPRISM_NATS_URL"]) == []


@pytest.mark.parametrize("named", [", domain: hub", ", apiPrefix: $JS.hub.API"])
def test_by_its_domain_the_hub_is_read_through_the_leaf(servers: dict[str, str], tmp_path: Path, named: str) -> None:
    path = file(tmp_path, named)
    done = call("schema", "ensure", "-f", path, environ=servers)
    assert done.returncode == 0, done.stderr
    done = call("ingest", "-f", path, "--until-idle", "1s", "--port", "0", environ=servers)
    assert done.returncode == 0, done.stderr
    report = json.loads(call("audit", "-f", path, "-o", "json", environ=servers).stdout)
    assert report["holds"]
    assert [(each["held"], each["rows"]) for each in report["types"]] == [(3, 3)]
    assert streams(servers["MARKETPRISM_NATS_URL"]) == []
    wait_for(lambda: "KV_MARKETPRISM_LANES" in streams(servers["HUB"]), "the records are in the hub")
