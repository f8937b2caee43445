"""The dead-letter stream full, taken or gone; and a publisher gone mad."""

from __future__ import annotations

from collections.abc import Callable

from tests.faults.harness import DEAD_LETTERS, TYPES, World
from tests.waiting import wait_for


def test_a_full_dead_letter_stream_sets_bad_messages_aside_until_it_has_room(world: World) -> None:
    full = {"name": DEAD_LETTERS, "subjects": ["marketprism.dlq.>"], "max_msgs": 3, "discard": "new", "storage": "file"}
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
    full = {"name": DEAD_LETTERS, "subjects": ["marketprism.dlq.>"], "max_msgs": 1, "discard": "new", "storage": "file"}
    world.api(f"STREAM.CREATE.{DEAD_LETTERS}", full)
    world.feed(bad=0.1, types=["trade"])
    ingest = world.ingest()
    wait_for(
        lambda: (found := ingest.get("/readyz"))[0] == 503 and "set aside" in found[1],
        lambda: f"unready; {ingest.status('trade')}",
    )
    world.api(f"STREAM.UPDATE.{DEAD_LETTERS}", full | {"max_msgs": 1_000_000})
    wait_for(lambda: ingest.ready, "ready")
    world.prove()


def test_dead_letter_subjects_held_by_another_stream(world: World) -> None:
    """Ours can't be made, and a letter in a stream that nobody looks at would be no better than lost."""
    world.api("STREAM.CREATE.SQUATTER", {"name": "SQUATTER", "subjects": ["marketprism.>"], "storage": "memory"})
    world.feed(bad=0.05)
    ingest = world.ingest()
    ingest.until_alarm("DeadLettersUnavailable")
    ingest.until_more(300)
    assert world.stream("SQUATTER")["messages"] == 0
    world.api("STREAM.DELETE.SQUATTER")
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


def test_a_flood_of_bad_messages_pauses_its_type_alone(make_world: Callable[..., World]) -> None:
    world = make_world(spec={"deadLetters": {"maxRatio": "0.3", "minMessages": 50, "window": "2s"}})
    world.feed(types=["orderbook"])
    ingest = world.ingest()
    ingest.until_more(100)
    # So many and no more: the flood is over when good messages outweigh what comes again of these.
    bad = world.feed(rate=200, bad=1.0, types=["trade"]).until(300)
    published = bad.stop().acknowledged
    line = ingest.until_alarm("DeadLetterFlood")
    assert line["data_type"] == "trade"
    wait_for(lambda: ingest.status("trade")["state"] == "DeadLetterFlood", "paused")
    wait_for(lambda: (found := ingest.get("/readyz"))[0] == 503 and "DeadLetterFlood" in found[1], "unready")
    ingest.until_more(100, "orderbook")
    assert ingest.status("trade")["deadLetters"] < published / 2  # most of them are still where they were
    world.feed(rate=1000, bad=0.0, types=["trade"])
    ingest.until_more(300, "trade")
    # Ready it is at each new look already. While good ones come, one look is at enough of them.
    wait_for(lambda: ingest.status("trade")["deadLetters"] == published, "the bad ones are buried")
    wait_for(lambda: ingest.ready, "ready")
    world.prove()
