"""The page of least rights, with exactly the account that it has: all of the work is done, and a missing right is named."""

from __future__ import annotations

import asyncio
import json
import re
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

PAGE = Path(__file__).parents[2] / "docs" / "howto" / "nats-permissions.md"
PIPELINE = """\
apiVersion: storage.marketprism.io/v1alpha1
kind: StoragePipeline
metadata: {name: main}
spec:
  nats: {streams: {default: MARKET_DATA}, ensureStreams: Never}
  deadLetters: {maxRatio: "1"}
  dataTypes: {trade: {batch: {maxRows: 1, maxDelay: 100ms}}}
"""
OWNER = '{user: owner, password: "o"}'


def account(without: str = "") -> str:
    """The page's, with a user beside it who owns the streams."""
    block = re.search(r"```\n(accounts \{.*?)```", PAGE.read_text(), re.DOTALL)
    assert block
    text = block[1].replace('"$STORAGE_PASSWORD"', '"s"').replace("users: [", f"users: [ {OWNER}", 1)
    assert without in text
    return "\n".join(line for line in text.splitlines() if not without or without not in line)


@pytest.fixture
def environ(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[dict[str, str]]:
    server = NatsByHand(tmp_path / "nats", lambda: account(getattr(request, "param", "")))
    asyncio.run(_fill(server.url))
    with process.start("clickhouse", tmp_path / "clickhouse") as clickhouse:
        yield {
            "MARKETPRISM_NATS_URL": server.url, "CLICKHOUSE_HTTP_URL": clickhouse.url,
            "NATS_USER": "storage", "NATS_PASSWORD": "s",
        }  # fmt: skip
    with suppress(ProcessLookupError):
        server.kill()


async def _fill(url: str) -> None:
    connection: Any = await nats.connect(url, user="owner", password="o")
    js = connection.jetstream()
    await js.add_stream(name="MARKET_DATA", subjects=["trade.>"])
    await js.publish("trade.binance_spot.spot.BTC-USDT", json.dumps(trade()).encode())
    await js.publish("trade.binance_spot.spot.BTC-USDT", b"no trade")
    await connection.close()


def file(place: Path) -> str:
    path = place / "pipeline.yaml"
    path.write_text(PIPELINE)
    return str(path)


def test_with_these_rights_all_of_it_works(environ: dict[str, str], tmp_path: Path) -> None:
    path = file(tmp_path)
    done = call("schema", "apply", "-f", path, environ=environ)
    assert done.returncode == 0, done.stderr
    done = call("ingest", "-f", path, "--until-idle", "1s", "--port", "0", environ=environ)
    assert (done.returncode, "permissions violation" in done.stderr.lower()) == (0, False), done.stderr
    lanes = json.loads(call("lanes", "list", "-f", path, "-o", "json", environ=environ).stdout)["lanes"]
    assert [(each["dataType"], each["done"], each["lag"]) for each in lanes] == [("trade", 2, 0)]
    checked = call("check", "-f", path, environ=environ)
    assert "permissions violation" not in (checked.stdout + checked.stderr).lower()


@pytest.mark.parametrize("environ", ["$KV.MARKETPRISM_LANES.>"], indirect=True)
def test_a_right_that_is_missing_is_named(environ: dict[str, str], tmp_path: Path) -> None:
    path = file(tmp_path)
    call("schema", "apply", "-f", path, environ=environ)
    checked = call("check", "-f", path, environ=environ)
    assert checked.returncode != 0
    assert "the account needs to publish to $KV.MARKETPRISM_LANES.>" in " ".join(checked.stdout.split())
