"""`marketprism check`: a healthy pipeline is all ok; each thing that is broken has its line, and what to do."""

from __future__ import annotations

from typing import Any

import pytest

from marketprism_consumer.ingest.broker import Durable
from marketprism_consumer.operations.check import (
    Level,
    judge_clock,
    judge_disk,
    judge_durable,
    judge_parts,
    judge_stream,
)
from tests.operations.cli import cli, cli_json
from tests.pipelines import Pipeline
from tests.waiting import free_port

DURABLE = Durable("S", "d", "trade.>", 60.0)
CONFIG = {
    "ack_policy": "explicit",
    "ack_wait": 60_000_000_000,
    "max_deliver": -1,
    "max_ack_pending": -1,
    "filter_subject": "trade.>",
}
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
    assert sum(line["what"].startswith("consumer of") for line in told["lines"]) == 3
    code, text = await cli(pipeline, "check")
    assert code == max(Level[line["level"].upper()] for line in told["lines"])
    assert "ClickHouse" in text


async def test_what_is_broken_is_told_with_what_to_do(pipeline: Pipeline) -> None:
    js = pipeline.client.jetstream()
    await pipeline.send("trade.okx_spot.spot.BTC-USDT", b"{")
    await pipeline.ingest()
    await js.delete_stream("ORDERBOOK_SNAP")
    durable = pipeline.settings.data_types["lsr_top_position"].durable  # type: ignore[index]
    await js.delete_consumer("MARKET_DATA", durable)
    config = {"durable_name": durable, "ack_policy": "none", "filter_subject": "lsr_top_position.>"}
    await pipeline.broker.api(
        f"CONSUMER.DURABLE.CREATE.MARKET_DATA.{durable}", {"stream_name": "MARKET_DATA", "config": config}
    )
    await pipeline.change("ALTER TABLE {hot}.trades MODIFY SETTING non_replicated_deduplication_window = 0")
    await pipeline.change("ALTER TABLE {hot}.lsr_top_positions DROP COLUMN period")
    await pipeline.change("DROP TABLE {cold}.orderbooks")
    code, told = await cli_json(pipeline, "check")
    assert (code, told["worst"]) == (1, "wrong")
    found = bad(told)
    assert (found["stream of orderbook"]["level"], found["dead letters"]["level"]) == ("warning", "warning")
    assert "dlq list" in found["dead letters"]["todo"]
    assert (found["consumer of lsr_top_position"]["level"], found["consumer of lsr_top_position"]["code"]) == (
        "wrong",
        "MP3005",
    )
    assert (found["deduplication"]["level"], found["deduplication"]["code"]) == ("wrong", "MP5003")
    schema = [line["found"] for line in told["lines"] if line["what"] == "schema"]
    assert any("lsr_top_positions" in one for one in schema)
    assert any("orderbooks" in one for one in schema)


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


@pytest.mark.parametrize(
    ("change", "level"),
    [({}, Level.OK), ({"ack_wait": 1}, Level.WARNING), ({"ack_policy": "none"}, Level.WRONG)],
    ids=["as it should be", "corrected at a start", "can't be changed"],
)
def test_a_consumer(change: dict[str, Any], level: Level) -> None:
    info = {"config": CONFIG | change, "num_pending": 1, "num_ack_pending": 0}
    assert judge_durable("consumer", DURABLE, info).level is level


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"retention": "workqueue"}, "retention is workqueue"),
        ({"storage": "memory"}, "storage is memory"),
        ({"duplicate_window": 0}, "Nats-Msg-Id for 0 s"),
        ({"max_age": 600_000_000_000}, "forgets after 600 s"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_stream(change: dict[str, Any], told: str) -> None:
    assert [line.level for line in judge_stream("S", STREAM)] == [Level.OK]
    (line,) = judge_stream("S", STREAM | change)
    assert (line.level, told in line.found) == (Level.WARNING, True)


def test_clocks_parts_and_disks() -> None:
    assert [judge_clock("c", seconds).level for seconds in (0.5, -0.5, 3.0, -3.0)] == [0, 0, 1, 1]
    assert "behind" in judge_clock("c", -3.0).found
    parts = [judge_parts([("hot.trades", "p", count)], 1000)[0].level for count in (10, 500, 1000)]
    assert parts == [Level.OK, Level.WARNING, Level.WRONG]
    assert judge_parts([], 1000)[0].level is Level.OK
    assert [judge_disk("d", free, 100).level for free in (50, 10, 2)] == [Level.OK, Level.WARNING, Level.WRONG]
