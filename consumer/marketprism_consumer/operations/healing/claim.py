"""Who heals a table: one at a time, whoever is killed or late.

A key of the bucket of records, changed by compare-and-set, names a moment of ClickHouse's clock. No insert of its holder is taken after
that moment (`_expires`), and nobody else takes over before it has passed on every server. So when the next one looks for what is there,
nothing of the last one's can still arrive, whatever a proxy holds back.
"""

from __future__ import annotations

import asyncio
import math
import uuid
from hashlib import sha256

import msgspec

from marketprism_consumer.clickhouse.store import ClickHouseStore
from marketprism_consumer.errors import ConflictError, HealRunsError
from marketprism_consumer.ingest.lane import CLOCK_MARGIN
from marketprism_consumer.jetstream.records import NatsRecords
from marketprism_consumer.operations.restore import INSERT_WITHIN
from marketprism_consumer.schema.tables import Table

LOOK_EVERY = 0.2  # [s]


class HealClaim(msgspec.Struct, frozen=True):
    """`until`: [s since 1970, ClickHouse's clock]; 0 where its holder has ended and all its inserts were answered."""

    owner: str
    until: int


class HealingClaim:
    """`async with` it. Raises HealRunsError where somebody else is at work, BrokerError, StoreError."""

    def __init__(self, records: NatsRecords, store: ClickHouseStore, table: Table) -> None:
        self._records, self._store, self._table = records, store, table
        self._owner = uuid.uuid4().hex
        self._key, self._revision = "", 0
        self._answered = True

    async def __aenter__(self) -> HealingClaim:
        identity = await self._store.identity(self._table)
        # Begins as no data type's name does: those of lanes are found by it.
        self._key = f"_heal.{sha256(identity.encode()).hexdigest()[:32]}"
        self._revision, value = await self._records.read(self._key)
        if value and (until := msgspec.json.decode(value, type=HealClaim).until):
            while (await self._store.clocks()).slowest <= until + CLOCK_MARGIN:
                await asyncio.sleep(LOOK_EVERY)
                if (await self._records.read(self._key))[0] != self._revision:
                    raise HealRunsError(f"another `marketprism heal` of {self._table.name} runs: wait until it ends")
        await self.renew()
        return self

    async def __aexit__(self, *error: object) -> None:
        if self._answered:
            await self._write(0)

    async def renew(self) -> int:
        """The moment until which an insert of ours may be taken [s since 1970, ClickHouse's clock]."""
        until = math.floor(await self._store.clock()) + INSERT_WITHIN
        await self._write(until)
        return until

    def sending(self) -> None:
        """From here on an insert may be on its way whose outcome nobody knows."""
        self._answered = False

    def answered(self) -> None:
        self._answered = True

    async def _write(self, until: int) -> None:
        value = msgspec.json.encode(HealClaim(self._owner, until))
        try:
            self._revision = await self._records.write(self._key, value, self._revision)
        except ConflictError:
            raise HealRunsError(f"another `marketprism heal` of {self._table.name} has taken over") from None
