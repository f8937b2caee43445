"""What there is of one data type, by day or by hour.

A day is counted once, and again when a part of it has changed: what a merge, a migration or a late row leaves behind has another name.
A minute with a row is a bit, so that both tiers add up by OR, and a silence is a run of zeros.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Literal

from marketprism_console.coverage.cells import DAY, SECOND, Cell, CellUnit, MarketKey, merged
from marketprism_console.sources import Sources
from marketprism_consumer.clickhouse.client import ClickHouse
from marketprism_consumer.clickhouse.store import ClickHouseStore
from marketprism_consumer.schema.ddl import TierName
from marketprism_consumer.schema.tables import Table
from marketprism_consumer.validation.run import Report, Validation, ValidationRequest

PARTS = """\
SELECT partition_id, name FROM system.parts
WHERE active AND database = {database:String} AND table = {table:String} AND rows > 0
ORDER BY partition_id, name"""

DAYS_AT_ONCE = 62
WITHIN = "timestamp >= fromUnixTimestamp64Micro({since:Int64}, 'UTC') AND timestamp < fromUnixTimestamp64Micro({until:Int64}, 'UTC')"
# A character for each minute of an hour, the first one first.
_MINUTES = "reverse(right(leftPad(bin({mask}), 64, '0'), 60))"
_UNITS: Mapping[CellUnit, str] = {
    "hour": f"""\
    SELECT exchange, market_type, symbol, hour AS start, in_hot, in_cold, low, high, {_MINUTES.format(mask="mask")} AS minutes
    FROM by_hour""",
    "day": f"""\
    SELECT exchange, market_type, symbol, toStartOfDay(hour) AS start, sum(by_hour.in_hot) AS in_hot, sum(by_hour.in_cold) AS in_cold,
        minIf(by_hour.low, by_hour.low != 0) AS low, max(by_hour.high) AS high,
        groupArray(toHour(hour)) AS hours, groupArray(mask) AS masks,
        arrayStringConcat(arrayMap(n -> {_MINUTES.format(mask="masks[indexOf(hours, n)]")}, range(24))) AS minutes
    FROM by_hour
    GROUP BY exchange, market_type, symbol, start""",
}


def counted(names: Mapping[TierName, str], table: Table, unit: CellUnit) -> str:
    """`names`: SQL names of the tables of each tier. Parameters: `since` and `until`."""
    number = "toUInt64OrZero(trade_id)" if table.data_type == "trade" else "toUInt64(0)"
    tiers = " UNION ALL ".join(
        f"""
        SELECT exchange, market_type, symbol, toStartOfHour(timestamp) AS hour, '{tier}' AS tier, count() AS rows,
            groupBitOr(bitShiftLeft(toUInt64(1), toMinute(timestamp))) AS bits, min({number}) AS lowest, max({number}) AS highest
        FROM {name} WHERE {WITHIN}
        GROUP BY exchange, market_type, symbol, hour"""
        for tier, name in names.items()
    )
    return f"""\
WITH by_hour AS
(
    SELECT exchange, market_type, symbol, hour, groupBitOr(bits) AS mask, sumIf(rows, tier = 'hot') AS in_hot,
        sumIf(rows, tier = 'cold') AS in_cold, minIf(lowest, lowest != 0) AS low, max(highest) AS high
    FROM ({tiers})
    GROUP BY exchange, market_type, symbol, hour
)
SELECT exchange, market_type, symbol, toUnixTimestamp(start), in_hot, in_cold, low, high, countSubstrings(minutes, '1'),
    length(silences[1]), if(length(silences) > 2, arrayMax(arrayMap(s -> length(s), arraySlice(silences, 2, -1))), 0),
    length(silences[-1])
FROM (SELECT *, splitByChar('1', minutes) AS silences FROM
(
{_UNITS[unit]}
))"""


def doubled(names: Mapping[TierName, str], unit: CellUnit) -> str:
    """Rows that are in both tiers: copied, and not yet deleted. Hot's are the fewer, so that cold's are looked for among them."""
    hot = f"FROM {names['hot']} WHERE {WITHIN}"
    start = "toStartOfHour(timestamp)" if unit == "hour" else "toStartOfDay(timestamp)"
    return f"""\
SELECT exchange, market_type, symbol, toUnixTimestamp({start}) AS start, count()
FROM {names["cold"]}
WHERE {WITHIN} AND _seq != 0
    AND toStartOfHour(timestamp) IN (SELECT toStartOfHour(timestamp) {hot})
    AND (_stream, _seq) IN (SELECT _stream, _seq {hot})
GROUP BY exchange, market_type, symbol, start"""


def day_of(partition_id: str, by: Literal["hour", "day"]) -> int | None:
    """When a partition's day begins [µs since 1970]. Hours are named by their seconds, days as `20250924`. None for what is made by hand,
    and is partitioned by something else."""
    try:
        if by == "hour":
            return int(partition_id) * SECOND // DAY * DAY
        return int(datetime.strptime(partition_id, "%Y%m%d").replace(tzinfo=UTC).timestamp()) * SECOND
    except ValueError:
        return None


@dataclass(slots=True)
class DayParts:
    """What a day is made of. `both`: of parts of both tiers."""

    names: list[str] = field(default_factory=list)
    both: bool = False


@dataclass(frozen=True, slots=True)
class CoveredPlace:
    """Where tables are asked for together: a shard, or one of two servers."""

    server: ClickHouse
    names: Mapping[TierName, str]
    databases: Mapping[TierName, str]
    table: Table
    name: str
    """Of the table that holds the rows, in both databases."""


async def places(sources: Sources, table: Table) -> list[CoveredPlace]:
    """Raises StoreError."""
    hot, cold = await sources.hot.shards(), await sources.cold.shards()
    made = []
    for shard, in_hot in hot.items():
        in_cold = cold.get(shard)
        tiers: dict[TierName, ClickHouseStore] = {"hot": in_hot}
        if in_cold is not None and not sources.cold_is_elsewhere:
            tiers["cold"] = in_cold
        made.append(_place(tiers, table))
    if sources.cold_is_elsewhere:
        made += [_place({"cold": in_cold}, table) for in_cold in cold.values()]
    return made


def _place(tiers: Mapping[TierName, ClickHouseStore], table: Table) -> CoveredPlace:
    one = next(iter(tiers.values()))
    return CoveredPlace(
        one.clickhouse,
        {tier: store.table(table) for tier, store in tiers.items()},
        {tier: store.database for tier, store in tiers.items()},
        table,
        one.name(table),
    )


class Coverage:
    """Remembers what it has counted: by place, table, unit and day the parts that were counted, and the cells."""

    def __init__(self, sources: Sources) -> None:
        self._sources = sources
        self._known: dict[tuple[int, str, CellUnit, int], tuple[list[str], list[Cell]]] = {}

    async def cells(self, table: Table, unit: CellUnit, since: int, until: int) -> list[Cell]:
        """Of the days that begin from `since` on and before `until` [µs since 1970], in no order. Raises StoreError."""
        found: dict[tuple[MarketKey, int], Cell] = {}
        for number, place in enumerate(await places(self._sources, table)):
            for cell in await self._of_place(number, place, table, unit, since, until):
                key = (cell.market, cell.start)
                found[key] = merged(found[key], cell) if key in found else cell
        return list(found.values())

    async def newest(self, table: Table) -> int | None:
        """When the last day begins that has a row [µs since 1970]. Raises StoreError."""
        days = [await _days(place) for place in await places(self._sources, table)]
        return max((day for of_place in days for day in of_place), default=None)

    async def _of_place(
        self, number: int, place: CoveredPlace, table: Table, unit: CellUnit, since: int, until: int
    ) -> list[Cell]:
        days = {day: parts for day, parts in (await _days(place)).items() if since <= day < until}
        changed = {
            day: parts
            for day, parts in days.items()
            if self._known.get((number, table.name, unit, day), ([], []))[0] != parts.names
        }
        for run in runs(sorted(changed)):
            both = any(changed[day].both for day in run)
            counts = await _count(place, table, unit, run[0], run[-1] + DAY, both)
            for day in run:
                self._known[number, table.name, unit, day] = (changed[day].names, counts.get(day, []))
        return [cell for day in days for cell in self._known[number, table.name, unit, day][1]]


def runs(days: Sequence[int]) -> list[list[int]]:
    """Days that follow one another, together, but no more than one statement should count."""
    made: list[list[int]] = []
    for day in days:
        if made and day == made[-1][-1] + DAY and len(made[-1]) < DAYS_AT_ONCE:
            made[-1].append(day)
        else:
            made.append([day])
    return made


async def _days(place: CoveredPlace) -> dict[int, DayParts]:
    tiers: defaultdict[int, set[TierName]] = defaultdict(set)
    found: defaultdict[int, DayParts] = defaultdict(DayParts)
    for tier, database in place.databases.items():
        for partition, name in await place.server.query(PARTS, {"database": database, "table": place.name}):
            day = day_of(partition, place.table.partition if tier == "hot" else "day")
            if day is not None:
                found[day].names.append(f"{tier} {name}")
                tiers[day].add(tier)
                found[day].both = len(tiers[day]) > 1
    return found


async def _count(
    place: CoveredPlace, table: Table, unit: CellUnit, since: int, until: int, both: bool
) -> dict[int, list[Cell]]:
    """By day."""
    given = {"since": since, "until": until}
    twice: dict[tuple[MarketKey, int], int] = {}
    if both:
        rows = await place.server.query(doubled(place.names, unit), given)
        twice = {((exchange, kind, symbol), start): count for exchange, kind, symbol, start, count in rows}
    found: defaultdict[int, list[Cell]] = defaultdict(list)
    for exchange, kind, symbol, start, hot, cold, *rest in await place.server.query(
        counted(place.names, table, unit), given
    ):
        market = (exchange, kind, symbol)
        cell = Cell(market, start * SECOND, hot, cold, twice.get((market, start), 0), *rest)
        found[cell.start // DAY * DAY].append(cell)
    return found


async def findings(sources: Sources, data_type: str, market: MarketKey, since: int, until: int) -> Report:
    """What a validation says of one market in that time. Raises StoreError."""
    settings = sources.settings
    request = ValidationRequest(since, until, [data_type], [market[0]], [market[2]])
    declared = settings.declarations
    validation = Validation(sources.hot.clickhouse, settings.hot_db, settings.cold_db, declared, settings.limits)
    return await validation.run(request)
