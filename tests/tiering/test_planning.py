"""The pure parts: slices, totals, leases, days; and the algorithm against a model that dies at every call."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from itertools import pairwise
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from marketprism_consumer.errors import TieringError
from marketprism_consumer.tiering.algorithm import Moved, Proof, Survey, Totals, move_slices, plan
from marketprism_consumer.tiering.lease import Contender, winner
from marketprism_consumer.tiering.retention import expired, ttl_seconds
from marketprism_consumer.tiering.slices import (
    HOUR,
    HOURS,
    SECOND,
    STEPS,
    Bucket,
    Filter,
    Slice,
    finer,
    pack,
    together,
    within,
)
from marketprism_consumer.tiering.two_tiers import HashedColumn, hashed

ALL = Filter()
MINUTE = STEPS[0]


@given(st.lists(st.integers(0, 400), min_size=1, max_size=200), st.integers(1, 1000), st.integers(0, 5 * HOUR))
def test_slices_cover_every_bucket_once_in_whole_hours_or_pieces_of_one(
    counts: list[int], limit: int, offset: int
) -> None:
    begin = offset - offset % MINUTE
    buckets = [Bucket(begin + n * MINUTE, MINUTE, rows) for n, rows in enumerate(counts) if rows]
    slices = pack(buckets, limit, begin + len(counts) * MINUTE, ALL)
    assert sum(one.rows for one in slices) == sum(counts)
    for one in slices:
        assert one.rows <= limit or one.end - one.start == MINUTE
    for left, right in pairwise(slices):
        if right.start // HOUR == (left.end - 1) // HOUR:
            assert left.hour == right.hour, "a piece of an hour holds nothing of another"
    assert all(left.end <= right.start for left, right in pairwise(slices))
    for bucket in buckets:
        assert sum(one.start <= bucket.start < one.end for one in slices) == 1
    assert sum(map(len, together(slices))) == len(slices)


def test_hours_with_few_rows_are_moved_together() -> None:
    hours = [Bucket(n * HOUR, MINUTE, 10) for n in range(3 * HOURS)]
    assert [one.rows for one in pack(hours, 1_000_000, 3 * HOURS * HOUR, ALL)] == [10 * HOURS] * 3
    assert [one.rows for one in pack(hours, 25, 3 * HOURS * HOUR, ALL)] == [20] * (3 * HOURS // 2)


def test_a_slice_that_is_too_large_is_counted_finer_until_time_can_tell_no_more() -> None:
    assert finer(Slice(0, MINUTE, 10), 10) is None
    assert finer(Slice(0, MINUTE, 11), 10) == SECOND
    assert finer(Slice(0, 100, 11), 10) is None


def test_the_limit_takes_the_oldest_and_one_at_least() -> None:
    slices = [Slice(n * HOUR, (n + 1) * HOUR, 40) for n in range(4)]
    assert within(slices, 100) == slices[:2]
    assert within(slices, 1) == slices[:1]


@given(st.lists(st.tuples(st.integers(0, 2**64 - 1), st.booleans()), max_size=50))
def test_totals_of_parts_are_the_totals_of_the_whole(rows: list[tuple[int, bool]]) -> None:
    def totals(hashes: Sequence[int]) -> Totals:
        found = Totals()
        for one in hashes:
            found += Totals(1, one, one)
        return found

    left = totals([h for h, first in rows if first])
    right = totals([h for h, first in rows if not first])
    assert left + right == totals([h for h, _ in rows])


def test_the_lowest_ticket_wins_and_who_has_none_yet_is_waited_for() -> None:
    a, b, announced = Contender("a", "", 5, 9), Contender("b", "", 4, 9), Contender("c", "", 0, 9)
    assert winner([a, b]) == "b"
    assert winner([a, b, announced]) is None
    assert winner([]) is None


def test_whole_days_expire() -> None:
    now = datetime(2025, 9, 24, 12, tzinfo=UTC)
    assert expired(["20250922", "20250923", "20250924", "all", "1735689600"], now, 24 * 3600) == ["20250922"]


@pytest.mark.parametrize(
    ("ttl", "seconds"),
    [
        ("toDateTime(created_at) + toIntervalSecond(259200)", 259200.0),
        ("t + toIntervalDay(3)", 259200.0),
        ("t + x", None),
    ],
)
def test_the_time_in_a_ttl(ttl: str, seconds: float | None) -> None:
    assert ttl_seconds(ttl) == seconds


def test_a_null_is_a_value_of_its_own_in_the_hash() -> None:
    nullable = HashedColumn("a", "LowCardinality(Nullable(String))")
    assert hashed([nullable, HashedColumn("b", "Array(Decimal(38, 18))")]) == (
        "cityHash64(isNull(`a`), ifNull(`a`, defaultValueOfTypeName('String')), `b`)"
    )
    assert "defaultValueOfTypeName('DateTime64(6, \\'UTC\\')')" in hashed(
        [HashedColumn("t", "Nullable(DateTime64(6, 'UTC'))")]
    )


# --- the algorithm on a model -----------------------------------------------------------------------------------------


class Died(Exception):
    pass


class Model:
    """Hot in parts, cold as a list of (identity, value): what a crash and a second run can do, a hundred times a second."""

    def __init__(self, random: Random, rows: int) -> None:
        self.random = random
        self.hot: dict[str, dict[int, tuple[int, int]]] = {}  # part → row number → (identity, value)
        self.cold: list[tuple[int, int]] = []
        self.parts = 0
        self.ever: list[int] = []
        self.values: set[int] = set()
        self.dies = 0.0
        for _ in range(3):
            self.insert(rows)

    def insert(self, rows: int) -> None:
        self.parts += 1
        part = {}
        for number in range(rows):
            value = len(self.ever) + 1
            self.ever.append(value)
            part[number] = (0 if self.random.random() < 0.1 else value, value)
        self.hot[f"p{self.parts}"] = part

    def merge(self) -> None:
        """Any two parts become one, of another name."""
        if len(self.hot) > 1:
            a, b = self.random.sample(sorted(self.hot), 2)
            self.parts += 1
            rows = [*self.hot.pop(a).values(), *self.hot.pop(b).values()]
            self.hot[f"p{self.parts}"] = dict(enumerate(rows))

    def _moment(self) -> None:
        """Before every statement: merges, late rows, another run's copy; or death."""
        dice = self.random.random()
        if dice < 0.1:
            self.merge()
        elif dice < 0.15:
            self.insert(2)
        elif dice < 0.2:
            self._copy(self.random.random() < 0.5)
        if self.random.random() < self.dies:
            raise Died
        self.check()

    def check(self) -> None:
        hot = {value for part in self.hot.values() for _, value in part.values()}
        assert hot | {value for _, value in self.cold} == set(self.ever), "a row is in neither tier"

    def _copy(self, blindly: bool) -> None:
        known = set() if blindly else {identity for identity, _ in self.cold}
        rows = [row for part in self.hot.values() for row in part.values() if row[0] and row[0] not in known]
        # The server may be killed between the blocks of one insert.
        self.cold += rows if not self.dies else rows[: self.random.randint(0, len(rows))]

    async def buckets(self, start: int, end: int, step: int, filter_: Filter) -> list[Bucket]:
        return [Bucket(start, min(step, HOUR), sum(map(len, self.hot.values())))]

    async def name(self, one: Slice) -> None:
        self._moment()
        for name in sorted(self.hot):
            self.parts += 1
            part = self.hot.pop(name)
            self.hot[f"p{self.parts}"] = {
                n: (identity or -self.random.getrandbits(62), v) for n, (identity, v) in part.items()
            }

    async def survey(self, one: Slice) -> Survey:
        self._moment()
        parts = {}
        for name, rows in self.hot.items():
            parts[name] = Totals()
            for row in rows.values():
                parts[name] += Totals(1, hash(row), hash(row))
        return Survey(parts, sum(not identity for part in self.hot.values() for identity, _ in part.values()))

    async def copy(self, one: Slice, token: str) -> None:
        self._moment()
        self._copy(False)
        self._moment()

    async def cold_totals(self, one: Slice) -> Totals:
        self._moment()
        found = Totals()
        for row in self.cold:
            found += Totals(1, hash(row), hash(row))
        return found

    async def lacking(self, one: Slice, parts: Sequence[str]) -> int:
        self._moment()
        return sum(row not in self.cold for part in parts for row in self.hot.get(part, {}).values())

    async def conflicts(self, one: Slice, parts: Sequence[str]) -> int:
        return 0

    async def doubles(self, one: Slice) -> int:
        self._moment()
        return len(self.cold) - len({identity for identity, _ in self.cold})

    async def repair(self, one: Slice) -> None:
        self._moment()
        self.cold = list(dict.fromkeys(self.cold))

    async def kept(self) -> None:
        pass

    async def part_rows(self, parts: Sequence[str]) -> Mapping[str, int]:
        self._moment()
        return {part: len(self.hot[part]) for part in parts if part in self.hot}

    async def fresh(self, parts: Sequence[str]) -> set[str]:
        return set()

    async def drop_part(self, part: str) -> bool:
        self._moment()
        return self.hot.pop(part, None) is not None

    async def delete(self, proofs: Sequence[Proof]) -> int:
        self._moment()
        return sum(len(self.hot.pop(part, {})) for proof in proofs for part in proof.parts)


@pytest.mark.parametrize("seed", range(100))
async def test_no_row_is_ever_in_neither_tier_and_none_ends_up_twice(seed: int) -> None:
    random = Random(seed)
    model = Model(random, 8)
    one = Slice(0, HOUR)
    for _ in range(12):
        model.dies = 0.05
        try:
            moved = await move_slices(model, [one], "run", delete=True)
            assert isinstance(moved, Moved)
        except (Died, TieringError):
            model.check()
    model.dies = 0.0
    model._moment = model.check  # type: ignore[method-assign]
    # Two other runs have copied what is still in hot: the doubles are gone by the time that hot is empty.
    model.insert(4)
    model._copy(blindly=True)
    model._copy(blindly=True)
    doubled = {value for part in model.hot.values() for _, value in part.values()}
    while model.hot:
        await move_slices(model, [one], "run", delete=True)
    assert sorted(value for _, value in model.cold if value in doubled) == sorted(doubled)
    # A copy of another run that came after our delete is for the next look at the hour, which the ledger brings.
    await model.repair(one)
    assert sorted(value for _, value in model.cold) == model.ever
    assert await plan(model, 0, HOUR, 10, ALL) is not None
