"""The demo proves what it says, and its proof fails when a single value is wrong."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from marketprism_api.load import load_pipeline
from marketprism_api.settings import effective
from marketprism_consumer.demo.recording import PIPELINE, DemoOptions, Recording
from marketprism_consumer.schema.tables import TABLES
from marketprism_embedded import process
from tests.waiting import PATIENCE

NOW = {"mutations_sync": 2}


def test_the_demo_kills_its_consumer_and_still_proves_every_row() -> None:
    shown = subprocess.run(
        [sys.executable, "-m", "marketprism_consumer.cli", "demo", "--seconds", "4", "--rate", "1500", "--output", "json"],
        capture_output=True, text=True, timeout=2 * PATIENCE,
    )  # fmt: skip
    assert shown.returncode == 0, shown.stdout + shown.stderr
    result = json.loads(shown.stdout)
    assert result["holds"]
    assert result["proof"]["acknowledged"] == result["proof"]["rows"] + result["proof"]["deadLetters"] > 5000
    assert all(table["rows"] > 0 for table in result["tables"]), "not every data type was stored"
    assert len(result["tables"]) == len(TABLES)
    assert any("kill -9" in event for event in result["events"])


@pytest.fixture
async def recorded(tmp_path: Path) -> AsyncIterator[Recording]:
    with (
        process.start("nats", tmp_path / "nats") as nats,
        process.start("clickhouse", tmp_path / "clickhouse") as clickhouse,
    ):
        file = tmp_path / "pipeline.yaml"
        file.write_text(PIPELINE)
        environ = {**os.environ, "MARKETPRISM_NATS_URL": nats.url, "CLICKHOUSE_HTTP_URL": clickhouse.url}
        options = DemoOptions(seconds=2, rate=500, seed=11, chaos=False)
        async with Recording(options, effective(load_pipeline(file), environ), environ, tmp_path) as recording:
            await recording.run()
            yield recording


async def test_the_proof_finds_a_row_that_was_removed_doubled_or_altered(recorded: Recording) -> None:
    assert (await recorded.prove()).holds
    tables = {table.name: recorded.store.table(table) for table in TABLES}
    trades, books = tables["trades"], tables["orderbooks"]
    first, second, third = (
        row[0] for row in await recorded.store.clickhouse.query(f"SELECT _seq FROM {trades} ORDER BY _seq LIMIT 3")
    )

    await recorded.store.clickhouse.command(f"ALTER TABLE {trades} DELETE WHERE _seq = {first}", settings=NOW)
    assert (await recorded.prove()).missing == 1

    await recorded.store.clickhouse.command(f"INSERT INTO {trades} SELECT * FROM {trades} WHERE _seq = {second}")
    assert (await recorded.prove()).double == 1

    await recorded.store.clickhouse.command(
        f"ALTER TABLE {trades} UPDATE price = price + toDecimal128('0.000000000000000001', 18) WHERE _seq = {third}",
        settings=NOW,
    )
    await recorded.store.clickhouse.command(
        f"ALTER TABLE {books} UPDATE bid_quantities = arrayReverse(bid_quantities)"
        f" WHERE _seq = (SELECT min(_seq) FROM {books} WHERE length(bid_quantities) > 1)",
        settings=NOW,
    )
    proof = await recorded.prove()
    assert (proof.missing, proof.double, proof.altered) == (1, 1, 2)
    assert not proof.holds
    assert any("price: published" in example for example in proof.examples)
