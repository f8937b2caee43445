"""Tables, streams and records vanish while ingest runs: it says what is gone, by its code, and goes on when it is back."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.faults.harness import World
from tests.waiting import wait_for

TOLD = 20.0
"""Seconds; ten more are the kubelet's, until a Pod that says so counts as unready."""


@pytest.mark.parametrize("fed", [True, False], ids=["messages come", "no message comes"])
def test_tables_that_are_gone_are_named_and_waited_for(world: World, fed: bool) -> None:
    ingest = world.ingest()
    ingest.until_ready()
    feed = world.feed()
    feed.until(300)
    if not fed:
        feed.stop()
        wait_for(world.all_done, "all is stored")
    world.change("DROP DATABASE {hot} SYNC")
    wait_for(lambda: "MP5001 SchemaMissing" in ingest.get("/readyz")[1], "the tables are told to be gone", TOLD)
    world.make_tables()
    ingest.until_ready()
    if not fed:
        world.feed()
    world.until_more()
    world.prove()


@pytest.mark.parametrize("all_of_it", [False, True], ids=["streams", "streams and records"])
def test_streams_that_are_gone_are_made_again(world: World, all_of_it: bool) -> None:
    ingest = world.ingest()
    feed = world.feed()
    feed.until(300)
    ingest.until_ready()
    feed.stop()
    for name in world.call(world.broker.streams_of(">")):
        if all_of_it or name in ("MARKET_DATA", "ORDERBOOK_SNAP"):
            world.api(f"STREAM.DELETE.{name}")
    wait_for(lambda: world.call(world.broker.streams_of("trade.>")) == ["MARKET_DATA"], "it is made again", TOLD)
    ingest.until_ready()
    world.feed()
    world.until_more()
    world.prove(feeds=False)


def test_streams_that_are_gone_and_may_not_be_made_are_named(make_world: Callable[..., World]) -> None:
    world = make_world(spec={"nats": {"ensureStreams": "Never"}})
    ingest = world.ingest()
    ingest.until_ready()
    world.api("STREAM.DELETE.MARKET_DATA")
    wait_for(lambda: "MP3003 StreamMissing" in ingest.get("/readyz")[1], "the stream is told to be gone", TOLD)
    world.make_streams()
    ingest.until_ready()
    world.feed()
    world.until_more()
