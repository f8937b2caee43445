"""A model of a ClickHouse table: tokens kept for each partition, inserts stored partition by partition, answers that get lost,
a fence that the server itself checks."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from marketprism_consumer.errors import StoreError
from marketprism_consumer.ingest.clickhouse_errors import refused
from marketprism_consumer.ingest.encode import token
from marketprism_consumer.ingest.identity import content_columns
from marketprism_consumer.ingest.store import Stored
from marketprism_consumer.schema.tables import TRADES, Table
from tests.simulation.process import Process

if TYPE_CHECKING:
    from tests.simulation.world import World

HOUR = 3_600_000_000
NAMES = [column.name for column in TRADES.inserted]
CONTENT = [NAMES.index(name) for name in content_columns(TRADES)]
KEY = NAMES.index("trade_id")


@dataclass(frozen=True)
class SimBlock:
    """What `encode` makes, without the bytes; the token is the real one."""

    table: Table
    rows: tuple[Any, ...]
    seqs: tuple[int, ...]
    streams: tuple[str, ...]
    token: str


def sim_encode(
    table: Table,
    rows: Sequence[Any],
    seqs: Sequence[int],
    streams: Sequence[str],
    token: Callable[[Table, Sequence[int], Sequence[str]], str] = token,
) -> SimBlock:
    return SimBlock(table, tuple(rows), tuple(seqs), tuple(streams), token(table, seqs, streams))


@dataclass
class Running:
    block: SimBlock
    deadline: float
    process: Process
    answer: Any
    partitions: deque[int]


class ClickHouse:
    """`rows`: (stream, seq, row). `skew`: what our reading of its clock is wrong by, at most, beside whole seconds."""

    def __init__(self, world: World) -> None:
        self.world, self.random = world, world.random
        self.rows: list[tuple[str, int, Any]] = []
        self.stored_at: dict[tuple[str, int], float] = {}
        self.tokens: set[tuple[int, str]] = set()
        self.running: list[Running] = []
        self.up = True
        self.trouble: list[int] = []
        self.poison: set[str] = set()
        self.skew = self.random.uniform(-0.5, 0.5)
        self.inserts = 0

    # --- the server ---------------------------------------------------------------------------------------------------

    def begin(self, one: Running) -> None:
        if not self.up:
            return self._refuse(one, 0)
        if self.trouble and self.random.random() < 0.7:
            return self._refuse(one, self.random.choice(self.trouble))
        self.running.append(one)
        self.world.after(self.random.choice((0.005, 0.05, 0.3, 2.0)), self._check, one)
        return None

    def _check(self, one: Running) -> None:
        if one not in self.running:
            return
        if int(self.world.now + self.skew) > int(one.deadline):
            self._end(one, refused(395, "too late"))
        elif any(row[KEY] in self.poison for row in one.block.rows):
            self._end(one, refused(469, "a constraint is violated"))
        else:
            # In time, and then slow: only waiting for it tells whoever looks its rows up meanwhile.
            seconds = 12.0 if self.random.random() < 0.03 else self.random.choice((0.001, 0.05, 1.0))
            self.world.after(seconds, self._store_next, one)

    def _store_next(self, one: Running) -> None:
        if one not in self.running:
            return
        if not one.partitions:
            self._end(one, None)
            return
        partition = one.partitions.popleft()
        if (partition, one.block.token) not in self.tokens:
            self.tokens.add((partition, one.block.token))
            for row, seq, stream in zip(one.block.rows, one.block.seqs, one.block.streams, strict=True):
                if row[0] // HOUR == partition:
                    self.rows.append((stream, seq, row))
                    self.stored_at[stream, seq] = self.world.now
        if one.partitions and self.trouble and self.random.random() < 0.3:
            self._end(one, refused(self.random.choice(self.trouble), "in the middle of it"))
            return
        self.world.after(self.random.choice((0.0, 0.01, 0.5)), self._store_next, one)

    def _end(self, one: Running, error: StoreError | None) -> None:
        self.running.remove(one)
        if self.random.random() < self.world.lost_answers:
            error = refused(0, "the answer was lost")
        self._answer(one, error)

    def _refuse(self, one: Running, code: int) -> None:
        self._answer(one, refused(code, "refused"))

    def _answer(self, one: Running, error: StoreError | None) -> None:
        def resolve() -> None:
            if not one.answer.done():
                one.answer.set_exception(error) if error else one.answer.set_result(None)

        self.world.after(self.random.uniform(0, 0.01), one.process.send, resolve)

    def kill(self) -> None:
        self.up = False
        for one in list(self.running):
            self.running.remove(one)
            self._refuse(one, 0)

    def restart(self) -> None:
        self.up = True


class StorePort:
    """One process's way to it. A request that was sent arrives, whatever becomes of its sender."""

    def __init__(self, world: World, process: Process) -> None:
        self.world, self.process = world, process

    async def insert(self, block: Any, deadline: float) -> None:
        server = self.world.clickhouse
        if self.process.frozen:
            # Stopped between its decision and its request: the request leaves when it goes on.
            await self.world.answer(self.process, None, 0)
        if not self.process.alive:
            return
        server.inserts += 1
        answer = self.process.loop.create_future()
        partitions = deque(sorted({row[0] // HOUR for row in block.rows}))
        one = Running(block, deadline, self.process, answer, partitions)
        # The client gives up after a while; the server goes on.
        self.world.after(self.world.random.choice((0.001, 0.01, 0.2, 3.0)), server.begin, one)
        self.world.after(30, self.process.send, lambda: answer.done() or answer.set_exception(refused(0, "timeout")))
        await answer

    async def _ask(self) -> None:
        await self.world.answer(self.process, None, self.world.random.uniform(0.001, 0.1))
        if not self.world.clickhouse.up:
            raise refused(0, "down")

    async def stored(self, table: Table, stream: str, seqs: Sequence[int]) -> dict[int, list[Stored]]:
        await self._ask()
        wanted, found = set(seqs), {}
        for row_stream, seq, row in self.world.clickhouse.rows:
            if seq in wanted and (row_stream == stream or row_stream.startswith(f"{stream}~")):
                found.setdefault(seq, []).append(Stored(row_stream, tuple(row[i] for i in CONTENT)))
        return found

    async def high_water(self, table: Table, stream: str) -> tuple[int, float]:
        await self._ask()
        server = self.world.clickhouse
        there = [(seq, server.stored_at[row_stream, seq]) for row_stream, seq, _ in server.rows if row_stream == stream]
        return max((seq for seq, _ in there), default=0), min((at for _, at in there), default=0.0)

    async def settle(self, table: Table) -> None:
        await self._ask()
        running = list(self.world.clickhouse.running)
        while any(one in self.world.clickhouse.running for one in running):
            await self.world.answer(self.process, None, 0.05)
