"""Cold on a server of its own: what looks into both tiers finds it there, from the policy beside the pipeline."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from marketprism_consumer.clickhouse import schema
from marketprism_consumer.clickhouse.client import ClickHouse
from marketprism_embedded import process
from tests.operations.cli import alone, cli_json
from tests.pipelines import Pipeline, trade

POLICY = """---
apiVersion: storage.marketprism.io/v1alpha1
kind: TieringPolicy
metadata: {name: test}
spec: {pipelineRef: {name: test}, every: 1h, cold: {url: URL}}
"""


@pytest.fixture
async def cold(pipeline: Pipeline, tmp_path: Path) -> AsyncIterator[ClickHouse]:
    with process.start("clickhouse", tmp_path / "cold") as server:
        pipeline.file.write_text(pipeline.file.read_text() + POLICY.replace("URL", server.url))
        there = ClickHouse([server.url])
        await schema.apply(there, replace(pipeline.settings, clickhouse_urls=(server.url,)))
        yield there
        await there.close()


async def test_the_proof_and_a_replay_look_into_both_servers(pipeline: Pipeline, cold: ClickHouse) -> None:
    for number in range(10):
        await pipeline.send("trade.okx.spot.BTC-USDT", msgspec.json.encode(trade(trade_id=str(number))))
    await pipeline.ingest()
    code, text = await alone(pipeline, "migrate", "--table", "trades", "--older-than", "1ms")
    assert code == 0, text
    assert (await pipeline.count("trades"), await pipeline.count("trades", "cold")) == (0, 0)
    assert await cold.query(f"SELECT count() FROM {pipeline.cold}.trades") == [(10,)]

    assert (await cli_json(pipeline, "audit", "--deep"))[0] == 0
    _, told = await cli_json(pipeline, "status")
    assert next(one for one in told["types"] if one["dataType"] == "trade")["cold"]["rows"] == 10

    await cold.command(f"ALTER TABLE {pipeline.cold}.trades DELETE WHERE _seq IN (3, 4)", {"mutations_sync": 2})
    code, told = await cli_json(pipeline, "audit", "--type", "trade")
    assert (code, told["types"][0]["findings"]) == (1, ["missing 2: 3..4"])
    code, told = await cli_json(pipeline, "replay", "--type", "trade", "--from-seq", "1")
    assert (told["tables"]["trades"]["stored"], told["tables"]["trades"]["storedBefore"]) == (2, 8)
    assert (await cli_json(pipeline, "audit", "--deep"))[0] == 0
