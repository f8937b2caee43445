"""`marketprism check`: a healthy pipeline is all ok; each thing that is broken has its line, and what to do."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest

from marketprism_api.credentials import NatsAuth
from marketprism_consumer.ingest.lane_id import LaneId
from marketprism_consumer.ingest.record import Claim, Record
from marketprism_consumer.jetstream.client import connect
from marketprism_consumer.jetstream.records import NatsRecords
from marketprism_consumer.operations.check import (
    Level,
    judge_bucket,
    judge_clock,
    judge_disk,
    judge_lane,
    judge_parts,
    judge_stream,
)
from marketprism_consumer.operations.lanes import FoundLane
from marketprism_embedded import nats as embedded_nats
from tests.operations.cli import cli, cli_json
from tests.pipelines import Pipeline
from tests.waiting import PATIENCE, free_port

BUCKET = {"retention": "limits", "storage": "file", "discard": "new", "max_msgs_per_subject": 1, "num_replicas": 3}
ID = LaneId("trade", "S", "2026-01-01T00:00:00Z", "trade.>", "t")
STREAM = {"retention": "limits", "storage": "file", "duplicate_window": 120_000_000_000, "max_age": 0}


def bad(told: dict[str, Any]) -> dict[str, dict[str, str]]:
    return {
        line["what"]: line for line in told["lines"] if line["level"] != "ok" and not line["what"].startswith("disk")
    }


async def test_a_healthy_pipeline_is_ok_before_and_after_its_first_start(pipeline: Pipeline) -> None:
    for _ in range(2):
        _, told = await cli_json(pipeline, "check")
        assert bad(told) == {}
        await pipeline.ingest()
    assert {"nats", "clickhouse", "schema", "rights", "parts", "dead letters", "clickhouse clock", "nats clock"} <= {
        line["what"] for line in told["lines"]
    }
    assert sum(line["what"].startswith("lane of") for line in told["lines"]) == 3
    assert sum(line["what"].startswith("bucket") for line in told["lines"]) == 1
    assert [key for key in await pipeline.records.keys() if key.startswith("check")] == ["check"], "one, however often"
    code, text = await cli(pipeline, "check")
    assert code == max(Level[line["level"].upper()] for line in told["lines"])
    assert "ClickHouse" in text


async def test_what_is_broken_is_told_with_what_to_do(pipeline: Pipeline) -> None:
    js = pipeline.client.jetstream()
    await pipeline.send("trade.okx_spot.spot.BTC-USDT", b"{")
    await pipeline.ingest()
    await js.delete_stream("ORDERBOOK_SNAP")
    lane = await pipeline.lane("lsr_top_position")
    await pipeline.records.write(lane.key, b"{}", lane.revision)
    await pipeline.change("ALTER TABLE {hot}.trades MODIFY SETTING non_replicated_deduplication_window = 0")
    await pipeline.change("ALTER TABLE {hot}.lsr_top_positions DROP COLUMN period")
    await pipeline.change("DROP TABLE {cold}.orderbooks")
    code, told = await cli_json(pipeline, "check")
    assert (code, told["worst"]) == (1, "wrong")
    found = bad(told)
    assert (found["stream of orderbook"]["level"], found["dead letters"]["level"]) == ("warning", "warning")
    assert "dlq list" in found["dead letters"]["todo"]
    record = found["lane of lsr_top_position"]
    assert (record["level"], record["code"], "not a lane's record" in record["found"]) == ("wrong", "MP3010", True)
    assert (found["deduplication"]["level"], found["deduplication"]["code"]) == ("wrong", "MP5003")
    schema = [line["found"] for line in told["lines"] if line["what"] == "schema"]
    assert any("lsr_top_positions" in one for one in schema)
    assert any("orderbooks" in one for one in schema)


async def test_what_a_server_may_lose_of_what_it_has_acknowledged_is_told(pipeline: Pipeline) -> None:
    config = (await pipeline.broker.api("STREAM.INFO.ORDERBOOK_SNAP", {}))["config"]
    await pipeline.broker.api("STREAM.DELETE.ORDERBOOK_SNAP", None)
    await pipeline.broker.api("STREAM.CREATE.ORDERBOOK_SNAP", {**config, "persist_mode": "async"})
    _, told = await cli_json(pipeline, "check")
    line = bad(told)["stream ORDERBOOK_SNAP"]
    assert (line["level"], line["found"]) == ("warning", "its persist_mode is async")
    assert "gone when it is killed" in line["todo"]
    (sync,) = [line["found"] for line in told["lines"] if line["what"] == "nats sync"]
    assert "unless that is `always`, a power cut can take" in sync


async def test_what_does_not_answer_is_wrong_and_the_rest_is_looked_at(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLICKHOUSE_HTTP_URL", f"http://me:secret-word@127.0.0.1:{free_port()}")
    code, text = await cli(pipeline, "check")
    assert (code, "MP4001" in text, "secret-word" in text) == (4, True, False)
    assert "nats-server" in text
    monkeypatch.setenv("CLICKHOUSE_HTTP_URL", pipeline.environ["CLICKHOUSE_HTTP_URL"])
    monkeypatch.setenv("MARKETPRISM_NATS_URL", f"nats://127.0.0.1:{free_port()}")
    code, told = await cli_json(pipeline, "check")
    assert code == 4
    assert {line["what"]: line["code"] for line in told["lines"] if line["level"] == "wrong"} == {"nats": "MP3001"}
    assert "schema" in {line["what"] for line in told["lines"]}


async def test_a_bucket_that_may_not_be_written_is_told_with_the_right_that_is_missing(
    pipeline: Pipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = free_port()
    (tmp_path / "nats.conf").write_text(
        f'port: {port}\nhost: 127.0.0.1\njetstream: {{store_dir: "{tmp_path}"}}\n'
        'authorization: {users: [{user: u, password: p, permissions: {publish: {deny: "$KV.>"}}}]}'
    )
    server = subprocess.Popen([embedded_nats.binary(), "-c", str(tmp_path / "nats.conf")], stderr=subprocess.DEVNULL)
    try:
        url = f"nats://127.0.0.1:{port}"
        client = await connect(url, lambda: NatsAuth(user="u", password="p"), wait=PATIENCE)
        await NatsRecords(client, pipeline.settings.bucket).ensure(1)
        await client.close()
        for variable, value in (("MARKETPRISM_NATS_URL", url), ("NATS_USER", "u"), ("NATS_PASSWORD", "p")):
            monkeypatch.setenv(variable, value)
        _, told = await cli_json(pipeline, "check")
    finally:
        server.terminate()
        server.wait()
    line = bad(told)[f"bucket {pipeline.settings.bucket}"]
    assert (line["level"], line["code"], "publish to $KV." in line["found"]) == ("wrong", "MP3010", True)


@pytest.mark.parametrize(
    ("change", "level", "told"),
    [
        ({}, Level.OK, "replicas 3"),
        ({"num_replicas": 1}, Level.WARNING, "1 replicas, TRADES has 3"),
        ({"max_msgs_per_subject": -1}, Level.WARNING, "every value"),
        ({"max_bytes": 1 << 20}, Level.WARNING, "max_bytes"),
        ({"max_bytes": 1 << 20, "discard": "old"}, Level.WRONG, "forgets records"),
        ({"max_age": 600_000_000_000}, Level.WRONG, "after 600 s"),
        ({"storage": "memory"}, Level.WRONG, "memory"),
        ({"persist_mode": "async"}, Level.WRONG, "killed forgets records"),
        ({"retention": "interest"}, Level.WRONG, "interest"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_bucket(change: dict[str, Any], level: Level, told: str) -> None:
    (line,) = judge_bucket("bucket", BUCKET | change, "TRADES", 3)
    assert (line.level, told in line.found) == (level, True)


@pytest.mark.parametrize(
    ("owner", "heard", "level", "told"),
    [("me", True, Level.OK, "read by me"), ("me", False, Level.WARNING, "not heard"), ("", False, Level.OK, "nobody")],
)
def test_a_lane(owner: str, heard: bool, level: Level, told: str) -> None:
    record = Record("S", ID.created, "trade.>", "t", done=7, claims=(Claim("c", 7, None, 7, owner),))
    line = judge_lane(FoundLane("trade", "S", ID, 1, record), heard=heard)
    assert (line.level, told in line.found, "done to 7" in line.found) == (level, True, True)
    assert judge_lane(FoundLane("trade", "S", ID), heard=False).level is Level.OK


@pytest.mark.parametrize(
    ("change", "level", "told"),
    [
        ({"retention": "workqueue"}, Level.WRONG, "retention is workqueue"),
        ({"storage": "memory"}, Level.WARNING, "storage is memory"),
        ({"persist_mode": "async"}, Level.WARNING, "persist_mode is async"),
        ({"duplicate_window": 0}, Level.WARNING, "Nats-Msg-Id for 0 s"),
        ({"max_age": 600_000_000_000}, Level.WARNING, "forgets after 600 s"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_stream(change: dict[str, Any], level: Level, told: str) -> None:
    assert [line.level for line in judge_stream("S", STREAM)] == [Level.OK]
    (line,) = judge_stream("S", STREAM | change)
    assert (line.level, told in line.found) == (level, True)


def test_clocks_parts_and_disks() -> None:
    assert [judge_clock("c", seconds).level for seconds in (0.5, -0.5, 3.0, -3.0)] == [0, 0, 1, 1]
    assert "behind" in judge_clock("c", -3.0).found
    parts = [judge_parts([("hot.trades", "p", count)], 1000)[0].level for count in (10, 500, 1000)]
    assert parts == [Level.OK, Level.WARNING, Level.WRONG]
    assert judge_parts([], 1000)[0].level is Level.OK
    assert [judge_disk("d", free, 100).level for free in (50, 10, 2)] == [Level.OK, Level.WARNING, Level.WRONG]
