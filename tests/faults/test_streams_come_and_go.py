"""Streams that hold a data type come and go while ingest runs: it follows, without a restart."""

from __future__ import annotations

import json

from tests.faults.harness import World
from tests.pipelines import trade
from tests.waiting import wait_for


def test_a_stream_that_comes_is_read_and_one_that_goes_is_let_go(world: World) -> None:
    config = world.api("STREAM.INFO.MARKET_DATA", {})["config"]
    subjects = ["trade.binance_spot.>" if each == "trade.>" else each for each in config["subjects"]]
    world.api("STREAM.UPDATE.MARKET_DATA", {**config, "subjects": subjects})
    one = world.ingest()
    one.until_ready()
    world.api("STREAM.CREATE.OKX", {"name": "OKX", "subjects": ["trade.okx_spot.>"], "retention": "limits"})
    world.send("trade.okx_spot.spot.BTC-USDT", json.dumps(trade(exchange="okx_spot", trade_id="o")).encode())
    wait_for(lambda: one.status("trade").get("streams") == ["MARKET_DATA", "OKX"], "OKX is read")
    one.until_more(1, "trade")
    world.api("STREAM.DELETE.OKX")
    wait_for(lambda: one.status("trade").get("streams") == ["MARKET_DATA"], "OKX is let go")
    world.send("trade.binance_spot.spot.BTC-USDT", json.dumps(trade(trade_id="b")).encode())
    one.until_more(1, "trade")
    assert one.ready
    assert world.query("SELECT groupArray(trade_id) FROM (SELECT trade_id FROM {hot}.trades ORDER BY trade_id)") == [
        (["b", "o"],)
    ]


def test_one_that_comes_and_can_not_be_read_beside_the_others_makes_it_unready(world: World) -> None:
    """It has copies of what is read, and messages of its own."""
    one = world.ingest()
    one.until_ready()
    config = world.api("STREAM.INFO.MARKET_DATA", {})["config"]
    subjects = ["trade.binance_spot.>" if each == "trade.>" else each for each in config["subjects"]]
    world.api("STREAM.UPDATE.MARKET_DATA", {**config, "subjects": subjects})
    world.api(
        "STREAM.CREATE.ALL", {"name": "ALL", "subjects": ["trade.okx_spot.>"], "sources": [{"name": "MARKET_DATA"}]}
    )
    world.send("trade.okx_spot.spot.BTC-USDT", json.dumps(trade(exchange="okx_spot", trade_id="o")).encode())
    wait_for(lambda: "MP3012 StreamUnfit: ALL has the messages of MARKET_DATA" in one.get("/readyz")[1], "it is told")
    world.send("trade.binance_spot.spot.BTC-USDT", json.dumps(trade(trade_id="b")).encode())
    one.until_more(1, "trade")
    world.api("STREAM.DELETE.ALL")
    wait_for(lambda: one.ready, "nothing is in its way any more")
    assert world.doubles() == 0
