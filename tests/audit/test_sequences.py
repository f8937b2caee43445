"""The set algebra of the audit against Python's own sets."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from marketprism_consumer.operations.sequences import (
    WINDOW,
    Judgement,
    Position,
    Ranges,
    Sequences,
    between,
    judge,
    runs,
    up_to,
)

NEAR = st.integers(min_value=1, max_value=300)
FAR = st.integers(min_value=1, max_value=1 << 40)
SETS = st.frozensets(NEAR)


def bits(sequences: frozenset[int] | set[int], base: int = 0) -> int:
    return sum(1 << (seq - base) for seq in sequences)


def members(value: int, base: int = 0) -> set[int]:
    return {seq for first, last in runs(value, base) for seq in range(first, last + 1)}


@given(st.frozensets(NEAR | FAR, max_size=50))
def test_sequences_come_back_window_by_window(sequences: frozenset[int]) -> None:
    made = Sequences(sequences)
    assert all(seq in made for seq in sequences)
    assert {seq for w in made.windows() for seq in members(made.window(w), w * WINDOW)} == sequences


@given(st.frozensets(NEAR | FAR, max_size=50), st.frozensets(NEAR, max_size=20))
def test_words_add_to_what_is_there(sequences: frozenset[int], before: frozenset[int]) -> None:
    words: dict[int, int] = {}
    for seq in sequences:
        words[seq // 64] = words.get(seq // 64, 0) | 1 << seq % 64
    made = Sequences(before)
    made.add_words(words.items())
    assert {seq for w in made.windows() for seq in members(made.window(w), w * WINDOW)} == sequences | before


def test_what_was_never_added_takes_no_memory_and_is_not_there() -> None:
    made = Sequences([1, 10**15])
    assert made.windows() == {0, 10**15 // WINDOW}
    assert 2 not in made
    assert made.window(1) == 0


@given(SETS)
def test_runs_are_maximal_and_in_order(sequences: frozenset[int]) -> None:
    found = list(runs(bits(sequences), 0))
    assert {seq for first, last in found for seq in range(first, last + 1)} == sequences
    assert all(later[0] > earlier[1] + 1 for earlier, later in pairwise(found))


@given(st.integers(0, 500), st.integers(0, 500), st.integers(0, 500))
def test_masks(base: int, first: int, last: int) -> None:
    assert members(up_to(base, last), base) == set(range(base, last + 1))
    assert members(between(base, first, last), base) == set(range(max(base, first), last + 1))


@given(SETS, st.integers(1, 10))
def test_ranges_join_across_windows_and_count_all(sequences: frozenset[int], parts: int) -> None:
    made, size = Ranges(), 301 // parts + 1
    for base in range(0, 301, size):
        made.add(bits({seq for seq in sequences if base <= seq < base + size}, base), base)
    assert made.count == len(sequences)
    assert made.ranges == list(runs(bits(sequences), 0))


def test_ranges_name_the_first_thousand() -> None:
    made = Ranges()
    made.add(bits(set(range(0, 10_000, 2))), 0)
    assert made.count == 5_000
    assert made.ranges == [(seq, seq) for seq in range(0, 2_000, 2)]
    assert str(made) == "0, 2, 4, 6, 8 and 4,995 more"


@given(SETS, SETS, SETS, NEAR, st.lists(st.tuples(NEAR, NEAR), max_size=3), st.integers(0, 300))
def test_every_held_message_has_one_fate(
    held: frozenset[int],
    rows: frozenset[int],
    dead: frozenset[int],
    done: int,
    claims: list[tuple[int, int]],
    begin: int,
) -> None:
    at = Position(begin, [(0, done), *claims])
    judged = judge(0, bits(held), bits(rows), bits(dead), at)
    fates = [judged.rows, judged.dead_letters, judged.missing, judged.pending, judged.unwanted]
    assert sum(fate.bit_count() for fate in fates) == len(held)
    assert members(bits(held)) == set().union(*map(members, fates))
    assert members(judged.both) == rows & dead
    is_done = {s for start, end in at.done for s in range(start + 1, end + 1)}
    assert members(judged.missing) == {s for s in held - rows - dead if s > begin and s in is_done}
    assert members(judged.pending) == {s for s in held - rows - dead if s > begin and s not in is_done}
    assert at.reached == max(end for _, end in at.done)


def test_nothing_is_judged_of_nothing() -> None:
    assert judge(0, 0, 0, 0, Position()) == Judgement(0, 0, 0, 0, 0, 0)
