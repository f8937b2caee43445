"""One seed, one history: what is published, what breaks and when, and what must be true at the end."""

from __future__ import annotations

import heapq
import json
import traceback
from asyncio import events
from collections import Counter
from collections.abc import Callable, Iterator, MutableMapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import count
from random import Random
from typing import Any
from unittest.mock import patch

import structlog

from marketprism_api import reasons
from marketprism_api.data_types import BUILT_IN
from marketprism_api.messages import MessageLimits
from marketprism_api.reasons import Reason
from marketprism_consumer.backoff import Backoff
from marketprism_consumer.errors import StorageError
from marketprism_consumer.ingest import batch, epochs, work
from marketprism_consumer.ingest import ingest as ingest_module
from marketprism_consumer.ingest.batch import BatchBounds
from marketprism_consumer.ingest.flood import Flood
from marketprism_consumer.ingest.ingest import Ingest, LaneSource
from marketprism_consumer.ingest.record import Record, load
from tests.simulation.bucket import Bucket, RecordsPort
from tests.simulation.clickhouse import ClickHouse, Encode, StorePort, Tiering, sim_columnar, sim_encode
from tests.simulation.connection import Connection, Nats, resolve
from tests.simulation.faults import FAULTS, heal
from tests.simulation.jetstream import BrokerPort, GraveyardPort, Stream
from tests.simulation.process import Killed, Process
from tests.simulation.times import EPOCH

SUBJECT = "trade.>"
MOST = {"inserts": 3, "look-ups": 4, "writes": 8, "readers": 2}  # in a second, by all processes; more is a hot loop


class Violation(AssertionError):
    """The guarantee does not hold in this history."""


class Crash(Violation):
    """A process ended by a mistake, which says nothing of what it would have stored."""


@dataclass(frozen=True)
class Parts:
    """What a world is made of; tests replace some of it by what breaks a rule."""

    ingest: type[Ingest] = Ingest
    broker: type[BrokerPort] = BrokerPort
    records: type[RecordsPort] = RecordsPort
    store: type[StorePort] = StorePort
    graveyard: type[GraveyardPort] = GraveyardPort
    bucket: type[Bucket] = Bucket
    clickhouse: type[ClickHouse] = ClickHouse
    tiering: type[Tiering] = Tiering
    encode: Encode = sim_encode
    faults: Sequence[Callable[[World], None]] = FAULTS


class World:
    """`run` raises Violation. `trace` prints what happens."""

    def __init__(self, seed: int, parts: Parts = Parts(), *, trace: bool = False) -> None:
        self.seed = seed
        self.random = random = Random(seed)
        self.parts = parts
        self.now = 0.0
        self.traced = trace
        self.log: Any = structlog.wrap_logger(None, processors=[_Tell(self)]) if trace else _SILENT
        self._events: list[tuple[float, int, Callable[..., Any], tuple[Any, ...]]] = []
        self._number = count()
        self.valid = random.choice((4, 6, 8, 8, 8, 15, 15, 60))
        self.published_for = random.choice((10.0, 20.0, 40.0))
        self.replicas = random.choice((1, 1, 1, 2, 2, 3, 5))
        self.chunk = random.choice((5, 20, 20, 1000))
        self.partitions = random.choice((2, 32, 32))
        self.set_aside = random.choice((1, 3, 16))
        self.flood, self.bad_rate = random.choice(((0.3, 0.2), (0.3, 0.4), (1.0, 0.05), (1.0, 0.05)))
        self.limits = BatchBounds(
            random.choice((1, 5, 20)), random.choice((0.5, 2.0)), random.choice((5, 20, 60)), 1 << 24
        )
        self.fault_rate = random.choice((0.0, 0.0, 0.02, 0.1))
        self.edge_rate = random.choice((0.0, 0.0, 0.002, 0.01))
        self.refused_letters = random.choice((0.0, 0.05, 0.5))
        self.nats = Nats(self, cluster=random.random() < 0.3)
        self.stream = Stream(self)
        self.bucket = parts.bucket(self)
        self.clickhouse = parts.clickhouse(self)
        self.tiering = parts.tiering(self)
        self.processes: list[Process] = []
        self.ingests: dict[Process, Ingest] = {}
        self.bad: set[str] = set()
        self.calm = self.record_lost = False
        self.false_alarms: list[str] = []
        self._crash: Exception | None = None

    # --- time ---------------------------------------------------------------------------------------------------------

    def after(self, seconds: float, callback: Callable[..., Any], *arguments: Any) -> None:
        heapq.heappush(self._events, (self.now + seconds, next(self._number), callback, arguments))

    def at(self, time: float, callback: Callable[..., Any], *arguments: Any) -> None:
        heapq.heappush(self._events, (time, next(self._number), callback, arguments))

    async def answer(self, process: Process, value: Any, seconds: float) -> Any:
        """A round trip: the value, after a while, unless the process is gone by then."""
        future = process.loop.create_future()
        self.after(seconds, process.send, resolve, future, value, None)
        return await future

    def _advance(self, until: float) -> None:
        planned = self._events
        while True:
            at = min(until, planned[0][0]) if planned else until
            for process in self.processes:
                if not process.runs:
                    continue
                while (due := process.loop.next_due()) <= self.now:
                    process.loop.step()
                    if not process.runs:
                        break
                else:
                    at = min(at, due)
            at = min(at, planned[0][0]) if planned else at
            if at >= until:
                self.now = until
                return
            self.now = max(self.now, at)
            while planned and planned[0][0] <= self.now:
                _, _, callback, arguments = heapq.heappop(planned)
                callback(*arguments)

    def tell(self, text: str) -> None:
        if self.traced:
            print(f"{self.now:8.3f}  {text}")

    # --- processes ----------------------------------------------------------------------------------------------------

    def start(self, owner: str = "") -> None:
        number = len(self.processes)
        process = Process(f"P{number}", owner or f"owner-{number}", lambda: self.now)
        self.processes.append(process)
        self.tell(f"{process.name} starts as {process.owner}")
        self.ingests[process] = process.call(lambda: self._ingest(process))
        process.start(self._life(process))

    def _ingest(self, process: Process) -> Ingest:
        parts, connection = self.parts, Connection(self, process)
        return parts.ingest(
            LaneSource("S", SUBJECT),
            BUILT_IN["trade"],
            parts.broker(self, connection),
            parts.records(self, connection),
            (parts.store(self, process), parts.store(self, process, "cold")),
            parts.graveyard(self, connection),
            self.limits,
            Flood(self.flood, 10, 5.0),
            _Alarms(self),  # type: ignore[arg-type]
            process.owner,
            messages=MessageLimits(),
            encode=parts.encode,  # type: ignore[arg-type]
            columnar=sim_columnar,
            faultpoint=lambda name: self._faultpoint(process, name),
            log=self.log.bind(p=process.name) if self.traced else self.log,
            backoff=lambda: Backoff(random=self.random),
            valid=self.valid,
            random=Random(self.random.random()),
        )

    async def _life(self, process: Process) -> None:
        """What it raises on purpose ends a process, and it is started again; anything else is a mistake."""
        try:
            await self.ingests[process].run()
        except StorageError as error:
            self.tell(f"{process.name} ends: {error}")
        except Exception as error:
            if process.alive:
                self._crash = error
        if process.alive:
            self.after(0, self.kill, process)

    def _faultpoint(self, process: Process, name: str) -> None:
        if self._befalls(process, self.fault_rate, f"at {name}"):
            raise Killed

    async def edge(self, process: Process) -> None:
        """Where a process hands something to the network, or has just done so: it may be killed or frozen there."""
        if self._befalls(process, self.edge_rate, "at a request"):
            await process.loop.create_future()  # nothing of it goes on
        if process.frozen:
            await self.answer(process, None, 0)

    def _befalls(self, process: Process, rate: float, where: str) -> bool:
        """Is it killed here? Or it may be frozen."""
        if self.calm or not process.runs or self.random.random() >= rate:
            return False
        self.tell(f"{where}:")
        if self.random.random() < 0.5:
            self.kill(process)
            return True
        self.freeze(process)
        return False

    def kill(self, process: Process) -> None:
        """What comes in its place has its name, where it is certain that it is dead, or another."""
        if process.alive:
            self.tell(f"{process.name} is killed")
            process.alive = False
            self.after(self.random.uniform(0.2, 10), self.start, process.owner if self.random.random() < 0.7 else "")

    def freeze(self, process: Process) -> None:
        if process.runs:
            seconds = self.random.choice((1, 6, self.valid, 3 * self.valid)) * self.random.uniform(0.5, 1)
            self.tell(f"{process.name} is frozen for {seconds:.1f} s")
            process.frozen = True
            self.after(seconds, self._thaw, process)

    def _thaw(self, process: Process) -> None:
        if process.alive:
            self.tell(f"{process.name} goes on")
        process.frozen = False

    def terminate(self, process: Process) -> None:
        if process.runs and not process.stopping:
            self.tell(f"{process.name} gets SIGTERM")
            process.stopping = True
            process.call(lambda: self.ingests[process].stop(20))
            if self.random.random() < 0.3:
                self.after(self.random.uniform(0, 10), process.send, self.ingests[process].stop, 0)
            self.after(30, self.kill, process)

    # --- a history ----------------------------------------------------------------------------------------------------

    def run(self) -> None:
        with self._made_small():
            try:
                self._run()
            finally:
                for process in self.processes:
                    process.end()
                events._set_running_loop(None)

    def _run(self) -> None:
        for _ in range(self.replicas):
            self.start()
        self._plan()
        self._advance(self.published_for + 15)
        self.tell("all faults are over")
        self.calm = True
        heal(self)
        end = self.now + 100 + 25 * self.valid
        while self.now < end and not self.at_rest() and not self._crash:
            self._feed_goes_on()
            self._advance(self.now + 1)
        self._check()

    @contextmanager
    def _made_small(self) -> Iterator[None]:
        """Claims and blocks are short here, so that there are several. And the reader is looked after less often."""
        small = [
            (work, "CHUNK", self.chunk),
            (ingest_module, "MAX_ASIDE", self.set_aside),
            (ingest_module, "TICK", 1.0),
            (epochs, "PIECES", 4),
            (epochs, "PARTITIONS", self.partitions),
            (batch, "PARTITIONS", self.partitions),
        ]
        with ExitStack() as patches:
            for module, name, value in small:
                patches.enter_context(patch.object(module, name, value))
            yield

    def _plan(self) -> None:
        for number in range(self.random.randint(30, 160)):
            self.after(self.random.uniform(0, self.published_for), self._publish, f"t{number}")
        for _ in range(self.random.randint(0, 8)):
            self.after(self.random.uniform(0, self.published_for + 5), self.random.choice(self.parts.faults), self)
        self.after(self.random.uniform(1, 10), self._tier)

    def _publish(self, key: str) -> None:
        if self.random.random() < 0.2:
            self.stream.publish("orderbook.x.spot.A", key, b"{}")
            return
        exchange = self.random.choice("xxy")
        if self.random.random() < (self.bad_rate if exchange == "x" else 0.05):
            self.bad.add(key)
            payload = key.encode()
        else:
            if self.random.random() < 0.02:
                self.clickhouse.poison.add(key)
            hour = int(self.now / (self.valid + 5)) + self.random.choice((-2, -1, 0, 0, 0, 0))
            stamp = (EPOCH + hour * 3600) * 1000
            payload = json.dumps(
                {
                    "exchange": exchange, "market_type": "spot", "symbol": "A", "price": "1.5", "quantity": "1", "side": "buy",
                    "trade_id": key, "data_type": "trade", "ts_ms": stamp, "trade_ts_ms": stamp,
                }
            ).encode()  # fmt: skip
        self._send(f"trade.{exchange}.spot.A", key, payload)

    def _send(self, subject: str, key: str, payload: bytes) -> None:
        if not self.stream.publish(subject, key, payload):
            self.after(0.5, self._send, subject, key, payload)

    def _tier(self) -> None:
        self.tiering.step()
        self.after(self.random.uniform(2, 10), self._tier)

    def some(self) -> Process | None:
        running = [process for process in self.processes if process.runs]
        return self.random.choice(running) if running else None

    def held(self) -> dict[int, str]:
        """The lane's messages that the stream holds."""
        return {
            seq: message.key for seq, message in self.stream.messages.items() if message.subject.startswith(b"trade.")
        }

    def at_rest(self) -> bool:
        """Nothing is on its way any more, and the record says that all is done."""
        clickhouse = self.clickhouse
        if clickhouse.on_their_way or clickhouse.running:
            return False
        alive = [process for process in self.processes if process.alive]
        ingests = [self.ingests[process] for process in alive]
        if not all(process.runs for process in alive) or not all(
            each.idle and not each.not_ready() for each in ingests
        ):
            return False
        return not any(self._not_done())

    def _feed_goes_on(self) -> None:
        """Where the stream has lost its end, only its next messages tell that nothing is left of a claim."""
        record = self._record()
        if self.stream.last_seq not in self.stream.messages or (record and record.end > self.stream.last_seq):
            self._publish(f"at-{self.now:.0f}")

    def _record(self) -> Record | None:
        entries = self.bucket.entries.items()
        records = [load(value) for key, (_, value) in entries if value and not key.startswith("feeds-")]
        return next((each for each in records if each.created == self.stream.created), None)

    def _not_done(self) -> Iterator[int]:
        record = self._record()
        return (seq for seq in self.held() if record is None or not record.is_done(seq))

    def _check(self) -> None:
        if self._crash:
            raise Crash("".join(traceback.format_exception(self._crash)))
        clickhouse = self.clickhouse
        # What tiering has copied and not dropped yet is one row.
        rows = list({id(row): row for row in clickhouse.rows() + clickhouse.cold}.values())
        # What was on its way when the stream was set back may share an identity with another message, where the record that
        # would have told of it is lost as well; audit says so.
        late = clickhouse.late if self.record_lost else set()
        ids = Counter((row.stream, row.seq, row.key if row.key in late else "") for row in rows)
        keys = Counter(row.key for row in rows)
        buried = Counter(self.stream.buried.values())
        held = self.held()
        self._demand("stored twice", [key for key, n in keys.items() if n > 1])
        self._demand("the same identity twice", [id for id, n in ids.items() if n > 1])
        self._demand("buried twice", [key for key, n in buried.items() if n > 1])
        if not self.at_rest():
            self._demand("it did not come to rest", [self._record(), list(self._not_done())])
        self._demand("neither stored nor buried", [(s, key) for s, key in held.items() if not keys[key] + buried[key]])
        self._demand("both stored and buried", [key for key in keys if buried[key]])
        self._demand("good and buried", [key for key in buried if key not in self.bad | clickhouse.poison])
        self._demand("told of a loss that was none", self.false_alarms)
        counts = self._counts()
        self._demand("a hot loop", [f"{n} {what}" for what, n in counts.items() if n > 100 + MOST[what] * self.now])
        if self.seed % 4 == 0:
            self._advance(self.now + 10)
            more = {what: n - counts[what] for what, n in self._counts().items()}
            more["writes"] = max(0, more["writes"] - 10 * self.replicas)  # owners are heard
            self._demand("no rest", [f"{n} {what}" for what, n in more.items() if n > 5])

    def _counts(self) -> dict[str, int]:
        clickhouse = self.clickhouse
        return {
            "inserts": clickhouse.inserts,
            "look-ups": clickhouse.look_ups,
            "writes": self.bucket.writes,
            "readers": self.stream.readers_made,
        }

    def _demand(self, what: str, found: list[Any]) -> None:
        if found:
            self.tell(f"VIOLATION: {what}: {found}")
            raise Violation(f"{what}: {found}")


class _Silent:
    """Takes whatever is told to a log or to metrics, and costs nothing."""

    refusal = None

    def __getattr__(self, _: str) -> _Silent:
        return self

    def __call__(self, *_: Any, **__: Any) -> None: ...


_SILENT: Any = _Silent()


class _Alarms(_Silent):
    def __init__(self, world: World) -> None:
        self._world = world

    def alarm(self, reason: Reason) -> None:
        if reason is reasons.MESSAGES_MISSED and self._world.stream.whole:
            self._world.false_alarms.append(f"{reason} at {self._world.now:.1f}")


class _Tell:
    def __init__(self, world: World) -> None:
        self._world = world

    def __call__(self, _logger: Any, _method: str, event: MutableMapping[str, Any]) -> Any:
        self._world.tell("    " + " ".join(f"{k}={v}" for k, v in event.items() if k not in ("hint", "data_type")))
        raise structlog.DropEvent
