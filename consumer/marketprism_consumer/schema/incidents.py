"""The table of what was healed: one in hot's database, for all data types. Beside the rows, so that whoever has the database knows
which of them came later, from where, and why."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from hashlib import sha256

from marketprism_consumer.schema.tables import TEXT, TIME, Column

TABLE = "incidents"
FILE = "file:"
"""Begins the `_stream` of rows that came from a file, and had no message; its SHA-256 follows."""
COLUMNS = (
    Column("id", "String"),
    # Of entries with one id the last counts.
    Column("noted_at", "DateTime64(3, 'UTC')"),
    Column("data_type", TEXT),
    Column("exchange", TEXT),
    Column("market_type", TEXT),
    Column("symbol", TEXT),
    Column("since", TIME),
    Column("until", TIME),
    Column("missing", "UInt64"),
    Column("healed", "UInt64"),
    Column("disagreeing", "UInt64"),
    Column("how", TEXT),
    Column("source", "String"),
    Column("name", "String"),
    Column("why", "String"),
    Column("ended", "Bool"),
)


@dataclass(frozen=True, slots=True)
class Incident:
    """Rows of one series that were missing, and how they came back. `since` and `until`: the first and the last of them, or where they
    were looked for [µs]. `source`: the identity of the stream that was replayed, or of the file, whose name is `name`. `disagreeing`:
    rows of the source that differ from one that is there, and were left. `ended`: nobody is at work on it, or died over it."""

    data_type: str
    exchange: str
    market_type: str
    symbol: str
    since: int
    until: int
    missing: int
    healed: int
    disagreeing: int
    how: str
    source: str
    name: str
    why: str
    ended: bool

    @property
    def id(self) -> str:
        """Healed once more from the same file it is the same incident; what is replayed is told by its time."""
        place = (self.data_type, self.exchange, self.market_type, self.symbol, self.source)
        own = (str(self.since), str(self.until)) if self.how == "replay" else ()
        return sha256("\0".join((*place, *own)).encode()).hexdigest()[:32]

    def touches(self, since: int, until: int) -> bool:
        """Is any moment of it from `since` on, and before `until`?"""
        return self.since < until and self.until >= since


def create_incidents(database: str, on_cluster: str) -> str:
    """`on_cluster`: as it stands in the statement, or empty."""
    columns = ",\n".join(f"    `{column.name}` {column.type}" for column in COLUMNS)
    engine = f"{'Replicated' if on_cluster else ''}ReplacingMergeTree(noted_at)"
    return f"CREATE TABLE IF NOT EXISTS `{database}`.`{TABLE}`{on_cluster}\n(\n{columns}\n)\nENGINE = {engine}\nORDER BY id"


def of_series(incidents: Collection[Incident], series: tuple[str, str, str], since: int, until: int) -> list[Incident]:
    """Those of one exchange, market type and symbol in that time, oldest first."""
    found = [each for each in incidents if (each.exchange, each.market_type, each.symbol) == series]
    return sorted((each for each in found if each.touches(since, until)), key=lambda each: (each.since, each.id))
