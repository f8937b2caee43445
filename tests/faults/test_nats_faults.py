"""nats-server stopped and killed; streams and readers deleted, purged and overrun; all under load."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import pytest
from nats.aio.msg import Msg

from tests.faults.harness import STREAMS, TYPES, Ingest, World, tell
from tests.faults.proxy import Proxy, answers
from tests.waiting import PATIENCE, wait_for

BACK_WITHIN = 10.0  # the promise: from the server's answer to stored rows [s]


def _goes_on(ingest: Ingest, rows: int = 300) -> None:
    tell("stores again", ingest.until_more(rows), BACK_WITHIN)
    ingest.until_ready()


def test_nats_restarted(world: World) -> None:
    world.feed()
    ingest = world.ingest()
    ingest.until_more(300)
    world.nats.stop()
    wait_for(lambda: not ingest.ready, "unready")
    world.nats.start()
    _goes_on(ingest)
    assert ingest.running
    world.prove()


def test_nats_killed_and_away_for_a_while(world: World) -> None:
    world.feed()
    ingest = world.ingest()
    ingest.until_more(300)
    world.nats.kill()
    away = time.monotonic()
    wait_for(lambda: not ingest.ready, "unready")
    wait_for(lambda: time.monotonic() - away > 6, "a while")
    assert ingest.alive
    world.nats.start()
    _goes_on(ingest)
    world.prove()


@pytest.mark.slow
def test_nats_killed_again_and_again(world: World) -> None:
    """The record may be older than what was done by it, and what was cut meanwhile is looked up."""
    world.feed(rate=2000)
    ingest = world.ingest()
    for _ in range(3):
        ingest.until_more(2000)
        world.nats.kill()
        world.nats.start()
        ingest.until_ready()
    ingest.until_more(1000)
    assert ingest.metric("marketprism_recoveries_total") >= len(TYPES)
    world.prove()


def test_stream_deleted_and_made_again(world: World) -> None:
    feed = world.feed()
    ingest = world.ingest()
    ingest.until_more(300)
    world.api("STREAM.DELETE.MARKET_DATA")
    ingest.until_alarm("StreamMissing")
    world.make_streams()
    before = feed.acknowledged
    ingest.until_alarm("StreamRecreated")
    ingest.until_more(300, "trade")
    feed.until(before + 500)
    feed.stop()
    world.prove(feeds=False)
    streams = world.query("SELECT uniqExact(_stream) FROM {hot}.trades")
    assert streams == [(2,)]


@pytest.mark.every_nats
def test_readers_deleted(world: World) -> None:
    world.feed()
    ingest = world.ingest()
    ingest.until_more(300)
    for stream in STREAMS:
        for name in world.api(f"CONSUMER.NAMES.{stream}")["consumers"]:
            world.api(f"CONSUMER.DELETE.{stream}.{name}")
    assert wait_for(lambda: ingest.log(event="reads on"), "they are missed")
    ingest.until_more(500)
    assert not ingest.log(event="begins from the record")  # nothing was in doubt
    world.prove()


async def _copy(world: World) -> tuple[dict[str, Any], list[bytes]]:
    """MARKET_DATA as it is now, as `nats stream backup` takes it."""
    chunks: list[bytes] = []
    done = asyncio.get_running_loop().create_future()

    async def take(message: Msg) -> None:
        if message.data:
            chunks.append(message.data)
        else:
            done.set_result(None)
        if message.reply:
            await message.respond(b"")

    inbox = world.client.new_inbox()
    subscription = await world.client.subscribe(inbox, cb=take)
    made = await world.broker.api("STREAM.SNAPSHOT.MARKET_DATA", {"deliver_subject": inbox})
    await done
    await subscription.unsubscribe()
    return {"config": made["config"], "state": made["state"]}, chunks


async def _restore(world: World, of: dict[str, Any], chunks: list[bytes]) -> None:
    await world.broker.api("STREAM.DELETE.MARKET_DATA", None)
    subject = (await world.broker.api("STREAM.RESTORE.MARKET_DATA", of))["deliver_subject"]
    for chunk in (*chunks, b""):
        await world.client.request(subject, chunk, timeout=PATIENCE)


@pytest.mark.every_nats
def test_a_stream_restored_under_a_running_ingest_is_another_one(world: World) -> None:
    """It has gone on beyond what was read. Present servers say that it was made now: what it holds is a lane of its own. Those up to 2.12
    say that it was made when the old one was: that it was set back is seen by what it holds."""
    ingest = world.ingest()
    world.feed().until(400).stop()
    of, chunks = world.call(_copy(world))
    world.feed(types=["trade"]).until(400).stop()
    wait_for(world.all_done, world.what_waits)
    ingest.freeze()
    read_to = world.stream("MARKET_DATA")["last_seq"]
    world.call(_restore(world, of, chunks))
    assert world.stream("MARKET_DATA")["last_seq"] < read_to
    feed = world.feed(types=["trade"])
    wait_for(lambda: world.stream("MARKET_DATA")["last_seq"] > read_to + 300, "it has gone on")
    gained = feed.trades()
    ingest.thaw()
    wait_for(lambda: ingest.alarms("StreamRecreated") or ingest.alarms("StreamRegressed"), "it is told")
    wait_for(world.all_done, world.what_waits)
    stored = {str(row[0]) for row in world.query("SELECT trade_id FROM {hot}.trades")}
    assert stored >= set(gained.values())
    assert world.doubles() == 0
    if not ingest.alarms("StreamRegressed"):
        world.prove(feeds=False)


def test_a_stream_that_begins_to_forget_what_was_read_is_told(world: World) -> None:
    world.feed()
    ingest = world.ingest()
    ingest.until_more(300)
    config = world.api("STREAM.INFO.MARKET_DATA")["config"]
    world.api("STREAM.UPDATE.MARKET_DATA", {**config, "retention": "interest"})
    ingest.until_alarm("StreamUnfit")
    wait_for(lambda: (found := ingest.get("/readyz"))[0] == 503 and "StreamUnfit" in found[1], "unready")
    world.api("STREAM.UPDATE.MARKET_DATA", config)
    ingest.until_ready()


def _undelivered(world: World) -> int:
    return max(reader["num_pending"] for reader in world.api("CONSUMER.LIST.MARKET_DATA")["consumers"])


def _overrun(world: World, discard: Callable[[], None]) -> Ingest:
    """Ingest is frozen, so that there is something unread to be discarded while it runs."""
    world.feed(rate=800)
    ingest = world.ingest()
    ingest.until_more(300)
    ingest.freeze()
    wait_for(lambda: _undelivered(world) > 500, "there is more than what may be on its way")
    discard()
    ingest.thaw()
    return ingest


def _purge(world: World) -> None:
    world.api("STREAM.PURGE.MARKET_DATA")


def _shrink(world: World) -> None:
    world.make_streams(max_msgs=50)


@pytest.mark.parametrize("discard", [_purge, _shrink])
def test_what_a_running_ingest_could_not_read_is_told_by_the_audit(
    world: World, discard: Callable[[World], None]
) -> None:
    ingest = _overrun(world, lambda: discard(world))
    ingest.until_more(100, "trade")
    world.make_streams(max_msgs=1_000_000)
    report = world.prove(feeds=False)
    assert not report.holds
    assert any(stream.lost and stream.lost.count > 0 for stream in report.streams)


def test_what_a_running_ingest_could_not_read_raises_an_alarm(make_world: Callable[..., World], proxy: Proxy) -> None:
    """It lags behind, since ClickHouse takes nothing for a while, and the stream is purged meanwhile."""
    small = {"batch": {"maxRows": 100, "maxPending": 100, "maxDelay": "200ms"}}
    proxied = make_world(clickhouse_url=proxy.url, spec={"dataTypes": {"trade": small}})
    ingest = proxied.ingest()
    ingest.until_ready()
    proxied.feed(rate=1500, types=["trade"])
    ingest.until_more(300)
    proxy.spoil(answers(503, "no"), everything=True)
    wait_for(lambda: (ingest.status("trade")["lag"] or 0) > 2000, "it lags behind, and knows")
    _purge(proxied)
    proxy.heal()
    ingest.until_alarm("MessagesMissed")
    ingest.until_more(300)
    proxied.prove(feeds=False)


def test_what_a_stream_discards_of_other_data_types_is_none_of_a_slow_ones(world: World) -> None:
    """Between two looks at it the stream turns over, and all that it discards was trades."""
    world.make_streams(max_msgs=2000)
    ingest = world.ingest()
    ingest.until_ready()
    slow = world.feed(rate=50, types=["funding_rate"]).until(20)
    slow.stop()
    wait_for(lambda: world.record("funding_rate").seen >= 20, "they are stored")
    world.feed(rate=2000, types=["trade"])
    for _ in range(2):
        held = world.stream("MARKET_DATA")["last_seq"]
        wait_for(lambda held=held: world.stream("MARKET_DATA")["first_seq"] > held, "the stream has turned over")
        wait_for(lambda held=held: world.record("funding_rate").seen > held, "the slow one has looked")
    assert ingest.metric("marketprism_alarms_total", data_type="funding_rate", reason="MessagesMissed") == 0
    world.prove(feeds=False)


def test_messages_discarded_before_they_were_read_raise_an_alarm(world: World) -> None:
    world.feed(rate=800).until(500)
    first = world.ingest()
    first.until_more(300)
    first.kill()
    held = world.stream("MARKET_DATA")["last_seq"]
    world.make_streams(max_msgs=200)
    wait_for(lambda: world.stream("MARKET_DATA")["first_seq"] > held + 500, "the stream runs over")
    world.make_streams(max_msgs=1_000_000)
    second = world.ingest()
    line = second.until_alarm("MessagesMissed")
    assert line["first"] <= held + 500
    assert line["last"] >= held
    second.until_more(300)
    world.prove(feeds=False)
