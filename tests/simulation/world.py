"""One seed, one history: what is published, what breaks and when, and what must be true at the end."""

from __future__ import annotations

import heapq
import json
from collections import Counter
from collections.abc import Callable
from itertools import count
from random import Random
from typing import Any

import structlog
from prometheus_client import CollectorRegistry

from marketprism_consumer.backoff import Backoff
from marketprism_consumer.ingest.batch import BatchBounds
from marketprism_consumer.ingest.broker import Durable
from marketprism_consumer.ingest.flood import Flood
from marketprism_consumer.ingest.ingest import Encode, Ingest
from marketprism_consumer.ingest.metrics import IngestAccount, IngestMetrics
from marketprism_consumer.schema.tables import TRADES
from tests.simulation.clickhouse import KEY, ClickHouse, StorePort, sim_encode
from tests.simulation.jetstream import EPOCH_NS, BrokerPort, GraveyardPort, JetStream
from tests.simulation.process import Killed, Process

CALM = 400.0  # after the faults the world has this long to come to rest [virtual s]
METRICS = IngestMetrics(CollectorRegistry())


class Violation(AssertionError):
    """The guarantee does not hold in this history."""


class World:
    """`run` raises Violation. `trace` prints what happens. The types and `encode` are there to be replaced by broken ones."""

    def __init__(
        self,
        seed: int,
        *,
        trace: bool = False,
        ingest: type[Ingest] = Ingest,
        store: type[StorePort] = StorePort,
        encode: Encode = sim_encode,
    ) -> None:
        self.random = Random(seed)
        self.now = 0.0
        self._trace = trace
        self._ingest_type, self._store_type, self._encode = ingest, store, encode
        self._log: Any = (
            structlog.wrap_logger(structlog.PrintLogger(), processors=[_Tell(self)]) if trace else _Silent()
        )
        self._events: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self._number = count()
        self.lost_answers = self.random.choice((0.0, 0.05, 0.3))
        self.replicas = self.random.choice((1, 1, 2, 2, 3))
        self.ack_wait = self.random.choice((8.0, 15.0, 30.0))
        self.limits = BatchBounds(
            self.random.choice((1, 5, 20)), self.random.choice((0.5, 2.0)), self.random.choice((5, 20, 60)), 1 << 24
        )
        self.jetstream = JetStream(self, self.ack_wait)
        self.clickhouse = ClickHouse(self)
        self.processes: list[Process] = []
        self.ingests: dict[Process, Ingest] = {}
        self.bad: set[str] = set()
        self.calm = False
        self.went_backwards = False
        self.unclassified = False  # ClickHouse gave a code that nobody knows: a row may be buried for it
        self.freezes = self.random.random() < 0.5

    # --- time ---------------------------------------------------------------------------------------------------------

    def after(self, seconds: float, callback: Callable[..., None], *arguments: Any) -> None:
        heapq.heappush(self._events, (self.now + seconds, next(self._number), callback, arguments))

    def soon(self, callback: Callable[..., None]) -> None:
        self.after(0, callback)

    async def answer(self, process: Process, value: Any, seconds: float) -> Any:
        """A round trip: the value, after a while, unless the process is gone by then."""
        future = process.loop.create_future()
        self.after(seconds, process.send, lambda: future.done() or future.set_result(value))
        return await future

    def _advance(self, until: float) -> None:
        while True:
            running = [process for process in self.processes if process.runs]
            for process in running:
                while process.runs and process.loop.due():
                    process.loop.step()
            timers = [process.loop.next_timer() for process in running if process.runs]
            times = [time for time in timers if time is not None] + [event[0] for event in self._events[:1]]
            at = min(times, default=until)
            if at > until:
                self.now = until
                return
            self.now = max(self.now, at)
            while self._events and self._events[0][0] <= self.now:
                _, _, callback, arguments = heapq.heappop(self._events)
                callback(*arguments)

    def tell(self, text: str) -> None:
        if self._trace:
            print(f"{self.now:8.3f}  {text}")

    # --- processes ----------------------------------------------------------------------------------------------------

    def start(self) -> None:
        process = Process(f"consumer-{len(self.processes)}", lambda: self.now)
        self.processes.append(process)
        self.ingests[process] = process.call(lambda: self._ingest(process))
        process.start(self.ingests[process].run())
        self.tell(f"{process.name} starts")

    def _ingest(self, process: Process) -> Ingest:
        return self._ingest_type(
            Durable("S", "C", "trade.>", self.ack_wait),
            TRADES,
            BrokerPort(self, process),
            self._store_type(self, process),
            GraveyardPort(self, process),
            self.limits,
            Flood(1.0, 1000, 60.0),
            IngestAccount(METRICS, "trade"),
            encode=self._encode,
            faultpoint=lambda name: self._faultpoint(process, name),
            log=self._log,
            backoff=lambda: Backoff(random=self.random),
        )

    def _faultpoint(self, process: Process, name: str) -> None:
        if self.calm or self.random.random() >= self.fault_rate:
            return
        if self.random.random() < 0.5:
            self.tell(f"{process.name} is killed at {name}")
            self.kill(process)
            raise Killed
        if self.freezes:
            self.freeze(process, self.random.uniform(1, 3 * self.ack_wait))

    def kill(self, process: Process) -> None:
        if process.alive:
            self.tell(f"{process.name} is killed")
            process.alive = False
            self.after(self.random.uniform(0.2, 10), self.start)

    def freeze(self, process: Process, seconds: float) -> None:
        if process.runs:
            self.tell(f"{process.name} is frozen for {seconds:.1f} s")
            process.frozen = True
            self.after(seconds, self._thaw, process)

    def _thaw(self, process: Process) -> None:
        self.tell(f"{process.name} goes on")
        process.frozen = False

    def terminate(self, process: Process) -> None:
        if process.runs:
            self.tell(f"{process.name} gets SIGTERM")
            process.call(lambda: self.ingests[process].stop(20))
            self.after(25, self._replace, process)

    def _replace(self, process: Process) -> None:
        if process.alive:
            process.alive = False
            self.start()

    def disconnected(self) -> None:
        self._all(lambda ingest: ingest.resync("disconnected"))

    def reconnected(self) -> None:
        self._all(lambda ingest: ingest.resync("reconnected"))

    def _all(self, action: Callable[[Ingest], None]) -> None:
        for process in self.processes:
            if process.alive:
                process.send(action, self.ingests[process])

    # --- a history ----------------------------------------------------------------------------------------------------

    def run(self) -> None:
        self.fault_rate = self.random.choice((0.0, 0.0, 0.02, 0.1))
        try:
            for _ in range(self.replicas):
                self.start()
            self._plan_messages()
            self._plan_faults()
            self._advance(60)
            self._heal()
            end = self.now + CALM
            while self.now < end and not self._at_rest():
                self._advance(self.now + 1)
            self._check()
        finally:
            for process in self.processes:
                process.end()

    def _plan_messages(self) -> None:
        for number in range(self.random.randint(30, 160)):
            self.after(self.random.uniform(0, 45), self._publish, f"t{number}")

    def _publish(self, key: str) -> None:
        if self.random.random() < 0.05:
            self.bad.add(key)
            payload = key.encode()
        else:
            if self.random.random() < 0.02:
                self.clickhouse.poison.add(key)
            stamp = EPOCH_NS // 1_000_000 + self.random.randint(-3, 0) * 3_600_000
            payload = json.dumps(
                {
                    "exchange": "x", "market_type": "spot", "symbol": "A", "price": "1.5", "quantity": "1", "side": "buy",
                    "trade_id": key, "data_type": "trade", "ts_ms": stamp, "trade_ts_ms": stamp,
                }
            ).encode()  # fmt: skip
        if not self.jetstream.publish(key, payload):
            self.after(0.5, self._publish, key)

    def _plan_faults(self) -> None:
        for _ in range(self.random.randint(0, 6)):
            self.after(self.random.uniform(0, 50), self.random.choice(FAULTS), self)

    def down(self) -> float:
        """How long a broken nats-server is away. With several replicas longer than a request is on its way to ClickHouse:
        before it arrives nobody can see it, and the server that gave its messages to another has forgotten."""
        return self.random.uniform(0.5 if self.replicas == 1 else 3.5, 12)

    def some(self) -> Process | None:
        running = [process for process in self.processes if process.runs]
        return self.random.choice(running) if running else None

    def _heal(self) -> None:
        self.calm = True
        self.lost_answers = 0.0
        self.clickhouse.trouble = []
        self.clickhouse.restart()
        if not self.jetstream.up:
            self.jetstream.restart()

    def _at_rest(self) -> bool:
        return (
            not self.jetstream.behind()
            and not self.clickhouse.running
            and all(p.runs or not p.alive for p in self.processes)
            and any(p.runs for p in self.processes)
        )

    def _check(self) -> None:
        rows = self.clickhouse.rows
        # Where the stream went backwards, an insert of the old content may have been on its way past every look-up: two
        # messages then share an identity, and audit says so. No message is there twice even then.
        ids = Counter((stream, seq, row[KEY] if self.went_backwards else "") for stream, seq, row in rows)
        keys = Counter(row[KEY] for _, _, row in rows)
        buried = Counter(self.jetstream.buried.values())
        self._demand(not [one for one, n in ids.items() if n > 1], "a (_stream, _seq) is there twice")
        self._demand(
            not [key for key, n in keys.items() if n > 1], f"stored twice: {[k for k, n in keys.items() if n > 1]}"
        )
        self._demand(not [key for key, n in buried.items() if n > 1], "a message is buried twice")
        must = {message.key for message in self.jetstream.messages.values()} | set(self.jetstream.acked.values())
        missing = [key for key in must if not keys[key] and not buried[key]]
        self._demand(not missing, f"neither stored nor buried: {sorted(missing)}")
        self._demand(not [key for key in must if keys[key] and buried[key]], "both stored and buried")
        good = [key for key in must if buried[key] and key not in self.bad and key not in self.clickhouse.poison]
        self._demand(not good or self.unclassified, f"a good message was buried: {good}")
        self._demand(self._at_rest(), "it did not come to rest")
        self._demand(self.clickhouse.inserts < 5000, f"{self.clickhouse.inserts} inserts: a hot loop")

    def _demand(self, holds: bool, what: str) -> None:
        if not holds:
            self.tell(f"VIOLATION: {what}")
            raise Violation(what)


class _Silent:
    def __getattr__(self, _: str) -> Callable[..., None]:
        return lambda *_, **__: None


class _Tell:
    def __init__(self, world: World) -> None:
        self._world = world

    def __call__(self, _logger: Any, _method: str, event: dict[str, Any]) -> Any:
        self._world.tell("    " + " ".join(f"{k}={v}" for k, v in event.items() if k != "hint"))
        raise structlog.DropEvent


# --- faults: each is drawn, and heals by itself or at the end -----------------------------------------------------------


def kill_consumer(world: World) -> None:
    if process := world.some():
        world.kill(process)


def freeze_consumer(world: World) -> None:
    if world.freezes and (process := world.some()):
        world.freeze(process, world.random.uniform(0.5, 3 * world.ack_wait))


def terminate_consumer(world: World) -> None:
    if process := world.some():
        world.terminate(process)


def kill_nats(world: World) -> None:
    # Left out with several replicas of which one may be frozen: see docs/guarantee.md. JetStream forgets what it gave the
    # frozen one, gives it to the other, and both are in time: only the server that forgot could have told.
    if world.jetstream.up and (world.replicas == 1 or not world.freezes):
        world.tell("nats-server is killed")
        world.jetstream.kill()
        world.after(world.down(), world.jetstream.restart)


def lose_consumer(world: World) -> None:
    # With several replicas it is left out: what one of them holds is given to the others anew, and not all of them are told
    # in time. They wait ack_wait before they trust a durable that was made anew, which closes most of it: docs/guarantee.md.
    if world.jetstream.up and world.replicas == 1:
        world.tell("the durable is deleted")
        world.jetstream.delete_consumer()


def recreate_stream(world: World) -> None:
    if world.jetstream.up:
        world.tell("the stream is deleted and made again")
        world.jetstream.recreate_stream()


def go_backwards(world: World) -> None:
    if world.jetstream.up and (world.replicas == 1 or not world.freezes):
        world.tell("the stream goes backwards")
        world.went_backwards = True
        world.jetstream.go_backwards(world.random.randint(1, 20))


def discard(world: World) -> None:
    world.tell("the stream discards its oldest messages")
    world.jetstream.discard(world.random.randint(1, 10))


def kill_clickhouse(world: World) -> None:
    if world.clickhouse.up:
        world.tell("ClickHouse is killed")
        world.clickhouse.kill()
        world.after(world.random.uniform(0.5, 25), world.clickhouse.restart)


def trouble(world: World) -> None:
    world.tell("ClickHouse refuses inserts")
    world.clickhouse.trouble = world.random.choice(([252, 241], [60, 516], [77777], [242, 0]))
    world.unclassified |= 77777 in world.clickhouse.trouble

    def over() -> None:
        world.clickhouse.trouble = []

    world.after(world.random.uniform(1, 20), over)


FAULTS = (
    kill_consumer, kill_consumer, freeze_consumer, freeze_consumer, terminate_consumer, kill_nats, lose_consumer,
    recreate_stream, go_backwards, discard, kill_clickhouse, trouble,
)  # fmt: skip
