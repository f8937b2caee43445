"""Stores rows that no tier has yet, under the identity that their messages have always had.

Exactly once, whatever is killed and whoever does the same: looked up first, inserted as one block under one token.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Generic, Literal, TypeVar

from marketprism_api import reasons
from marketprism_consumer.clickhouse.store import ClickHouseStore
from marketprism_consumer.errors import Fault, StoreError
from marketprism_consumer.ingest.decode import Row
from marketprism_consumer.ingest.encode import encode
from marketprism_consumer.ingest.identity import content_indexes, place
from marketprism_consumer.ingest.store import Stored
from marketprism_consumer.schema.tables import Table

NO_SUCH_TABLE = (60, 81)
T = TypeVar("T")
Restorable = tuple[T, int, Row]
"""Whatever the caller knows it by, the message's sequence, and its row."""
Restored = Literal["stored", "stored before", "refused"]


class Restore(Generic[T]):
    """`tiers`: where a row may be already; the first is where rows are inserted."""

    def __init__(self, tiers: Sequence[ClickHouseStore]) -> None:
        self._tiers = tiers

    async def store(
        self, table: Table, stream: str, entries: Sequence[Restorable[T]], deadline: float
    ) -> list[tuple[T, Restored, str]]:
        """Returns when each is in the table or refused, with why. ClickHouse takes nothing after `deadline` [loop time].

        What it refuses for a row's sake is halved, each half looked up anew, until that row is alone. Raises StoreError.
        """
        there = await self.stored(table, stream, [seq for _, seq, _ in entries])
        indexes = content_indexes(table)
        placed = [(entry, place(entry[2], indexes, stream, there.get(entry[1], ()))) for entry in entries]
        known: list[tuple[T, Restored, str]] = [
            (entry[0], "stored before", "") for entry, identity in placed if identity is None
        ]
        new = [(entry, identity) for entry, identity in placed if identity is not None]
        if not new:
            return known
        block = encode(table, [e[2] for e, _ in new], [e[1] for e, _ in new], [identity for _, identity in new])
        try:
            await self._tiers[0].insert(block, deadline)
        except StoreError as refused:
            if refused.fault not in (Fault.ROW, Fault.UNKNOWN):
                raise
            if len(new) == 1:
                return [*known, (new[0][0][0], "refused", f"{reasons.ROW_REFUSED}: {refused}")]
            left = [entry for entry, _ in new]
            halves = (left[: len(left) // 2], left[len(left) // 2 :])
            return known + [restored for half in halves for restored in await self.store(table, stream, half, deadline)]
        return known + [(entry[0], "stored", "") for entry, _ in new]

    async def stored(self, table: Table, stream: str, seqs: Sequence[int]) -> dict[int, list[Stored]]:
        """What the tiers have of these sequences; a cold tier without the table has none."""
        found: dict[int, list[Stored]] = {}
        for tier in self._tiers:
            try:
                await tier.settle(table)
                for seq, rows in (await tier.stored(table, stream, seqs)).items():
                    found.setdefault(seq, []).extend(rows)
            except StoreError as refused:
                if tier is self._tiers[0] or refused.code not in NO_SUCH_TABLE:
                    raise
        return found
