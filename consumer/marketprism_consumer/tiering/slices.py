"""Which rows are moved together: pure planning over counts of rows by time. Times are µs since 1970, UTC."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from marketprism_consumer import times

SECOND = 1_000_000
HOUR = 3600 * SECOND
# How finely rows are counted: by the minute; where a minute is too much, by the second, and so on.
STEPS = (60 * SECOND, SECOND, 10_000, 100)


@dataclass(frozen=True, slots=True)
class Filter:
    """Which rows are meant; empty: all of them."""

    exchange: str = ""
    market_type: str = ""
    symbol: str = ""


@dataclass(frozen=True, slots=True)
class Slice:
    """Rows of a table from `start` up to, not including, `end`, within one hour. `rows` is what was counted."""

    start: int
    end: int
    rows: int = 0
    filter: Filter = field(default=Filter())

    @property
    def hour(self) -> int:
        return self.start - self.start % HOUR

    def __str__(self) -> str:
        return f"{times.shown(self.start)}..{times.shown(self.end)}"


@dataclass(frozen=True, slots=True)
class Bucket:
    """This many rows within `step` from `start` on."""

    start: int
    step: int
    rows: int


def pack(buckets: Sequence[Bucket], limit: int, end: int, filter_: Filter) -> list[Slice]:
    """Neighbours together, up to `limit` rows and never across an hour, oldest first. A bucket above the limit is a slice
    of its own. `end` cuts the last."""
    slices: list[Slice] = []
    for bucket in buckets:
        upto = min(bucket.start + bucket.step, end)
        last = slices[-1] if slices else None
        if last and last.hour == bucket.start - bucket.start % HOUR and last.rows + bucket.rows <= limit:
            slices[-1] = Slice(last.start, upto, last.rows + bucket.rows, filter_)
        else:
            slices.append(Slice(bucket.start, upto, bucket.rows, filter_))
    return slices


def finer(slice_: Slice, limit: int) -> int | None:
    """The step with which to count again a slice that is too large; None where it fits, or can't be cut."""
    span = slice_.end - slice_.start
    return next((step for step in STEPS if step < span), None) if slice_.rows > limit else None


def within(slices: Sequence[Slice], limit: int) -> list[Slice]:
    """The oldest slices that hold at most `limit` rows together; at least one, or nothing would ever move."""
    taken: list[Slice] = []
    rows = 0
    for slice_ in slices:
        if taken and rows + slice_.rows > limit:
            break
        taken.append(slice_)
        rows += slice_.rows
    return taken


def by_hour(slices: Sequence[Slice]) -> list[list[Slice]]:
    hours: dict[int, list[Slice]] = {}
    for slice_ in slices:
        hours.setdefault(slice_.hour, []).append(slice_)
    return list(hours.values())
