"""Ingest killed, frozen and stopped under load."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from random import Random

import pytest

from marketprism_consumer.faultpoints import POINTS
from marketprism_consumer.worker import GRACE
from tests.faults.harness import Ingest, World, tell
from tests.faults.proxy import Proxy, answers
from tests.waiting import wait_for

# The promises [s].
READY_AGAIN = 5.0
DRAINED = 25.0


@pytest.mark.parametrize("point", [point for point in POINTS if not point.startswith("migrate")])
def test_killed_at_each_point_of_its_way(world: World, point: str) -> None:
    world.feed()
    doomed = world.ingest(fault=f"{point}:kill:3")
    assert doomed.ended() == -signal.SIGKILL
    again = world.ingest()
    tell("ready again", again.until_ready(), READY_AGAIN)
    again.until_more(300)
    world.prove()


def test_killed_ten_times_at_random_moments(world: World) -> None:
    moments = Random(20250924)
    world.feed(rate=800)
    slowest = 0.0
    for _ in range(10):
        one = world.ingest()
        slowest = max(slowest, one.until_ready())
        lives_until = time.monotonic() + moments.uniform(0.0, 1.0)
        wait_for(lambda moment=lives_until: time.monotonic() >= moment, "its moment")
        one.kill()
    last = world.ingest()
    slowest = max(slowest, last.until_ready())
    last.until_more(300)
    world.prove()
    tell("ready again, at most,", slowest, READY_AGAIN)


def _zombie(world: World, frozen: Ingest, other: Ingest) -> None:
    """Frozen past ack_wait while the other stores what it held, then continued."""
    wait_for(lambda: other.metric("marketprism_messages_redelivered_total"), "the other has what the frozen one held")
    other.until_more(300)
    frozen.thaw()
    wait_for(lambda: frozen.ready, "the frozen one is back")
    frozen.until_more(100)
    world.prove()


def test_a_replica_frozen_past_ack_wait_doubles_nothing(world: World) -> None:
    world.feed(rate=800)
    frozen, other = world.ingest(), world.ingest()
    frozen.until_more(100)
    other.until_more(100)
    frozen.freeze()
    _zombie(world, frozen, other)


def test_a_replica_frozen_just_before_its_insert_doubles_nothing(world: World) -> None:
    """The nastiest place: everything is decided, the request is not yet sent."""
    world.feed(rate=800)
    other = world.ingest()
    other.until_more(100)
    frozen = world.ingest(fault="before_insert:stop:3")
    wait_for(lambda: frozen.frozen, "its fault point")
    _zombie(world, frozen, other)


def test_a_replica_frozen_with_its_hands_full_doubles_nothing(make_world: Callable[..., World], proxy: Proxy) -> None:
    """ClickHouse is out of its reach, it holds as much as it may and has asked for no more: no heartbeat can be missed."""
    world = make_world(
        spec={"dataTypes": {"trade": {"batch": {"maxRows": 100, "maxPending": 100, "maxDelay": "200ms"}}}}
    )
    through_proxy = world.write_file("proxied", clickhouse={**world.spec["clickhouse"], "url": proxy.url})
    world.feed(rate=600)
    frozen = world.ingest(file=through_proxy)
    frozen.until_more(100)
    proxy.spoil(answers(503, "no"), everything=True)
    frozen.until_alarm("ClickHouseUnreachable")
    wait_for(lambda: not world.consumer("trade")["num_waiting"], "it asks for no more")
    frozen.freeze()
    proxy.heal()
    _zombie(world, frozen, world.ingest())


def test_sigterm_stores_what_is_held_and_leaves_only_what_was_on_its_way(world: World) -> None:
    feed = world.feed(rate=1500)
    one = world.ingest()
    one.until_more(2000)
    began = time.monotonic()
    one.signal(signal.SIGTERM)
    assert one.ended() == 0
    tell("drained", time.monotonic() - began, DRAINED)
    feed.stop()
    # All that it had in hand is stored or buried, and acknowledged. What JetStream sent while it stopped asking is not: handing
    # that back could hand back what another holds by now, so it waits for its ack_wait.
    wait_for(
        lambda: all(world.consumer(name)["num_ack_pending"] < 100 for name in ("trade", "orderbook")),
        "drained",
    )
    world.ingest()
    world.prove()


def test_a_second_sigterm_does_not_wait_for_a_dead_clickhouse(world: World) -> None:
    world.feed()
    one = world.ingest()
    one.until_more(100)
    world.clickhouse.kill()
    one.until_alarm("ClickHouseUnreachable")
    began = time.monotonic()
    one.signal(signal.SIGTERM)
    wait_for(lambda: one.status("trade").get("state") == "Stopping", "it drains")
    one.signal(signal.SIGTERM)
    assert one.ended() == 0
    assert time.monotonic() - began < GRACE
    world.clickhouse.start()
    world.ingest()
    world.prove()
