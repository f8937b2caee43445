"""The market as panes below each other, over one axis of time: candles, volume, spread, funding, open interest, liquidations. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from marketprism_console.colours import AXIS, BAD, BLUE, GOOD, NOTE, ORANGE, TEXT, TOOLTIP, WARN
from marketprism_console.market.queries import MarketPicture
from marketprism_console.market.steps import TimeWindow

LEFT, RIGHT, TOP, BETWEEN, BOTTOM = 64, 12, 22, 24, 56  # around and between the panes [px]
PRICE, SMALL = 300, 56  # heights [px]
FEW = 40  # values have a dot each: one that stands alone is no line
NOTHING = "-"  # what ECharts takes for no value

V = TypeVar("V")
Plotted = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Pane:
    """`series` without their axes."""

    title: str
    height: int
    series: Sequence[Plotted]


def panes(picture: MarketPicture) -> list[Pane]:
    """Those with something in them; the price always."""

    def along(values: Mapping[int, V], take: Callable[[V], Any]) -> list[Any]:
        return [take(values[start]) if start in values else NOTHING for start in picture.columns.starts]

    candles, quotes = picture.candles, picture.quotes
    price = [
        {
            "type": "candlestick",
            "name": "price",
            "data": along(candles, lambda one: [one.open, one.close, one.low, one.high]),
            "itemStyle": {"color": GOOD, "borderColor": GOOD, "color0": BAD, "borderColor0": BAD},
            "barMaxWidth": 16,
        },
        _line("bid", along(quotes, lambda one: one.bid), BLUE, width=1),
        _line("ask", along(quotes, lambda one: one.ask), ORANGE, width=1),
    ]
    volume = [_bar("volume", along(candles, lambda one: one.volume), BLUE)]
    spread = [_line("spread", along(quotes, lambda one: one.spread), NOTE)]
    funding = [_line("funding rate", along(picture.funding, lambda one: one.value * 100), WARN, step="end")]
    interest = [_line("open interest", along(picture.open_interest, lambda one: one.value), BLUE)]
    closed = [
        _bar("shorts", along(picture.closed, lambda one: one.bought), GOOD, stack="closed"),
        _bar("longs", along(picture.closed, lambda one: -one.sold), BAD, stack="closed"),
    ]
    made = [Pane("price; best bid and ask" if quotes else "price", PRICE, price)]
    for there, pane in (
        (candles, Pane("volume", SMALL, volume)),
        (quotes, Pane("spread [basis points]", SMALL, spread)),
        (picture.funding, Pane("funding rate [%]", SMALL, funding)),
        (picture.open_interest, Pane("open interest", SMALL, interest)),
        (picture.closed, Pane("liquidations: shorts above, longs below", SMALL, closed)),
    ):
        if there:
            made.append(pane)
    return made


def height(made: Sequence[Pane]) -> int:
    """[px]"""
    return TOP + sum(pane.height + BETWEEN for pane in made) - BETWEEN + BOTTOM


def market_chart(picture: MarketPicture, window: TimeWindow) -> dict[str, Any]:
    """`window`: what of it is in sight."""
    made = panes(picture)
    tops = [TOP + sum(pane.height + BETWEEN for pane in made[:number]) for number in range(len(made))]
    labels, (first, last) = picture.columns.labels, picture.columns.place(window)
    numbers = range(len(made))
    return {
        "animation": False,
        "textStyle": {"color": TEXT},
        "tooltip": {**TOOLTIP, "trigger": "axis", "axisPointer": {"type": "cross"}, ":formatter": _TIP},
        "axisPointer": {"link": [{"xAxisIndex": "all"}], "label": {"backgroundColor": "#57606a"}},
        "title": [
            {
                "text": pane.title,
                "left": LEFT,
                "top": top - 18,
                "padding": 0,
                "textStyle": {"color": TEXT, "fontSize": 11, "fontWeight": "normal"},
            }
            for pane, top in zip(made, tops, strict=True)
        ],
        "grid": [
            {"left": LEFT, "right": RIGHT, "top": top, "height": pane.height}
            for pane, top in zip(made, tops, strict=True)
        ],
        "xAxis": [
            {
                **AXIS,
                "type": "category",
                "data": labels,
                "gridIndex": number,
                "splitLine": {"show": False},
                "axisLabel": {**AXIS["axisLabel"], "show": number == numbers[-1]},
                "axisPointer": {"label": {"show": number == numbers[-1]}},
            }
            for number in numbers
        ],
        "yAxis": [
            {
                **AXIS,
                "type": "value",
                "gridIndex": number,
                "scale": pane.series[0]["type"] != "bar",
                "splitNumber": 5 if pane.height == PRICE else 1,
                "axisLabel": {**AXIS["axisLabel"], "fontSize": 11, ":formatter": _SHORT},
                "axisPointer": {"show": pane.height == PRICE, "label": {"precision": "auto"}},
            }
            for number, pane in enumerate(made)
        ],
        # A wheel zooms, a drag pans, a finger does both; what is beyond the edges is fetched when it comes near.
        "dataZoom": [
            {
                "type": kind,
                "xAxisIndex": list(numbers),
                "startValue": first,
                "endValue": last,
                "filterMode": "filter",
                **more,
            }
            for kind, more in (("inside", {"minValueSpan": 10}), ("slider", _SLIDER))
        ],
        "series": [
            {**series, "xAxisIndex": number, "yAxisIndex": number}
            for number, pane in enumerate(made)
            for series in pane.series
        ],
    }


_SLIDER: dict[str, Any] = {
    "height": 18,
    "bottom": 6,
    "left": LEFT,
    "right": RIGHT,
    "brushSelect": False,
    "showDetail": False,
}


def _line(name: str, data: list[Any], colour: str, width: float = 1.5, step: str = "") -> Plotted:
    made: Plotted = {
        "type": "line",
        "name": name,
        "data": data,
        "showSymbol": len(data) - data.count(NOTHING) <= FEW,
        "symbolSize": 4,
        "connectNulls": True,
        "lineStyle": {"width": width},
        "z": 1,  # candles stand before their quotes
        "itemStyle": {"color": colour},
        "emphasis": {"disabled": True},
    }
    return {**made, "step": step} if step else made


def _bar(name: str, data: list[Any], colour: str, stack: str = "") -> Plotted:
    made: Plotted = {
        "type": "bar",
        "name": name,
        "data": data,
        "barMaxWidth": 16,
        "itemStyle": {"color": colour, "opacity": 0.75},
        "emphasis": {"disabled": True},
    }
    return {**made, "stack": stack} if stack else made


_SHORT = """v => v.toLocaleString('en', Math.abs(v) >= 1e6 ?
    {notation: 'compact', maximumFractionDigits: 1} : {maximumSignificantDigits: 7})"""
# Of all panes together, each number as short as it is exact enough.
_TIP = """all => { const n = one => typeof one === 'number' ? one.toLocaleString('en', {maximumSignificantDigits: 9}) : '-';
    const lines = [all[0].axisValueLabel + ' UTC'];
    for (const p of all) {
        if (p.seriesType === 'candlestick') {
            if (typeof p.value[1] !== 'number') continue;
            const [, open, close, low, high] = p.value;
            lines.push('open ' + n(open) + '  high ' + n(high), 'low ' + n(low) + '  close ' + n(close));
        } else if (typeof p.value === 'number') lines.push(p.seriesName + ' ' + n(p.seriesName === 'longs' ? -p.value : p.value));
    }
    return lines.join('\\n'); }"""
