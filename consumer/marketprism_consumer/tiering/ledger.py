"""What was moved, for people: a row when a slice begins and one when it ends. No step depends on it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

import structlog

from marketprism_consumer.clickhouse.client import ClickHouse
from marketprism_consumer.clickhouse.schema import ON_CLUSTER
from marketprism_consumer.errors import StoreError
from marketprism_consumer.tiering.algorithm import Moved
from marketprism_consumer.tiering.servers import engine, on_cluster
from marketprism_consumer.tiering.slices import Slice

log = structlog.get_logger()

TABLE = "_migrations"


class LedgerEntry(NamedTuple):
    run: str
    table: str
    slice_from: datetime
    slice_to: datetime
    rows: int
    bytes: int
    checksum: int
    started: datetime
    finished: datetime | None
    mode: str
    status: str
    error: str


class Ledger:
    """Its failures are logged, never raised: the rows are what counts."""

    def __init__(self, server: ClickHouse, database: str, run: str, mode: str) -> None:
        self._server, self._run, self._mode = server, run, mode
        self._table = f"`{database}`.`{TABLE}`"

    async def create(self) -> None:
        await self._try(
            f"CREATE TABLE IF NOT EXISTS {self._table}{on_cluster(self._server)} (run String, table LowCardinality(String),"
            " slice_from DateTime64(6, 'UTC'), slice_to DateTime64(6, 'UTC'), rows UInt64, bytes UInt64, checksum UInt64,"
            " started DateTime64(3, 'UTC'), at DateTime64(3, 'UTC') DEFAULT now64(3), mode LowCardinality(String),"
            f" status LowCardinality(String), error String) ENGINE = {engine(self._server)}"
            " ORDER BY (started, run, table, slice_from)",
            {},
            ON_CLUSTER if self._server.cluster else None,
        )

    async def note(
        self,
        table: str,
        slices: Sequence[Slice],
        status: str,
        started: float,
        moved: Moved,
        bytes_: int = 0,
        error: str = "",
    ) -> None:
        rows = moved.verified if status == "done" else sum(slice_.rows for slice_ in slices)
        given = {
            "run": self._run, "table": table, "from": slices[0].start, "to": slices[-1].end, "rows": rows,
            "bytes": bytes_, "checksum": moved.checksum, "started": int(started * 1000), "mode": self._mode,
            "status": status, "error": error[:2000],
        }  # fmt: skip
        await self._try(
            f"INSERT INTO {self._table} (run, table, slice_from, slice_to, rows, bytes, checksum, started, mode, status, error)"
            " SELECT {run:String}, {table:String}, fromUnixTimestamp64Micro({from:Int64}, 'UTC'),"
            " fromUnixTimestamp64Micro({to:Int64}, 'UTC'), {rows:UInt64}, {bytes:UInt64}, {checksum:UInt64},"
            " fromUnixTimestamp64Milli({started:Int64}, 'UTC'), {mode:String}, {status:String}, {error:String}",
            given,
        )

    async def unfinished(self, table: str) -> list[Slice]:
        """What runs began and did not end, lately: a copy of theirs may have come after another's."""
        try:
            rows = await self._server.query(
                "SELECT toUnixTimestamp64Micro(slice_from), toUnixTimestamp64Micro(slice_to)"
                f" FROM {self._table} WHERE table = {{table:String}} AND started > now() - INTERVAL 7 DAY"
                " GROUP BY run, slice_from, slice_to HAVING argMax(status, (at, status = 'done')) IN ('began', 'failed')",
                {"table": table},
            )
        except StoreError as refused:
            log.warning("the ledger can't be read", error=str(refused))
            return []
        return [Slice(int(begin), int(end)) for begin, end in rows]

    async def history(self, limit: int) -> list[LedgerEntry]:
        """The last slices, newest first; on a cluster those of all its servers. Raises StoreError."""
        database, table = self._table.split(".")
        rows = await self._server.query(
            "SELECT run, table, slice_from, slice_to, argMax(rows, at), argMax(bytes, at), argMax(checksum, at), started,"
            " nullIf(max(at), min(at)), any(mode), argMax(status, (at, status != 'began')) AS last, argMax(error, at)"
            f" FROM {self._server.all_replicas(database, table)} GROUP BY run, table, slice_from, slice_to, started"
            " ORDER BY started DESC, table, slice_from DESC LIMIT {limit:UInt32}",
            {"limit": limit},
            settings=self._server.reachable,
        )
        return [LedgerEntry(*row) for row in rows]

    async def _try(self, sql: str, given: dict[str, Any], settings: Mapping[str, Any] | None = None) -> None:
        try:
            await self._server.command(sql, given, settings=settings)
        except StoreError as refused:
            log.warning("the ledger was not written; nothing depends on it", error=str(refused))
