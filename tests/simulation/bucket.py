"""A model of a NATS KV bucket: compare-and-set by revision, and what a power cut or a person may do to it."""

from __future__ import annotations

from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING

from marketprism_consumer.errors import ConflictError
from marketprism_consumer.ingest.record import Record, load
from tests.simulation.connection import Connection, NoAnswer

if TYPE_CHECKING:
    from tests.simulation.world import World

Entries = dict[str, tuple[int, bytes]]


class Bucket:
    """`entries`: (revision, value) by key; revisions count for the whole bucket. `late`: how many writes arrive late."""

    def __init__(self, world: World) -> None:
        self.world, self.random = world, world.random
        self.entries: Entries = {}
        self.last = self.ever = 0
        self.lives = 1
        self.writes = 0
        self.conflicts = 0
        self.late = self.random.choice((0.0, 0.0, 0.05)) if world.nats.cluster else 0.0
        self._history: deque[tuple[int, Entries]] = deque([(0, {})], maxlen=50)

    def read(self, key: str) -> tuple[int, bytes]:
        return self.entries.get(key, (0, b""))

    def write(self, key: str, value: bytes, revision: int) -> int:
        self.writes += 1
        if self.read(key)[0] != revision:
            self.conflicts += 1
            raise ConflictError(f"revision {revision}, the bucket has {self.read(key)[0]}")
        if self.world.traced:
            said = value.decode() if key.startswith("feeds-") or not value else in_short(load(value))
            self.world.tell(f"{key} {self.last + 1}: {said}")
        return self._put(key, value)

    def _put(self, key: str, value: bytes) -> int:
        self.last += 1
        self.ever = max(self.ever, self.last)
        self.entries = {**self.entries, key: (self.last, value)}
        self._history.append((self.last, self.entries))
        return self.last

    def write_late(self, key: str, value: bytes, revision: int) -> int:
        """A quorum that takes its time: it is done after its sender gave up, and after reads that came later."""
        lives = self.lives

        def handle() -> None:
            with suppress(ConflictError):
                if self.lives == lives:
                    self.write(key, value, revision)

        self.world.after(self.random.uniform(0, 8), handle)
        raise NoAnswer

    # --- faults -------------------------------------------------------------------------------------------------------

    def delete_record(self) -> None:
        """By a person: with a marker of its own revision, or without a trace."""
        for key, (_, value) in list(self.entries.items()):
            if value and self.random.random() < 0.5:
                self._put(key, b"")
            else:
                self.entries = {other: entry for other, entry in self.entries.items() if other != key}

    def set_back(self) -> None:
        """To what was synced to disk: not long before, or longer."""
        lost = self.random.randint(0, self.random.choice((4, len(self._history))))
        self.last, self.entries = self._history[max(0, len(self._history) - 1 - lost)]
        self._history.append((self.last, self.entries))

    def make_anew(self) -> None:
        """Its revisions begin above all that ever were: its first sequence is a clock."""
        self.lives += 1
        self.entries = {}
        self.last = self.ever = self.ever + 1000
        self._history.clear()
        self._history.append((self.last, {}))


def in_short(record: Record) -> str:
    claims = []
    for claim in record.claims:
        end = "…" if claim.end is None else claim.end
        cut = f" cut {claim.cut.end} until {claim.cut.until % 10_000} epoch {claim.cut.epoch}" if claim.cut else ""
        doubt = f" after {claim.after % 10_000}" if claim.after else ""
        claims.append(f"{claim.owner or 'nobody'}: ({claim.start}, {end}] done {claim.done}{cut}{doubt}")
    return f"done {record.done}, " + "; ".join(claims)


class RecordsPort:
    """One process's way to it."""

    def __init__(self, world: World, connection: Connection) -> None:
        self.world, self.connection = world, connection

    @property
    def boot(self) -> str:
        return self.connection.boot

    async def read(self, key: str) -> tuple[int, bytes]:
        return await self.connection.ask(lambda: self.world.bucket.read(key))

    async def write(self, key: str, value: bytes, revision: int) -> int:
        bucket = self.world.bucket
        late = self.world.random.random() < bucket.late
        write = bucket.write_late if late else bucket.write
        return await self.connection.ask(lambda: write(key, value, revision))
