"""Data types of a pipeline's own over two shards: each row where its symbol belongs, proven, moved, and with a field that came later."""

from __future__ import annotations

import json
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.faults.harness import MARKETPRISM, World
from tests.replicated.conftest import Shards
from tests.waiting import wait_for

pytestmark = pytest.mark.timeout(300)

EXAMPLE = Path(__file__).parents[2] / "examples" / "own_types.yaml"
SYMBOLS = [f"S{number}-USDT" for number in range(20)]


def test_types_of_the_users_own_are_spread_by_symbol(sharded: World, shards: Shards) -> None:
    world = sharded
    own = {name: of for name, of in yaml.safe_load(EXAMPLE.read_text())["spec"]["dataTypes"].items() if name != "trade"}
    nodes = {**world.spec["clickhouse"], "url": ",".join((*shards.nodes, *shards.second))}
    nats = {**world.spec["nats"], "streams": {"default": "OWN"}}
    file = world.write_file("own", nats=nats, clickhouse=nodes, dataTypes=own)

    def said(*command: str) -> Any:
        given = [*MARKETPRISM, *command, "-f", str(file)]
        done = subprocess.run(given, capture_output=True, text=True, check=False, timeout=120)
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
        return json.loads(done.stdout.splitlines()[-1]) if "json" in command else None

    def send(number: int, **more: Any) -> None:
        now = int(time.time() * 1000) - 10_000
        for place, symbol in enumerate(SYMBOLS):
            at = {"ts_ms": now + place, "exchange": "okx", "market_type": "spot", "symbol": symbol}
            world.send(f"ticker.okx.spot.{symbol}", {**at, "bid": "1.5", "ask": "1.6", "update_id": number, **more})

    def rows(tier: str) -> int:
        """Those of both shards, as the table that is read has them."""
        return int(world.query(f"SELECT count() FROM `{tier}`.tickers")[0][0])

    def where(tier: str) -> tuple[int, int]:
        """Rows on a shard that is not their symbol's, and shards that have any."""
        ((astray, having),) = world.query(
            "SELECT countIf(halfMD5(symbol) % 2 != toUInt8(getMacro('shard')) - 1), uniqExact(getMacro('shard'))"
            f" FROM clusterAllReplicas('{shards.cluster}', `{tier}`.tickers_local)"
        )
        return astray, having

    said("schema", "apply")
    world.api("STREAM.CREATE.OWN", {"name": "OWN", "subjects": [f"{name}.>" for name in own]})
    ingest = world.ingest(file=file)
    ingest.until_ready()
    send(1)
    wait_for(lambda: rows(world.hot) == 20, "the rows")
    ingest.process.terminate()
    ingest.ended()

    own["ticker"]["fields"]["note"] = {"type": "Nullable(String)"}
    world.write_file("own", nats=nats, clickhouse=nodes, dataTypes=own)
    said("schema", "apply")
    ingest = world.ingest(file=file)
    ingest.until_ready()
    send(2, note="new")
    wait_for(lambda: rows(world.hot) == 40, "the rows with a note")
    assert where(world.hot) == (0, 2)
    found = "SELECT update_id, note, count() FROM {hot}.tickers GROUP BY update_id, note ORDER BY update_id"
    assert world.query(found) == [(1, None, 20), (2, "new", 20)]

    said("migrate", "--table", "tickers", "--older-than", "1s")
    assert (rows(world.hot), rows(world.settings.cold_db)) == (0, 40)
    assert where(world.settings.cold_db) == (0, 2)
    assert world.query("SELECT count(), sum(bid_price) FROM {hot}.all_tickers") == [(40, 60)]
    (ticker,) = [one for one in said("audit", "--deep", "--output", "json")["types"] if one["dataType"] == "ticker"]
    assert (ticker["held"], ticker["rows"], ticker["findings"]) == (40, 40, [])
