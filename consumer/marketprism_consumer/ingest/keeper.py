"""The record of one lane as this process knows it: read, and changed by compare-and-set."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from random import Random

from msgspec.structs import replace

from marketprism_api import reasons
from marketprism_consumer.errors import BrokerError, ConflictError, DoubtError, LostError
from marketprism_consumer.ingest.broker import Records
from marketprism_consumer.ingest.metrics import IngestAccount
from marketprism_consumer.ingest.record import NOT_LOOKED_INTO, Record, dump, heard, load

RecordStep = Callable[[Record], Record | None]


class RecordKeeper:
    """`owner`: who is heard with whatever is written. `doubt`: why nothing may be written by what is known; only an inspection
    (`set_back.py`) ends it. All raise BrokerError."""

    def __init__(self, records: Records, key: str, owner: str, account: IngestAccount, random: Random) -> None:
        self.key, self.owner = key, owner
        self.records = records
        self.doubt = "start"
        self.doubts = 1
        self.known = 0
        """The highest revision that this process has seen."""
        self.written_at = -1e9
        self._record: Record | None = None
        self._revision = 0
        self._account, self._random = account, random
        self._lock = asyncio.Lock()
        self._now = asyncio.get_running_loop().time

    @property
    def record(self) -> Record:
        """As it was read or written last."""
        if self._record is None:
            raise DoubtError(self.doubt or "not read yet")
        return self._record

    async def read(self) -> tuple[int, Record | None]:
        """The revision, and the record where there is one."""
        revision, value = await self.records.read(self.key)
        try:
            return revision, load(value) if value else None
        except ValueError as error:
            detail = f"{self.key}: {error}; see `marketprism lanes reset`"
            raise BrokerError(reasons.RECORD_UNAVAILABLE, detail) from None

    def doubt_it(self, why: str) -> None:
        self.doubt = why
        self.doubts += 1

    def trust(self, revision: int, record: Record, doubts: int) -> None:
        """An inspection has found that this is the record. Raises DoubtError where another doubt has come since."""
        if doubts != self.doubts:
            raise DoubtError(self.doubt)
        self._take_in(revision, record)
        self.doubt = ""

    async def lay(self, revision: int, record: Record, doubts: int) -> tuple[int, Record]:
        """The first write of a record, which is not worked by yet. Raises ConflictError, DoubtError."""
        async with self._lock:
            if doubts != self.doubts:
                raise DoubtError(self.doubt)  # read before a reconnect: nothing is written by it
            record = await self._write(revision, record)
            return self._revision, record

    async def begin_with(self, revision: int, record: Record, doubts: int) -> None:
        """What an inspection makes of a record that is in doubt. Raises ConflictError, DoubtError."""
        revision, record = await self.lay(revision, record, doubts)
        self.trust(revision, record, doubts)

    def _take_in(self, revision: int, record: Record) -> None:
        self._record, self._revision, self.known = record, revision, revision

    async def refresh(self) -> Record:
        """The record as it is now. Raises DoubtError where it is not what it was."""
        async with self._lock:
            return await self._refresh()

    async def change(self, step: RecordStep) -> Record:
        """The record after the step. Raises LostError where it can't be taken, DoubtError where the record is in doubt."""
        async with self._lock:
            fresh, tries = False, 0
            while True:
                if self.doubt:
                    raise DoubtError(self.doubt)
                new = step(self.record)
                if new is None:
                    if fresh:
                        raise LostError("the record says otherwise")
                    await self._refresh()
                    fresh = True
                    continue
                try:
                    return await self._write(self._revision, heard(new, self.owner))
                except ConflictError:
                    self._account.conflicts.inc()
                    tries += 1
                    await asyncio.sleep(self._random.random() * 0.01 * min(tries, 20))
                    await self._refresh()
                    fresh = True

    async def _refresh(self) -> Record:
        revision, record = await self.read()
        if self.doubt:
            raise DoubtError(self.doubt)
        found = ""
        if record is None or record.boot == NOT_LOOKED_INTO:
            found = "there is no record"
        elif revision < self.known:
            found = f"revision {revision} is below {self.known}"
        if record is None or found:
            self.doubt_it(found)
            raise DoubtError(found)
        self._take_in(revision, record)
        return record

    async def _write(self, revision: int, record: Record) -> Record:
        record = replace(record, write=f"{self._random.getrandbits(64):016x}")
        began = self._now()
        try:
            written = await self.records.write(self.key, dump(record), revision)
        except BrokerError:
            # Perhaps it was written; each is random in part, so reading tells.
            written, found = await self.read()
            if found is None or found.write != record.write:
                raise
        self._account.record_write(self._now() - began)
        self._take_in(written, record)
        self.written_at = self._now()
        return record
