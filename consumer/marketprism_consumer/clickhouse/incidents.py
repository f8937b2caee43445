"""The table of incidents against a real server."""

from __future__ import annotations

from dataclasses import astuple, fields

from marketprism_consumer.clickhouse.client import ClickHouse
from marketprism_consumer.schema.incidents import COLUMNS, TABLE, Incident

_FIELDS = [field.name for field in fields(Incident)]
_TYPES = {column.name: column.type for column in COLUMNS}
_TIMES = ("since", "until")


async def note(server: ClickHouse, database: str, incident: Incident) -> None:
    """Raises StoreError. What is noted again replaces what was noted before."""
    given = [
        f"fromUnixTimestamp64Micro({{{name}:Int64}}, 'UTC')" if name in _TIMES else f"{{{name}:{_plain(name)}}}"
        for name in _FIELDS
    ]
    await server.command(
        f"INSERT INTO `{database}`.`{TABLE}` (id, noted_at, {', '.join(_FIELDS)})"
        f" SELECT {{id:String}}, now64(3, 'UTC'), {', '.join(given)}",
        {"id": incident.id, **dict(zip(_FIELDS, astuple(incident), strict=True))},
    )


async def incidents(server: ClickHouse, database: str, since: int, until: int, data_type: str = "") -> list[Incident]:
    """Those that touch the time [µs], oldest first; none where there is no such table. Raises StoreError."""
    if not await server.has_table(database, TABLE):
        return []
    values = [f"toUnixTimestamp64Micro({name})" if name in _TIMES else name for name in _FIELDS]
    last = ", ".join(f"last.{number}" for number in range(1, len(_FIELDS) + 1))
    # Each shard has those that it was told of; of its replicas each has them all.
    rows = await server.query(
        f"SELECT {last} FROM (SELECT argMax(({', '.join(values)}), (noted_at, ended)) AS last"
        f" FROM {server.all_replicas(f'`{database}`', f'`{TABLE}`')} GROUP BY id)"
        " WHERE last.5 < {until:Int64} AND last.6 >= {since:Int64} AND (last.1 = {of:String} OR {of:String} = '')"
        " ORDER BY last.5, last.6, last.11",
        {"since": since, "until": until, "of": data_type},
        settings=server.reachable,
    )
    return [Incident(*row) for row in rows]


def _plain(name: str) -> str:
    return "String" if _TYPES[name].startswith("LowCardinality") else _TYPES[name]
