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
    one.until_ready()
    assert world.doubles() == 0


def test_one_that_is_edited_to_take_it_no_more_is_told_and_read_on_when_it_does_again(world: World) -> None:
    one = world.ingest()
    one.until_ready()
    world.send("trade.okx_spot.spot.BTC-USDT", json.dumps(trade(exchange="okx_spot", trade_id="1")).encode())
    one.until_more(1, "trade")
    config = world.api("STREAM.INFO.MARKET_DATA", {})["config"]
    subjects = [each for each in config["subjects"] if each != "trade.>"]
    world.api("STREAM.UPDATE.MARKET_DATA", {**config, "subjects": subjects})
    wait_for(
        lambda: "MP3003 StreamMissing: stream MARKET_DATA exists and does not hold trade.>" in one.get("/readyz")[1],
        "told",
    )
    world.api("STREAM.UPDATE.MARKET_DATA", config)
    one.until_ready()
    world.send("trade.okx_spot.spot.BTC-USDT", json.dumps(trade(exchange="okx_spot", trade_id="2")).encode())
    wait_for(lambda: world.rows("trades") == 2, "both are stored")
    world.prove()


def test_one_whose_limit_is_lowered_tells_what_it_took_unread(world: World) -> None:
    """The consumer stands still, as one that is starved does; what was on its way to it comes all the same."""
    one = world.ingest()
    one.until_ready()
    feed = world.feed(rate=2000, types=["trade"])
    one.until_more(300, "trade")
    one.freeze()
    on_its_way = wait_for(
        lambda: not reads_on(world) and world.stream("MARKET_DATA")["last_seq"], "it asks for no more"
    )
    feed.until(feed.acknowledged + 3000)
    world.make_streams(max_msgs=50)
    assert world.stream("MARKET_DATA")["first_seq"] > on_its_way + 1
    one.thaw()
    one.until_alarm("MessagesMissed")
    world.make_streams(max_msgs=1_000_000)
    world.prove(feeds=False)


def reads_on(world: World) -> bool:
    """The server has requests of the reader of trades that it has not answered in full."""
    readers = world.api("CONSUMER.LIST.MARKET_DATA")["consumers"]
    return any(one["num_waiting"] for one in readers if one["config"]["filter_subject"] == "trade.>")
