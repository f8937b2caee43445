"""A book as a chart: what can be had up to each price, added up from the best one. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import Any

from marketprism_console.colours import AXIS, BAD, GOOD, TEXT, TOOLTIP
from marketprism_console.market.queries import BookLevel
from marketprism_consumer import times


def said(levels: Sequence[BookLevel], at: int) -> str:
    """In a sentence. `at` [µs since 1970]"""
    bids, asks = _sides(levels)
    if not bids and not asks:
        return f"{times.shown(at)}: no book in the 24 hours before"
    parts = [
        f"{name} {side[0].quantity:,.8g} at {side[0].price:,.10g}"
        for name, side in (("bid", bids), ("ask", asks))
        if side
    ]
    if bids and asks:
        spread = asks[0].price - bids[0].price
        parts.append(f"spread {spread:,.6g} ({spread / bids[0].price * 10_000:,.3g} basis points)")
    if levels[0].snapshot is None:
        parts.append("no full book in the 24 hours before: only levels that were named")
    return f"{times.shown(at)}: {', '.join(parts)}"


def depth_chart(levels: Sequence[BookLevel]) -> dict[str, Any]:
    bids, asks = _sides(levels)
    return {
        "animation": False,
        "textStyle": {"color": TEXT},
        "grid": {"left": 8, "right": 30, "top": 24, "bottom": 4, "containLabel": True},
        "tooltip": {**TOOLTIP, "trigger": "axis"},
        "title": {
            "text": "quantity up to a price",
            "left": 2,
            "top": -2,
            "textStyle": {"color": TEXT, "fontSize": 12, "fontWeight": "normal"},
        },
        "xAxis": {**AXIS, "type": "value", "scale": True, "splitLine": {"show": False}, "axisPointer": {"snap": True}},
        "yAxis": {**AXIS, "type": "value", "min": 0},
        "series": [_side("bids", bids, GOOD), _side("asks", asks, BAD)],
    }


def _sides(levels: Sequence[BookLevel]) -> tuple[list[BookLevel], list[BookLevel]]:
    return [one for one in levels if one.side == "bid"], [one for one in levels if one.side == "ask"]


def _side(name: str, levels: Sequence[BookLevel], colour: str) -> dict[str, Any]:
    """From low prices to high ones. The quantity of a bid can be had at all prices below it, that of an ask above."""
    sums = accumulate(level.quantity for level in levels)
    points = [[level.price, round(total, 12)] for level, total in zip(levels, sums, strict=True)]
    return {
        "type": "line",
        "name": name,
        "data": points[::-1] if name == "bids" else points,
        "step": "start" if name == "bids" else "end",
        "showSymbol": False,
        "areaStyle": {"opacity": 0.15},
        "itemStyle": {"color": colour},
        "emphasis": {"disabled": True},
    }
