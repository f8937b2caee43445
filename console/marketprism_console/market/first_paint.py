"""The candles in the page's own HTML, where the chart will stand: they are seen before the first script runs, of which there is a
megabyte. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil, floor, log10

from marketprism_console.colours import BAD, GOOD, LINE, TEXT
from marketprism_console.market.chart import LEFT, PRICE, RIGHT, TOP, height, panes
from marketprism_console.market.queries import Candle, MarketPicture
from marketprism_console.market.steps import TimeWindow

BODY = 0.5  # of a column's width
SPLIT = 5  # parts of the axis, about


def still(picture: MarketPicture, window: TimeWindow) -> str:
    """HTML as high as the chart, with its price pane. Nothing of it is text from a message."""
    first, last = picture.columns.place(window)
    starts = picture.columns.starts[first : last + 1]
    shown = [(at, picture.candles[start]) for at, start in enumerate(starts) if start in picture.candles]
    ticks = axis(min(one.low for _, one in shown), max(one.high for _, one in shown)) if shown else [0.0, 1.0]
    low, span = ticks[0], ticks[-1] - ticks[0]

    def y(price: float) -> float:
        return round(PRICE * (1 - (price - low) / span), 1)

    def drawn(colour: str, some: Sequence[tuple[int, Candle]]) -> str:
        d = "".join(
            f"M{at + 0.5} {y(one.high)}V{y(one.low)}M{at + 0.5 - BODY / 2:.1f} {y(one.open)}h{BODY}V{y(one.close)}h-{BODY}z"
            for at, one in some
        )
        return f'<path d="{d}" fill="{colour}" stroke="{colour}" vector-effect="non-scaling-stroke"/>'

    rising = drawn(GOOD, [(at, one) for at, one in shown if one.close >= one.open])
    falling = drawn(BAD, [(at, one) for at, one in shown if one.close < one.open])
    count = len(starts)
    lines = "".join(f"M0 {y(tick)}H{count}" for tick in ticks)
    labels = "".join(
        f'<span style="position:absolute;top:{TOP + y(tick) - 8}px;right:calc(100% - {LEFT - 8}px)">{tick:,.7g}</span>'
        for tick in (ticks if shown else ())
    )
    return f"""\
<div style="position:relative;height:{height(panes(picture))}px;font-size:11px;line-height:16px;color:{TEXT}">
<svg viewBox="0 0 {count} {PRICE}" preserveAspectRatio="none" role="img" aria-label="candles"
 style="position:absolute;left:{LEFT}px;top:{TOP}px;width:calc(100% - {LEFT + RIGHT}px);height:{PRICE}px">
<path d="{lines}" stroke="{LINE}" vector-effect="non-scaling-stroke"/>{rising}{falling}</svg>{labels}</div>"""


def axis(low: float, high: float) -> list[float]:
    """Where ECharts puts an axis' lines, so that nothing moves when it takes over: whole multiples of 1, 2, 3 or 5 at some power of ten."""
    rough = (high - low or abs(high) or 1.0) / SPLIT
    power = 10.0 ** floor(log10(rough))
    share = rough / power
    step = power * next((nice for nice, below in ((1, 1.5), (2, 2.5), (3, 4), (5, 7)) if share < below), 10)
    begin, end = floor(low / step), ceil(high / step)
    return [step * number for number in range(begin, max(end, begin + 1) + 1)]
