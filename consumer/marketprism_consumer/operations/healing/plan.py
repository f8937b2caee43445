"""Which rows of a file are missing, by the venue's own ids: what is there, what is not, and what is there with other values. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import NamedTuple

from marketprism_consumer.ingest.decode import Row
from marketprism_consumer.schema.tables import TRADES

SHOWN = 5  # of what disagrees, and of what can't be a row
MOST_DISAGREE = 0.1  # of the ids that are there and in the file; with more of them it is another market's
_PLACE = {column.name: number for number, column in enumerate(TRADES.inserted)}
ID, PRICE, QUANTITY, SIDE = (_PLACE[name] for name in ("trade_id", "price", "quantity", "side"))


class TradeThere(NamedTuple):
    """What the tables have of a trade that agrees with an archive, or does not."""

    price: Decimal
    quantity: Decimal
    side: str


@dataclass(frozen=True, slots=True)
class HealLine:
    """A line of a file that can be a row."""

    number: int
    row: Row
    identity: tuple[str, int] | None = None


@dataclass(frozen=True, slots=True)
class Disagreement:
    line: int
    id: str
    text: str


@dataclass(slots=True)
class LinesPlan:
    """What becomes of lines. `there`: how many are in the tables as they are. `repeated`: in the file before."""

    missing: list[HealLine] = field(default_factory=list)
    there: int = 0
    repeated: int = 0
    disagree: list[Disagreement] = field(default_factory=list)


def trade_of(row: Row) -> TradeThere:
    return TradeThere(Decimal(row[PRICE]), Decimal(row[QUANTITY]), row[SIDE])


def plan_trades(lines: Iterable[HealLine], there: Mapping[str, Sequence[TradeThere]]) -> LinesPlan:
    """`there`: by the venue's id, the rows that the tables have of it."""
    plan = LinesPlan()
    new: dict[str, TradeThere] = {}
    for line in lines:
        id_, trade = line.row[ID], trade_of(line.row)
        known = there.get(id_, ())
        before = new.get(id_)
        if not known and before is None:
            new[id_] = trade
            plan.missing.append(line)
        elif text := _differs(trade, [*known, *([before] if before else [])]):
            plan.disagree.append(Disagreement(line.number, id_, text))
        elif known:
            plan.there += 1
        else:
            plan.repeated += 1
    return plan


def _differs(trade: TradeThere, known: Sequence[TradeThere]) -> str:
    for other in known:
        if trade.price != other.price:
            return f"price {_shown(trade.price)} in the file, {_shown(other.price)} there"
        if trade.quantity != other.quantity:
            return f"quantity {_shown(trade.quantity)} in the file, {_shown(other.quantity)} there"
        if trade.side != other.side and "unknown" not in (
            trade.side,
            other.side,
        ):  # who does not know contradicts nothing
            return f"side {trade.side} in the file, {other.side} there"
    return ""


def _shown(value: Decimal) -> str:
    return format(value.normalize(), "f")


def plan_identities(lines: Iterable[HealLine], there: frozenset[tuple[str, int]]) -> LinesPlan:
    """`there`: those of their identities that the tables have. Lines without one can't be told from what is there."""
    plan = LinesPlan()
    for line in lines:
        if line.identity in there:
            plan.there += 1
        elif line.identity is None:
            plan.disagree.append(Disagreement(line.number, "", "it has no identity of a message (`_stream`, `_seq`)"))
        else:
            plan.missing.append(line)
    return plan


@dataclass(slots=True)
class FilePlan:
    """A whole file. Lines that are `outside` were not asked for; those `in_hand` happened too late: ingest may be about to store them.
    `bad`: can't be rows, by reason. `in_time`: rows that the tables have between its first and its last line [µs]."""

    read: int = 0
    outside: int = 0
    in_hand: int = 0
    there: int = 0
    missing: int = 0
    repeated: int = 0
    disagreeing: int = 0
    disagreements: list[Disagreement] = field(default_factory=list)
    bad: dict[str, int] = field(default_factory=dict)
    bad_lines: list[str] = field(default_factory=list)
    in_time: int = 0
    first: int = 0
    last: int = 0
    first_missing: int = 0
    last_missing: int = 0

    def add(self, plan: LinesPlan) -> None:
        self.there += plan.there
        self.repeated += plan.repeated
        self.missing += len(plan.missing)
        self.disagreeing += len(plan.disagree)
        self.disagreements += plan.disagree[: SHOWN - len(self.disagreements)]
        times = [line.row[0] for line in plan.missing]
        if times:
            self.first_missing = min(self.first_missing or times[0], *times)
            self.last_missing = max(self.last_missing, *times)

    def refuse(self, reason: str, line: str) -> None:
        self.bad[reason] = self.bad.get(reason, 0) + 1
        if len(self.bad_lines) < SHOWN:
            self.bad_lines.append(line)

    def objection(self) -> str:
        """Why it looks like a file of something else; empty where it does not. An archive has all trades of its time, so most of what the
        tables have of that time is in it, and says the same."""
        known = self.there + self.disagreeing
        if self.disagreeing > MOST_DISAGREE * known:
            return (
                f"{self.disagreeing:,} of {known:,} trades that are there have other values in it: it is of another market, or counts"
                " in other units"
            )
        if 2 * known < self.in_time:
            return (
                f"the tables have {self.in_time:,} trades of its time, and only {known:,} of their ids are in it: it is of another market,"
                " or numbers otherwise (aggregated trades?)"
            )
        return ""
