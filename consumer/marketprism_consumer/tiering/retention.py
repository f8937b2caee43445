"""How long rows stay: the end of cold's days, and the TTL of hot that must not come before cold has the rows."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

from marketprism_consumer.tiering.two_tiers import Place


def expired(partitions: list[str], now: datetime, seconds: float) -> list[str]:
    """The days, named as toYYYYMMDD does, that ended longer ago than the retention. Other names are left alone."""
    limit = now - timedelta(seconds=seconds)
    found = []
    for name in partitions:
        if re.fullmatch(r"(19|20|21)[0-9]{6}", name):
            day_ends = datetime.strptime(name, "%Y%m%d").replace(tzinfo=UTC) + timedelta(days=1)
            if day_ends <= limit:
                found.append(name)
    return sorted(found)


async def drop_expired(cold: Place, seconds: float, *, dry_run: bool) -> dict[str, int]:
    """Drop whole days that are older, by the server's clock. Returns their rows by day."""
    there = await cold.server.query(
        "SELECT partition, sum(rows), toUnixTimestamp(now()) FROM system.parts"
        " WHERE database = {database:String} AND table = {table:String} AND active GROUP BY partition",
        {"database": cold.database, "table": cold.table},
    )
    if not there:
        return {}
    rows = {str(name): int(count) for name, count, _ in there}
    days = expired(list(rows), datetime.fromtimestamp(int(there[0][2]), UTC), seconds)
    for day in days if not dry_run else ():
        await cold.server.command(f"ALTER TABLE {cold.name} DROP PARTITION {day}")
    return {day: rows[day] for day in days}


async def ttl_of(hot: Place) -> str:
    """The TTL of a table as ClickHouse writes it; empty where it has none."""
    full = await hot.server.value(
        "SELECT any(engine_full) FROM system.tables WHERE database = {database:String} AND name = {table:String}",
        {"database": hot.database, "table": hot.table},
    )
    match = re.search(r"\bTTL (.+?)(?: SETTINGS |$)", str(full))
    return match[1] if match else ""


_UNITS = {
    "Second": 1,
    "Minute": 60,
    "Hour": 3600,
    "Day": 86_400,
    "Week": 604_800,
    "Month": 2_592_000,
    "Year": 31_536_000,
}


def ttl_seconds(ttl: str) -> float | None:
    """The shortest time in it; None where that is unknown."""
    found = [int(n) * _UNITS[unit] for unit, n in re.findall(r"toInterval(\w+?)\((\d+)\)", ttl) if unit in _UNITS]
    return float(min(found)) if found else None
