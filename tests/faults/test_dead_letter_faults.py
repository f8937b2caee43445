"""The dead-letter stream full, taken or gone; and a publisher gone mad."""

from __future__ import annotations

from collections.abc import Callable

from tests.faults.harness import DEAD_LETTERS, TYPES, World
from tests.waiting import wait_for


def test_a_full_dead_letter_stream_sets_bad_messages_aside_until_it_has_room(world: World) -> None:
    full = {
        "name": DEAD_LETTERS,
        "subjects": [f"marketprism.dlq.{DEAD_LETTERS}.>"],
        "max_msgs": 3,
        "discard": "new",
        "storage": "file",
    }
    world.api(f"STREAM.CREATE.{DEAD_LETTERS}", full)
    world.feed(bad=0.05)
    ingest = world.ingest()
    ingest.until_alarm("DeadLettersUnavailable")
    ingest.until_more(500)  # the good ones go on
    assert world.dead_letters() == 3
    wait_for(lambda: sum(ingest.status(name)["setAside"] for name in TYPES), "what could not be buried is set aside")
    world.api(f"STREAM.UPDATE.{DEAD_LETTERS}", full | {"max_msgs": 1_000_000})
    world.prove()
    assert world.dead_letters() > 3


def test_where_no_more_can_be_set_aside_ingest_says_that_it_stands_still(make_world: Callable[..., World]) -> None:
    world = make_world(spec={"deadLetters": {"maxRatio": "1"}})
    full = {
        "name": DEAD_LETTERS,
        "subjects": [f"marketprism.dlq.{DEAD_LETTERS}.>"],
        "max_msgs": 1,
        "discard": "new",
        "storage": "file",
    }
    world.api(f"STREAM.CREATE.{DEAD_LETTERS}", full)
    world.feed(bad=0.1, types=["trade"])
    ingest = world.ingest()
    wait_for(
        lambda: (found := ingest.get("/readyz"))[0] == 503 and "set aside" in found[1],
        lambda: f"unready; {ingest.status('trade')}",
    )
    world.api(f"STREAM.UPDATE.{DEAD_LETTERS}", full | {"max_msgs": 1_000_000})
    ingest.until_ready()
    world.prove()


def test_dead_letter_subjects_held_by_another_stream(world: World) -> None:
    """Ours can't be made, and a letter in a stream that nobody looks at would be no better than lost. That is told before the
    first letter, too, by `check` as well."""
    world.api("STREAM.CREATE.SQUATTER", {"name": "SQUATTER", "subjects": ["marketprism.>"], "storage": "memory"})
    ingest = world.ingest()
    wait_for(lambda: "MP3009" in ingest.get("/readyz")[1], "why it is not ready")
    status, said = ingest.get("/readyz")
    assert (status, "MARKETPRISM_DLQ can't be made: the stream SQUATTER takes marketprism.>" in said) == (503, True), (
        said
    )
    world.feed(bad=0.05)
    ingest.until_alarm("DeadLettersUnavailable")
    ingest.until_more(300)
    assert world.stream("SQUATTER")["messages"] == 0
    world.api("STREAM.DELETE.SQUATTER")
    wait_for(lambda: ingest.ready, "ready")
    world.prove()


def test_dead_letter_stream_deleted_under_load_is_made_again(world: World) -> None:
    world.feed(bad=0.05)
    ingest = world.ingest()
    wait_for(lambda: world.dead_letters() > 5, "dead letters")
    world.api(f"STREAM.DELETE.{DEAD_LETTERS}")
    wait_for(lambda: world.dead_letters() > 5, "dead letters in a new stream")
    ingest.until_more(300)
    world.feeds.pop().stop()  # what was buried in the old stream is gone with it
    wait_for(world.all_done, world.what_waits)
    assert world.doubles() == 0
    assert ingest.running


def test_a_venue_that_floods_is_held_back_and_stops_nobody(make_world: Callable[..., World]) -> None:
    world = make_world(spec={"deadLetters": {"maxRatio": "0.3", "minMessages": 50, "window": "3s"}})
    world.feed(types=["trade"], bad=0.0)
    ingest = world.ingest()
    ingest.until_more(100, "trade")

    async def flood() -> None:
        for number in range(300):
            await world.client.jetstream().publish("trade.gate.spot.BTC-USDT", b'{"price":%d' % number)

    world.call(flood())
    line = ingest.until_alarm("DeadLetterFlood")
    assert (line["data_type"], line["exchanges"]) == ("trade", ["gate"])
    ingest.until_more(300, "trade")
    assert ingest.status("trade")["deadLetters"] < 150, "most of them are still where they were"
    assert ingest.ready
    wait_for(lambda: ingest.status("trade")["setAside"], "the stretch that is held back")
    wait_for(lambda: ingest.status("trade")["state"] == "Running", "over")
    wait_for(lambda: ingest.status("trade")["deadLetters"] == 300, lambda: f"{ingest.status('trade')}")
    world.prove()
    assert world.dead_letters() == 300


def test_what_is_held_back_outlives_the_process(make_world: Callable[..., World]) -> None:
    world = make_world(spec={"deadLetters": {"maxRatio": "0.3", "minMessages": 50, "window": "1m"}})
    world.feed(types=["trade"], bad=0.0)
    ingest = world.ingest()

    async def flood() -> None:
        for number in range(300):
            await world.client.jetstream().publish("trade.gate.spot.BTC-USDT", b'{"price":%d' % number)

    world.call(flood())
    ingest.until_alarm("DeadLetterFlood")
    wait_for(lambda: ingest.status("trade")["setAside"], "the stretch that is held back")
    ingest.kill()
    world.ingest().until_more(100, "trade")
    wait_for(lambda: world.dead_letters() == 300, lambda: f"{world.dead_letters()} are buried")
    world.prove()
    assert world.dead_letters() == 300
