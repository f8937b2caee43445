"""A row of numbers as a row of bars, one character each."""

from __future__ import annotations

from collections.abc import Sequence

BARS, ASCII_BARS = "▁▂▃▄▅▆▇█", ".:-=+*%#"


def sparkline(values: Sequence[float | None], bars: str = BARS) -> str:
    """From 0, the lowest bar, to the greatest value, the highest; a blank where there is none."""
    top = max((value for value in values if value is not None), default=0.0) or 1.0
    return "".join(" " if value is None else bars[min(int(value / top * len(bars)), len(bars) - 1)] for value in values)


def narrowed(values: Sequence[float | None], cells: int) -> list[float | None]:
    """As many cells as asked for, which must divide the values; each the greatest of its own, so that a short peak stays."""
    size = len(values) // cells
    parts = [values[start : start + size] for start in range(0, len(values), size)]
    return [max((value for value in part if value is not None), default=None) for part in parts]
