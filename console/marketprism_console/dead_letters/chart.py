"""Dead letters by reason over time. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from marketprism_api import reasons
from marketprism_console.colours import AXIS, BAD, BLUE, GOOD, NOTE, ORANGE, TEXT, TOOLTIP, WARN
from marketprism_console.coverage.cells import DAY, HOUR, MINUTE, SECOND
from marketprism_console.letters import LetterHead

STEPS = (SECOND, 10 * SECOND, MINUTE, 10 * MINUTE, HOUR, 6 * HOUR, DAY)
MOST_BARS = 60
_COLOURS = (BLUE, ORANGE, NOTE, WARN, BAD, GOOD, TEXT)


def called(code: str) -> str:
    """`MP2203 BadDecimal`; the code alone of a reason that a later version gave."""
    reason = reasons.ALL.get(code)
    return str(reason) if reason else code


def step_of(first: int, last: int) -> int:
    """The finest one that needs no more than MOST_BARS [µs]."""
    return next((step for step in STEPS if (last - first) // step < MOST_BARS), STEPS[-1])


def by_reason(heads: Sequence[LetterHead]) -> list[tuple[str, int]]:
    """Codes, the most frequent first."""
    return sorted(Counter(head.code for head in heads).items(), key=lambda item: (-item[1], item[0]))


def letters_chart(heads: Sequence[LetterHead]) -> dict[str, Any]:
    """Bars by when they were buried, in a colour for each reason."""
    step = step_of(min((h.buried for h in heads), default=0), max((h.buried for h in heads), default=0))
    counts = Counter((head.code, head.buried // step * step) for head in heads)
    times = sorted({at for _, at in counts})
    columns = range(times[0], times[-1] + step, step) if times else range(0)
    # A moment alone is shown with what is about it, not with the day.
    around = {"min": (times[0] - 3 * step) // 1000, "max": (times[-1] + 4 * step) // 1000} if times else {}
    return {
        "animation": False,
        "useUTC": True,
        "color": list(_COLOURS),
        "grid": {"left": 8, "right": 12, "top": 12, "bottom": 4, "containLabel": True},
        "tooltip": {**TOOLTIP, "trigger": "axis"},
        "xAxis": {**AXIS, "type": "time", "splitLine": {"show": False}, **around},
        "yAxis": {**AXIS, "type": "value", "minInterval": 1},
        "series": [
            {
                "type": "bar",
                "stack": "letters",
                "name": called(code),
                "barMaxWidth": 24,
                "data": [[at // 1000, counts[code, at]] for at in columns],
            }
            for code, _ in by_reason(heads)
        ],
    }
