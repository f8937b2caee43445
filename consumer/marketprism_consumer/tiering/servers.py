"""The ClickHouse servers of both tiers: those of a migration, of few statements, but long ones, and those of whoever else looks at both."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from marketprism_api import reasons
from marketprism_api.credentials import ClickHouseAuth, clickhouse_auth
from marketprism_api.settings import Settings
from marketprism_consumer.clickhouse import client
from marketprism_consumer.clickhouse.client import Bound, ClickHouse, redacted
from marketprism_consumer.clickhouse.servers import LOOKS, WHO, Sharded, connected
from marketprism_consumer.clickhouse.shards import recorded, tiers_of
from marketprism_consumer.clickhouse.store import ClickHouseStore
from marketprism_consumer.errors import Fault, StoreError, TieringError
from marketprism_consumer.tiering.job import Job, cold_auth

PATIENCE = 1800.0  # for the answer to one statement: an hour of a busy table on a slow disk [s]
SETTLED_WITHIN = 300.0  # [s]

# Defaults that differ between servers are sent. `mutations_sync` 2 makes DELETE and UPDATE wait, also on old servers.
SETTINGS: Mapping[str, Any] = {
    "async_insert": 0,
    "insert_deduplicate": 1,
    "mutations_sync": 2,
    "deduplicate_blocks_in_dependent_materialized_views": 1,
    "max_partitions_per_insert_block": 0,
    "input_format_skip_unknown_fields": 0,
    "max_threads": 1,  # one core: readers and ingest have the others; and a second try makes the same blocks
}


def server(
    urls: Sequence[str], auth: Callable[[], ClickHouseAuth] = ClickHouseAuth, comment: str = "", cluster: str = ""
) -> ClickHouse:
    return ClickHouse(urls, auth, comment=comment, settings=SETTINGS, patience=PATIENCE, cluster=cluster)


async def one_replica(urls: Sequence[str], auth: Callable[[], ClickHouseAuth]) -> str:
    """The first URL that answers, for a whole run: what one replica says of its parts means nothing to another. Raises StoreError,
    and TieringError where several servers are behind it."""
    for number, url in enumerate(urls, 1):
        asked = ClickHouse([url], auth)
        try:
            if len(await asked.by_new_connections(url, WHO, LOOKS)) > 1:
                raise TieringError(reasons.MIGRATION_UNPINNED, f"several servers answer at {redacted(url)}")
            return url
        except StoreError:
            if number == len(urls):
                raise
    raise StoreError(0, "none of its URLs answers", Fault.PASSING)


async def by_shard(job: Job, auth: Callable[[], ClickHouseAuth]) -> list[Job]:
    """One job for each shard, at the URLs of it that answer; the job itself where rows are not spread over shards. Raises StoreError,
    TieringError."""
    if not job.sharded:
        return [job]
    clickhouse = Sharded(job.hot_urls, auth, cluster=job.cluster)
    try:
        urls, names = await clickhouse.place(), await recorded(clickhouse, [job.hot_db, job.cold_db])
    finally:
        await clickhouse.close()
    if not names:
        raise TieringError(reasons.SCHEMA_MISSING, f"there are no tables in {job.hot_db}: `marketprism schema apply`")
    return [replace(job, hot_urls=urls.get(name, ()), shard=name) for name in names]


def both(job: Job, comment: str, cluster: str = "") -> tuple[ClickHouse, ClickHouse]:
    """Hot's server and cold's, which may be the same."""
    hot = server(job.hot_urls, lambda: clickhouse_auth(os.environ), comment, cluster)
    return hot, server(job.cold_urls, cold_auth, comment) if job.cold_urls else hot


def hot_of(
    settings: Settings, comment: str, bound: Bound | None = None, *, patience: float = client.PATIENCE
) -> ClickHouse:
    """Hot's server, whose answers may take so long [s]. Credentials are read anew for every connection; `bound` goes with each
    statement."""
    return connected(
        settings.clickhouse_urls,
        lambda: clickhouse_auth(os.environ),
        comment=comment,
        cluster=settings.cluster,
        sharded=settings.sharded,
        settings=bound,
        patience=patience,
    )


def cold_of(
    settings: Settings, hot: ClickHouse, bound: Bound | None = None, *, patience: float = client.PATIENCE
) -> ClickHouse:
    """Cold's server: hot's own, where they are on one."""
    if not settings.cold_urls:
        return hot
    return ClickHouse(settings.cold_urls, cold_auth, comment=hot.comment, settings=bound, patience=patience)


def stores_of(settings: Settings, comment: str, bound: Bound | None = None) -> tuple[ClickHouseStore, ClickHouseStore]:
    """Hot's and cold's, over one client where they are on one server."""
    hot = hot_of(settings, comment, bound)
    return tiers_of(settings, hot, cold_of(settings, hot, bound))


def on_cluster(clickhouse: ClickHouse) -> str:
    """Of the tables that migrations keep for themselves."""
    return f" ON CLUSTER `{clickhouse.cluster}`" if clickhouse.cluster else ""


def engine(clickhouse: ClickHouse) -> str:
    return "ReplicatedMergeTree" if clickhouse.cluster else "MergeTree"


async def settle(clickhouse: ClickHouse, prefix: str, mine: str = "") -> None:
    """Return when the statements of an earlier run have ended. Raises TieringError when that takes too long."""
    try:
        async with asyncio.timeout(SETTLED_WITHIN):
            await clickhouse.settle(prefix, mine)
    except TimeoutError:
        what = f"statements of an earlier run ({prefix}) are still running on {clickhouse.url}"
        raise TieringError(reasons.MIGRATION_BUSY, f"{what}: look at system.processes, or KILL QUERY") from None
