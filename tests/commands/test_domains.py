"""A leaf node with a JetStream of its own, and a hub that holds the streams: each in its domain."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import nats
import pytest

from marketprism_api.settings import effective
from marketprism_consumer.errors import DomainUnnamedError
from marketprism_consumer.jetstream.broker import NatsBroker
from marketprism_consumer.jetstream.client import connect
from marketprism_consumer.jetstream.streams import create_missing
from marketprism_embedded import process
from tests.commands.command import call
from tests.faults.harness import NatsByHand
from tests.pipelines import trade
from tests.waiting import free_port, wait_for

PAGE = Path(__file__).parents[2] / "docs" / "howto" / "streams.md"
OWNER = '{user: owner, password: "o"}'
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
    with connected(tmp_path, "hub", "leaf") as environ:
        yield environ


@contextmanager
def connected(place: Path, hub_domain: str, leaf_domain: str) -> Iterator[dict[str, str]]:
    """To the leaf; the hub has three trades. A domain that is empty is not configured."""
    leaves = free_port()

    def jetstream(name: str, domain: str, leafnodes: str) -> str:
        in_domain = f"domain: {domain}, " if domain else ""
        return f'jetstream {{{in_domain}store_dir: "{place}/{name}/js"}}\nleafnodes {{{leafnodes}}}'

    to_hub = f'remotes: [{{url: "nats://127.0.0.1:{leaves}"}}]'
    hub = NatsByHand(place / "hub", lambda: jetstream("hub", hub_domain, f"listen: 127.0.0.1:{leaves}"))
    leaf = NatsByHand(place / "leaf", lambda: jetstream("leaf", leaf_domain, to_hub))
    try:
        asyncio.run(_fill(hub.url))
        wait_for(lambda: asyncio.run(_leaf_nodes(leaf.url)) == 1, "the leaf is connected to its hub")
        with process.start("clickhouse", place / "clickhouse") as clickhouse:
            yield {"MARKETPRISM_NATS_URL": leaf.url, "CLICKHOUSE_HTTP_URL": clickhouse.url, "HUB": hub.url}
    finally:
        for one in (hub, leaf):
            with suppress(ProcessLookupError):
                one.kill()


async def _leaf_nodes(url: str) -> int:
    client = await connect(url, wait=5)
    found = await NatsBroker(client).leaf_nodes()
    await client.close()
    return found


async def _fill(url: str, bad: int = 0) -> None:
    connection: Any = await nats.connect(url)
    js = connection.jetstream()
    await js.add_stream(name="MARKET_DATA", subjects=["trade.>"])
    for number in range(3):
        await js.publish("trade.binance_spot.spot.BTC-USDT", json.dumps(trade(trade_id=str(number))).encode())
    for _ in range(bad):
        await js.publish("trade.binance_spot.spot.BTC-USDT", b"{bad")
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


@pytest.mark.parametrize("hub_domain", ["hub", ""])
def test_a_leaf_without_a_domain_makes_none_either(tmp_path: Path, hub_domain: str) -> None:
    with connected(tmp_path, hub_domain, "") as environ:
        done = call("schema", "ensure", "-f", file(tmp_path), environ=environ)
        assert done.returncode != 0
        assert "which is connected to leaf nodes" in done.stderr
        assert streams(environ["MARKETPRISM_NATS_URL"]) == []
        done = call("audit", "-f", file(tmp_path), environ=environ)
        assert done.returncode != 0
        assert "NOT PROVEN" in done.stdout
        # Whoever wants it here says so.
        done = call("schema", "ensure", "-f", file(tmp_path, ", apiPrefix: $JS.API"), environ=environ)
        assert done.returncode == 0, done.stderr
        assert "MARKET_DATA" in streams(environ["MARKETPRISM_NATS_URL"])


async def test_where_it_cannot_be_told_whether_there_are_leaf_nodes_none_is_made(tmp_path: Path) -> None:
    server = NatsByHand(
        tmp_path / "nats",
        lambda: (
            f"""
            jetstream {{store_dir: "{tmp_path}/nats/js"}}
            authorization {{users: [{{user: u, password: p, permissions: {{publish: {{deny: ["$SYS.>"]}}}}}}]}}
        """
        ),
    )
    client = await connect(server.url.replace("//", "//u:p@"), wait=5)
    try:
        with pytest.raises(DomainUnnamedError, match=r"does not tell whether there are leaf nodes \(\$SYS.REQ.ACCOUNT"):
            await create_missing(client.jetstream(), NatsBroker(client), effective(None, {}))
    finally:
        await client.close()
        server.kill()


@pytest.mark.parametrize(
    "named", [pytest.param(", domain: hub", marks=pytest.mark.every_nats), ", apiPrefix: $JS.hub.API"]
)
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


@pytest.mark.parametrize("by_option", [True, False])
def test_the_feed_makes_its_streams_in_the_domain(servers: dict[str, str], by_option: bool) -> None:
    option = ["--domain", "hub"] if by_option else []
    environ = servers | ({} if by_option else {"MARKETPRISM_NATS_DOMAIN": "hub"})
    done = call(
        "feed", *option, "--count", "8", "--types", "funding_rate", "--streams", "funding_rate=RATES", environ=environ
    )
    assert done.returncode == 0, done.stderr
    assert streams(servers["MARKETPRISM_NATS_URL"]) == []
    assert set(streams(servers["HUB"])) == {"MARKET_DATA", "RATES"}


@pytest.mark.every_nats
def test_another_accounts_streams_are_read_as_the_page_says(tmp_path: Path) -> None:
    """Records and dead letters go there as well."""
    block = re.search(r"```\n(accounts \{.*?)```", PAGE.read_text(), re.DOTALL)
    assert block
    accounts = block[1].replace('"$STORAGE_PASSWORD"', '"s"').replace("MARKET {", f"MARKET {{ users: [{OWNER}],", 1)
    server = NatsByHand(tmp_path / "nats", lambda: f'{accounts}\njetstream {{store_dir: "{tmp_path}/nats/js"}}')
    owner, storage = (server.url.replace("//", f"//{login}@") for login in ("owner:o", "storage:s"))
    asyncio.run(_fill(owner, bad=1))
    try:
        with process.start("clickhouse", tmp_path / "clickhouse") as clickhouse:
            environ = {"MARKETPRISM_NATS_URL": storage, "CLICKHOUSE_HTTP_URL": clickhouse.url}
            path = file(tmp_path, ", apiPrefix: JS.market}\n  deadLetters: {maxRatio: '1'")
            for command in (["schema", "ensure"], ["ingest", "--until-idle", "1s", "--port", "0"]):
                done = call(*command, "-f", path, environ=environ)
                assert done.returncode == 0, done.stderr
            report = json.loads(call("audit", "-f", path, "-o", "json", environ=environ).stdout)
            assert report["holds"]
            assert [(each["held"], each["rows"], each["deadLetters"]) for each in report["types"]] == [(4, 3, 1)]
            assert set(streams(owner)) == {"MARKET_DATA", "KV_MARKETPRISM_LANES", "MARKETPRISM_DLQ"}
    finally:
        with suppress(ProcessLookupError):
            server.kill()
