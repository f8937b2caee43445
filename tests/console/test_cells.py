"""What the map says of an hour or a day: the pure part."""

from __future__ import annotations

from marketprism_console.coverage.cells import DAY, HOUR, Cell, Judged, State, judged, merged, totals, worst

BTC = ("binance_spot", "spot", "BTC-USDT")
LIMIT = 300.0  # the longest silence that is none [s]


def hour(at: int, **changed: object) -> Cell:
    """One with a row each second and the venue's numbers in order."""
    whole = Cell(BTC, at * HOUR, 3600, 0, 0, at * 3600 + 1, (at + 1) * 3600, 60, 0, 0, 0)
    return whole._replace(**changed)


def of(*cells: Cell, letters: dict[int, int] | None = None, max_silence: float = LIMIT) -> list[Judged]:
    return judged(cells, "hour", max_silence, {(BTC, at * HOUR): n for at, n in (letters or {}).items()})


def states(*cells: Cell, **options: object) -> list[State]:
    return [one.state for one in of(*cells, **options)]  # type: ignore[arg-type]


def test_hours_with_every_row_are_whole() -> None:
    assert states(hour(1), hour(2), hour(3)) == [State.WHOLE] * 3


def test_numbers_that_are_missing_within_an_hour_and_between_two() -> None:
    found = of(hour(1), hour(2, hot=3590), hour(3, lowest=3 * 3600 + 5, hot=3596))
    assert [(one.state, one.missing) for one in found] == [(State.WHOLE, 0), (State.MISSING, 10), (State.MISSING, 4)]


def test_numbers_that_are_no_sequence_say_nothing() -> None:
    assert states(hour(1, highest=10**12), hour(2, lowest=2 * 10**12, highest=10**13)) == [State.WHOLE] * 2


def test_an_hour_without_a_row_is_shown_and_its_numbers_are_not_missed_again_after_it() -> None:
    found = of(hour(1), hour(3))
    assert [(one.start // HOUR, one.state, one.rows) for one in found] == [
        (1, State.WHOLE, 3600),
        (2, State.EMPTY, 0),
        (3, State.WHOLE, 3600),
    ]


def test_a_silence_longer_than_the_limit() -> None:
    assert states(hour(1), hour(2, pause=6), hour(3)) == [State.WHOLE, State.SILENT, State.WHOLE]
    assert states(hour(1), hour(2, pause=5), hour(3)) == [State.WHOLE] * 3
    assert states(hour(1), hour(2, pause=59), hour(3), max_silence=0) == [State.WHOLE] * 3


def test_before_a_markets_first_row_and_after_its_last_there_is_no_silence() -> None:
    assert states(hour(1, lead=50), hour(2), hour(3, trail=50)) == [State.WHOLE] * 3
    assert states(hour(1, trail=50), hour(2), hour(3, lead=50)) == [State.SILENT, State.WHOLE, State.SILENT]


def test_what_comes_seldom_is_not_silent_for_it() -> None:
    """A row each ten minutes, as open interest may come: twenty times that is no hour."""
    rare = [hour(at, hot=6, minutes=6, lowest=0, highest=0, pause=9, trail=9) for at in (1, 2, 4)]
    assert states(*rare) == [State.WHOLE] * 3


def test_rows_in_both_tiers_count_once() -> None:
    (found,) = of(hour(1, cold=3600, doubled=3600))
    assert (found.state, found.rows, found.tier) == (State.WHOLE, 3600, "hot and cold")


def test_dead_letters_are_told_where_nothing_worse_is() -> None:
    assert states(hour(1), hour(2, pause=30), letters={1: 3, 2: 1}) == [State.DEAD_LETTERS, State.SILENT]


def test_of_two_servers_the_one_that_knows_more_counts() -> None:
    both = merged(hour(1, minutes=40, trail=20, highest=5000), hour(1, hot=0, cold=10, minutes=30, lead=30, trail=0))
    assert (both.hot, both.cold, both.minutes, both.lead, both.trail) == (3600, 10, 40, 0, 0)
    assert (both.lowest, both.highest) == (3601, 7200)


def test_worst_first_then_newest() -> None:
    found = of(hour(1), hour(3), hour(4, pause=30), hour(5, pause=31))
    assert [(one.state, one.start // HOUR) for one in worst(found, 3)] == [
        (State.EMPTY, 2),
        (State.SILENT, 5),
        (State.SILENT, 4),
    ]
    assert totals(found)[State.WHOLE] == 2


def test_days_are_judged_by_the_same_rules() -> None:
    cells = [Cell(BTC, day * DAY, 0, 86_400, 0, 0, 0, 1440, 0, 0, 0) for day in (1, 3)]
    assert [one.state for one in judged(cells, "day", LIMIT, {})] == [State.WHOLE, State.EMPTY, State.WHOLE]
