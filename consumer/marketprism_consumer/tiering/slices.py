"""Which rows are moved together: pure planning over counts of rows by time. Times are µs since 1970, UTC.

Each statement costs the same for one row as for a million, so a slice is of rows, not of time: as many whole hours as fit, or a
piece of one hour that is too large.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import groupby

from marketprism_consumer import times

SECOND = 1_000_000
HOUR = 3600 * SECOND
# How finely rows are counted: by the minute; where a minute is too much, by the second, and so on.
STEPS = (60 * SECOND, SECOND, 10_000, 100)
HOURS = 100  # with rows, in a slice: the parts of so many partitions of hot are named in one statement


@dataclass(frozen=True, slots=True)
class Filter:
    """Which rows are meant; empty: all of them."""

    exchange: str = ""
    market_type: str = ""
    symbol: str = ""


@dataclass(frozen=True, slots=True)
class Slice:
    """Rows of a table from `start` up to, not including, `end`: of whole hours, or within one. `rows` is what was counted."""

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
    """Neighbours together, up to `limit` rows, oldest first: whole hours where they fit, else pieces of one hour. A bucket above the
    limit is a slice of its own. `end` cuts the last."""
    slices: list[Slice] = []
    hours = 0  # whole ones in the last slice; 0 where it is a piece
    for _, of_hour in groupby(buckets, lambda bucket: bucket.start // HOUR):
        hour = list(of_hour)
        pieces = _pieces(hour, limit, end, filter_)
        whole = len(pieces) == 1 and pieces[0].rows <= limit
        if whole and 0 < hours < HOURS and slices[-1].rows + pieces[0].rows <= limit:
            slices[-1] = Slice(slices[-1].start, pieces[0].end, slices[-1].rows + pieces[0].rows, filter_)
            hours += 1
        else:
            slices += pieces
            hours = 1 if whole else 0
    return slices


def _pieces(buckets: Sequence[Bucket], limit: int, end: int, filter_: Filter) -> list[Slice]:
    """Neighbours together, up to `limit` rows."""
    slices: list[Slice] = []
    for bucket in buckets:
        upto = min(bucket.start + bucket.step, end)
        last = slices[-1] if slices else None
        if last and last.rows + bucket.rows <= limit:
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


def together(slices: Sequence[Slice]) -> list[list[Slice]]:
    """Pieces of one hour in one list: they share its parts, and are deleted at once."""
    return [list(of_hour) for _, of_hour in groupby(slices, lambda slice_: slice_.hour)]
