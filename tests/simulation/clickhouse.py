"""A model of a table in two tiers: tokens for each partition, inserts stored partition by partition on servers with clocks of
their own, answers that get lost, requests that arrive late, twice, or torn."""

from __future__ import annotations

from array import array
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from marketprism_api.data_types import Declaration
from marketprism_consumer.errors import StoreError
from marketprism_consumer.ingest.clickhouse_errors import LATE_INSERT, refused
from marketprism_consumer.ingest.columns import HOUR, Columnar, Columns
from marketprism_consumer.ingest.decode_fast import DECODERS
from marketprism_consumer.ingest.frames import Messages
from marketprism_consumer.ingest.identity import content_columns
from marketprism_consumer.ingest.store import Clocks, Stored
from marketprism_consumer.schema.tables import TRADES, Table
from tests.simulation.connection import resolve
from tests.simulation.process import Process
from tests.simulation.times import EPOCH

if TYPE_CHECKING:
    from tests.simulation.world import World

NAMES = [column.name for column in TRADES.inserted]
CONTENT = [NAMES.index(name) for name in content_columns(TRADES)]
KEY = NAMES.index("trade_id")
WINDOW = 10_000  # tokens that the table remembers
APART = 10.0  # servers' clocks, for tiering at most [s]
GIVES_UP = 30.0  # a client that hears no answer [s]


class Row(NamedTuple):
    stream: str
    seq: int
    values: Any

    @property
    def key(self) -> str:
        key: str = self.values[KEY]
        return key

    @property
    def partition(self) -> int:
        partition: int = self.values[0] // HOUR
        return partition


@dataclass(frozen=True)
class SimBlock:
    """A `Block` without the bytes."""

    table: Table
    values: tuple[Row, ...]
    token: str

    @property
    def rows(self) -> int:
        return len(self.values)

    def identities(self) -> tuple[list[int], list[str]]:
        return [row.seq for row in self.values], [row.stream for row in self.values]


def sim_encode(
    table: Table,
    rows: Sequence[Any],
    seqs: Sequence[int],
    streams: Sequence[str],
    token: str,
    columns: Sequence[SimColumns] = (),
    stream: str = "",
) -> SimBlock:
    of_columns = (
        Row(stream, seq, values) for part in columns for seq, values in zip(part.seqs, part.values, strict=True)
    )
    return SimBlock(table, (*of_columns, *map(Row, streams, seqs, rows)), token)


@dataclass(slots=True)
class SimColumns(Columns):
    """With the rows beside them: what the simulated table takes."""

    values: tuple[Any, ...] = ()

    def exchanges(self) -> Counter[str]:
        return Counter(values[1] for values in self.values)


def _columns(seqs: Sequence[int], rows: Sequence[Any], arrived: tuple[int, int]) -> SimColumns:
    hours = frozenset(row[0] // HOUR for row in rows)
    times = rows[0][0], rows[-1][0]
    return SimColumns(array("Q", seqs), arrived, times, {}, {}, {}, {}, [], hours, 100 * len(rows), tuple(rows))


def sim_columnar(declaration: Declaration) -> Columnar:
    """Knows some of the messages, as the kernel does."""

    def read(messages: Messages) -> tuple[SimColumns | None, list[int]]:
        known, others = [], []
        for index, message in enumerate(messages):
            row = DECODERS[declaration.name](message.payload, message.arrived) if message.seq % 3 else None
            if row is None:
                others.append(index)
            else:
                known.append((message, row))
        if not known:
            return None, others
        arrived = known[0][0].arrived, known[-1][0].arrived
        return _columns([message.seq for message, _ in known], [row for _, row in known], arrived), others

    return read


@dataclass(eq=False)
class Request:
    """One insert of one process; the network may bring it more than once."""

    block: SimBlock
    until: int
    process: Process
    answer: Any


@dataclass(eq=False)
class Running:
    request: Request
    server: Server
    partitions: deque[int]


@dataclass(frozen=True, eq=False)
class Part:
    partition: int
    rows: tuple[Row, ...]


@dataclass(eq=False)
class Server:
    """`skew`: of its clock [s]. `lag`: how long a part takes to come here from another server. `lacks`: those on their way."""

    name: str
    skew: float
    lag: float
    up: bool = True
    lacks: list[Part] = field(default_factory=list)


class ClickHouse:
    """`atomic`: token and part are stored at once, in Keeper. Else there is one server, which may be killed between the two.

    `crashes`: how often it is killed in the middle of an insert, `torn`: so that this loses a part.
    `repeats`: how many requests arrive twice. Never where they may be torn: that is not covered, and the model says so.
    """

    def __init__(self, world: World) -> None:
        self.world, self.random = world, world.random
        servers = self.random.choice((1, 1, 1, 2, 3))
        self.atomic = servers > 1 or self.random.random() < 0.2
        skew = min(3.0, world.valid / 4) if servers > 1 else 0.5
        self.servers = [
            Server(f"clickhouse-{n}", self.random.uniform(-skew, skew), self.random.uniform(0, 5))
            for n in range(servers)
        ]
        torn = not self.atomic and self.random.random() < 0.6
        self.torn = 0.7 if torn else 0.0
        self.crashes = self.random.choice((0.0, 0.01, 0.05)) if torn else 0.0
        self.repeats = 0.0 if torn else self.random.choice((0.0, 0.1, 0.3))
        self.parked = self.random.choice((0.0, 0.0, 0.05, 0.3))
        self.lost_answers = self.random.choice((0.0, 0.05, 0.3))
        self.slow = self.random.choice((0.02, 0.1, 0.3))
        self.hot: list[Part] = []
        self.cold: list[Row] = []
        self.tokens: dict[tuple[int, str], None] = {}
        self.inserted_at: dict[int, float] = {}  # when rows came into a partition last
        self.late: set[str] = set()  # keys of what the stream had lost when it was stored
        self.running: list[Running] = []
        self.on_their_way = 0
        self.trouble: list[int] = []
        self.poison: set[str] = set()
        self.inserts = self.look_ups = 0

    def clock(self, server: Server) -> float:
        return EPOCH + self.world.now + server.skew

    def rows(self) -> list[Row]:
        return [row for part in self.hot for row in part.rows]

    def _some(self, most: float) -> float:
        """How long something takes: not long, as a rule."""
        return self.random.uniform(0, most if self.random.random() < self.slow else 0.05)

    # --- an insert ----------------------------------------------------------------------------------------------------

    def send(self, request: Request, server: Server) -> None:
        """What becomes of a request on its way: it arrives soon or late, once or twice, or never."""
        self.inserts += 1
        times = 2 if self.random.random() < self.repeats else 1
        for _ in range(times):
            parked = self.random.random() < self.parked
            late = self.random.uniform(1, 1.5 * self.world.valid) if parked else 0.0
            self.on_their_way += 1
            self.world.after(late + self._some(3.0), self._arrive, request, server)
            server = self.random.choice(self.servers)
        # The client gives up after a while, and the network with an answer of its own; the request goes on.
        seconds = self.random.uniform(0.1, GIVES_UP) if self.parked and self.random.random() < 0.3 else GIVES_UP
        self.world.after(seconds, self.answer, request, refused(0, "no answer"))

    def _arrive(self, request: Request, server: Server) -> None:
        self.on_their_way -= 1
        if not server.up:
            self.answer(request, refused(0, "connection refused"))
        elif self.trouble and self.random.random() < 0.7:
            self.answer(request, refused(self.random.choice(self.trouble), "refused"))
        else:
            partitions = sorted({row.partition for row in request.block.values})
            one = Running(request, server, deque(partitions))
            self.running.append(one)
            self.world.after(self._some(2.0), self._check, one)

    def _check(self, one: Running) -> None:
        if one not in self.running:
            return
        if int(self.clock(one.server)) > one.request.until:
            self._end(one, refused(LATE_INSERT, "too late"))
        elif any(row.key in self.poison for row in one.request.block.values):
            self._end(one, refused(469, "a constraint is violated"))
        else:
            # In time, and then slow: only waiting for it tells whoever looks its rows up meanwhile.
            self.world.after(self._some(12.0), self._store_next, one)

    def _store_next(self, one: Running) -> None:
        if one not in self.running:
            return
        if not one.partitions:
            self._end(one, None)
            return
        if not self.world.calm and self.random.random() < self.crashes:
            self.world.tell(f"{one.server.name} is killed as it stores something")
            self.kill(one.server)
            self.world.after(2, self.restart, one.server)
            return
        self._store(one.server, one.request.block, one.partitions.popleft())
        if self.trouble and self.random.random() < 0.3:
            self._end(one, refused(self.random.choice(self.trouble), "in the middle of it, or at its end"))
            return
        self.world.after(self._some(1.0), self._store_next, one)

    def _store(self, server: Server, block: SimBlock, partition: int) -> None:
        known = (partition, block.token) in self.tokens
        if self.world.traced:
            rows = ", ".join(f"{row.seq} {row.key}" for row in block.values if row.partition == partition)
            self.world.tell(
                f"{server.name} {'knows' if known else 'stores'} {rows} [{block.token[-8:]}] in {partition}"
            )
        if known:
            return
        self._log(partition, block.token)
        part = Part(partition, tuple(row for row in block.values if row.partition == partition))
        self.hot.append(part)
        self.late |= {row.key for row in part.rows} & self.world.stream.lost
        self.inserted_at[partition] = self.world.now
        for other in self.servers:
            if other is not server:
                other.lacks.append(part)
                self.world.after(other.lag, self._fetch, other, part, server)

    def _log(self, partition: int, token: str) -> None:
        self.tokens[partition, token] = None
        if len(self.tokens) > WINDOW:
            del self.tokens[next(iter(self.tokens))]

    def _fetch(self, server: Server, part: Part, source: Server) -> None:
        if server.up and source.up:
            server.lacks.remove(part)
        else:
            self.world.after(1, self._fetch, server, part, source)

    def _end(self, one: Running, error: StoreError | None) -> None:
        self.running.remove(one)
        if error and self.world.traced:
            self.world.tell(f"{one.server.name} refuses [{one.request.block.token[-8:]}]: {error}")
        if self.random.random() < self.lost_answers:
            error = refused(0, "the answer was lost")
        self.answer(one.request, error)

    def answer(self, request: Request, error: StoreError | None) -> None:
        if not request.answer.done():
            self.world.after(self.random.uniform(0, 0.01), request.process.send, resolve, request.answer, None, error)

    # --- faults -------------------------------------------------------------------------------------------------------

    def kill(self, server: Server) -> None:
        server.up = False
        for one in [one for one in self.running if one.server is server]:
            if one.partitions and self.random.random() < self.torn:
                # Between its token and its part: where the token is logged before, the part never comes.
                self._log(one.partitions.popleft(), one.request.block.token)
            self.running.remove(one)
            self.answer(one.request, refused(0, "connection reset"))

    def restart(self, server: Server) -> None:
        server.up = True


class Tiering:
    """Moves a partition into cold: copies its parts, and drops them once no block of its last insert can come any more."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.copied: dict[int, list[Part]] = {}
        self.busy = False

    def step(self) -> None:
        clickhouse, random = self.world.clickhouse, self.world.random
        partitions = sorted({part.partition for part in clickhouse.hot})
        if self.busy or not partitions or not all(server.up for server in clickhouse.servers):
            return
        partition = random.choice(partitions[:2])
        if not self.may_drop(partition) or any(server.lacks for server in clickhouse.servers):
            return
        parts = [part for part in clickhouse.hot if part.partition == partition]
        self.world.tell(f"tiering copies partition {partition}")
        clickhouse.cold += [row for part in parts for row in part.rows if part not in self.copied.get(partition, [])]
        self.copied[partition] = parts
        self.busy = True
        self.world.after(random.uniform(0, 5), self._drop, partition)

    def _drop(self, partition: int) -> None:
        clickhouse = self.world.clickhouse
        self.busy = False
        parts = self.copied[partition]
        there = [part for part in clickhouse.hot if part.partition == partition]
        if len(there) != len(parts) or not self.may_drop(partition):
            return  # something came in between: the rest is copied next time
        del self.copied[partition]
        self.world.tell(f"tiering drops partition {partition}")
        clickhouse.hot = [part for part in clickhouse.hot if part.partition != partition]
        clickhouse.tokens = {key: None for key in clickhouse.tokens if key[0] != partition}

    def may_drop(self, partition: int) -> bool:
        """Its tokens are free again then: not before each block that was let in is past its `until`, and done."""
        clickhouse = self.world.clickhouse
        over = clickhouse.inserted_at[partition] + self.world.valid + APART
        slowest = min(server.skew for server in clickhouse.servers)
        if self.world.now + slowest <= over:
            return False
        return not any(one.request.until <= EPOCH + over for one in clickhouse.running)


class StorePort:
    """One process's way to one tier. It keeps to a server until that fails."""

    def __init__(self, world: World, process: Process, tier: str = "hot") -> None:
        self.world, self.process, self.tier = world, process, tier
        self.server = world.random.choice(world.clickhouse.servers)
        self.error = world.random.uniform(-0.5, 0.5)  # of what we think of its clock [s]

    async def insert(self, block: Any, until: int) -> None:
        await self.world.edge(self.process)
        if not self.process.alive:
            return
        request = Request(block, until, self.process, self.process.loop.create_future())
        self.world.clickhouse.send(request, self.server)
        await self.world.edge(self.process)
        try:
            await request.answer
        except StoreError as error:
            if error.code == 0:
                self._another_server()
            raise

    async def clock(self) -> float:
        await self.world.answer(self.process, None, 0.001)
        return self.world.clickhouse.clock(self.server) + self.error

    async def clocks(self) -> Clocks:
        await self._ask()
        servers = self.world.clickhouse.servers
        if not all(server.up for server in servers):
            raise refused(0, "one of the servers is down")
        clocks = [self.world.clickhouse.clock(server) for server in servers]
        await self.world.answer(self.process, None, self.world.random.uniform(0.001, 0.1))
        return Clocks(min(clocks), max(clocks))

    async def identity(self, table: Table) -> str:
        await self._ask()
        return "table-1"

    async def settle(self, table: Table) -> None:
        await self._ask()
        running = list(self.world.clickhouse.running)
        for _ in range(100):
            if not any(one in self.world.clickhouse.running for one in running):
                return
            await self.world.answer(self.process, None, 0.3)
            self._demand_up()
        raise refused(159, "inserts run on")

    async def has_all(self, table: Table, stream: str, seqs: Sequence[int]) -> bool:
        rows = await self._whole()
        return set(seqs) <= {row.seq for row in rows if row.stream == stream}

    async def stored(self, table: Table, stream: str, seqs: Sequence[int]) -> dict[int, list[Stored]]:
        rows = await self._whole()
        wanted, found = set(seqs), dict[int, list[Stored]]()
        for row in rows:
            if row.seq in wanted and row.stream.partition("~")[0] == stream.partition("~")[0]:
                found.setdefault(row.seq, []).append(Stored(row.stream, tuple(row.values[i] for i in CONTENT)))
        return found

    async def _whole(self) -> Sequence[Row]:
        """What a server has that is whole."""
        for _ in range(20):
            rows = await self._look_up(whole=True)
            if rows is not None:
                return rows
            self._another_server()
            await self.world.answer(self.process, None, 0.5)
        raise refused(159, "no server is whole")

    async def highest(self, table: Table, stream: str, above: int, to: int | None = None) -> int:
        """As far as any server knows that can be reached."""
        await self._look_up()
        last, clickhouse = 1 << 63 if to is None else to, self.world.clickhouse
        lacks = [set(server.lacks) for server in clickhouse.servers if server.up]
        unknown = set.intersection(*lacks) if lacks else set()
        rows = [row for part in clickhouse.hot if part not in unknown for row in part.rows]
        rows = clickhouse.cold if self.tier == "cold" else rows
        return max((row.seq for row in rows if row.stream == stream and above < row.seq <= last), default=0)

    # --- how it gets there --------------------------------------------------------------------------------------------

    async def _look_up(self, *, whole: bool = False) -> list[Row] | None:
        """What this server has, at some moment between question and answer; nothing where it should be whole and is not."""
        await self._ask()
        clickhouse, lacks = self.world.clickhouse, self.server.lacks
        clickhouse.look_ups += 1
        if self.tier == "cold":
            found = list(clickhouse.cold)
        elif whole and lacks:
            return None
        else:
            found = [row for part in clickhouse.hot if part not in lacks for row in part.rows]
        await self.world.answer(self.process, None, self.world.random.uniform(0.001, 0.1))
        return found

    async def _ask(self) -> None:
        await self.world.edge(self.process)
        if self.world.random.random() < 0.2:
            self._another_server()  # any may answer, behind a balancer
        await self.world.answer(self.process, None, self.world.random.uniform(0.001, 0.1))
        self._demand_up()

    def _demand_up(self) -> None:
        if not self.server.up:
            self._another_server()
            raise refused(0, "down")

    def _another_server(self) -> None:
        self.server = self.world.random.choice(self.world.clickhouse.servers)


Encode = Callable[..., SimBlock]
