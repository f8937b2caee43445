"""The market's pictures: the pure part."""

from __future__ import annotations

import re

import pytest

from marketprism_console.coverage.cells import DAY, HOUR, MINUTE, SECOND
from marketprism_console.market.chart import market_chart, panes
from marketprism_console.market.depth import depth_chart, said
from marketprism_console.market.first_paint import axis, still
from marketprism_console.market.page import asked_window, first_window, sentence
from marketprism_console.market.queries import BookLevel, Candle, Closed, MarketPicture, Measured, Quote, one_candle
from marketprism_console.market.steps import MOST, STEPS, TimeColumns, TimeWindow, fitting, step_of

MIDNIGHT = 1_758_672_000  # of 24 September 2025 [s since 1970]
NIGHT = MIDNIGHT * SECOND


def candle(open_: float, close: float, first: int = 0, last: int = 0) -> Candle:
    return Candle(open_, max(open_, close) + 1, min(open_, close) - 1, close, 2.0, 3, first, last)


@pytest.mark.parametrize("width", [MINUTE, HOUR, 6 * HOUR, DAY, 31 * DAY, 366 * DAY, 5 * 366 * DAY, 20 * 366 * DAY])
def test_a_candle_is_as_long_as_what_is_in_sight_needs(width: int) -> None:
    step = step_of(TimeWindow(NIGHT, NIGHT + width))
    finer = [other for other in STEPS if other < step]
    assert width / SECOND / step <= MOST
    assert not finer or width / SECOND / finer[-1] > MOST


def test_columns_begin_at_whole_steps_and_cover_what_is_asked_for() -> None:
    columns = TimeColumns.of(TimeWindow(NIGHT + 61 * SECOND, NIGHT + 299 * SECOND), 60)
    assert (columns.first, columns.count) == (MIDNIGHT + 60, 4)
    assert columns.labels == ["09-24 00:01", "09-24 00:02", "09-24 00:03", "09-24 00:04"]


def test_what_a_chart_shows_in_percent_is_a_time_again() -> None:
    columns = TimeColumns.of(TimeWindow(NIGHT, NIGHT + HOUR), 60)
    window = TimeWindow(NIGHT + 10 * MINUTE, NIGHT + 20 * MINUTE)
    first, last = columns.place(window)
    assert (first, last) == (10, 19)
    assert columns.seen(first / 59 * 100, last / 59 * 100) == window


def test_an_address_names_a_window_or_none() -> None:
    assert asked_window("2025-09-24", "2025-09-25T00:00:00Z") == TimeWindow(NIGHT, NIGHT + DAY)
    assert [asked_window(*given) for given in (("", ""), ("2025-09-25", "2025-09-24"), ("x", "y"))] == [None] * 3
    assert fitting(TimeWindow(NIGHT, NIGHT + 1)).width == MINUTE


def test_at_first_there_is_what_a_market_has_at_most_a_day() -> None:
    now = NIGHT + 3 * DAY
    assert first_window(NIGHT, NIGHT + 2 * DAY - 1, now) == TimeWindow(NIGHT + DAY, NIGHT + 2 * DAY)
    assert first_window(NIGHT, NIGHT + HOUR - 1, now) == TimeWindow(NIGHT, NIGHT + HOUR)
    assert first_window(now, now + 8 * HOUR, now).until == now + MINUTE  # a rate of the settlement to come


def test_one_step_of_two_servers_is_one_candle() -> None:
    early, late = candle(10, 12, first=1, last=5), candle(13, 9, first=6, last=8)
    assert one_candle(early, late) == one_candle(late, early) == Candle(10, 14, 8, 9, 4.0, 6, 1, 8)


def picture() -> MarketPicture:
    columns = TimeColumns(MIDNIGHT, 60, 3)
    return MarketPicture(
        columns,
        {MIDNIGHT: candle(10, 12), MIDNIGHT + 120: candle(12, 11)},
        {MIDNIGHT: Quote(9.0, 11.0, 5.0, 0)},
        {MIDNIGHT: Measured(0.0001, 0)},
        closed={MIDNIGHT: Closed(1.0, 2.0)},
    )


def test_panes_have_a_value_or_nothing_for_each_step_and_are_there_where_something_is() -> None:
    made = panes(picture())
    assert [pane.title.split(":")[0] for pane in made] == [
        "price; best bid and ask",
        "volume",
        "spread [basis points]",
        "funding rate [%]",
        "liquidations",
    ]
    price, bid, _ = made[0].series
    assert (price["data"], bid["data"]) == ([[10, 12, 9, 13], "-", [12, 11, 10, 13]], [9.0, "-", "-"])
    assert [series["data"][0] for series in made[-1].series] == [1.0, -2.0]
    assert [pane.title for pane in panes(MarketPicture(TimeColumns(MIDNIGHT, 60, 3)))] == ["price"]


def test_the_panes_stand_over_one_axis_and_show_what_is_in_sight() -> None:
    chart = market_chart(picture(), TimeWindow(NIGHT + MINUTE, NIGHT + 3 * MINUTE))
    assert len(chart["grid"]) == len(chart["xAxis"]) == len(chart["yAxis"]) == 5
    assert {(zoom["startValue"], zoom["endValue"], len(zoom["xAxisIndex"])) for zoom in chart["dataZoom"]} == {
        (1, 2, 5)
    }
    assert chart["tooltip"]["renderMode"] == "richText"


def test_what_is_in_sight_is_said() -> None:
    assert sentence(picture(), TimeWindow(NIGHT, NIGHT + 3 * MINUTE)) == (
        "6 trades in candles of 1 min: 10 → 11 (+10.00 %), between 9 and 13."
    )
    assert sentence(picture(), TimeWindow(NIGHT + MINUTE, NIGHT + 2 * MINUTE)).startswith(
        "No trade from 2025-09-24 00:01"
    )


def test_a_book_adds_up_from_the_best_price() -> None:
    book = [BookLevel("bid", 99, 1, None), BookLevel("bid", 98, 2, None), BookLevel("ask", 101, 4, None)]
    bids, asks = depth_chart(book)["series"]
    assert (bids["data"], asks["data"]) == ([[98, 3], [99, 1]], [[101, 4]])
    assert said(book, NIGHT) == (
        "2025-09-24 00:00:00: bid 1 at 99, ask 4 at 101, spread 2 (202 basis points), "
        "no full book in the 24 hours before: only levels that were named"
    )
    assert said([], NIGHT) == "2025-09-24 00:00:00: no book in the 24 hours before"


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [
        (9.5, 10.5099, [9.4, 9.6, 9.8, 10.0, 10.2, 10.4, 10.6]),
        (60_010.0, 61_990.0, [60_000.0 + 300.0 * line for line in range(8)]),
        (0.0, 0.0, [0.0, 0.2]),
        (5.0, 5.0, [5.0, 6.0]),
        (0.0000101, 0.0000149, [0.00001, 0.000011, 0.000012, 0.000013, 0.000014, 0.000015]),
    ],
)
def test_the_still_has_the_lines_of_the_chart(low: float, high: float, ticks: list[float]) -> None:
    assert axis(low, high) == pytest.approx(ticks)


def test_the_still_has_the_candles_in_sight_between_its_lines() -> None:
    """One path of those that rise, one of those that fall: a line from high to low, and a body."""
    columns = TimeColumns(MIDNIGHT, 60, 60)
    made = {MIDNIGHT + 60 * at: candle(100, 101 if at % 3 else 99) for at in range(60)}
    html = still(MarketPicture(columns, made), TimeWindow(NIGHT + 10 * MINUTE, NIGHT + 20 * MINUTE))
    rising, falling = re.findall(r'<path d="([^"]*)" fill', html)
    assert (rising.count("z"), falling.count("z")) == (7, 3)
    assert falling.startswith("M2.5 75.0V300.0M2.2 150.0h0.5V225.0h-0.5z")
    assert "98" in html
    assert 'viewBox="0 0 10 300"' in html


def test_the_still_of_nothing_is_a_frame() -> None:
    html = still(MarketPicture(TimeColumns(MIDNIGHT, 60, 60)), TimeWindow(NIGHT, NIGHT + HOUR))
    assert "<span" not in html
    assert "svg" in html
