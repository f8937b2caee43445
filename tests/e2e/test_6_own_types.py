"""Data types of the user's own, from `examples/own_types.yaml` to rows, dead letters and proof; a field is added later."""

from __future__ import annotations

from typing import Any

import yaml

from tests.e2e import data
from tests.e2e.cluster import apply, get, kubectl, patch, ready, until
from tests.e2e.conftest import ROOT
from tests.e2e.test_6_troubles import CLICKHOUSE, NATS

PUBLISH = """\
import asyncio, json, os, sys, time, nats
async def publish(first, count):
    connection = await nats.connect(os.environ["NATS_URL"])
    stream, now = connection.jetstream(), int(time.time() * 1000)
    place = {"exchange": "okx", "market_type": "options", "symbol": "BTC"}
    for number in range(first, first + count):
        k = {"t": now + number, "T": now + number, "i": "1m", "o": "1", "h": "2", "l": "1", "c": "1.5"}
        k |= {"v": "0", "n": 3, "x": True}
        kline = {"s": "BTCUSDT", "k": k}
        ticker = {**place, "ts_ms": now, "b": "1.1", "a": "1.2", "update_id": number, "mark": "7"}
        greek = {**place, "ts_ms": now, "strike": 60000, "expiry": now, "type": "C" if number else "X", "delta": 0.5}
        greek |= {"gamma": 0.1, "underlyings": []}
        await stream.publish("kline.binance.spot.BTCUSDT", json.dumps(kline).encode())
        await stream.publish("ticker.okx.options.BTC", json.dumps(ticker).encode())
        await stream.publish("option_greek.okx.options.BTC", json.dumps(greek).encode())
    await connection.close()
asyncio.run(publish(int(sys.argv[1]), int(sys.argv[2])))
"""
TABLES = {"kline": "klines", "ticker": "tickers", "option_greek": "option_greeks"}


def own() -> dict[str, Any]:
    resource: dict[str, Any] = yaml.safe_load((ROOT / "examples/own_types.yaml").read_text())
    spec = resource["spec"]
    del spec["dataTypes"]["trade"]
    spec |= {
        "nats": NATS | {"streams": {"default": "OWN"}},
        "clickhouse": CLICKHOUSE,
    }
    for of in spec["dataTypes"].values():
        of["batch"] = {"maxDelay": "500ms"}
    return resource


def publish(first: int, count: int) -> None:
    kubectl("exec", "tools", "--", "python", "-c", PUBLISH, str(first), str(count))


def rows() -> dict[str, int]:
    return {kind: int(data.sql(f"SELECT count() FROM marketprism_hot.{table}")[0][0]) for kind, table in TABLES.items()}


def letters() -> dict[str, int]:
    return {one["dataType"]: one["deadLetters"] for one in data.audit("own")["types"]}


def test_the_example_becomes_rows_and_dead_letters() -> None:
    apply(own())
    ready("storagepipeline", "own")
    assert data.subjects()["OWN"] == ["kline.>", "option_greek.>", "ticker.>"]
    publish(0, 50)
    until("all of it is stored", lambda: rows() == {"kline": 50, "ticker": 50, "option_greek": 49})
    until("what can't be a row is buried", lambda: letters() == {"kline": 0, "ticker": 0, "option_greek": 1})
    report = data.audit("own", "--deep")
    assert report["holds"], report
    assert set(get("storagepipeline", "own")["status"]["dataTypes"]) == set(TABLES)


def test_a_field_is_added_later() -> None:
    fields = {"mark": {"type": "Nullable(Decimal(38, 18))"}}
    patch("storagepipeline", "own", {"dataTypes": {"ticker": {"fields": fields}}})
    until(
        "the column is there",
        lambda: "mark" in str(data.sql("SELECT name FROM system.columns WHERE table = 'tickers'")),
    )
    ready("storagepipeline", "own")
    publish(50, 10)
    until("what has it is stored", lambda: data.sql("SELECT count(mark) FROM marketprism_hot.tickers") == [["10"]])
    assert data.audit("own")["holds"]
    kubectl("delete", "storagepipeline", "own", "--timeout=120s")
