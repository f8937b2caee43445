"""What stands still, and why; what moved when; and each slice in a line. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from marketprism_api import reasons
from marketprism_console.colours import AXIS, BLUE, GOOD, NOTE, ORANGE, TEXT, TOOLTIP, WARN
from marketprism_console.coverage.cells import DAY, HOUR, MINUTE, SECOND
from marketprism_console.tiering.queries import TieringState
from marketprism_consumer.tiering.ledger import LedgerEntry

ENDLESS = timedelta(hours=1)  # a slice that began so long ago, and did not end, was left
IDLE = timedelta(hours=1)  # as the alert MarketPrismTieringStalled has it
STEPS = (MINUTE, 10 * MINUTE, HOUR, 6 * HOUR, DAY)
MOST_BARS = 60
_COLOURS = (BLUE, ORANGE, NOTE, GOOD, WARN, TEXT)  # not red, which says that something is wrong


@dataclass(frozen=True, slots=True)
class Standstill:
    table: str
    text: str
    hint: str


def standstills(found: TieringState, now: datetime) -> list[Standstill]:
    """Worst first: what can't be moved, what failed and was not done since, what nobody moves."""
    said = [Standstill(table, str(refused), refused.reason.hint) for table, refused in found.refusals.items()]
    for entry in _open(found.history):
        slice_ = f"{entry.slice_from:%Y-%m-%d %H:%M}"
        if entry.status == "failed":
            said.append(
                Standstill(
                    entry.table, f"{slice_} failed at {entry.started:%Y-%m-%d %H:%M}: {entry.error}", _hint(entry.error)
                )
            )
        elif now - _utc(entry.started) > ENDLESS:
            text = f"{slice_} was begun at {entry.started:%Y-%m-%d %H:%M} by {entry.run} and not ended"
            said.append(Standstill(entry.table, text, "the next `marketprism migrate` takes it up; nothing is lost"))
    for table, of_table in found.tables.items():
        last = max(
            (_utc(e.finished or e.started) for e in found.history if (e.table, e.status) == (table, "done")),
            default=None,
        )
        overdue = of_table.oldest_seconds - found.older_than
        if of_table.backlog_rows and overdue > IDLE.total_seconds() and (last is None or now - last > IDLE):
            when = f"nothing was moved since {last:%Y-%m-%d %H:%M}" if last else "nothing was ever moved"
            text = f"{of_table.backlog_rows:,} rows are due, and {when}"
            said.append(
                Standstill(
                    table, text, "does `marketprism migrate` run? see docs/runbooks/MarketPrismTieringStalled.md"
                )
            )
    return said


def _open(history: Sequence[LedgerEntry]) -> list[LedgerEntry]:
    """The newest entry of each slice, where that is not done."""
    newest: dict[tuple[str, datetime, datetime], LedgerEntry] = {}
    for entry in history:
        newest.setdefault((entry.table, entry.slice_from, entry.slice_to), entry)
    return [entry for entry in newest.values() if entry.status != "done"]


def _hint(error: str) -> str:
    """Of the reason that it begins with."""
    reason = reasons.ALL.get(error.split(" ", 1)[0])
    return reason.hint if reason else "docs/tiering.md says what to do about each cause"


def _utc(at: datetime) -> datetime:
    return at if at.tzinfo else at.replace(tzinfo=UTC)


def said(found: TieringState) -> str:
    """The answer, in a sentence."""
    due = sum(of_table.backlog_rows for of_table in found.tables.values())
    age = _age(found.older_than)
    head = f"{due:,} rows are older than {age} and still in hot." if due else f"No row in hot is older than {age}."
    if not found.history:
        return f"{head} Nothing was moved yet."
    moved = sum(entry.rows for entry in found.history if entry.status == "done" and entry.mode == "move")
    slices = f"{len(found.history):,} slice{'s' if len(found.history) > 1 else ''}"
    return f"{head} {moved:,} rows were moved in the last {slices}."


def _age(seconds: float) -> str:
    return (
        f"{seconds / 3600:g} h" if seconds >= 3600 else f"{seconds / 60:g} min" if seconds >= 60 else f"{seconds:g} s"
    )


def moved_chart(history: Sequence[LedgerEntry]) -> dict[str, Any]:
    """Rows by when they were moved, in a colour for each table."""
    done = [(int(_utc(e.started).timestamp()) * SECOND, e) for e in history if e.status == "done" and e.mode == "move"]
    first, last = min((at for at, _ in done), default=0), max((at for at, _ in done), default=0)
    step = next((step for step in STEPS if (last - first) // step < MOST_BARS), STEPS[-1])
    rows: Counter[tuple[str, int]] = Counter()
    for at, entry in done:
        rows[entry.table, at // step * step] += entry.rows
    around = {"min": (first // step - 3) * step // 1000, "max": (last // step + 4) * step // 1000} if done else {}
    return {
        "animation": False,
        "useUTC": True,
        "color": list(_COLOURS),
        "grid": {"left": 8, "right": 12, "top": 28, "bottom": 4, "containLabel": True},
        "tooltip": {**TOOLTIP, "trigger": "axis"},
        "title": {
            "text": "rows moved to cold, by when",
            "left": 2,
            "top": -2,
            "textStyle": {"color": TEXT, "fontSize": 12, "fontWeight": "normal"},
        },
        "xAxis": {**AXIS, "type": "time", "splitLine": {"show": False}, **around},
        "yAxis": {**AXIS, "type": "value", "minInterval": 1},
        "series": [
            {
                "type": "bar",
                "stack": "rows",
                "name": table,
                "barMaxWidth": 24,
                "data": [[at // 1000, rows[of, at]] for of, at in sorted(rows) if of == table],
            }
            for table in sorted({table for table, _ in rows})
        ],
    }
