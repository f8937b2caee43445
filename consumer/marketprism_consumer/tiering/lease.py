"""One run at a time for a pair of databases, across machines, with nothing but rows in ClickHouse.

ClickHouse has no compare-and-set, so this is Lamport's bakery, with leases: a contender (1) announces itself, (2) draws a
ticket, which is the server's clock *after* the announcement is visible, (3) looks. Whoever is announced without a ticket is
waited for; of the tickets the lowest wins. A contender whose announcement was not visible in (3) draws a later ticket than
ours, so both come to the same winner. A dead holder's lease ends by the server's clock.

It is no match for a server clock that jumps back by more than a lease, or for runs on several servers, other than the replicas of
one cluster: there all are asked for its rows. Nothing depends on it: two runs at once waste work, and the algorithm keeps the rows
right. The server refuses a copy by a holder that was overtaken (`fence`), and one that already runs is waited for.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

import structlog

from marketprism_api import reasons
from marketprism_consumer.clickhouse.client import ClickHouse
from marketprism_consumer.clickhouse.schema import ON_CLUSTER
from marketprism_consumer.errors import StoreError, TieringError
from marketprism_consumer.tiering.servers import engine, on_cluster

log = structlog.get_logger()

TABLE = "_migration_lease"
POLL = 0.1  # [s]


@dataclass(frozen=True, slots=True)
class Contender:
    holder: str
    who: str
    ticket: int
    expires: int


def winner(contenders: list[Contender]) -> str | None:
    """The holder; None while somebody has yet to draw a ticket."""
    if not contenders or any(not contender.ticket for contender in contenders):
        return None
    return min(contenders, key=lambda contender: (contender.ticket, contender.holder)).holder


class Lease:
    """`who` is shown to others: host and process. `seconds` without a heartbeat, and the lease is another's."""

    def __init__(self, server: ClickHouse, database: str, pair: str, holder: str, who: str, seconds: float) -> None:
        self._server = server
        self._table = f"`{database}`.`{TABLE}`"
        self._everywhere = server.all_replicas(f"`{database}`", f"`{TABLE}`")
        self._given = {"pair": pair, "holder": holder, "who": who, "lease": int(seconds * 1e6)}
        self.holder = holder
        self.seconds = seconds
        self.expires = 0  # by the server's clock [µs]

    @asynccontextmanager
    async def held(self) -> AsyncIterator[Lease]:
        """Raises TieringError(MIGRATION_BUSY) while another run lives; waits for a dead one's lease to end."""
        await self._server.command(
            f"CREATE TABLE IF NOT EXISTS {self._table}{on_cluster(self._server)} (pair String, holder String, who String, ticket Int64,"
            " expires Int64, released UInt8, at DateTime64(6, 'UTC') DEFAULT now64(6))"
            f" ENGINE = {engine(self._server)} ORDER BY (pair, holder) TTL toDateTime(at) + toIntervalDay(1)",
            settings=ON_CLUSTER if self._server.cluster else None,
        )
        try:
            await self._write("0")
            await self._write("toUnixTimestamp64Micro(now64(6))")
            await self._wait()
            beat = asyncio.create_task(self._beat())
            try:
                yield self
            finally:
                beat.cancel()
        finally:
            with suppress(StoreError):
                await self._write("0", released=True)

    async def _write(self, ticket: str, *, released: bool = False) -> None:
        await self._server.command(
            f"INSERT INTO {self._table} (pair, holder, who, ticket, expires, released)"
            f" SELECT {{pair:String}}, {{holder:String}}, {{who:String}}, {ticket},"
            f" toUnixTimestamp64Micro(now64(6)) + {{lease:Int64}}, {int(released)}",
            self._given,
        )

    async def contenders(self) -> list[Contender]:
        rows = await self._server.query(
            f"SELECT holder, any(who), max(ticket), max(expires) AS last FROM {self._everywhere} WHERE pair = {{pair:String}}"
            " GROUP BY holder HAVING max(released) = 0 AND last > toUnixTimestamp64Micro(now64(6))",
            self._given,
            settings=self._server.reachable,
        )
        return [Contender(str(holder), str(who), int(ticket), int(last)) for holder, who, ticket, last in rows]

    async def _wait(self) -> None:
        first: dict[str, int] = {}
        drawn = time.monotonic()
        while True:
            found = await self.contenders()
            mine = next((contender for contender in found if contender.holder == self.holder), None)
            if mine is None:
                raise TieringError(
                    reasons.MIGRATION_BUSY,
                    "this run's own lease ended before it was held: the server is too slow for it",
                )
            holder = winner(found)
            if holder == self.holder:
                self.expires = mine.expires
                return
            for contender in found:
                if contender.holder == holder and contender.expires > first.setdefault(
                    contender.holder, contender.expires
                ):
                    raise TieringError(
                        reasons.MIGRATION_BUSY, f"another run holds the lease, and lives: {contender.who}"
                    )
            if time.monotonic() - drawn > self.seconds / 3:
                await self._write("0")
                drawn = time.monotonic()
            await asyncio.sleep(min(POLL, self.seconds / 10))

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(self.seconds / 3)
            try:
                await self._write("0")
                mine = [contender for contender in await self.contenders() if contender.holder == self.holder]
                self.expires = mine[0].expires if mine else 0
            except StoreError as refused:
                log.warning("the lease was not renewed", error=str(refused))
