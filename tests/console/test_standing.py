"""What stands still between the tiers, and why: the pure part."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from marketprism_api import reasons
from marketprism_console.tiering.queries import TieringState
from marketprism_console.tiering.standing import moved_chart, said, standstills
from marketprism_consumer.errors import TieringError
from marketprism_consumer.tiering.ledger import LedgerEntry
from marketprism_consumer.tiering.overview import TableOverview, TierOverview

NOW = datetime(2025, 9, 24, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)


def entry(
    status: str = "done", *, ago: timedelta = HOUR, rows: int = 10, error: str = "", run: str = "r1"
) -> LedgerEntry:
    """Of the slice of midnight, begun so long ago."""
    midnight, began = datetime(2025, 9, 24, tzinfo=UTC), NOW - ago
    end = began + timedelta(seconds=3) if status != "began" else None
    return LedgerEntry(run, "trades", midnight, midnight + HOUR, rows, 100, 7, began, end, "move", status, error)


def tiers(*history: LedgerEntry, due: int = 0, oldest: float = 0.0) -> TieringState:
    table = TableOverview(TierOverview(rows=due), backlog_rows=due, oldest_seconds=oldest)
    return TieringState(8 * 3600.0, {"trades": table}, {}, list(history))


def test_where_all_is_moved_nothing_stands_still() -> None:
    found = tiers(entry())
    assert standstills(found, NOW) == []
    assert said(found) == "No row in hot is older than 8 h. 10 rows were moved in the last 1 slice."
    assert said(tiers(due=3)) == "3 rows are older than 8 h and still in hot. Nothing was moved yet."


def test_a_failed_slice_says_why_and_what_to_do_until_it_is_done() -> None:
    failed = entry("failed", error=f"{reasons.MIGRATION_MEMORY}: 2 GiB wanted")
    (one,) = standstills(tiers(failed), NOW)
    assert (one.table, one.hint) == ("trades", reasons.MIGRATION_MEMORY.hint)
    assert "2025-09-24 00:00 failed at 2025-09-24 11:00" in one.text
    assert standstills(tiers(entry(ago=HOUR / 2, run="r2"), failed), NOW) == []


def test_a_slice_that_was_begun_and_left_is_told_apart_from_one_at_work() -> None:
    assert standstills(tiers(entry("began", ago=HOUR / 2)), NOW) == []
    (one,) = standstills(tiers(entry("began", ago=2 * HOUR)), NOW)
    assert "was begun at 2025-09-24 10:00 by r1 and not ended" in one.text


def test_rows_that_are_long_due_and_that_nobody_moves() -> None:
    assert standstills(tiers(due=5, oldest=8.5 * 3600), NOW) == []
    assert standstills(tiers(entry(ago=HOUR / 2), due=5, oldest=10 * 3600), NOW) == []
    (never,) = standstills(tiers(due=5, oldest=10 * 3600), NOW)
    (late,) = standstills(tiers(entry(ago=3 * HOUR), due=5, oldest=10 * 3600), NOW)
    assert (never.text, late.text) == (
        "5 rows are due, and nothing was ever moved",
        "5 rows are due, and nothing was moved since 2025-09-24 09:00",
    )


def test_tiers_that_do_not_fit_are_said_first() -> None:
    found = tiers(entry("failed", error="?"))
    found.refusals["orderbooks"] = TieringError(reasons.SCHEMA_DRIFT, "cold lacks a column")
    assert [one.table for one in standstills(found, NOW)] == ["orderbooks", "trades"]


def test_what_moved_when() -> None:
    chart = moved_chart([entry(), entry(ago=HOUR - timedelta(seconds=5)), entry("failed")])
    (series,) = chart["series"]
    assert (series["name"], series["data"]) == ("trades", [[int((NOW - HOUR).timestamp()) * 1000, 20]])
    assert moved_chart([])["series"] == []
