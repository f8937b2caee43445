"""Numbers as bars."""

from __future__ import annotations

from marketprism_consumer.commands.sparklines import ASCII_BARS, BARS, narrowed, sparkline


def test_the_greatest_is_the_highest_and_what_is_not_there_is_a_blank() -> None:
    assert sparkline([0, 1, 7, 8, None, 4]) == "▁▂██ ▅"
    assert sparkline([0, 1, 7, 8, None, 4], ASCII_BARS) == ".:## +"
    assert len(BARS) == len(ASCII_BARS)
    assert sparkline([0.0, 0.0]) == "▁▁"
    assert sparkline([None, None]) == "  "
    assert sparkline([]) == ""


def test_a_short_peak_stays_where_there_is_less_room() -> None:
    assert narrowed([1, 2, None, 9, None, None], 3) == [2, 9, None]
    assert narrowed([1, None, 3], 3) == [1, None, 3]
