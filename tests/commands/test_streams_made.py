"""On a NATS that has nothing: whoever comes first makes the streams, with the subjects of the whole pipeline."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nats
import pytest

from marketprism_api.data_types import DataType
from marketprism_embedded import process
from tests.commands.command import call

Environ = dict[str, str]

PIPELINE = """\
apiVersion: storage.marketprism.io/v1alpha1
kind: StoragePipeline
metadata: {{name: main}}
spec:
  nats: {{streams: {{default: MARKET_DATA, orderbook: ORDERBOOK_SNAP}}, ensureStreams: {ensure}}}
  consumers:
    fast: {{dataTypes: [trade, orderbook]}}
    slow:
      dataTypes: [funding_rate, open_interest, liquidation, lsr_top_position, lsr_all_account, volatility_index]
"""
ALL = {
    "MARKET_DATA": sorted(f"{name}.>" for name in DataType if name != "orderbook"),
    "ORDERBOOK_SNAP": ["orderbook.>"],
}


@pytest.fixture(scope="module")
def clickhouse(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with process.start("clickhouse", tmp_path_factory.mktemp("clickhouse")) as server:
        yield server.url


@pytest.fixture
def environ(tmp_path: Path, clickhouse: str) -> Iterator[Environ]:
    with process.start("nats", tmp_path / "nats") as server:
        yield {"MARKETPRISM_NATS_URL": server.url, "CLICKHOUSE_HTTP_URL": clickhouse}


def file(place: Path, ensure: str = "IfMissing") -> str:
    path = place / "pipeline.yaml"
    path.write_text(PIPELINE.format(ensure=ensure))
    return str(path)


def streams(environ: Environ, add: tuple[str, list[str]] | None = None) -> dict[str, list[str]]:
    """The subjects of each stream, after `add` was made by hand."""

    async def look() -> dict[str, list[str]]:
        connection: Any = await nats.connect(environ["MARKETPRISM_NATS_URL"])
        js = connection.jetstream()
        if add:
            await js.add_stream(name=add[0], subjects=add[1])
        found = {one.config.name: sorted(one.config.subjects) for one in await js.streams_info()}
        await connection.close()
        return found

    return asyncio.run(look())


def test_the_schema_job_makes_them(environ: Environ, tmp_path: Path) -> None:
    done = call("schema", "ensure", "-f", file(tmp_path), environ=environ)
    assert done.returncode == 0, done.stderr
    assert streams(environ) == ALL


@pytest.mark.parametrize("first", ["fast", "slow"])
def test_a_consumer_that_comes_first_makes_them_for_the_others(environ: Environ, tmp_path: Path, first: str) -> None:
    path = file(tmp_path)
    assert call("schema", "apply", "-f", path, environ=environ).returncode == 0
    for consumer in (first, "slow" if first == "fast" else "fast"):
        done = call(
            "ingest", "-f", path, "--consumer", consumer, "--until-idle", "0.1s", "--port", "0", environ=environ
        )
        assert done.returncode == 0, done.stderr
        assert streams(environ).items() >= ALL.items()


def test_what_another_stream_holds_is_left_there(environ: Environ, tmp_path: Path) -> None:
    streams(environ, add=("THEIRS", ["trade.>"]))
    assert call("schema", "ensure", "-f", file(tmp_path), environ=environ).returncode == 0
    rest = [subject for subject in ALL["MARKET_DATA"] if subject != "trade.>"]
    assert streams(environ) == {**ALL, "MARKET_DATA": rest, "THEIRS": ["trade.>"]}


def test_a_stream_that_lacks_a_subject_is_named_and_not_altered(environ: Environ, tmp_path: Path) -> None:
    streams(environ, add=("MARKET_DATA", ["trade.>"]))
    refused = call("schema", "ensure", "-f", file(tmp_path), environ=environ)
    assert refused.returncode == 1
    assert "MP3003 StreamMissing: stream MARKET_DATA exists and does not hold funding_rate.>" in refused.stderr
    assert streams(environ)["MARKET_DATA"] == ["trade.>"]


def test_none_is_made_where_the_pipeline_says_so(environ: Environ, tmp_path: Path) -> None:
    assert call("schema", "ensure", "-f", file(tmp_path, "Never"), environ=environ).returncode == 0
    assert streams(environ) == {}
