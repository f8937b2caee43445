"""The cells of the map, and what is wrong with each. Pure. Times in µs since 1970, UTC."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from itertools import pairwise
from typing import Literal, NamedTuple

SECOND = 1_000_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
DAY = 24 * HOUR

CellUnit = Literal["hour", "day"]
LENGTH: Mapping[CellUnit, int] = {"hour": HOUR, "day": DAY}
USUAL_PAUSES = 20  # as in a validation: a silence is at least this many times the usual pause
SEQUENTIAL = 0.5  # of the numbers between the first and the last are there, or they are no sequence

MarketKey = tuple[str, str, str]
"""Exchange, market type, symbol."""


class Cell(NamedTuple):
    """One market in one hour or day. `hot` and `cold`: rows there; `doubled`: those that are in both. `lowest`, `highest`: the venue's
    numbers, 0 where it has none. `minutes`: with a row; `lead`, `pause`, `trail`: without one, before the first, the longest
    in between, after the last."""

    market: MarketKey
    start: int
    hot: int
    cold: int
    doubled: int
    lowest: int
    highest: int
    minutes: int
    lead: int
    pause: int
    trail: int

    @property
    def rows(self) -> int:
        return self.hot + self.cold - self.doubled


class State(IntEnum):
    """From good to bad: a cell shows the worst."""

    WHOLE = 0
    DEAD_LETTERS = 1
    SILENT = 2
    MISSING = 3
    EMPTY = 4


@dataclass(frozen=True, slots=True)
class Judged:
    """A place on the map. `silent`: minutes; `missing`: numbers that the venue gave and no row has."""

    market: MarketKey
    start: int
    state: State
    rows: int = 0
    hot: int = 0
    cold: int = 0
    minutes: int = 0
    silent: int = 0
    missing: int = 0
    letters: int = 0

    @property
    def tier(self) -> str:
        return " and ".join(name for name, rows in (("hot", self.hot), ("cold", self.cold)) if rows)


def merged(one: Cell, other: Cell) -> Cell:
    """Of two servers, neither of which knows the other's minutes: at best what both say together."""
    return Cell(
        one.market,
        one.start,
        one.hot + other.hot,
        one.cold + other.cold,
        one.doubled + other.doubled,
        min(filter(None, (one.lowest, other.lowest)), default=0),
        max(one.highest, other.highest),
        max(one.minutes, other.minutes),
        min(one.lead, other.lead),
        min(one.pause, other.pause),
        min(one.trail, other.trail),
    )


def judged(
    cells: Iterable[Cell], unit: CellUnit, max_silence: float, letters: Mapping[tuple[MarketKey, int], int]
) -> list[Judged]:
    """By market and time; where a market has nothing between its first and its last cell there is an EMPTY one. `max_silence` in seconds,
    0 for none; `letters`: dead letters by market and start of the cell."""
    of_market: defaultdict[MarketKey, list[Cell]] = defaultdict(list)
    for cell in cells:
        of_market[cell.market].append(cell)
    made = []
    for market in sorted(of_market):
        found = sorted(of_market[market], key=lambda cell: cell.start)
        made += _of_market(found, unit, max_silence, {start: n for (of, start), n in letters.items() if of == market})
    return made


def _of_market(cells: Sequence[Cell], unit: CellUnit, max_silence: float, letters: Mapping[int, int]) -> list[Judged]:
    length = LENGTH[unit]
    first, last = cells[0], cells[-1]
    span = last.start + length - first.start - (first.lead + last.trail) * MINUTE
    usual = span / max(1, sum(cell.rows for cell in cells))
    longest = max(max_silence * SECOND, USUAL_PAUSES * usual) / MINUTE if max_silence else float("inf")
    told = length / MINUTE > longest  # a whole cell without a row is a fault
    missing = _missing(cells, 2 * length if told else float("inf"))
    made = []
    for cell, following in zip(cells, [*cells[1:], None], strict=True):
        # What is before a market's first row, and after its last one, is no silence.
        pauses = (cell.lead if cell is not first else 0, cell.pause, cell.trail if cell is not last else 0)
        silent = max(pauses) if max(pauses) > longest else 0
        count = letters.get(cell.start, 0)
        lost = missing.get(cell.start, 0)
        state = State.MISSING if lost else State.SILENT if silent else State.DEAD_LETTERS if count else State.WHOLE
        made.append(
            Judged(cell.market, cell.start, state, cell.rows, cell.hot, cell.cold, cell.minutes, silent, lost, count)
        )
        between = range(cell.start + length, following.start, length) if following else ()
        if told:
            made += [Judged(cell.market, start, State.EMPTY, letters=letters.get(start, 0)) for start in between]
    return made


def _missing(cells: Sequence[Cell], apart: float) -> dict[int, int]:
    """By start; of the numbers from the end of the one before to its own end. Nothing where the numbers are no sequence. What starts at
    least so far `apart` has EMPTY cells between: those say it."""
    numbered = [cell for cell in cells if cell.lowest]
    if not numbered:
        return {}
    there = sum(cell.rows for cell in numbered)
    if there < SEQUENTIAL * (max(c.highest for c in numbered) - min(c.lowest for c in numbered) + 1):
        return {}
    found = {cell.start: max(0, cell.highest - cell.lowest + 1 - cell.rows) for cell in numbered}
    for before, cell in pairwise(numbered):
        if cell.start - before.start < apart:
            found[cell.start] += max(0, cell.lowest - before.highest - 1)
    return found


def totals(judgements: Iterable[Judged]) -> dict[State, int]:
    found = dict.fromkeys(State, 0)
    for one in judgements:
        found[one.state] += 1
    return found


def worst(judgements: Iterable[Judged], limit: int) -> list[Judged]:
    """Those that are not whole, worst first, then newest."""
    found = sorted(
        (one for one in judgements if one.state is not State.WHOLE),
        key=lambda one: (-one.state, -one.start, one.market),
    )
    return found[:limit]
