"""Whole numbers as runs without a hole: what is missing in a venue's sequence, whatever order it was read in. Pure."""

from __future__ import annotations

from bisect import insort
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise


@dataclass(slots=True)
class Numbers:
    """The numbers that were seen, as runs of first and last, sorted and apart."""

    runs: list[tuple[int, int]] = field(default_factory=list)
    repeats: int = 0
    """How often a number came that was there already."""

    def add(self, lowest: int, highest: int, starts: list[int], ends: list[int]) -> None:
        """Numbers from `lowest` to `highest`, with holes from each of `ends` to the same one of `starts`."""
        for first, last in zip([lowest, *starts], [*ends, highest], strict=True):
            self._add(first, last)

    def _add(self, first: int, last: int) -> None:
        if self.runs and first > self.runs[-1][0]:  # as it nearly always is
            before, until = self.runs[-1]
            if first > until + 1:
                self.runs.append((first, last))
                return
            self.repeats += max(0, min(last, until) - first + 1)
            self.runs[-1] = before, max(last, until)
            return
        insort(self.runs, (first, last))
        merged: list[tuple[int, int]] = []
        for start, end in self.runs:
            if merged and start <= merged[-1][1] + 1:
                self.repeats += max(0, min(end, merged[-1][1]) - start + 1)
                merged[-1] = merged[-1][0], max(end, merged[-1][1])
            else:
                merged.append((start, end))
        self.runs = merged

    @property
    def count(self) -> int:
        return sum(last - first + 1 for first, last in self.runs)

    @property
    def sequential(self) -> bool:
        """Whether at least half of the steps are by one."""
        return self.count >= 3 and 2 * (len(self.runs) - 1) <= self.count - 1

    def holes(self) -> Iterator[tuple[int, int]]:
        """Each as its first and last missing number."""
        for (_, before), (after, _) in pairwise(self.runs):
            yield before + 1, after - 1
