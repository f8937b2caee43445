"""Both tiers side by side, the ledger of what was moved, and, where somebody asks for it, a comparison of all identities. Reads only."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace

from marketprism_console.sources import Sources
from marketprism_consumer.clickhouse.client import ClickHouse
from marketprism_consumer.clickhouse.store import NO_SUCH_TABLE
from marketprism_consumer.errors import StoreError, TieringError
from marketprism_consumer.tiering.job import Job, job_of
from marketprism_consumer.tiering.ledger import Ledger, LedgerEntry
from marketprism_consumer.tiering.overview import TableOverview, overview, run_name, sizes

LAST = 500
"""Of the slices that were moved."""


@dataclass(frozen=True, slots=True)
class TieringState:
    """`refusals`: by table, why its tiers can't be looked at side by side, or rows not be moved. `history` newest first."""

    older_than: float
    tables: dict[str, TableOverview] = field(default_factory=dict)
    refusals: dict[str, TieringError] = field(default_factory=dict)
    history: list[LedgerEntry] = field(default_factory=list)


def job(sources: Sources) -> Job:
    return job_of(sources.settings, None)


async def state(sources: Sources) -> TieringState:
    """Raises StoreError."""
    found = TieringState(job(sources).older_than)
    for table in job(sources).tables:
        try:
            async for of_shard, hot, cold in _shards(sources):
                found.tables.setdefault(table, TableOverview()).add(await sizes(of_shard, hot, cold, table))
        except TieringError as refused:
            found.refusals[table] = refused
    found.history.extend(await history(sources))
    return found


async def history(sources: Sources) -> list[LedgerEntry]:
    """Nothing where nothing was ever moved. Raises StoreError."""
    try:
        return await Ledger(sources.cold.clickhouse, sources.cold.database, "", "").history(LAST)
    except StoreError as refused:
        if refused.code in NO_SUCH_TABLE:
            return []
        raise


async def compared(sources: Sources, table: str) -> TableOverview:
    """With overlap and doubles. Only where both tiers are on one server: between two it has to write. Raises StoreError, TieringError."""
    found = TableOverview()
    async for of_shard, hot, cold in _shards(sources):
        found.add(await overview(of_shard, hot, cold, table, run_name()))
    return found


async def _shards(sources: Sources) -> AsyncIterator[tuple[Job, ClickHouse, ClickHouse]]:
    """Each with its own servers; one without a name where rows are not spread over shards."""
    cold = await sources.cold.shards()
    for name, store in (await sources.hot.shards()).items():
        beside = sources.cold.clickhouse if sources.cold_is_elsewhere else cold[name].clickhouse
        yield replace(job(sources), shard=name), store.clickhouse, beside
