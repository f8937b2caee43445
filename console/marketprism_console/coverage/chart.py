"""The map as a chart: a row for each market, a column for each hour or day, coloured by what is worst there. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Literal

from marketprism_console.colours import AXIS, BAD, BLUE, GOOD, LINE, NONE, NOTE, ORANGE, TEXT, TOOLTIP, WARN
from marketprism_console.coverage.cells import LENGTH, SECOND, CellUnit, Judged, MarketKey, State

Shade = Literal["state", "rows", "tier"]
WORDS: Mapping[State, str] = {
    State.WHOLE: "whole",
    State.DEAD_LETTERS: "dead letters",
    State.SILENT: "a silence",
    State.MISSING: "numbers missing",
    State.EMPTY: "no row",
}
_STATES = {State.WHOLE: GOOD, State.DEAD_LETTERS: NOTE, State.SILENT: WARN, State.MISSING: ORANGE, State.EMPTY: BAD}
_TIERS = {"hot": ORANGE, "cold": BLUE, "hot and cold": NOTE, "": NONE}
_FEW = "rgba(65,132,228,0.12)"
ROW = 22  # [px]
AROUND = 48  # above and below the rows [px]


def name(market: MarketKey) -> str:
    exchange, kind, symbol = market
    return f"{symbol}  {exchange} {kind}"


def label(start: int, unit: CellUnit) -> str:
    return datetime.fromtimestamp(start // SECOND, UTC).strftime("%Y-%m-%d" if unit == "day" else "%m-%d %H:00")


def text(one: Judged, unit: CellUnit) -> str:
    """What a cell says when it is pointed at."""
    lines = [name(one.market), f"{label(one.start, unit)} UTC: {WORDS[one.state]}"]
    if one.rows:
        of = LENGTH[unit] // (60 * SECOND)
        lines.append(f"{one.rows:,} rows in {one.tier}, in {one.minutes:,} of {of:,} minutes")
    if one.silent:
        lines.append(f"{one.silent:,} minutes in a row without one")
    if one.missing:
        lines.append(f"{one.missing:,} of the venue's numbers missing")
    if one.letters:
        lines.append(f"{one.letters:,} dead letter{'s' if one.letters > 1 else ''}")
    return "\n".join(lines)


# The numbers of a cell travel, not its sentences: a year of fifty symbols is eighteen thousand of them.
_TIP = """p => { const [x, y, v, state, rows, tier, minutes, silent, missing, letters] = p.value;
    const n = one => one.toLocaleString('en'), lines = [%s[y], p.name + ' UTC: ' + %s[state]];
    if (rows) lines.push(n(rows) + ' rows in ' + ['hot', 'cold', 'hot and cold', ''][tier] + ', in ' + n(minutes) + ' of %d minutes');
    if (silent) lines.push(n(silent) + ' minutes in a row without one');
    if (missing) lines.push(n(missing) + " of the venue's numbers missing");
    if (letters) lines.push(n(letters) + ' dead letter' + (letters > 1 ? 's' : ''));
    return lines.join('\\n'); }"""


def coverage_chart(
    judgements: Sequence[Judged], unit: CellUnit, shade: Shade, since: int, until: int
) -> dict[str, Any]:
    """`value` of a point: column, row, what colours it, then what it says. Columns from `since` to `until` [µs since 1970]."""
    markets = sorted({one.market for one in judgements}, reverse=True)
    row = {market: number for number, market in enumerate(markets)}
    columns = range(since, until, LENGTH[unit])
    tiers = list(_TIERS)
    most = max((one.rows for one in judgements), default=1)
    data = []
    for one in judgements:
        coloured = {"state": int(one.state), "rows": one.rows, "tier": tiers.index(one.tier)}[shade]
        data.append([
            (one.start - since) // LENGTH[unit], row[one.market], coloured, int(one.state), one.rows, tiers.index(one.tier),
            one.minutes, one.silent, one.missing, one.letters,
        ])  # fmt: skip
    return {
        "animation": False,
        "textStyle": {"color": TEXT},
        "grid": {"left": 8, "right": 16, "top": 6, "bottom": 8, "containLabel": True},
        "tooltip": TOOLTIP,
        "xAxis": {
            **AXIS,
            "type": "category",
            "data": [label(at, unit) for at in columns],
            "splitLine": {"show": False},
        },
        "yAxis": {
            **AXIS,
            "type": "category",
            "data": [name(market) for market in markets],
            "axisLabel": {"color": TEXT, "width": 180, "overflow": "truncate", "interval": 0},
            "splitLine": {"show": False},
        },
        "media": [
            {"query": {"maxWidth": 600}, "option": {"yAxis": {"axisLabel": {"width": 88, "fontSize": 10}}}},
        ],
        "visualMap": {"show": False, "dimension": 2, **_shades(shade, most)},
        "series": [
            {
                "type": "heatmap",
                "data": data,
                "progressive": 4000,
                "encode": {"x": 0, "y": 1, "value": 2},
                "itemStyle": {"borderWidth": 1 if len(columns) <= 200 else 0, "borderColor": LINE},
                "tooltip": {":formatter": _tip(markets, unit)},
            }
        ],
    }


def height(judgements: Sequence[Judged]) -> int:
    """[px]"""
    return AROUND + ROW * max(1, len({one.market for one in judgements}))


def _tip(markets: Sequence[MarketKey], unit: CellUnit) -> str:
    """JavaScript. What comes from messages stands in it as JSON only."""
    named = json.dumps([name(market) for market in markets])
    return _TIP % (named, json.dumps([WORDS[state] for state in State]), LENGTH[unit] // 60 // SECOND)


def _shades(shade: Shade, most: int) -> dict[str, Any]:
    """Without a legend of the chart's own, which does not wrap on a narrow screen."""
    if shade == "rows":
        return {"type": "continuous", "min": 0, "max": most, "inRange": {"color": [_FEW, BLUE]}}
    if shade == "tier":
        pieces = [{"value": number, "color": colour} for number, colour in enumerate(_TIERS.values())]
    else:
        pieces = [{"value": int(state), "color": colour} for state, colour in _STATES.items()]
    return {"type": "piecewise", "pieces": pieces}


def legend(shade: Shade, judgements: Sequence[Judged]) -> list[tuple[str, str]]:
    """Colours, and what they say."""
    if shade == "rows":
        return [(_FEW, "few rows"), (BLUE, f"{max((one.rows for one in judgements), default=0):,} rows")]
    if shade == "tier":
        return [(colour, tier or "no row") for tier, colour in _TIERS.items()]
    return [(_STATES[state], WORDS[state]) for state in State]
