"""The algorithm's port on ClickHouse: one table, hot and cold, on one server or on two.

Names come from the settings, which have checked them, and from system.columns; values are server-side parameters.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from marketprism_api import reasons
from marketprism_consumer.clickhouse.client import ClickHouse
from marketprism_consumer.clickhouse.replicas import NAME, Replicas
from marketprism_consumer.errors import StoreError, TieringError
from marketprism_consumer.ingest.record import VALID
from marketprism_consumer.tiering.algorithm import Proof, Survey, Totals
from marketprism_consumer.tiering.slices import Bucket, Filter, Slice

NO_SUCH_PART = 232
UNFINISHED = 341  # on all replicas; on those that are there it is
FRESH = VALID + 10  # after it was stored no server takes a block any more, were its clock a bit behind [s]
PART_IN_MUTATIONS = (24, 5)  # `_part` in the condition of a DELETE
OFFSET_IN_MUTATIONS = (25, 8)  # and `_part_offset`
BY_HAND = "manual:"  # what `_stream` begins with where a row came without one
# Not what a message says, but when and as what it was stored.
STORED_AS = ("created_at",)
IDENTITY = "_stream, _seq"
FILTERS = ("exchange", "market_type", "symbol")
BROUGHT = "_migration_ids_"  # tables in hot's memory: what a cold on another server holds of the slice at hand


@dataclass(frozen=True, slots=True)
class HashedColumn:
    name: str
    type: str


@dataclass(frozen=True, slots=True)
class Place:
    """A table on a server. `version` is its server's."""

    server: ClickHouse
    database: str
    table: str
    version: tuple[int, int]

    @property
    def name(self) -> str:
        return f"`{self.database}`.`{self.table}`"


def hashed(columns: Sequence[HashedColumn]) -> str:
    """A hash of every value. A NULL hashes as itself: cityHash64 of a NULL is NULL, and aggregates skip NULLs."""
    parts = []
    for column in columns:
        inner = _inside("Nullable", _inside("LowCardinality", column.type) or column.type)
        if inner:
            quoted = inner.replace("'", "\\'")
            parts += [f"isNull(`{column.name}`)", f"ifNull(`{column.name}`, defaultValueOfTypeName('{quoted}'))"]
        else:
            parts.append(f"`{column.name}`")
    return f"cityHash64({', '.join(parts)})"


def _inside(outer: str, type_: str) -> str:
    return type_[len(outer) + 1 : -1] if type_.startswith(f"{outer}(") else ""


def condition(slice_: Slice) -> str:
    """ClickHouse prunes parts and granules by it: it compares the column itself."""
    return f"timestamp >= {_time('from')} AND timestamp < {_time('to')}{filtered(slice_)}"


def filtered(slice_: Slice) -> str:
    return "".join(f" AND {name} = {{{name}:String}}" for name in FILTERS if getattr(slice_.filter, name))


def named(parts: Sequence[str]) -> str:
    """In a statement itself, and not as a parameter: long ones go as a form, which not every server or proxy takes. Raises
    TieringError."""
    for part in parts:
        if not re.fullmatch(r"[0-9A-Za-z_-]+", part):
            raise TieringError(reasons.SLICE_UNSETTLED, f"a part has the odd name {part!r}")
    return ", ".join(f"'{part}'" for part in parts) or "''"


def _time(parameter: str) -> str:
    return f"fromUnixTimestamp64Micro({{{parameter}:Int64}}, 'UTC')"


def values(slice_: Slice, **more: Any) -> dict[str, Any]:
    given = {name: getattr(slice_.filter, name) for name in FILTERS}
    return {"from": slice_.start, "to": slice_.end, **{name: value for name, value in given.items() if value}, **more}


class TwoTiers:
    """`fence` is the moment [µs, the server's clock] after which cold's server refuses to begin a copy of ours."""

    def __init__(
        self,
        hot: Place,
        cold: Place,
        columns: Sequence[HashedColumn],
        run: str,
        fence: Callable[[], int] = lambda: 1 << 62,
        *,
        quorum: bool = True,
    ) -> None:
        self.quorum = quorum
        self.hot, self.cold = hot, cold
        self.columns = tuple(columns)
        self.run = run
        self.fence = fence
        self.remote = hot.server is not cold.server
        self._names = ", ".join(f"`{column.name}`" for column in columns)
        self._row = hashed(columns)
        self._content = hashed([column for column in columns if column.name not in STORED_AS])
        self._brought = f"`{hot.database}`.`{brought_name(run, hot.table)}`"

    # --- hot ----------------------------------------------------------------------------------------------------------

    async def buckets(self, start: int, end: int, step: int, filter_: Filter) -> list[Bucket]:
        span = Slice(start, end, 0, filter_)
        rows = await self.hot.server.query(
            "SELECT intDiv(toUnixTimestamp64Micro(toDateTime64(timestamp, 6)), {step:Int64}) * {step:Int64} AS bucket, count()"
            f" FROM {self.hot.name} WHERE {condition(span)} GROUP BY bucket ORDER BY bucket",
            values(span, step=step),
        )
        return [
            Bucket(max(int(bucket), start), step - max(0, start - int(bucket)), int(count)) for bucket, count in rows
        ]

    async def name(self, slice_: Slice) -> None:
        # Random, not made from the row: equal rows are two rows.
        await self._mutate(
            f"ALTER TABLE {self.hot.name} UPDATE _stream = '{BY_HAND}{self.run}', _seq = cityHash64(generateUUIDv4())"
            f" WHERE _seq = 0 AND {condition(slice_)}",
            values(slice_),
        )

    async def survey(self, slice_: Slice) -> Survey:
        rows = await self.hot.server.query(
            "SELECT _part, count(), groupBitXor(row), sum(toUInt128(row)), countIf(_seq = 0)"
            f" FROM (SELECT _part, _seq, {self._row} AS row FROM {self.hot.name} WHERE {condition(slice_)}) GROUP BY _part",
            values(slice_),
        )
        parts = {str(part): Totals(int(count), int(xor), int(sum_)) for part, count, xor, sum_, _ in rows}
        return Survey(parts, sum(int(row[4]) for row in rows))

    async def part_rows(self, parts: Sequence[str]) -> Mapping[str, int]:
        rows = await self.hot.server.query(
            f"SELECT _part, count() FROM {self.hot.name} WHERE _part IN ({named(parts)}) GROUP BY _part"
        )
        return {str(part): int(count) for part, count in rows}

    async def fresh(self, parts: Sequence[str]) -> set[str]:
        rows = await self.hot.server.query(
            f"SELECT _part FROM {self.hot.name} WHERE _part IN ({named(parts)})"
            f" GROUP BY _part HAVING max(created_at) > now64(3) - INTERVAL {FRESH} SECOND"
        )
        return {str(row[0]) for row in rows}

    async def drop_part(self, part: str) -> bool:
        try:
            await self.hot.server.command(f"ALTER TABLE {self.hot.name} DROP PART {named([part])}")
        except StoreError as refused:
            if refused.code != NO_SUCH_PART:
                raise
            return False
        return True

    async def delete(self, proofs: Sequence[Proof]) -> int:
        by_part = self.hot.version >= PART_IN_MUTATIONS
        if self.remote and not by_part:
            raise TieringError(reasons.SERVER_TOO_OLD, "deleting a part of an hour needs ClickHouse 24.5 in hot")
        given: dict[str, Any] = {}
        there, doomed = [], []
        for number, proof in enumerate(proofs):
            time = f"timestamp >= {_time(f'from{number}')} AND timestamp < {_time(f'to{number}')}"
            part = f"_part IN ({named(list(proof.parts))})"
            given |= {
                f"from{number}": proof.slice.start,
                f"to{number}": proof.slice.end,
            }
            there.append(f"({time} AND {part})")
            # Before 24.5 a mutation can't use `_part`: it would fail and block the table's others. There rows go by identity.
            known = f"({IDENTITY}) IN (SELECT {IDENTITY} FROM {self.cold.name} WHERE _seq != 0 AND {time})"
            doomed.append(f"({time} AND {part if by_part else known})")
        filter_ = filtered(proofs[0].slice)
        given |= values(proofs[0].slice)
        rows = int(
            await self.hot.server.value(
                f"SELECT count() FROM {self.hot.name} WHERE ({' OR '.join(there)}){filter_}", given
            )
        )
        if rows:
            await self._mutate(f"DELETE FROM {self.hot.name} WHERE ({' OR '.join(doomed)}){filter_}", given)
        return rows

    async def _mutate(self, sql: str, given: Mapping[str, Any]) -> None:
        """Of hot. A replica that is away does it when it is back."""
        try:
            await self.hot.server.command(sql, given)
        except StoreError as refused:
            if refused.code != UNFINISHED:
                raise

    async def sweep(self) -> None:
        """Drop parts all of whose rows are deleted: nothing else would ever free a part that no merge takes."""
        masked = await self.hot.server.query(
            "SELECT name FROM system.parts WHERE database = {database:String} AND table = {table:String} AND active"
            f" AND has_lightweight_delete AND modification_time < now() - INTERVAL {FRESH} SECOND",
            {"database": self.hot.database, "table": self.hot.table},
        )
        parts = [str(row[0]) for row in masked]
        alive = await self.part_rows(parts) if parts else {}
        for part in parts:
            if part not in alive:
                await self.drop_part(part)

    # --- cold ---------------------------------------------------------------------------------------------------------

    async def cold_totals(self, slice_: Slice) -> Totals:
        rows = await self.cold.server.query(
            "SELECT count(), groupBitXor(row), sum(toUInt128(row))"
            f" FROM (SELECT {self._row} AS row FROM {self.cold.name} WHERE _seq != 0 AND {condition(slice_)})",
            values(slice_),
        )
        return Totals(*(int(value) for value in rows[0]))

    async def kept(self) -> None:
        if self.quorum and self.cold.server.cluster:
            await Replicas(self.cold.server, self.cold.database, self.cold.table).majority()

    async def doubles(self, slice_: Slice) -> int:
        return int(
            await self.cold.server.value(
                f"SELECT count() - uniqExact({IDENTITY}, timestamp) FROM {self.cold.name} WHERE _seq != 0 AND {condition(slice_)}",
                values(slice_),
            )
        )

    async def repair(self, slice_: Slice) -> None:
        if self.cold.server.cluster:
            what = f"{slice_}: cold has rows twice. Each replica would delete by parts of its own"
            raise TieringError(reasons.COLD_DOUBLES, f"{what}. Nothing was deleted in hot")
        if self.cold.version < OFFSET_IN_MUTATIONS:
            what = f"{slice_}: cold has rows twice, and only from 25.8 on can ClickHouse delete one of two equal rows"
            raise TieringError(reasons.COLD_DOUBLES, f"{what}. Nothing was deleted in hot")
        place = "(toUInt64(splitByChar('_', _part)[2]), _part_offset, _part)"
        surplus = (
            f"SELECT arrayJoin(arrayPopFront(arraySort(groupArray({place})))) FROM {self.cold.name}"
            f" WHERE _seq != 0 AND {condition(slice_)} GROUP BY {IDENTITY}, timestamp HAVING count() > 1"
        )
        await self.cold.server.command(
            f"ALTER TABLE {self.cold.name} DELETE WHERE {condition(slice_)} AND {place} IN ({surplus})", values(slice_)
        )

    # --- both ---------------------------------------------------------------------------------------------------------

    async def lacking(self, slice_: Slice, parts: Sequence[str]) -> int:
        known = await self._cold(slice_, f"{IDENTITY}, {self._content}")
        return await self._count(slice_, parts, f"({IDENTITY}, {self._content}) NOT IN ({known})")

    async def conflicts(self, slice_: Slice, parts: Sequence[str]) -> int:
        same = await self._cold(slice_, f"{IDENTITY}, {self._content}")
        there = await self._cold(slice_, IDENTITY)
        return await self._count(
            slice_, parts, f"({IDENTITY}, {self._content}) NOT IN ({same}) AND ({IDENTITY}) IN ({there})"
        )

    async def copy(self, slice_: Slice, token: str) -> None:
        known = await self._cold(slice_, IDENTITY)
        rows = (
            f"SELECT {self._names} FROM {self.hot.name} WHERE {condition(slice_)} AND _seq != 0"
            f" AND ({IDENTITY}) NOT IN ({known})"
        )
        if self.remote:
            blocks = await self.hot.server.read(f"{rows} LIMIT 1 BY {IDENTITY}", values(slice_))
            if blocks:
                digest = hashlib.blake2b(blocks, digest_size=16).hexdigest()
                names = [column.name for column in self.columns]
                await self.cold.server.write(
                    self.cold.name, names, blocks, {"insert_deduplication_token": f"{token}/{digest}"}
                )
            return
        fenced = "ignore(throwIf(toUnixTimestamp64Micro(now64(6)) > {fence:Int64}, 'the lease has ended')) = 0"
        await self.cold.server.command(
            f"INSERT INTO {self.cold.name} ({self._names}) {rows} AND {fenced} LIMIT 1 BY {IDENTITY}",
            values(slice_, fence=self.fence()),
            settings={"insert_deduplication_token": token},
        )

    async def _count(self, slice_: Slice, parts: Sequence[str], where: str) -> int:
        return int(
            await self.hot.server.value(
                f"SELECT count() FROM {self.hot.name}"
                f" WHERE {condition(slice_)} AND _part IN ({named(parts)}) AND {where}",
                values(slice_),
            )
        )

    async def _cold(self, slice_: Slice, what: str) -> str:
        """A SELECT of it from cold that runs on hot's server: where cold is elsewhere, from a copy of what it takes."""
        if not self.remote:
            return f"SELECT {what} FROM {self.cold.name} WHERE _seq != 0 AND {condition(slice_)}"
        await self.hot.server.command(
            f"CREATE TABLE IF NOT EXISTS {self._brought} (_stream String, _seq UInt64, content UInt64) ENGINE = Memory"
        )
        await self.hot.server.command(f"TRUNCATE TABLE {self._brought}")
        blocks = await self.cold.server.read(
            f"SELECT toString(_stream) AS _stream, _seq, {self._content} AS content FROM {self.cold.name}"
            f" WHERE _seq != 0 AND {condition(slice_)}",
            values(slice_),
        )
        if blocks:
            await self.hot.server.write(self._brought, ("_stream", "_seq", "content"), blocks)
        return f"SELECT {what.replace(self._content, 'content')} FROM {self._brought}"

    async def close(self) -> None:
        if self.remote:
            await self.hot.server.command(f"DROP TABLE IF EXISTS {self._brought} SYNC")


def brought_name(run: str, table: str) -> str:
    return f"{BROUGHT}{run}_{table}"


async def open_tiers(
    hot: ClickHouse,
    hot_database: str,
    cold: ClickHouse,
    cold_database: str,
    table: str,
    run: str,
    fence: Callable[[], int],
    *,
    quorum: bool = True,
) -> TwoTiers:
    """Both tables, compared. Raises TieringError where cold could not take every value of hot."""
    hot_columns = await _columns(hot, hot_database, table)
    cold_columns = hot_columns_of(await _columns(cold, cold_database, table))
    wanted = hot_columns_of(hot_columns)
    for name, type_ in wanted.items():
        if name not in cold_columns:
            # `schema apply` knows hot's server only.
            by_hand = f"ALTER TABLE {cold_database}.{table} ADD COLUMN `{name}` {type_}, on cold's server"
            add = "`marketprism schema apply` adds it" if hot is cold else by_hand
            raise TieringError(
                reasons.SCHEMA_DRIFT, f"{cold_database}.{table} lacks the column {name}, which hot has: {add}"
            )
        if cold_columns[name] != type_:
            raise TieringError(
                reasons.SCHEMA_DRIFT,
                f"{table}.{name} is {type_} in hot and {cold_columns[name]} in cold: make them equal",
            )
    for name in ("timestamp", *FILTERS, "_stream", "_seq"):
        if name not in wanted:
            raise TieringError(
                reasons.SCHEMA_DRIFT, f"{hot_database}.{table} lacks the column {name}: `marketprism schema apply`"
            )
    columns = [HashedColumn(name, type_) for name, type_ in wanted.items()]
    places = [
        Place(server, database, table, await version_of(server))
        for server, database in ((hot, hot_database), (cold, cold_database))
    ]
    for server, database in ((hot, hot_database), (cold, cold_database)):
        await _until_whole(server, database, table)
    return TwoTiers(places[0], places[1], columns, run, fence, quorum=quorum)


async def _until_whole(server: ClickHouse, database: str, table: str) -> None:
    """On a cluster: the replica at hand has all that others have stored. Raises StoreError."""
    if server.cluster:
        replicas = Replicas(server, database, table)
        await replicas.until_whole(str(await server.value(f"SELECT {NAME}", replicas.given)))


def hot_columns_of(columns: Sequence[tuple[str, str, str]]) -> dict[str, str]:
    """Columns that are stored, by name; what is computed is computed again in cold."""
    return {name: type_ for name, type_, kind in columns if kind in ("", "DEFAULT")}


async def _columns(server: ClickHouse, database: str, table: str) -> list[tuple[str, str, str]]:
    rows = await server.query(
        "SELECT name, type, default_kind FROM system.columns"
        " WHERE database = {database:String} AND table = {table:String} ORDER BY position",
        {"database": database, "table": table},
    )
    if not rows:
        raise TieringError(reasons.SCHEMA_MISSING, f"there is no table {database}.{table}: `marketprism schema apply`")
    return [(str(name), str(type_), str(kind)) for name, type_, kind in rows]


async def version_of(server: ClickHouse) -> tuple[int, int]:
    major, minor, *_ = str(await server.value("SELECT version()")).split(".")
    return int(major), int(minor)
