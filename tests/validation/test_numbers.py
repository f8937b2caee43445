"""Runs of numbers, and slices of time: pure, against the obvious slow way."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from marketprism_consumer.validation.numbers import Numbers
from marketprism_consumer.validation.run import HOUR, slices

numbers = st.lists(st.integers(1, 60), min_size=1, max_size=40)


def added(parts: list[list[int]]) -> Numbers:
    """Each part as a slice gives it."""
    made = Numbers()
    for part in parts:
        own = sorted(set(part))
        starts = [b for a, b in pairwise(own) if b > a + 1]
        ends = [a for a, b in pairwise(own) if b > a + 1]
        made.add(own[0], own[-1], starts, ends)
    return made


@given(st.lists(numbers, min_size=1, max_size=5))
def test_whatever_order_slices_come_in_what_is_missing_is_known(parts: list[list[int]]) -> None:
    seen = set().union(*parts)
    made = added(parts)
    missing = [number for first, last in made.holes() for number in range(first, last + 1)]
    assert missing == [number for number in range(min(seen), max(seen)) if number not in seen]
    assert made.count == len(seen)
    assert made.repeats == sum(len(set(part)) for part in parts) - len(seen)


def test_half_of_the_steps_by_one_make_a_sequence() -> None:
    assert added([[1, 2, 4, 5, 7]]).sequential
    assert not added([[1, 3, 5, 7, 8]]).sequential
    assert not added([[1, 2]]).sequential, "too few to say"


hours = st.dictionaries(
    st.integers(0, 30).map(lambda n: n * HOUR), st.tuples(st.integers(0, 5000), st.integers(0, 5000)).filter(any)
)


@given(hours, st.integers(300, 3000), st.integers(0, HOUR - 1000), st.integers(1000, HOUR))
def test_slices_cover_every_hour_with_rows_once_and_in_order(
    found: dict[int, tuple[int, int]], limit: int, since: int, tail: int
) -> None:
    until = 30 * HOUR + tail
    made = slices(found, since, until, limit)
    for one, other in pairwise(made):
        assert one.until <= other.since
    for hour, (hot, cold) in found.items():
        start, end = max(hour, since), min(hour + HOUR, until)
        covering = [one for one in made if one.since < end and one.until > start]
        assert covering[0].since <= start
        assert covering[-1].until >= end
        if hot and cold:
            assert all(one.both for one in covering)
        if hot + cold > limit:
            assert len(covering) >= (hot + cold) / limit
