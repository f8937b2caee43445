"""What of the time is looked at, and in how many steps it can be drawn. Pure. Times in µs since 1970, UTC."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from marketprism_console.coverage.cells import DAY, MINUTE, SECOND

STEPS = (
    1,
    2,
    5,
    10,
    30,
    60,
    120,
    300,
    600,
    1800,
    3600,
    7200,
    14_400,
    43_200,
    86_400,
    3 * 86_400,
    7 * 86_400,
    28 * 86_400,
)
"""How long a candle may be [s]."""
MOST = 400  # candles in sight: beyond that they are thinner than a pixel's width each
SHORTEST = MINUTE
BEYOND = 20 * 366 * DAY  # nobody looks at more than that


@dataclass(frozen=True, slots=True)
class TimeWindow:
    """From `since` on and before `until`."""

    since: int
    until: int

    @property
    def width(self) -> int:
        return self.until - self.since

    def wider(self, share: float) -> TimeWindow:
        """By that share of its width, at either end."""
        more = int(self.width * share)
        return TimeWindow(max(0, self.since - more), self.until + more)

    def moved(self, share: float) -> TimeWindow:
        by = max(-self.since, int(self.width * share))
        return TimeWindow(self.since + by, self.until + by)

    def holds(self, other: TimeWindow) -> bool:
        return self.since <= other.since and other.until <= self.until


@dataclass(frozen=True, slots=True)
class TimeColumns:
    """`count` steps of `step` seconds, the first of which begins at `first` [s since 1970]."""

    first: int
    step: int
    count: int

    @classmethod
    def of(cls, window: TimeWindow, step: int) -> TimeColumns:
        first = window.since // SECOND // step * step
        return cls(first, step, max(1, -(-(window.until // SECOND - first) // step)))

    @property
    def window(self) -> TimeWindow:
        return TimeWindow(self.first * SECOND, (self.first + self.step * self.count) * SECOND)

    @property
    def starts(self) -> range:
        """[s since 1970]"""
        return range(self.first, self.first + self.step * self.count, self.step)

    @property
    def labels(self) -> list[str]:
        whole_days, within_one = self.step % 86_400 == 0, self.step * self.count <= 86_400
        form = "%Y-%m-%d" if whole_days else "%H:%M:%S" if within_one and self.step < 60 else "%m-%d %H:%M"
        if not whole_days and self.step < 60 and not within_one:
            form = "%m-%d %H:%M:%S"
        return [datetime.fromtimestamp(start, UTC).strftime(form) for start in self.starts]

    def place(self, window: TimeWindow) -> tuple[int, int]:
        """The first and the last column that are in it."""
        first = (window.since // SECOND - self.first) // self.step
        last = -(-(window.until // SECOND - self.first) // self.step) - 1
        return max(0, min(self.count - 1, first)), max(0, min(self.count - 1, last))

    def seen(self, start: float, end: float) -> TimeWindow:
        """What shows from `start` to `end` percent of the columns, as a chart says it."""
        first = round(start / 100 * (self.count - 1))
        last = max(first, round(end / 100 * (self.count - 1)))
        return TimeWindow((self.first + first * self.step) * SECOND, (self.first + (last + 1) * self.step) * SECOND)


def fitting(window: TimeWindow) -> TimeWindow:
    """Not shorter than what has candles, and not longer than anybody has."""
    middle, half = (window.since + window.until) // 2, min(max(window.width, SHORTEST), BEYOND) // 2
    return TimeWindow(max(0, middle - half), max(0, middle - half) + 2 * half)


def step_of(window: TimeWindow) -> int:
    """The finest that gives no more candles than can be seen [s]."""
    return next((step for step in STEPS if window.width <= step * SECOND * MOST), STEPS[-1])
