"""Data types of the user's own, from their YAML to rows, dead letters, proof, cold tier and verdict: `examples/own_types.yaml`."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import yaml
from nats.js.errors import NotFoundError

from marketprism_api.load import load_pipeline
from marketprism_api.settings import effective
from marketprism_consumer.clickhouse import schema
from marketprism_consumer.jetstream.streams import create_missing
from tests.operations.cli import alone, cli, cli_json
from tests.pipelines import Pipeline

EXAMPLE = Path(__file__).parents[2] / "examples" / "own_types.yaml"
STREAM = "OWN"
PLACE = {"exchange": "okx", "market_type": "options", "symbol": "BTC"}


async def declare(pipeline: Pipeline, **fields_of_ticker: Any) -> None:
    """The example's types on this test's servers; `fields_of_ticker` beside its own."""
    given = yaml.safe_load(EXAMPLE.read_text())
    given["spec"] = {
        "nats": {"streams": {"default": STREAM}},
        "deadLetters": {"stream": f"{STREAM}_DLQ", "maxRatio": "1"},
        "dataTypes": {name: of for name, of in given["spec"]["dataTypes"].items() if name != "trade"},
    }
    for of in given["spec"]["dataTypes"].values():
        of["batch"] = {"maxRows": 500, "maxDelay": "100ms"}
    given["spec"]["dataTypes"]["ticker"]["fields"] |= fields_of_ticker
    pipeline.file.write_text(yaml.safe_dump(given))
    pipeline.settings = effective(load_pipeline(pipeline.file), pipeline.environ)
    left = await schema.apply(pipeline.clickhouse, pipeline.settings)
    assert left.fits


@pytest.fixture
async def own(pipeline: Pipeline) -> AsyncIterator[Pipeline]:
    await declare(pipeline)
    await create_missing(pipeline.client.jetstream(), pipeline.broker, pipeline.settings)
    await pipeline.begin()
    yield pipeline
    for stream in (STREAM, f"{STREAM}_DLQ"):
        with suppress(NotFoundError):
            await pipeline.client.jetstream().delete_stream(stream)


def kline(minute: int, **of_k: Any) -> bytes:
    k = {
        "t": minute,
        "T": minute + 59_999,
        "i": "1m",
        "o": "1.10",
        "h": "2",
        "l": "1",
        "c": "1.5",
        "v": "0",
        "n": 3,
        "x": True,
    }
    return json.dumps({"e": "kline", "s": "BTCUSDT", "k": {**k, **of_k}}).encode()


def ticker(at: int, number: int, **fields: Any) -> bytes:
    return json.dumps({**PLACE, "ts_ms": at, "b": "1.1", "ask": 1.2, "update_id": number, **fields}).encode()


def greek(at: int, **fields: Any) -> bytes:
    said = {
        "strike": 60000,
        "expiry": "2027-01-01T00:00:00Z",
        "type": "P",
        "delta": -0.25,
        "gamma": "1e-6",
        "underlyings": ["A", "Ü"],
    }
    return json.dumps({**PLACE, "timestamp": at, **said, **fields}).encode()


async def test_types_of_the_users_own_are_stored_proven_moved_and_judged(own: Pipeline) -> None:
    long_ago = int(time.time() // 60 - 600) * 60_000
    for number in range(50):
        await own.send("kline.binance.spot.BTCUSDT", kline(long_ago + number * 60_000))
        await own.send(
            "ticker.okx.options.BTC", ticker(long_ago + number, number, last=None if number % 10 else "1.15")
        )
        await own.send("option_greek.okx.BTC", greek(long_ago + number, iv=None if number == 7 else "0.55"))
    for bad in (kline(long_ago, i="7m"), b"{", greek(long_ago, type="X")):
        await own.send("option_greek.okx.BTC" if b"strike" in bad else "kline.binance.spot.BTCUSDT", bad)
    await own.ingest()

    tables = ("klines", "tickers", "option_greeks")
    assert [await own.count(table) for table in tables] == [50, 50, 50]
    (row,) = await own.clickhouse.query(
        f"SELECT exchange, market_type, symbol, interval, toString(open), closed, toUnixTimestamp64Milli(close_time)"
        f" FROM {own.hot}.klines ORDER BY timestamp LIMIT 1"
    )
    assert row == ("binance", "spot", "BTCUSDT", "1m", "1.1", True, long_ago + 59_999)
    (row,) = await own.clickhouse.query(
        f"SELECT kind, delta, gamma, toString(expiry), underlyings FROM {own.hot}.all_option_greeks WHERE implied_volatility IS NULL"
    )
    assert row == ("put", -0.25, 1e-6, "2027-01-01 00:00:00.000", ["A", "Ü"])

    code, told = await cli_json(own, "dlq", "list")
    assert (code, told["total"]) == (0, 3)
    assert {(one["dataType"], one["reason"]) for one in told["deadLetters"]} == {
        ("kline", "MP2214 NotOneOf"),
        ("kline", "MP2101 BadJSON"),
        ("option_greek", "MP2214 NotOneOf"),
    }

    code, report = await cli_json(own, "audit", "--deep")
    assert code == 0, report
    assert {(one["dataType"], one["held"], one["rows"], one["deadLetters"]) for one in report["types"]} == {
        ("kline", 52, 50, 2),
        ("ticker", 50, 50, 0),
        ("option_greek", 51, 50, 1),
    }
    _, said = await cli(own, "status")
    assert all(table in said for table in ("kline", "ticker", "option_greek"))

    code, said = await alone(own, "validate", "--since", "24h")
    assert "SometimesAbsent" in said, said  # one of fifty lacks what the others have
    assert "implied_volatility" in said

    code, said = await alone(own, "migrate")
    assert code == 0, said
    assert [(await own.count(table), await own.count(table, "cold")) for table in tables] == [(0, 50)] * 3
    code, report = await cli_json(own, "audit", "--deep")
    assert code == 0, report


EVERY = {
    "int8": ("Int8", -128, -128),
    "uint64": ("UInt64", "18446744073709551615", (1 << 64) - 1),
    "int128": ("Int128", str(-(1 << 127)), -(1 << 127)),
    "uint256": ("UInt256", (1 << 256) - 1, (1 << 256) - 1),
    "exact": ("Decimal(76, 38)", "-1234567890.00000000000000000000000000000000000001", None),
    "narrow": ("Nullable(Decimal(9, 2))", "1234567.89", None),
    "inexact": ("Float64", 0.1, 0.1),
    "id": ("UUID", "123e4567-e89b-12d3-a456-426614174000", None),
    "maybe_id": ("Nullable(UUID)", None, None),
    "text": ("String", "a\tb\u0000", "a\tb\x00"),
    "word": ("LowCardinality(String)", "Ü", "Ü"),
    "maybe_word": ("LowCardinality(Nullable(String))", None, None),
    "yes": ("Bool", True, True),
    "maybe_yes": ("Nullable(Bool)", None, None),
    "nanos": ("DateTime64(9)", "2026-01-02 03:04:05.123456789", None),
    "millis": ("Nullable(DateTime64(3))", 1767323045123, None),
    "numbers": ("Array(Decimal(38, 18))", ["1.5", 2], None),
    "times": ("Array(DateTime64(3))", [1767323045123], None),
    "ids": ("Array(UUID)", ["123e4567-e89b-12d3-a456-426614174000"], None),
    "none": ("Array(UInt8)", [], []),
}


async def test_every_type_of_a_column_keeps_its_value(pipeline: Pipeline) -> None:
    types = {"every": {"fields": {name: {"type": type_} for name, (type_, *_) in EVERY.items()}}}
    spec = {"nats": {"streams": {"default": STREAM}}, "deadLetters": {"stream": f"{STREAM}_DLQ"}, "dataTypes": types}
    head = {"apiVersion": "storage.marketprism.io/v1alpha1", "kind": "StoragePipeline", "metadata": {"name": "every"}}
    pipeline.file.write_text(yaml.safe_dump({**head, "spec": spec}))
    pipeline.settings = effective(load_pipeline(pipeline.file), pipeline.environ)
    await schema.apply(pipeline.clickhouse, pipeline.settings)
    await create_missing(pipeline.client.jetstream(), pipeline.broker, pipeline.settings)
    try:
        await pipeline.begin()
        said = {name: value for name, (_, value, _) in EVERY.items()}
        await pipeline.send(
            "every.okx.spot.X", json.dumps({**PLACE, "ts_ms": int(time.time() * 1000), **said}).encode()
        )
        await pipeline.ingest()
        (row,) = await pipeline.clickhouse.query(f"SELECT {', '.join(EVERY)} FROM {pipeline.hot}.every")
        found = dict(zip(EVERY, row, strict=True))
        assert {name: found[name] for name, (*_, stored) in EVERY.items() if stored is not None} == {
            name: stored for name, (*_, stored) in EVERY.items() if stored is not None
        }
        texts = await pipeline.clickhouse.query(
            "SELECT toString(exact), toString(narrow), toString(id), toString(nanos), toString(millis), toString(numbers),"
            f" toString(times), toString(ids), maybe_id IS NULL, maybe_word IS NULL, maybe_yes IS NULL FROM {pipeline.hot}.every"
        )
        assert texts == [
            (
                "-1234567890.00000000000000000000000000000000000001", "1234567.89", "123e4567-e89b-12d3-a456-426614174000",
                "2026-01-02 03:04:05.123456789", "2026-01-02 03:04:05.123", "[1.5,2]", "['2026-01-02 03:04:05.123']",
                "['123e4567-e89b-12d3-a456-426614174000']", 1, 1, 1,
            )
        ]  # fmt: skip
        code, report = await cli_json(pipeline, "audit", "--deep")
        assert code == 0, report
    finally:
        for stream in (STREAM, f"{STREAM}_DLQ"):
            with suppress(NotFoundError):
                await pipeline.client.jetstream().delete_stream(stream)


async def test_a_declaration_is_tried_without_a_collector(own: Pipeline) -> None:
    code, said = await alone(own, "feed", "--count", "300", "--rate", "0")
    assert code == 0, said
    assert f"{STREAM}: 300 messages" in said
    await own.ingest()
    tables = ("klines", "tickers", "option_greeks")
    assert sum([await own.count(table) for table in tables]) == 300
    assert all([await own.count(table) > 50 for table in tables])
    assert "no dead letters" in (await cli(own, "dlq", "list"))[1]
    code, said = await alone(own, "feed", "--types", "trade")
    assert (code, "no such data type: trade; there are kline, option_greek, ticker" in " ".join(said.split())) == (
        2,
        True,
    ), said


async def test_a_field_may_be_added_later(own: Pipeline) -> None:
    now = int(time.time() * 1000)
    await own.send("ticker.okx.options.BTC", ticker(now, 1, mark="7"))
    await own.ingest()
    await declare(own, mark={"type": "Nullable(Decimal(38, 18))"})
    await own.send("ticker.okx.options.BTC", ticker(now, 2, mark="8"))
    await own.ingest()
    found = await own.clickhouse.query(f"SELECT update_id, toString(mark) FROM {own.hot}.tickers ORDER BY update_id")
    assert found == [(1, None), (2, "8")]
    code, report = await cli_json(own, "audit")
    assert code == 0, report


async def test_dead_letters_are_rows_when_the_declaration_takes_them(own: Pipeline) -> None:
    await own.send("kline.binance.spot.BTCUSDT", kline(int(time.time()) * 1000, i="7m"))
    await own.ingest()
    given = yaml.safe_load(own.file.read_text())
    given["spec"]["dataTypes"]["kline"]["fields"]["interval"]["oneOf"].append("7m")
    own.file.write_text(yaml.safe_dump(given))
    code, told = await cli_json(own, "dlq", "replay")
    assert (code, told["replayed"]) == (0, 1)
    assert await own.count("klines") == 1


async def test_lost_rows_come_back_from_the_stream(own: Pipeline) -> None:
    for number in range(5):
        await own.send("ticker.okx.options.BTC", ticker(int(time.time() * 1000), number))
    await own.ingest()
    await own.change("ALTER TABLE {hot}.tickers DELETE WHERE update_id < 3")
    code, told = await cli_json(own, "replay", "--from-seq", "1", "--type", "ticker")
    assert (code, told["tables"]["tickers"]["stored"]) == (0, 3)
