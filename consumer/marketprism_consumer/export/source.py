"""What is exported: the rows of a table, cut into one unit per day and series, and what the tables say of each unit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal
from urllib.parse import quote

from marketprism_consumer import times
from marketprism_consumer.clickhouse.client import ClickHouse
from marketprism_consumer.schema.tables import Table
from marketprism_consumer.schema.views import everything

DAY = 86_400_000_000  # [µs]
TierChoice = Literal["both", "hot", "cold"]

WHERE = "timestamp >= fromUnixTimestamp64Micro({since:Int64}, 'UTC') AND timestamp < fromUnixTimestamp64Micro({until:Int64}, 'UTC')"
OF_SERIES = f"exchange = {{exchange:String}} AND market_type = {{market_type:String}} AND symbol = {{symbol:String}} AND {WHERE}"


@dataclass(frozen=True, slots=True)
class RowSource:
    """Where rows are read. Both databases are on the server that is asked, unless `choice` names one of them."""

    hot: str
    cold: str
    choice: TierChoice = "both"

    def rows(self, table: Table, where: str) -> str:
        """A SELECT of every column, each row once."""
        if self.choice == "both":
            return everything(self.hot, self.cold, table, where)
        columns = ", ".join(column.name for column in table.columns if column.kind != "EPHEMERAL")
        return f"SELECT {columns} FROM `{self.hot if self.choice == 'hot' else self.cold}`.`{table.name}` WHERE {where}"


@dataclass(frozen=True, slots=True)
class Covered:
    """What a unit has of one stream, in one table. Times in µs. `digest`: of the identities and when they were stored, whatever
    the order: another row in place of one changes it."""

    table: str
    stream: str
    rows: int
    first: int
    last: int
    first_seq: int
    last_seq: int
    digest: str


@dataclass(frozen=True, slots=True)
class FileUnit:
    """What becomes one file: one series, the part of one day that was asked for [µs]. `kind`: the table, or what is made of several."""

    kind: str
    exchange: str
    market_type: str
    symbol: str
    since: int
    until: int

    @property
    def parameters(self) -> dict[str, str | int]:
        return {
            "exchange": self.exchange,
            "market_type": self.market_type,
            "symbol": self.symbol,
            "since": self.since,
            "until": self.until,
        }

    def path(self, suffix: str) -> str:
        """`trades/binance_spot/spot/BTC-USDT/2025-09-24.parquet`: a name can't lead out of its folder."""
        day = times.shown(self.since)[:10]
        return "/".join([self.kind, *map(_safe, (self.exchange, self.market_type, self.symbol)), day + suffix])


def _safe(name: str) -> str:
    return quote(name, safe=" +@=,()[]&!$~") if name.strip(".") else "".join(f"%{ord(c):02X}" for c in name) or "%00"


@dataclass(frozen=True, slots=True)
class Wanted:
    """`since` and `until` in µs. Empty lists: all."""

    since: int
    until: int
    exchanges: Sequence[str] = ()
    symbols: Sequence[str] = ()


async def units(
    server: ClickHouse, tiers: RowSource, kinds: Mapping[str, Sequence[Table]], wanted: Wanted
) -> dict[FileUnit, list[Covered]]:
    """Every unit that has rows, in the order of kind, series and day. `kinds`: the tables of each. Raises StoreError."""
    found: dict[FileUnit, list[Covered]] = {}
    where = WHERE
    if wanted.exchanges:
        where += " AND exchange IN {exchanges:Array(String)}"
    if wanted.symbols:
        where += " AND symbol IN {symbols:Array(String)}"
    given = {
        "since": wanted.since,
        "until": wanted.until,
        "exchanges": list(wanted.exchanges),
        "symbols": list(wanted.symbols),
    }
    for kind, tables in kinds.items():
        for table in tables:
            for exchange, market_type, symbol, day, *of_stream in await server.query(
                _facts(tiers, table, where), given
            ):
                begin = day * DAY
                unit = FileUnit(
                    kind,
                    exchange,
                    market_type,
                    symbol,
                    max(begin, wanted.since),
                    min(begin + DAY, wanted.until),
                )
                found.setdefault(unit, []).append(Covered(table.name, *of_stream))
    order = sorted(found, key=lambda unit: (unit.kind, unit.exchange, unit.market_type, unit.symbol, unit.since))
    return {unit: found[unit] for unit in order}


async def covered(server: ClickHouse, tiers: RowSource, tables: Sequence[Table], unit: FileUnit) -> list[Covered]:
    """What the tables have of a unit now. Raises StoreError."""
    return [
        Covered(table.name, *of_stream)
        for table in tables
        for *_, of_stream in (
            (row[:4], row[4:]) for row in await server.query(_facts(tiers, table, OF_SERIES), unit.parameters)
        )
    ]


def _facts(tiers: RowSource, table: Table, where: str) -> str:
    return (
        "SELECT exchange, market_type, symbol, toUInt32(toDate(timestamp)) AS day, _stream, count(),"
        " toUnixTimestamp64Micro(min(timestamp)), toUnixTimestamp64Micro(max(timestamp)), min(_seq), max(_seq),"
        " hex(sum(cityHash64(_seq, created_at)))"
        f" FROM ({tiers.rows(table, where)}) GROUP BY exchange, market_type, symbol, day, _stream"
        " ORDER BY exchange, market_type, symbol, day, _stream"
    )
