"""When a batch is due, and what goes into it."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from marketprism_api import reasons
from marketprism_api.data_types import BUILT_IN
from marketprism_consumer.errors import MessageError
from marketprism_consumer.ingest.batch import GROWN, HOUR, PACE, PARTITIONS, Batch, BatchBounds, Batcher
from marketprism_consumer.ingest.message import Message

LIMITS = BatchBounds(max_rows=100, max_delay=10.0, max_pending=1000, max_bytes=10_000)
BAD = MessageError(reasons.BAD_JSON)


def message(seq: int = 1, size: int = 1) -> Message:
    return Message(seq, 0, 0, "trade.x", bytes(size))


def fill(batcher: Batcher, rows: int, now: float, size: int = 1) -> bool:
    return [batcher.add(message(seq, size), (seq,), now) for seq in range(rows)][-1]


# --- partitions ---------------------------------------------------------------------------------------------------------


def test_a_batch_has_no_more_partitions_than_clickhouse_remembers_tokens_for() -> None:
    batcher = Batcher(LIMITS)
    hours = [hour for _ in range(3) for hour in range(PARTITIONS + 10)]
    for seq, hour in enumerate(hours):
        batcher.add(message(seq), (hour * HOUR + seq,), 50.0)
    batches = []
    while len(batcher):
        batches.append(batcher.take(50.0, stopping=True))
    assert [m.seq for batch in batches for m in batch.messages] == list(range(len(hours)))
    assert max(len({row[0] // HOUR for row in batch.rows}) for batch in batches) == PARTITIONS


def test_what_would_bring_one_too_many_makes_the_batch_due_at_the_pace() -> None:
    batcher = Batcher(LIMITS)
    for hour in range(PARTITIONS):
        batcher.add(message(hour), (hour * HOUR,), 50.0)
    assert batcher.wait(50.0) == 10.0
    assert batcher.add(message(99), (99 * HOUR,), 50.0)
    assert batcher.wait(50.0) == 0.0
    assert batcher.take(50.0).why == "partitions"
    batcher.add(message(100), (100 * HOUR,), 50.0)
    assert batcher.wait(50.0) == 10.0


# --- due ----------------------------------------------------------------------------------------------------------------

DUE = [  # rows, bytes each, seconds since the first row → seconds to wait, why
    ("nothing", 0, 0, 0.0, math.inf, None),
    ("one row", 1, 1, 0.0, 10.0, "time"),
    ("one row, later", 1, 1, 9.5, 0.5, "time"),
    ("one row, in time", 1, 1, 10.0, 0.0, "time"),
    ("long past its time", 1, 1, 99.0, 0.0, "time"),
    ("a row less than enough", 99, 1, 0.0, 10.0, "time"),
    ("rows enough", 100, 1, 0.0, 0.0, "rows"),
    ("more rows than enough", 300, 1, 0.0, 0.0, "rows"),
    ("bytes enough", 10, 1000, 0.0, 0.0, "bytes"),
    ("a byte less than enough", 9, 1111, 0.0, 10.0, "time"),
    ("one message above the bytes", 1, 10_001, 0.0, 0.0, "bytes"),
    ("full", 1000, 1, 0.0, 0.0, "full"),
]


@pytest.mark.parametrize(("rows", "size", "passed", "wait", "why"), [c[1:] for c in DUE], ids=[c[0] for c in DUE])
def test_a_batch_is_due_by_rows_bytes_or_time(
    rows: int, size: int, passed: float, wait: float, why: str | None
) -> None:
    batcher = Batcher(LIMITS)
    if rows:
        fill(batcher, rows, 50.0, size)
    assert batcher.wait(50.0 + passed) == wait
    if why:
        assert batcher.take(50.0 + passed).why == why


@pytest.mark.parametrize("data_type", list(BUILT_IN))
def test_every_types_default_batch_is_due_at_its_rows(data_type: str) -> None:
    defaults = BUILT_IN[data_type].batch
    limits = BatchBounds(defaults.max_rows, defaults.max_delay, defaults.max_pending, defaults.max_bytes)
    batcher = Batcher(limits)
    fill(batcher, limits.max_rows, 0.0)
    assert batcher.wait(0.0) == 0.0
    assert batcher.take(0.0).why == "rows"


def test_time_counts_from_the_batchs_own_first_row() -> None:
    batcher = Batcher(LIMITS)
    fill(batcher, 1, 0.0)
    batcher.take(10.0)
    batcher.add(message(), (1,), 15.0)
    batcher.add(message(), (2,), 24.0)
    assert batcher.wait(24.0) == 1.0


def test_what_cannot_be_stored_counts_too_and_opens_a_batch() -> None:
    batcher = Batcher(LIMITS)
    assert batcher.refuse(message(), BAD, 3.0) is True
    assert batcher.wait(3.0) == 10.0
    assert len(batcher) == 1
    assert batcher.bytes == 1


def test_inserts_begin_a_second_apart() -> None:
    batcher = Batcher(LIMITS)
    fill(batcher, 100, 0.0)
    batcher.take(0.0)
    fill(batcher, 100, 0.2)
    assert batcher.wait(0.2) == pytest.approx(PACE - 0.2)
    assert batcher.wait(PACE) == 0.0


@pytest.mark.parametrize(("rows", "size"), [(1000, 1), (10, 1000)])
def test_but_a_full_batch_waits_for_nothing(rows: int, size: int) -> None:
    batcher = Batcher(LIMITS)
    fill(batcher, 100, 0.0)
    batcher.take(0.0)
    fill(batcher, rows, 0.2, size)
    assert batcher.wait(0.2) == 0.0


WAKES = [(1, True), (2, False), (99, False), (100, True), (101, False), (999, False), (1000, True), (1001, True)]


@pytest.mark.parametrize(("rows", "wakes"), WAKES)
def test_who_waits_is_woken_when_something_changes(rows: int, wakes: bool) -> None:
    assert fill(Batcher(LIMITS), rows, 0.0) is wakes


def test_stopping_says_so_whatever_is_in_it() -> None:
    batcher = Batcher(LIMITS)
    assert batcher.take(0.0, stopping=True).why == "stop"
    fill(batcher, 1000, 0.0)
    assert batcher.take(0.0, stopping=True).why == "stop"


# --- growing and shrinking ----------------------------------------------------------------------------------------------


def run(batcher: Batcher, rate: float, seconds: float, start: float = 0.0) -> list[float]:
    """Messages come at this rate; whoever waits takes the batch the moment it is due. Returns when it was taken."""
    taken = []
    step = max(1, int(rate / 200))
    count = int(rate * seconds)
    for number in range(0, count, step):
        now = start + number / rate
        if batcher.wait(now) == 0.0:
            batcher.take(now)
            taken.append(now)
        for _ in range(step):
            batcher.add(message(), (0,), now)
    return taken


def unlimited(max_rows: int = 100, max_pending: int = 1000) -> Batcher:
    return Batcher(BatchBounds(max_rows, 10.0, max_pending, 1 << 40))


@pytest.mark.parametrize("rate", [50, 150, 900, 5_000, 20_000, 45_000])
def test_an_endless_backlog_makes_about_one_insert_a_second_once_grown(rate: int) -> None:
    taken = run(unlimited(), rate, 20)
    assert len([at for at in taken if at >= 10]) <= 11


def test_a_batch_that_filled_up_within_the_pace_makes_the_next_twice_as_large() -> None:
    batcher = unlimited()
    caps = []
    for number in range(8):
        fill(batcher, batcher.cap, number * 0.1)
        batcher.take(number * 0.1)
        caps.append(batcher.cap)
    assert caps == [1000, 2000, 4000, 8000, 16000, 32000, GROWN, GROWN]


def test_a_batch_that_took_its_second_to_fill_up_does_not() -> None:
    batcher = unlimited()
    for number in range(4):
        fill(batcher, 1000, number * 2.0)
        batcher.take(number * 2.0)
    assert batcher.cap == 1000


def test_when_the_backlog_is_gone_it_shrinks_to_what_the_user_set() -> None:
    batcher = unlimited()
    run(batcher, 20_000, 6)
    assert batcher.cap > 10_000
    run(batcher, 120, 30, start=10)
    assert batcher.cap == 1000


def test_a_users_own_larger_limit_is_never_cut() -> None:
    batcher = unlimited(max_pending=80_000)
    fill(batcher, 80_000, 0.0)
    batcher.take(0.0)
    fill(batcher, 80_000, 0.1)
    batcher.take(0.1)
    assert batcher.cap == 80_000


# --- whatever happens ---------------------------------------------------------------------------------------------------


class AnyOrder(RuleBasedStateMachine):
    """Every message is in exactly one taken batch, in order, beside its own row."""

    def __init__(self) -> None:
        super().__init__()
        self.batcher = Batcher(BatchBounds(max_rows=3, max_delay=2.0, max_pending=5, max_bytes=20))
        self.now = 100.0
        self.added: list[int] = []
        self.refused: list[int] = []
        self.taken: list[Batch] = []

    def next(self, size: int) -> Message:
        return message(len(self.added) + len(self.refused), size)

    @rule(size=st.integers(0, 9))
    def add(self, size: int) -> None:
        new = self.next(size)
        self.added.append(new.seq)
        self.batcher.add(new, (0, new.seq), self.now)

    @rule(size=st.integers(0, 9))
    def refuse(self, size: int) -> None:
        new = self.next(size)
        self.refused.append(new.seq)
        self.batcher.refuse(new, BAD, self.now)

    @rule(seconds=st.floats(0, 3))
    def passes(self, seconds: float) -> None:
        self.now += seconds

    @rule(stopping=st.booleans())
    def take(self, stopping: bool) -> None:
        self.taken.append(self.batcher.take(self.now, stopping=stopping))

    @rule()
    def take_when_due(self) -> None:
        wait = self.batcher.wait(self.now)
        if wait < math.inf:
            self.now += wait
            # 1e-9: the sum of two floats may be an instant short of the moment that it names
            assert self.batcher.wait(self.now) < 1e-9
            batch = self.batcher.take(self.now)
            assert batch.why in ("rows", "bytes", "time", "full")
            self.taken.append(batch)

    @invariant()
    def nothing_is_lost_or_double(self) -> None:
        held = self.batcher._batch
        batches = [*self.taken, held]
        assert [m.seq for batch in batches for m in batch.messages] == self.added
        assert [m.seq for batch in batches for m, _ in batch.refused] == self.refused
        for batch in batches:
            assert [row[1] for row in batch.rows] == [m.seq for m in batch.messages]
            assert batch.bytes == sum(len(m.payload) for m in batch.messages) + sum(
                len(m.payload) for m, _ in batch.refused
            )
        assert len(self.batcher) == len(held)

    @invariant()
    def a_wait_is_finite_exactly_while_there_is_something(self) -> None:
        wait = self.batcher.wait(self.now)
        assert wait >= 0.0
        assert (wait < math.inf) is (len(self.batcher) > 0)
        assert wait == math.inf or wait <= max(2.0, PACE)

    @invariant()
    def its_cap_is_within_bounds(self) -> None:
        assert 5 <= self.batcher.cap <= GROWN


TestAnyOrder = AnyOrder.TestCase
TestAnyOrder.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)


@given(st.lists(st.tuples(st.floats(0, 3), st.integers(1, 1500)), max_size=20))
@settings(max_examples=30, deadline=None)
def test_no_row_waits_longer_than_max_delay_and_the_pace(bursts: list[tuple[float, int]]) -> None:
    batcher, now = unlimited(), 0.0
    for gap, rows in bursts:
        now += gap
        fill(batcher, rows, now)
        opened: Any = batcher._batch.opened
        assert now + batcher.wait(now) <= max(now, opened + 10.0, batcher._last_taken + PACE)
        if batcher.wait(now) == 0.0:
            batcher.take(now)
