"""What ingest asks of ClickHouse, as a port; `clickhouse/store.py` is the real one, the simulator has a model of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

from marketprism_consumer.ingest.encode import Block
from marketprism_consumer.schema.tables import Table


class Stored(NamedTuple):
    """A row that is already in the table: the stream identity it has, and what tells its message from another."""

    stream: str
    content: tuple[Any, ...]


class Store(Protocol):
    async def insert(self, block: Block, deadline: float) -> None:
        """Store the block, or raise StoreError. ClickHouse itself refuses it after `deadline` [loop time, s]: a moment,
        not a span, so that a process that is frozen on its way here gets no more time."""

    async def stored(self, table: Table, stream: str, seqs: Sequence[int]) -> dict[int, list[Stored]]:
        """Which of `seqs` of this stream (in any generation) are in the table. Raises StoreError."""

    async def high_water(self, table: Table, stream: str) -> tuple[int, float]:
        """The highest sequence of the stream in the table, 0 where there is none, and when the first of its rows was stored
        [s since 1970]. Raises StoreError."""

    async def settle(self, table: Table) -> None:
        """Return when no insert into the table that began before this call is still running. Raises StoreError."""
