"""Stores rows that no tier has yet, under the identity that their messages have always had.

Exactly once, whatever is killed and whoever does the same: looked up first, inserted as one block under one token, and
looked for again. Only for messages that their lane's record says are done: ingest sends no more of them, and begins none of
them again before VALID seconds are over, which no insert of ours outlives (`INSERT_WITHIN`).
"""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from hashlib import blake2b
from typing import Generic, Literal, TypeVar

from marketprism_api import reasons
from marketprism_consumer.clickhouse.store import ClickHouseStore
from marketprism_consumer.errors import Fault, StoreError
from marketprism_consumer.ingest.decode import Row
from marketprism_consumer.ingest.encode import Block
from marketprism_consumer.ingest.identity import content_indexes, place
from marketprism_consumer.ingest.record import VALID
from marketprism_consumer.ingest.store import Stored
from marketprism_consumer.jetstream.stream_reader import INACTIVE
from marketprism_consumer.schema.tables import Table

INSERT_WITHIN = int(min(VALID, INACTIVE) / 2)  # nor may an insert outlive our claim to be the only replay [s]
T = TypeVar("T")
Restorable = tuple[T, int, Row]
"""Whatever the caller knows it by, the message's sequence, and its row."""
Restored = Literal["stored", "stored before", "refused"]


class Restore(Generic[T]):
    """`tiers`: where a row may be already; the first is where rows are inserted."""

    def __init__(self, tiers: Sequence[ClickHouseStore]) -> None:
        self._tiers = tiers

    async def until(self) -> int:
        """The moment after which ClickHouse takes nothing of what is begun now [s since 1970, its clock]: asked for before
        the record is read. Raises StoreError."""
        return math.floor(await self._tiers[0].clock()) + INSERT_WITHIN

    async def store(
        self,
        table: Table,
        stream: str,
        entries: Sequence[Restorable[T]],
        until: int,
        *,
        generation: int = 0,
        again: int = 0,
    ) -> list[tuple[T, Restored, str]]:
        """Returns when each is in a table or refused, with why. ClickHouse takes nothing after `until`. `generation`: the lane's.

        What it refuses for a row's sake is halved, each half looked up anew, until that row is alone. What is not there
        after all is sent `again`: a token outlives its rows where these were deleted, or ClickHouse was killed between the
        two. Raises StoreError.
        """
        there = await self.stored(table, stream, [seq for _, seq, _ in entries])
        indexes = content_indexes(table)
        placed = [(entry, place(entry[2], indexes, stream, there.get(entry[1], ()), generation)) for entry in entries]
        known: list[tuple[T, Restored, str]] = [
            (entry[0], "stored before", "") for entry, identity in placed if identity is None
        ]
        new = [(entry, identity) for entry, identity in placed if identity is not None]
        if not new:
            return known
        rows, seqs, identities = [e[2] for e, _ in new], [e[1] for e, _ in new], [identity for _, identity in new]
        block = Block(table, rows, seqs, identities, f"{token(table, seqs, identities)}:{again}")
        try:
            await self._tiers[0].insert(block, until)
        except StoreError as refused:
            if refused.fault not in (Fault.ROW, Fault.UNKNOWN):
                raise
            if len(new) == 1:
                return [*known, (new[0][0][0], "refused", f"{reasons.ROW_REFUSED}: {refused}")]
            left = [entry for entry, _ in new]
            halves = (left[: len(left) // 2], left[len(left) // 2 :])
            for half in halves:
                known += await self.store(table, stream, half, until, generation=generation)
            return known
        there = await self.stored(table, stream, seqs)
        lost: list[Restorable[T]] = []
        for entry, identity in new:
            if any(row.stream == identity for row in there.get(entry[1], ())):
                known.append((entry[0], "stored", ""))
            else:
                lost.append(entry)
        if lost:
            known += await self.store(table, stream, lost, until, generation=generation, again=again + 1)
        return known

    async def stored(self, table: Table, stream: str, seqs: Sequence[int]) -> dict[int, list[Stored]]:
        """What the tiers have of these sequences. Raises StoreError."""
        found: dict[int, list[Stored]] = {}
        for tier in self._tiers:
            await tier.settle(table)
            for seq, rows in (await tier.stored(table, stream, seqs)).items():
                found.setdefault(seq, []).extend(rows)
        return found


def token(table: Table, seqs: Sequence[int], streams: Sequence[str]) -> str:
    """Names exactly this set of messages. ClickHouse compares tokens only: another set must never get the same one."""
    digest = blake2b(struct.pack(f"<{len(seqs)}Q", *seqs), digest_size=16)
    for stream in sorted(set(streams)):
        digest.update(stream.encode() + b"\0")
    if len(set(streams)) > 1:
        digest.update("\0".join(streams).encode())
    return f"{streams[0]}:{table.name}:{seqs[0]}-{seqs[-1]}:{len(seqs)}:{digest.hexdigest()}"
