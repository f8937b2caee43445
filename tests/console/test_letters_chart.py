"""Dead letters by reason over time: the pure part."""

from __future__ import annotations

from marketprism_console.coverage.cells import DAY, HOUR, MINUTE, SECOND
from marketprism_console.dead_letters.chart import by_reason, called, letters_chart, step_of
from marketprism_console.letters import LetterHead


def head(code: str, buried: int) -> LetterHead:
    return LetterHead(1, buried, buried, "trade", code, None)


def test_bars_are_as_fine_as_there_is_room() -> None:
    assert [step_of(0, span) for span in (0, MINUTE, HOUR, DAY, 90 * DAY)] == [
        SECOND,
        10 * SECOND,
        10 * MINUTE,
        HOUR,
        DAY,
    ]


def test_a_colour_for_each_reason_and_a_bar_for_each_time() -> None:
    heads = [head("MP2203", 0), head("MP2203", 3 * SECOND), head("MP2101", 0), head("MP2203", 0)]
    first, second = letters_chart(heads)["series"]
    assert (first["name"], first["data"]) == ("MP2203 BadDecimal", [[0, 2], [1000, 0], [2000, 0], [3000, 1]])
    assert (second["name"], second["data"][0]) == ("MP2101 BadJSON", [0, 1])
    assert by_reason(heads) == [("MP2203", 3), ("MP2101", 1)]


def test_none_is_an_empty_chart_and_an_unknown_reason_keeps_its_code() -> None:
    assert letters_chart([])["series"] == []
    assert called("MP9999") == "MP9999"
