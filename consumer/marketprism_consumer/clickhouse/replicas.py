"""What the replicas of a table have, by their own word.

ClickHouse's own `insert_quorum` is not used: a part whose quorum fails may be merged already, its token is free again, and its rows
come twice. So a block is inserted as ever, and then waited for.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from marketprism_api import reasons
from marketprism_consumer.clickhouse.client import ClickHouse
from marketprism_consumer.errors import Fault, StoreError
from marketprism_consumer.ingest.clickhouse_errors import refused

WITHIN = 10.0  # a wait for replicas is given up, told and begun again [s]
POLL = 0.03  # [s]
UNKNOWN_TABLE = 60
# A host that hangs is missed after this, not after minutes.
SOON: Mapping[str, Any] = {"connect_timeout_with_failover_ms": 2000, "receive_timeout": 5}

_OF_NAME = "WHERE database = {database:String} AND name = {table:String}"
_OF_TABLE = "WHERE database = {database:String} AND table = {table:String}"
NAME = f"(SELECT any(replica_name) FROM system.replicas {_OF_TABLE})"
"""Of the replica that runs a statement; with the parameters of `Replicas.given`."""


class ReplicaState(NamedTuple):
    """`path`: in Keeper, the same for all replicas of a shard. `pointer`: the first entry of Keeper's log that it has not read.
    `last`: the last entry there, as far as it knows. `idle`: it has every part of the entries that it has read. `total`: replicas of
    the shard, those that are away included."""

    name: str
    path: str
    pointer: int
    last: int
    idle: bool
    total: int


SHARED = ReplicaState("", "", 1, 0, True, 1)
"""In place of the replicas where all servers share the parts themselves, as SharedMergeTree does."""


class Replicas:
    """Of a table on `clickhouse.cluster`: those of the shard whose server is asked. The other shards have tables of the same name."""

    def __init__(self, clickhouse: ClickHouse, database: str, table: str) -> None:
        self._clickhouse = clickhouse
        self.given = {"database": database, "table": table}
        self._name = f"`{database}`.`{table}`"

    async def whole(self) -> set[str]:
        """The names of those that have every part that Keeper knows of; waits until there is one. Raises StoreError, also where the
        table is not replicated."""
        return await self._until(lambda states: bool(whole(states)))

    async def until_whole(self, name: str) -> None:
        """Returns when this replica has every part that Keeper knows of. Raises StoreError."""
        await self._until(lambda states: name in whole(states))

    async def all_whole(self) -> None:
        """Returns when all that can be asked have every part that Keeper knows of. Raises StoreError."""
        await self._until(lambda states: whole(states) == {state.name for state in states})

    async def majority(self) -> None:
        """Returns when a majority of the replicas have all that was stored before this call. Raises StoreError."""
        await self._until(in_majority)

    async def _until(self, enough: Any) -> set[str]:
        began = time.monotonic()
        while True:
            states = await self._states()
            if enough(states):
                return whole(states)
            if time.monotonic() - began > WITHIN:
                have = ", ".join(sorted(whole(states))) or "none"
                away = max(state.total for state in states) - len(states)
                detail = f"of the replicas of {self._name} only these have all of it: {have}; {away} can't be asked"
                raise StoreError(0, detail, Fault.PASSING, reason=reasons.REPLICAS_BEHIND)
            await asyncio.sleep(POLL)

    async def _states(self) -> list[ReplicaState]:
        source = self._clickhouse.all_replicas("system", "replicas")
        rows = await self._clickhouse.query(
            "SELECT replica_name, zookeeper_path, log_pointer, log_max_index,"
            f" inserts_in_queue = 0 AND NOT is_session_expired, total_replicas FROM {source} {_OF_TABLE}"
            f" AND zookeeper_path = (SELECT any(zookeeper_path) FROM system.replicas {_OF_TABLE})",
            self.given,
            settings={**self._clickhouse.reachable, **SOON},
        )
        if not rows:
            engine = await self._clickhouse.query(f"SELECT engine FROM system.tables {_OF_NAME}", self.given)
            if engine and str(engine[0][0]).startswith("Shared"):
                return [SHARED]
            raise refused(UNKNOWN_TABLE, f"{self._name} does not exist, or is not replicated")
        return [ReplicaState(*row) for row in rows]


def whole(states: Sequence[ReplicaState]) -> set[str]:
    """An empty log and one entry that was not read look the same, but not to who wrote the entry."""
    found = set()
    for state in states:
        shard = [each for each in states if each.path == state.path]
        last = max(each.last for each in shard)
        nothing = not last and not any(each.pointer for each in shard)
        if state.idle and (state.pointer > last or nothing):
            found.add(state.name)
    return found


def in_majority(states: Sequence[ReplicaState]) -> bool:
    names = whole(states)
    for path in {state.path for state in states}:
        shard = [state for state in states if state.path == path]
        if sum(state.name in names for state in shard) <= max(state.total for state in shard) // 2:
            return False
    return True
