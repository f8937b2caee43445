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


class Clocks(NamedTuple):
    """Of all servers of the table [s since 1970]. An insert may come to any of them."""

    slowest: float
    fastest: float


class Store(Protocol):
    """All raise StoreError."""

    async def insert(self, block: Block, until: int) -> None:
        """Store the block, so that it does not die with one replica. ClickHouse itself refuses it after `until` [s since 1970, its
        own clock]."""

    async def clock(self) -> float:
        """About the time of the server that is in use [s since 1970]; asked once in a while."""

    async def clocks(self) -> Clocks:
        """Surely: asked now."""

    async def identity(self, table: Table) -> str:
        """Another one once the table was dropped and made again."""

    async def settle(self, table: Table) -> None:
        """Return when no insert into the table that began before this call is still running."""

    async def has_all(self, table: Table, stream: str, seqs: Sequence[int]) -> bool:
        """Are rows of this very identity there for each of `seqs`? By a server that knows of all inserts that are done."""

    async def stored(self, table: Table, stream: str, seqs: Sequence[int]) -> dict[int, list[Stored]]:
        """Which of `seqs` of this stream (in any generation) are in the table; of cold, none where there is no table. By a server that
        knows of all inserts that are done."""

    async def highest(self, table: Table, stream: str, above: int, to: int | None = None) -> int:
        """The highest sequence of this very identity in (above, to]; 0 where there is none, or of cold no table."""
