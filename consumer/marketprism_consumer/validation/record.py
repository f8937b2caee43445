"""The last verdict, kept beside the rows: for `status`, and for whoever asks the database."""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple

from marketprism_consumer.clickhouse.client import ClickHouse
from marketprism_consumer.clickhouse.schema import ON_CLUSTER
from marketprism_consumer.tiering.servers import on_cluster
from marketprism_consumer.validation.report import verdict
from marketprism_consumer.validation.run import Report

TABLE = "_validations"


class Verdict(NamedTuple):
    """`scope`: what it was narrowed to; empty for the whole pipeline."""

    at: datetime
    since: datetime
    until: datetime
    rows: int
    ok: bool
    scope: str
    text: str


async def note(server: ClickHouse, database: str, report: Report, scope: str) -> None:
    """Raises StoreError: a validation needs no right to write, and goes on without. On a cluster each server has a table of its own,
    and all are asked."""
    await server.command(
        f"CREATE TABLE IF NOT EXISTS `{database}`.`{TABLE}`{on_cluster(server)} (at DateTime64(3, 'UTC') DEFAULT now64(3),"
        " since DateTime64(6, 'UTC'), until DateTime64(6, 'UTC'), rows UInt64, ok Bool, scope String, verdict String)"
        " ENGINE = MergeTree ORDER BY at TTL toDateTime(at) + INTERVAL 1 YEAR",
        settings=ON_CLUSTER if server.cluster else None,
    )
    await server.command(
        f"INSERT INTO `{database}`.`{TABLE}` (since, until, rows, ok, scope, verdict)"
        " SELECT fromUnixTimestamp64Micro({since:Int64}, 'UTC'), fromUnixTimestamp64Micro({until:Int64}, 'UTC'),"
        " {rows:UInt64}, {ok:Bool}, {scope:String}, {verdict:String}",
        {
            "since": report.request.since,
            "until": report.request.until,
            "rows": report.rows,
            "ok": report.fine,
            "scope": scope,
            "verdict": verdict(report),
        },
    )


async def last(server: ClickHouse, database: str) -> Verdict | None:
    """None before the first one. Raises StoreError."""
    if not await server.has_table(database, TABLE):
        return None
    rows = await server.query(
        f"SELECT at, since, until, rows, ok, scope, verdict FROM {server.all_replicas(f'`{database}`', f'`{TABLE}`')}"
        " ORDER BY at DESC LIMIT 1",
        settings=server.reachable,
    )
    return Verdict(*rows[0]) if rows else None
