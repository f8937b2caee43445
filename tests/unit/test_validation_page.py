"""A validation's report as a page of its own: what it draws, and that nothing in it comes from elsewhere."""

from __future__ import annotations

import html
import re

import pytest

from marketprism_api import reasons
from marketprism_consumer.validation.page import page
from marketprism_consumer.validation.run import (
    Example,
    Report,
    Series,
    SeriesKey,
    TypeReport,
    ValidationFinding,
    ValidationRequest,
)

HOUR = 3600 * 1_000_000
BTC: SeriesKey = ("binance_spot", "spot", "BTC-USDT", "")


def report(key: SeriesKey = BTC, *, text: str = "trade_id 7 missing") -> Report:
    series = Series(rows=100, first=HOUR, last=9 * HOUR, pauses=[(2 * HOUR, 4 * HOUR)])
    found = TypeReport("trade", "trades", rows=100, series={key: series})
    finding = ValidationFinding(reasons.TRADES_MISSING, "trade")
    finding.add(1, [Example(key, 5 * HOUR, 5 * HOUR, text)])
    found.findings = [finding]
    return Report("hot", "cold", ValidationRequest(0, 10 * HOUR, ["trade"]), [found])


def rectangles(text: str, css: str) -> list[tuple[float, float]]:
    """(from, width), of a thousand."""
    return [
        (float(x), float(width))
        for x, width in re.findall(f'<rect class="{css}" x="([^"]+)" y="0" width="([^"]+)"', text)
    ]


def test_a_line_of_time_has_rows_silences_and_what_is_wrong() -> None:
    text = page(report())
    assert rectangles(text, "rows") == [(100.0, 800.0)]
    assert rectangles(text, "pause") == [(200.0, 200.0)]
    assert rectangles(text, "wrong") == [(500.0, 1.5)]
    assert html.escape(reasons.TRADES_MISSING.hint) in text


def test_what_is_fine_is_said_first() -> None:
    fine = report()
    fine.types[0].findings = []
    assert "<h1>FINE: nothing wrong in 100 rows of 1 series" in page(fine)


def test_what_lies_without_the_window_is_drawn_at_its_edge() -> None:
    late = report()
    late.types[0].series[BTC].last = 20 * HOUR
    assert rectangles(page(late), "rows") == [(100.0, 900.0)]


@pytest.mark.parametrize("evil", ["<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "</pre><b>"])
def test_what_comes_from_messages_is_text(evil: str) -> None:
    text = page(report(("x", "spot", evil, ""), text=evil))
    assert evil not in text
    assert "<script" not in text


def test_it_needs_nothing_from_elsewhere() -> None:
    assert not re.search(r"https?:|src=|@import|url\(", page(report()))
