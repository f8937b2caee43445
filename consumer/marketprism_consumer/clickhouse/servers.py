"""Who is behind the URLs? Rows would be split among servers that are no replicas of each other, and nobody would see it: a block that
is sent again would go to one that does not know its token."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from marketprism_api import reasons
from marketprism_api.credentials import ClickHouseAuth
from marketprism_consumer.clickhouse.client import CONNECT_TIMEOUT, PATIENCE, Bound, ClickHouse, redacted
from marketprism_consumer.errors import Fault, StoreError
from marketprism_consumer.ingest.clickhouse_errors import refused

ASK_AGAIN = 10.0  # a URL that did not say its shard [s]
LOOKS = 6  # connections to each URL: a balancer that takes turns shows itself at the second
# Not one of these is another one on every server: containers share a UUID's file, replicas a name, and few have macros.
WHO = "SELECT concat(toString(serverUUID()), ' ', hostName(), ' ', (SELECT toString(groupArray((macro, substitution))) FROM system.macros))"
SHARD = "SELECT any(substitution) FROM system.macros WHERE macro = 'shard'"


class Sharded(ClickHouse):
    """The servers of all shards: whichever is asked of a Distributed table has the rows of all. `shard` has those of one."""

    def __init__(
        self, urls: Sequence[str], auth: Callable[[], ClickHouseAuth] = ClickHouseAuth, **options: Any
    ) -> None:
        super().__init__(urls, auth, **options)
        self._make: Callable[[Sequence[str]], ClickHouse] = partial(ClickHouse, auth=auth, **options)
        self._shards: dict[str, ClickHouse] = {}
        self._placed: set[str] = set()
        self._placing = asyncio.Lock()
        self._placed_at = -math.inf
        self._looking: asyncio.Task[None] | None = None

    async def shard(self, name: str) -> ClickHouse:
        """At those of the URLs that are of this shard. Raises StoreError."""
        if name not in self._shards:
            await self.place()
        elif len(self._placed) < len(self.urls) and time.monotonic() - self._placed_at > ASK_AGAIN:
            self._placed_at = time.monotonic()
            self._looking = asyncio.create_task(self._look())  # for another replica; nobody waits for it
        if name in self._shards:
            return self._shards[name]
        if len(self._placed) < len(self.urls):
            away = ", ".join(redacted(url) for url in self.urls if url not in self._placed)
            raise refused(0, f"{reasons.CLICKHOUSE_UNREACHABLE}: no URL of shard {name} answers: {away}")
        there = ", ".join(sorted(self._shards))
        raise StoreError(0, f"no URL is of shard {name}, only of {there}", Fault.SERVER, reason=reasons.SHARDS_CHANGED)

    async def place(self) -> dict[str, tuple[str, ...]]:
        """The URLs of each shard, of those that answer. Raises StoreError where one stands for several shards, or for none."""
        async with self._placing:
            asked = [url for url in self.urls if url not in self._placed]
            said = await asyncio.gather(*map(self._ask, asked), return_exceptions=True)
            self._placed_at = time.monotonic()
            for url, names in zip(asked, said, strict=True):
                if isinstance(names, StoreError) and names.reason is reasons.CLICKHOUSE_UNREACHABLE:
                    continue
                if isinstance(names, BaseException):
                    raise names
                self._put(url, names)
        return {name: client.urls for name, client in self._shards.items()}

    async def _ask(self, url: str) -> set[str]:
        return {name.strip() for name in await self.by_new_connections(url, SHARD, LOOKS, patience=CONNECT_TIMEOUT)}

    def _put(self, url: str, names: set[str]) -> None:
        if len(names) > 1:
            what = f"shards {', '.join(sorted(names))} of {self.cluster} answer at {redacted(url)}: each URL is of one shard"
            raise StoreError(0, what, Fault.SERVER, reason=reasons.SEVERAL_SERVERS)
        (name,) = names
        if not name:
            what = f"{redacted(url)} has no macro `shard`, which tells the shards of {self.cluster} apart"
            raise StoreError(0, what, Fault.SERVER, reason=reasons.SHARDS_CHANGED)
        if name in self._shards:
            self._shards[name].add(url)
        else:
            self._shards[name] = self._make([url])
        self._placed.add(url)

    async def _look(self) -> None:
        try:
            await self.place()
        except StoreError:
            return  # whoever starts next tells it

    async def close(self) -> None:
        if self._looking:
            self._looking.cancel()
        for client in self._shards.values():
            await client.close()
        await super().close()


def connected(
    urls: Sequence[str],
    auth: Callable[[], ClickHouseAuth] = ClickHouseAuth,
    *,
    comment: str = "",
    cluster: str = "",
    sharded: bool = False,
    settings: Bound | None = None,
    patience: float = PATIENCE,
) -> ClickHouse:
    """A client as the pipeline's settings say. `settings` go with each statement, `patience` is for its answer [s]."""
    make = Sharded if sharded else ClickHouse
    return make(urls, auth, comment=comment, cluster=cluster, settings=settings, patience=patience)


async def refuse_split(clickhouse: ClickHouse) -> None:
    """Raises StoreError where more than one server answers, or more than one shard of the cluster that the pipeline names. Of a
    cluster's URLs one that answers is enough: a replica may be away. Where rows are spread over shards, each URL is of one."""
    if clickhouse.proven_whole:
        return
    if isinstance(clickhouse, Sharded):
        await clickhouse.place()
        return
    seen: dict[str, str] = {}
    away: StoreError | None = None
    for url in clickhouse.urls:
        try:
            found = await clickhouse.by_new_connections(url, SHARD if clickhouse.cluster else WHO, LOOKS)
        except StoreError as error:
            if not clickhouse.cluster or error.reason is not reasons.CLICKHOUSE_UNREACHABLE:
                raise
            away = error
            continue
        seen |= dict.fromkeys(found, url)
        if len(seen) > 1:
            raise StoreError(0, _split(clickhouse, seen), Fault.SERVER, reason=reasons.SEVERAL_SERVERS)
    if away and not seen:
        raise away
    clickhouse.proven_whole = not away


def _split(clickhouse: ClickHouse, seen: Mapping[str, str]) -> str:
    where = " and ".join(sorted({redacted(url) for url in seen.values()}))
    if not clickhouse.cluster:
        return f"more than one server answers at {where}, and spec.clickhouse.cluster names no cluster"
    return f"more than one shard of {clickhouse.cluster} answers at {where}: {', '.join(sorted(map(str.strip, seen)))}"
