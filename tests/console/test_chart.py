"""The map's chart: what stands where, in which colour, and that what comes from messages stays text."""

from __future__ import annotations

import json
from datetime import date

import pytest

from marketprism_console.coverage.cells import DAY, HOUR, Judged, State
from marketprism_console.coverage.chart import ROW, coverage_chart, height, legend, text
from marketprism_console.coverage.page import said, window

BTC, ETH = ("binance_spot", "spot", "BTC-USDT"), ("okx_spot", "spot", "ETH-USDT")
FOUND = [
    Judged(BTC, 0, State.WHOLE, rows=10, hot=10, minutes=60),
    Judged(BTC, HOUR, State.EMPTY),
    Judged(ETH, HOUR, State.MISSING, rows=7, hot=3, cold=4, minutes=9, missing=2),
]


def test_a_row_for_each_market_and_a_column_for_each_hour() -> None:
    chart = coverage_chart(FOUND, "hour", "state", 0, 3 * HOUR)
    assert chart["xAxis"]["data"] == ["01-01 00:00", "01-01 01:00", "01-01 02:00"]
    assert chart["yAxis"]["data"] == ["ETH-USDT  okx_spot spot", "BTC-USDT  binance_spot spot"]
    points = [tuple(point[:3]) for point in chart["series"][0]["data"]]
    assert points == [(0, 1, State.WHOLE), (1, 1, State.EMPTY), (1, 0, State.MISSING)]


@pytest.mark.parametrize(("shade", "values"), [("rows", [10, 0, 7]), ("tier", [0, 3, 2])])
def test_coloured_by_rows_or_tier(shade: str, values: list[int]) -> None:
    chart = coverage_chart(FOUND, "hour", shade, 0, 2 * HOUR)  # type: ignore[arg-type]
    assert [point[2] for point in chart["series"][0]["data"]] == values
    assert legend(shade, FOUND)  # type: ignore[arg-type]


def test_it_is_as_high_as_it_has_markets() -> None:
    assert height(FOUND) - height(FOUND[:1]) == ROW


def test_a_cell_says_what_is_there_and_what_is_not() -> None:
    assert text(FOUND[2], "hour").split("\n") == [
        "ETH-USDT  okx_spot spot",
        "01-01 01:00 UTC: numbers missing",
        "7 rows in hot and cold, in 9 of 60 minutes",
        "2 of the venue's numbers missing",
    ]


def test_a_symbol_is_never_markup_nor_code() -> None:
    evil = ("x", "spot", "<img src=x onerror=alert(1)>\"; alert(1); '`${alert(1)}")
    chart = coverage_chart([Judged(evil, 0, State.WHOLE, rows=1)], "day", "state", 0, DAY)
    assert chart["tooltip"]["renderMode"] == "richText"
    code = chart["series"][0]["tooltip"][":formatter"]
    assert json.dumps([f"{evil[2]}  x spot"]) in code
    assert evil[2] not in code


def test_the_answer_in_a_sentence() -> None:
    assert said(FOUND, "hour") == "17 rows of 2 markets. Of 3 hours 1 with no row, 1 with numbers missing."
    assert said(FOUND[:1], "hour") == "10 rows of 1 market. Of 1 hour each is whole."
    assert said([], "hour") == "No row."


def test_a_window_ends_with_its_last_day() -> None:
    assert window(date(1970, 1, 3), 2) == (DAY, 3 * DAY)
