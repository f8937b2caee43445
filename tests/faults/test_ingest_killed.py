"""Ingest killed, frozen and stopped under load."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from random import Random

import pytest

from marketprism_consumer.faultpoints import INGEST
from marketprism_consumer.worker import GRACE
from tests.faults.harness import TYPES, VALID, Ingest, World, tell
from tests.faults.proxy import Proxy, answers, clickhouse_error
from tests.waiting import wait_for

# The promises [s].
READY_AGAIN = 5.0
FLOWS_AGAIN = 3.0  # of a process that is started in the place of a killed one
DRAINED = 25.0


RARE = ("after_epoch", "after_look_up")
"""Points of the rare path, which begins with a refusal."""


@pytest.mark.parametrize("point", INGEST)
def test_killed_at_each_point_of_its_way(proxied: World, proxy: Proxy, point: str) -> None:
    proxied.feed()
    doomed = proxied.ingest(fault=f"{point}:kill:{1 if point in RARE else 3}")
    if point in RARE:
        doomed.until_more(100)
        proxy.spoil(clickhouse_error(469, "VIOLATED_CONSTRAINT"), times=2)
    assert doomed.ended() == -signal.SIGKILL
    again = proxied.ingest()
    tell("ready again", again.until_ready(), READY_AGAIN)
    wait_for(lambda: again.inserted() >= 1, "a row")
    tell("rows flow", time.monotonic() - again.began, FLOWS_AGAIN)
    again.until_more(300)
    proxied.prove()


@pytest.mark.parametrize(("point", "lost"), [("after_insert", False), ("before_insert", True)])
def test_what_was_cut_and_is_gone_is_missed_only_where_it_was_not_stored(world: World, point: str, lost: bool) -> None:
    """It is killed, and the stream is purged before it comes back."""
    first = world.ingest(f"{point}:kill:1")
    first.until_ready()
    world.feed(types=["trade"], bad=0).until(50)
    first.ended()
    world.feeds[0].stop()
    world.api("STREAM.PURGE.MARKET_DATA")
    second = world.ingest()
    second.until_ready()
    wait_for(lambda: world.all_done() and world.record("trade").seen, world.what_waits)
    told = [line for line in second.log(reason="MessagesMissed") if line.get("why")]
    assert bool(told) == lost


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
    """Frozen while the other takes over what it was at, and for longer than its blocks are taken; then continued."""
    wait_for(lambda: other.metric("marketprism_takeovers_total"), "the other has taken over")
    taken_over = time.monotonic()
    wait_for(lambda: time.monotonic() - taken_over > VALID + 2, "nothing of the frozen one can be stored any more")
    other.until_more(300)
    frozen.thaw()
    frozen.until_ready()
    other.kill()
    frozen.until_more(100)  # it has taken over in turn
    world.prove()


@pytest.mark.slow
def test_a_replica_frozen_past_its_silence_doubles_nothing(world: World) -> None:
    world.feed(rate=800)
    frozen = world.ingest()
    frozen.until_more(100)
    other = world.ingest()
    other.until_ready()
    frozen.freeze()
    _zombie(world, frozen, other)


def test_a_replica_frozen_just_before_its_insert_doubles_nothing(world: World) -> None:
    """The nastiest place: everything is decided, the request is not yet sent."""
    world.feed(rate=800)
    frozen = world.ingest(fault="before_insert:stop:3")
    wait_for(lambda: frozen.frozen, "its fault point")
    other = world.ingest()
    _zombie(world, frozen, other)


@pytest.mark.slow
def test_a_replica_frozen_with_its_hands_full_doubles_nothing(make_world: Callable[..., World], proxy: Proxy) -> None:
    """ClickHouse is out of its reach, and it holds as much as it may."""
    world = make_world(
        spec={"dataTypes": {"trade": {"batch": {"maxRows": 100, "maxPending": 100, "maxDelay": "200ms"}}}}
    )
    through_proxy = world.write_file("proxied", clickhouse={**world.spec["clickhouse"], "url": proxy.url})
    world.feed(rate=600)
    frozen = world.ingest(file=through_proxy)
    frozen.until_more(100)
    proxy.spoil(answers(503, "no"), everything=True)
    frozen.until_alarm("ClickHouseUnreachable")
    wait_for(lambda: frozen.status("trade")["inHand"] >= 100, "its hands are full")
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
    # All that it had in hand is stored or buried, and recorded so; the rest is nobody's, and need not wait for its silence.
    for name in TYPES:
        assert all(claim.cut is None and not claim.owner for claim in world.record(name).claims), world.record(name)
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
