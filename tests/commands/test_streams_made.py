"""On a NATS that has nothing: whoever comes first makes the streams, with the subjects of the whole pipeline."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nats
import pytest

from marketprism_api.data_types import BUILT_IN
from marketprism_embedded import process
from tests.commands.command import call
from tests.waiting import free_port

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
    "MARKET_DATA": sorted(f"{name}.>" for name in BUILT_IN if name != "orderbook"),
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
    assert {name: subjects for name, subjects in streams(environ).items() if not name.startswith("KV_")} == ALL


@pytest.mark.parametrize("command", ["ensure", "apply"])
def test_who_makes_a_table_begins_its_lane_so_that_nobody_has_to_wait(
    environ: Environ, tmp_path: Path, command: str
) -> None:
    environ |= {"CLICKHOUSE_HOT_DB": f"hot_{command}", "CLICKHOUSE_COLD_DB": f"cold_{command}"}
    for stream in ALL.items():
        streams(environ, add=stream)
    path = file(tmp_path, "Never")
    assert call("feed", "--rate", "0", "--count", "200", environ=environ).returncode == 0
    done = call("schema", command, "-f", path, environ=environ)
    assert (done.returncode, done.stderr) == (0, "")
    told = json.loads(call("lanes", "show", "trade", "-f", path, "-o", "json", environ=environ).stdout)
    assert (told["record"]["done"], told["record"]["claims"]) == (0, [])
    # Tables that were there before are none of its business.
    was = told["key"], told["revision"]
    assert call("schema", command, "-f", path, environ=environ).returncode == 0
    told = json.loads(call("lanes", "show", "trade", "-f", path, "-o", "json", environ=environ).stdout)
    assert (told["key"], told["revision"]) == was
    began = time.monotonic()
    types = ("--consumer", "fast", "--until-idle", "0.1s", "--port", "0")
    ended = call("ingest", "-f", path, *types, environ=environ)
    assert ended.returncode == 0, ended.stderr
    assert time.monotonic() - began < 30
    assert "RecordInDoubt" not in ended.stderr


def test_a_record_that_can_not_be_written_is_a_warning(environ: Environ, tmp_path: Path) -> None:
    environ |= {"CLICKHOUSE_HOT_DB": "hot_alone", "CLICKHOUSE_COLD_DB": "cold_alone"}
    environ["MARKETPRISM_NATS_URL"] = f"nats://127.0.0.1:{free_port()}"
    done = call("schema", "apply", "-f", file(tmp_path), environ=environ)
    assert done.returncode == 0, done.stderr
    assert "the first consumer looks for rows for a minute" in done.stderr
    assert "MP3001" in done.stderr


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
