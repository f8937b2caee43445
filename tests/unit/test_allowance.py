"""What readers of a connection may have on their way together."""

from __future__ import annotations

from marketprism_consumer.ingest.allowance import Allowance


def test_who_was_refused_first_gets_room_though_others_ask_all_the_time() -> None:
    allowance = Allowance(48)
    assert all(allowance.take(idle, 10) for idle in "abc")
    assert not allowance.take("large", 20)
    allowance.give_back(10)
    assert not allowance.take("a", 10), "there would be room for it, or for the large one"
    assert allowance.take("large", 20)
    assert not allowance.take("a", 10)
    allowance.give_back(20)
    assert allowance.take("a", 10)
    assert allowance.taken == 30


def test_what_is_more_than_all_of_it_is_had_alone() -> None:
    allowance = Allowance(48)
    assert allowance.take("a", 10)
    assert not allowance.take("large", 60)
    allowance.give_back(10)
    assert not allowance.take("a", 10)
    assert allowance.take("large", 60)
    assert not allowance.take("a", 10)


def test_room_is_not_kept_for_who_waits_no_more() -> None:
    allowance = Allowance(48)
    assert allowance.take("a", 40)
    assert not allowance.take("b", 40)
    allowance.wait_no_more("b")
    assert allowance.take("c", 8)
