"""One store over all shards of a cluster.

Each shard is written and asked by a store of its own, as a cluster of one shard is: the fence, the tokens and the wait for replicas
are the same. Here a block is taken apart, always in the same way, and answers are put together (docs/adr/0011).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from functools import lru_cache
from hashlib import md5
from typing import Any, TypeVar

from marketprism_api import reasons
from marketprism_api.settings import Settings
from marketprism_consumer.clickhouse.client import ClickHouse
from marketprism_consumer.clickhouse.replicas import SOON, UNKNOWN_TABLE, Replicas
from marketprism_consumer.clickhouse.servers import Sharded
from marketprism_consumer.clickhouse.store import ClickHouseStore
from marketprism_consumer.errors import Fault, StoreError
from marketprism_consumer.ingest.clickhouse_errors import refused
from marketprism_consumer.ingest.decode import Row
from marketprism_consumer.ingest.encode import Block
from marketprism_consumer.ingest.store import Clocks, Stored
from marketprism_consumer.schema.ddl import LOCAL, SHARDS, shards_in
from marketprism_consumer.schema.tables import TRADES, Table

T = TypeVar("T")

SYMBOL = next(
    n for n, column in enumerate(TRADES.inserted) if column.name == "symbol"
)  # of a row; the same in all tables
FAULTS = (Fault.LATE, Fault.ROW, Fault.TOO_LARGE, Fault.UNKNOWN, Fault.SERVER, Fault.PASSING)
"""Of several shards the first of these is told: where sending again won't help, it counts."""


@lru_cache(1 << 16)
def shard_of(symbol: str, shards: tuple[str, ...]) -> str:
    """For ever the same. In SQL: `shards[1 + halfMD5(symbol) % length(shards)]`."""
    digest = md5(symbol.encode(), usedforsecurity=False).digest()
    return shards[int.from_bytes(digest[:8]) % len(shards)]


async def recorded(clickhouse: ClickHouse, databases: Sequence[str]) -> tuple[str, ...]:
    """The shards over which the tables of these databases are spread, in their order; none where there are no tables. Raises
    StoreError."""
    source = clickhouse.all_replicas("system", "tables")
    rows = await clickhouse.query(
        f"SELECT DISTINCT comment FROM {source} WHERE database IN {{databases:Array(String)}}"
        f" AND endsWith(name, '{LOCAL}') AND startsWith(comment, '{SHARDS}')",
        {"databases": list(databases)},
        settings={**clickhouse.reachable, **SOON},
    )
    found = [shards_in(str(comment)) for (comment,) in rows]
    if len(found) > 1:
        what = f"tables in {' and '.join(databases)} are spread over different shards: " + " and ".join(
            map(",".join, found)
        )
        raise StoreError(0, what, Fault.SERVER, reason=reasons.SHARDS_CHANGED)
    return found[0] if found else ()


async def shards_now(clickhouse: ClickHouse) -> tuple[str, ...]:
    """The shards that the cluster has now, those with short and small names first. Raises StoreError, also where one is away."""
    rows = await clickhouse.query(
        f"SELECT DISTINCT substitution FROM {clickhouse.all_replicas('system', 'macros')} WHERE macro = 'shard'",
        settings={**clickhouse.reachable, **SOON},
    )
    count = "SELECT uniqExact(shard_num) FROM system.clusters WHERE cluster = {cluster:String}"
    wanted = int(await clickhouse.value(count, {"cluster": clickhouse.cluster}))
    names = sorted((str(name) for (name,) in rows), key=lambda name: (len(name), name))
    if len(names) != wanted:
        what = f"{clickhouse.cluster} has {wanted} shards, and {', '.join(names) or 'none'} could be asked for a macro `shard`"
        raise StoreError(0, what, Fault.PASSING, reason=reasons.SHARDS_CHANGED)
    return tuple(names)


class ShardedStore(ClickHouseStore):
    """The port of `ingest/store.py` over all shards. `table` is the Distributed one."""

    clickhouse: Sharded

    def __init__(self, clickhouse: Sharded, database: str, *, quorum: bool = True, optional: bool = False) -> None:
        super().__init__(clickhouse, database, quorum=quorum, optional=optional)
        self._of: dict[str, ClickHouseStore] = {}

    async def shards(self) -> Mapping[str, ClickHouseStore]:
        """One store for each shard, by its name, in the order that decides on rows. Raises StoreError."""
        if not self._of:
            await self._read_shards()
        return self._of

    async def _read_shards(self) -> None:
        names = await recorded(self.clickhouse, [self.database])
        if not names:
            what = f"`{self.database}` has no table whose comment says over which shards it is spread"
            raise refused(UNKNOWN_TABLE, what)
        of = {
            name: ClickHouseStore(
                await self.clickhouse.shard(name),
                self.database,
                quorum=self.quorum,
                optional=self.optional,
                suffix=LOCAL,
            )
            for name in names
        }
        self._of = of

    async def _each(self, ask: Callable[[ClickHouseStore], Coroutine[Any, Any, T]]) -> list[T]:
        return await _all(ask(store) for store in (await self.shards()).values())

    async def insert(self, block: Block, until: int) -> None:
        """Each shard's rows are a block of their own, under a token of their own: what of it is stored is stored once, however often
        and by whom all of it is sent."""
        shards = await self.shards()
        names = tuple(shards)

        def of(row: Row) -> str:
            return shard_of(row[SYMBOL], names)

        await _all(shards[name].insert(part, until) for name, part in block.parts(of).items())

    async def clocks(self) -> Clocks:
        found = await self._each(ClickHouseStore.clocks)
        return Clocks(min(each.slowest for each in found), max(each.fastest for each in found))

    async def identity(self, table: Table) -> str:
        await self._read_shards()  # tables that were made again may be spread in another way
        return ",".join(await self._each(lambda store: store.identity(table)))

    async def settle(self, table: Table) -> None:
        await self._each(lambda store: store.settle(table))

    async def present(self, table: Table, stream: str, seqs: Sequence[int]) -> set[int]:
        return set().union(*await self._each(lambda store: store.present(table, stream, seqs)))

    async def stored(self, table: Table, stream: str, seqs: Sequence[int]) -> dict[int, list[Stored]]:
        if await self._has_no_tables():
            return {}
        found: dict[int, list[Stored]] = {}
        for there in await self._each(lambda store: store.stored(table, stream, seqs)):
            for seq, rows in there.items():
                found.setdefault(seq, []).extend(rows)
        return found

    async def rows(
        self, table: Table, expressions: Sequence[str], where: str, given: Mapping[str, Any]
    ) -> list[tuple[Any, ...]]:
        return [
            row for rows in await self._each(lambda store: store.rows(table, expressions, where, given)) for row in rows
        ]

    async def highest(self, table: Table, stream: str, above: int, to: int | None = None) -> int:
        if await self._has_no_tables():
            return 0
        return max(await self._each(lambda store: store.highest(table, stream, above, to)))

    async def _has_no_tables(self) -> bool:
        """A database that need not be, and is not: nobody knows of its shards. Raises StoreError."""
        try:
            await self.shards()
        except StoreError as error:
            if not self.optional or error.reason is not reasons.SCHEMA_MISSING:
                raise
            return True
        return False

    async def catch_up(self, table: Table) -> None:
        """A Distributed table may ask any replica: all that answer have to have all."""
        for store in (await self.shards()).values():
            await Replicas(store.clickhouse, self.database, store.name(table)).all_whole()


async def _all(asked: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """The answers of all shards, waited for also where one refuses. Raises StoreError: of several, what counts most."""
    answers = await asyncio.gather(*asked, return_exceptions=True)
    errors = [each for each in answers if isinstance(each, BaseException)]
    for error in errors:
        if not isinstance(error, StoreError):
            raise error
    if errors:
        raise min(errors, key=lambda each: FAULTS.index(each.fault) if isinstance(each, StoreError) else 0)
    return [each for each in answers if not isinstance(each, BaseException)]


def store_of(clickhouse: ClickHouse, database: str, *, quorum: bool = True, optional: bool = False) -> ClickHouseStore:
    """Of one tier."""
    if isinstance(clickhouse, Sharded):
        return ShardedStore(clickhouse, database, quorum=quorum, optional=optional)
    return ClickHouseStore(clickhouse, database, quorum=quorum, optional=optional)


def tiers_of(settings: Settings, hot: ClickHouse, cold: ClickHouse) -> tuple[ClickHouseStore, ClickHouseStore]:
    """Hot's store and cold's, whose tables need not be there."""
    quorum = settings.insert_quorum
    return (
        store_of(hot, settings.hot_db, quorum=quorum),
        store_of(cold, settings.cold_db, quorum=quorum, optional=True),
    )
