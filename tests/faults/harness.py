"""Real processes to be hurt: nats-server, ClickHouse, ingest, and a feed that goes on meanwhile.

A test reads as a specification: start ingest and a feed, cause the fault, `world.prove()`. Everything is waited for by its
condition, with a generous deadline. How long it took is told beside the promise at the end of the run, and not judged: a
starved machine breaks a promise in seconds, and no guarantee.
"""

from __future__ import annotations

import asyncio
import base64
import ctypes
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from marketprism_api.load import load_pipeline
from marketprism_api.settings import effective
from marketprism_consumer.clickhouse import schema
from marketprism_consumer.clickhouse.servers import connected
from marketprism_consumer.clickhouse.shards import store_of, tiers_of
from marketprism_consumer.demo import proof
from marketprism_consumer.errors import StoreError
from marketprism_consumer.feed import arguments, regenerate
from marketprism_consumer.feed.publish import PublishAccount, publish
from marketprism_consumer.ingest.record import Record
from marketprism_consumer.jetstream.broker import NatsBroker
from marketprism_consumer.jetstream.client import PullClient, connect
from marketprism_consumer.jetstream.streams import ensure_streams
from marketprism_consumer.operations import lanes
from marketprism_consumer.operations.audit import AuditReport, audit
from marketprism_consumer.schema.ddl import Change
from marketprism_embedded import nats as embedded_nats
from tests.waiting import PATIENCE, free_port, wait_for

T = TypeVar("T")

MARKETPRISM = (sys.executable, "-m", "marketprism_consumer.cli")
TYPES = ("trade", "orderbook", "funding_rate", "lsr_top_position")
STREAMS = {"MARKET_DATA": ["trade.>", "funding_rate.>", "lsr_top_position.>"], "ORDERBOOK_SNAP": ["orderbook.>"]}
DEAD_LETTERS = "MARKETPRISM_DLQ"
VALID = 4
"""How long ClickHouse takes a block after it was cut, here [s]: what waits for the end of that need not wait a minute."""

_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None)

TIMES: list[str] = []


def tell(what: str, seconds: float, promised: float) -> None:
    """At the end of the run: how long something took."""
    test = os.environ["PYTEST_CURRENT_TEST"].rpartition("::")[2].removesuffix(" (call)")
    TIMES.append(f"{what} after {seconds:.1f} s, promised {promised:.0f} s: {test}")


# --- libraries that are preloaded -------------------------------------------------------------------------------------

NATIVE = Path(__file__).parent / "native"


def compiled(name: str, directory: Path) -> Path:
    """`native/<name>.c` as a shared library. Skips the test where nothing compiles it."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None or sys.platform != "linux":
        pytest.skip(f"NOT TESTED: {name}.c has to be preloaded, which needs Linux and a C compiler")
    library = directory / f"{name}.so"
    source = str(NATIVE / f"{name}.c")
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-pthread", "-o", str(library), source, "-ldl"], check=True)
    return library


# --- processes --------------------------------------------------------------------------------------------------------


class Child:
    """A process of ours: its signals, and what it wrote. It dies with the test run, whatever ends that."""

    def __init__(self, command: Sequence[str], environ: Mapping[str, str], place: Path) -> None:
        place.parent.mkdir(parents=True, exist_ok=True)
        self.out, self.err = place.with_suffix(".out"), place.with_suffix(".err")
        ours = {k: v for k, v in os.environ.items() if not k.startswith(("MARKETPRISM_", "NATS_", "CLICKHOUSE_"))}
        with self.out.open("w") as out, self.err.open("w") as err:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                env={**ours, **environ},
                preexec_fn=lambda: _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL),
            )

    @property
    def running(self) -> bool:
        return self.process.poll() is None

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def freeze(self) -> None:
        self.signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self.signal(signal.SIGCONT)

    @property
    def frozen(self) -> bool:
        return Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"

    def ended(self, seconds: float = PATIENCE) -> int:
        """Its exit code, waited for."""
        wait_for(lambda: not self.running, f"the end of {self.process.args}", seconds)
        return self.process.returncode

    def wrote(self) -> str:
        return self.err.read_text(errors="replace")


class Server:
    """An embedded server that can be killed and started again on its port and directory. `prefix`: a command to run it under."""

    def __init__(
        self, kind: str, directory: Path, *, port: int = 0, environ: Mapping[str, str] | None = None, prefix: str = ""
    ) -> None:
        self.kind, self.directory, self.port = kind, directory, port or free_port()
        self._environ, self._prefix = environ or {}, prefix
        self._starts = 0
        self.start()

    @property
    def url(self) -> str:
        return f"{'nats' if self.kind == 'nats' else 'http'}://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Returns when it answers."""
        self._starts += 1
        command = [*MARKETPRISM, "embedded", self.kind, "--output", "json", "--dir", str(self.directory)]
        command += ["--port", str(self.port)]
        if self._prefix:
            command = ["sh", "-c", f'{self._prefix} && exec "$@"', "sh", *command]
            command = ["unshare", "-m", *command]
        place = self.directory.parent / f"{self.directory.name}-{self._starts}"
        self.child = Child(command, self._environ, place)
        wait_for(lambda: self.child.out.read_text() or not self.child.running, f"{self.kind} to answer")
        assert self.child.running, self.child.wrote()

    def kill(self) -> None:
        """SIGKILL: a crash."""
        self.child.kill()

    def stop(self) -> None:
        self.child.signal(signal.SIGTERM)
        self.child.ended()


class NatsByHand(Server):
    """A nats-server with more in its configuration than the embedded one has."""

    def __init__(self, directory: Path, more: Callable[[], str]) -> None:
        directory.mkdir(parents=True)
        self._more = more
        super().__init__("nats", directory)

    def start(self) -> None:
        self._starts += 1
        config = self.directory / "by-hand.conf"
        config.write_text(f"{embedded_nats.config(self.directory, '127.0.0.1', self.port)}\n{self._more()}\n")
        place = self.directory.parent / f"{self.directory.name}-{self._starts}"
        self.child = Child([embedded_nats.binary(), "-c", str(config)], {}, place)
        wait_for(lambda: _answers(self.port), "nats-server")


def _answers(port: int) -> bool:
    with socket.create_connection(("127.0.0.1", port), PATIENCE):
        return True


class Cluster(Server):
    """Three nats-servers that keep each stream three times."""

    def __init__(self, directory: Path) -> None:
        self.kind, self.directory = "nats", directory
        self._routes = [free_port() for _ in range(3)]
        self._monitors = [free_port() for _ in range(3)]
        self.nodes = {f"n{n}": NatsByHand(directory / f"n{n}", partial(self._config, n)) for n in range(3)}
        self.start()

    def _config(self, number: int) -> str:
        routes = ", ".join(f'"nats://127.0.0.1:{port}"' for port in self._routes)
        return (
            f"server_name: n{number}\nhttp: 127.0.0.1:{self._monitors[number]}\n"
            'lame_duck_duration: "30s"\nlame_duck_grace_period: "1s"\n'
            f"cluster {{ name: three, listen: 127.0.0.1:{self._routes[number]}, routes: [{routes}] }}"
        )

    @property
    def url(self) -> str:
        return ",".join(node.url for node in self.nodes.values())

    @property
    def child(self) -> Child:  # type: ignore[override]
        return next(iter(self.nodes.values())).child

    def start(self) -> None:
        """Those that do not run."""
        for node in self.nodes.values():
            if not node.child.running:
                node.start()
        wait_for(self._leader, "the cluster has a leader")

    def _leader(self) -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{self._monitors[0]}/jsz", timeout=PATIENCE) as answer:
            return str(json.loads(answer.read()).get("meta_cluster", {}).get("leader", ""))

    def of(self, client: str) -> str:
        """The node that a connection of this name is to; empty where there is none."""
        for (name, node), monitor in zip(self.nodes.items(), self._monitors, strict=True):
            if not node.child.running:
                continue
            with suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{monitor}/connz", timeout=5) as answer:
                if any(one.get("name") == client for one in json.loads(answer.read())["connections"]):
                    return name
        return ""

    def kill(self) -> None:
        for node in self.nodes.values():
            node.kill()


class Ingest(Child):
    """`marketprism ingest`, seen through its port and its log."""

    def __init__(self, file: Path, environ: Mapping[str, str], place: Path, options: Sequence[str] = ()) -> None:
        self.port = free_port()
        self.file = file
        self.began = time.monotonic()
        super().__init__([*MARKETPRISM, "ingest", "-f", str(file), "--port", str(self.port), *options], environ, place)

    def get(self, path: str) -> tuple[int, str]:
        """(status, body); (0, "") while nothing answers."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=PATIENCE) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()
        except OSError:
            return 0, ""

    @property
    def ready(self) -> bool:
        return self.get("/readyz")[0] == 200

    @property
    def alive(self) -> bool:
        return self.get("/healthz")[0] == 200

    def until_ready(self, seconds: float = PATIENCE) -> float:
        """Seconds since its start."""
        wait_for(
            lambda: self.ready or not self.running,
            lambda: f"ready; it says {self.get('/readyz')}\n{self.wrote()[-3000:]}",
            seconds,
        )
        assert self.running, f"ingest ended with {self.process.returncode}:\n{self.wrote()}"
        return time.monotonic() - self.began

    def status(self, data_type: str) -> dict[str, Any]:
        return dict(json.loads(self.get("/status.json")[1] or "{}").get("dataTypes", {}).get(data_type, {}))

    def inserted(self, *data_types: str) -> int:
        return sum(self.status(name).get("inserted", 0) for name in data_types or TYPES)

    def metric(self, name: str, **labels: str) -> float:
        """The sum over all samples that have these labels."""
        return sum(
            sample.value
            for family in text_string_to_metric_families(self.get("/metrics")[1])
            for sample in family.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        )

    def alarms(self, reason: str) -> float:
        return self.metric("marketprism_alarms_total", reason=reason)

    def log(self, **fields: Any) -> list[dict[str, Any]]:
        """The log's lines that have these fields."""
        return [line for line in _lines(self.wrote()) if fields.items() <= line.items()]

    def until_alarm(self, reason: str, seconds: float = PATIENCE) -> dict[str, Any]:
        """The alarm as metric and as log line, with its code and what to do."""
        wait_for(lambda: self.alarms(reason), lambda: f"the alarm {reason}\n{self.wrote()[-2000:]}", seconds)
        return self.until_logged(reason)

    def until_logged(self, reason: str, seconds: float = PATIENCE) -> dict[str, Any]:
        """The log line with this reason: it has a code and says what to do."""
        found = wait_for(lambda: self.log(reason=reason), lambda: f"the line {reason}\n{self.wrote()[-2000:]}", seconds)
        line = found[-1]
        assert line["code"]
        assert line["hint"]
        return line

    def until_more(self, rows: int = 1, *data_types: str, seconds: float = PATIENCE) -> float:
        """Seconds until so many more rows are stored."""
        began, before = time.monotonic(), self.inserted(*data_types)
        wait_for(lambda: self.inserted(*data_types) >= before + rows, f"{rows} more rows stored", seconds)
        return time.monotonic() - began

    def unexpected(self) -> list[str]:
        """Lines that no fault excuses: tracebacks, errors, what is not a log line at all."""
        found = []
        for text in self.wrote().splitlines():
            line = next(_lines(text), None)
            if line is None or line.get("level") in ("error", "critical") or "exception" in line:
                found.append(text)
        return found


def _lines(text: str) -> Iterator[dict[str, Any]]:
    for line in text.splitlines():
        with suppress(ValueError):
            if isinstance(found := json.loads(line), dict):
                yield found


# --- the feed ---------------------------------------------------------------------------------------------------------


class Loop:
    """An event loop in a thread: the feed and the proxy go on while a test waits."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self._thread.start()

    def start(self, work: Coroutine[Any, Any, T]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self.loop)

    def call(self, work: Coroutine[Any, Any, T], seconds: float = 2 * PATIENCE) -> T:
        return self.start(work).result(seconds)  # type: ignore[no-any-return]

    def close(self) -> None:
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(10)


class Feed:
    """Publishes until `stop`, and keeps account of what JetStream acknowledged."""

    def __init__(
        self, loop: Loop, url: str, manifest: Path, rate: float, bad: float, types: Sequence[str], seed: int
    ) -> None:
        self.manifest = manifest
        self.arguments = arguments(seed, types=types, bad_ratio=bad, start=datetime.now(UTC), rate=rate, book_levels=5)
        self.acknowledged = 0
        self.account: PublishAccount | None = None
        self._loop, self._url, self._rate = loop, url, rate
        self._stop = asyncio.Event()
        self._running = loop.start(self._run())

    async def _run(self) -> PublishAccount:
        client = await connect(self._url, wait=PATIENCE)
        try:
            return await publish(
                client,
                regenerate(self.arguments),
                rate=self._rate,
                manifest=self.manifest,
                stop=self._stop,
                arguments=self.arguments,
                on_progress=self._progress,
            )
        finally:
            await client.close()

    def _progress(self, account: PublishAccount) -> None:
        self.acknowledged = account.acknowledged

    def until(self, acknowledged: int) -> Feed:
        wait_for(lambda: self.acknowledged >= acknowledged, f"{acknowledged} messages published")
        return self

    def stop(self) -> PublishAccount:
        if self.account is None:
            self._loop.loop.call_soon_threadsafe(self._stop.set)
            self.account = self._running.result(2 * PATIENCE)
        assert self.account is not None
        return self.account

    def trades(self) -> dict[int, str]:
        """Stops it. Sequence and id of each good trade that JetStream acknowledged."""
        account = self.stop()
        where = proof.places(self.manifest)
        sent = islice(regenerate(self.arguments), account.sent)
        return {where[m.index][1]: str(m.truth["trade_id"]) for m in sent if m.truth is not None and m.index in where}


# --- everything together ----------------------------------------------------------------------------------------------


class World:
    """A pipeline of its own on these servers. `spec` is laid over the pipeline's; the streams are made, the schema applied."""

    def __init__(
        self,
        nats: Server,
        clickhouse: Server,
        directory: Path,
        loop: Loop,
        *,
        clickhouse_url: str = "",
        spec: Mapping[str, Any] | None = None,
    ) -> None:
        self.nats, self.clickhouse, self.directory, self.loop = nats, clickhouse, directory, loop
        self.ingests: list[Ingest] = []
        self.feeds: list[Feed] = []
        self._feed_seed = 0
        self.name = name = uuid.uuid4().hex[:8]
        self.spec: dict[str, Any] = {
            "nats": {"url": nats.url, "streams": {"default": "MARKET_DATA", "orderbook": "ORDERBOOK_SNAP"}},
            "clickhouse": {
                "url": clickhouse_url or clickhouse.url,
                "hotDatabase": f"hot_{name}",
                "coldDatabase": f"cold_{name}",
            },
            "dataTypes": {one: {"batch": {"maxRows": 300, "maxDelay": "200ms"}} for one in TYPES},
        }  # fmt: skip
        for section, values in (spec or {}).items():
            self.spec[section] = {**self.spec.get(section, {}), **values}
        self.file = self.write_file("pipeline")
        self.settings = effective(load_pipeline(self.file), {"CLICKHOUSE_HTTP_URL": clickhouse.url})
        self.hot = self.settings.hot_db
        clickhouse = connected(
            self.settings.clickhouse_urls, cluster=self.settings.cluster, sharded=self.settings.sharded
        )
        self.store = store_of(clickhouse, self.hot)
        self.client: PullClient = self.call(connect(nats.url, wait=PATIENCE))
        self.broker = NatsBroker(self.client)

    def call(self, work: Coroutine[Any, Any, T]) -> T:
        return self.loop.call(work)

    def write_file(self, name: str, **changed: Any) -> Path:
        """A pipeline file like the world's own, with whole sections changed."""
        file = self.directory / f"{name}.yaml"
        kind = {"apiVersion": "storage.marketprism.io/v1alpha1", "kind": "StoragePipeline"}
        file.write_text(
            yaml.safe_dump(kind | {"metadata": {"name": f"test-{self.name}"}, "spec": {**self.spec, **changed}})
        )
        return file

    # --- what there is to begin with ---

    def clean(self) -> None:
        """No streams and no records, as on a new server."""
        for name in self.call(self.broker.streams_of(">")):
            self.api(f"STREAM.DELETE.{name}")

    def make_streams(self, *, replicas: int = 1, **limits: Any) -> None:
        """`limits` of MARKET_DATA."""
        self.call(ensure_streams(self.client.jetstream(), STREAMS))
        if replicas > 1:
            for name in STREAMS:
                self.api(
                    f"STREAM.UPDATE.{name}", self.api(f"STREAM.INFO.{name}")["config"] | {"num_replicas": replicas}
                )
                self.until_whole(name)
        if limits:
            config = self.api("STREAM.INFO.MARKET_DATA")["config"]
            self.api("STREAM.UPDATE.MARKET_DATA", {**config, **limits})

    def until_whole(self, stream: str) -> None:
        """Each of its replicas has all of it."""
        wait_for(
            lambda: all(
                one["current"]
                for one in self.api(f"STREAM.INFO.{stream}")["cluster"].get("replicas", [{"current": False}])
            ),
            f"{stream} is whole",
        )

    def make_tables(self) -> None:
        """As `marketprism schema apply` does: with the first records of the lanes whose streams are there."""
        done: list[Change] = []
        self.call(schema.apply(self.store.clickhouse, self.settings, done.append))
        made = [change.makes for change in done if change.makes]
        tiers = tiers_of(self.settings, self.store.clickhouse, self.store.clickhouse)
        self.call(lanes.begin(self.settings, self.broker, tiers, made))

    # --- actors ---

    def ingest(
        self,
        fault: str = "",
        *,
        file: Path | None = None,
        environ: Mapping[str, str] | None = None,
        options: Sequence[str] = (),
    ) -> Ingest:
        """`fault`: where MARKETPRISM_FAULTPOINT kills or stops it. Who is started after another was killed has its name."""
        place = self.directory / f"ingest-{len(self.ingests) + 1}"
        variables = {"MARKETPRISM_TEST_VALID": str(VALID), "TMPDIR": str(self.directory), **(environ or {})}
        if fault:
            variables["MARKETPRISM_FAULTPOINT"] = fault
        one = Ingest(file or self.file, variables, place, options)
        self.ingests.append(one)
        return one

    def several(self, count: int, **options: Any) -> list[Ingest]:
        """Ready. The first has every tail; the others stand by, or take stretches where there is a backlog."""
        first = self.ingest(**options)
        first.until_ready()
        wait_for(lambda: all(first.status(name).get("reads") for name in TYPES), "the first reads all tails")
        others = [self.ingest(**options) for _ in range(count - 1)]
        for one in others:
            one.until_ready()
        return [first, *others]

    def feed(self, rate: float = 400, bad: float = 0.02, types: Sequence[str] = TYPES) -> Feed:
        self._feed_seed += 1
        place = self.directory / f"sent-{self._feed_seed}.ndjson"
        one = Feed(self.loop, self.nats.url, place, rate, bad, types, self._feed_seed)
        self.feeds.append(one)
        return one

    # --- questions ---

    @property
    def client_name(self) -> str:
        """Of the connections of its ingest."""
        return f"marketprism test-{self.name}"

    def api(self, subject: str, request: Mapping[str, Any] | None = None) -> dict[str, Any]:
        return self.call(self.broker.api(subject, request))

    def stream(self, name: str) -> dict[str, Any]:
        return dict(self.api(f"STREAM.INFO.{name}")["state"])

    def all_lanes(self) -> dict[str, lanes.FoundLane]:
        """Each data type's lane, with its record as it is now."""
        return {str(each): self.lane(each) for each in self.settings.data_types}

    def lane(self, data_type: str) -> lanes.FoundLane:
        return self.call(lanes.find(self.settings, self.broker, self.store, data_type))

    def record(self, data_type: str) -> Record:
        found = self.lane(data_type).record
        assert found, f"{data_type} has no record"
        return found

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        """`{hot}` in it is the hot database."""
        return self.call(self.store.clickhouse.query(sql.replace("{hot}", self.hot)))

    def change(self, sql: str) -> None:
        self.call(self.store.clickhouse.command(sql.replace("{hot}", self.hot)))

    def rows(self, table: str) -> int:
        return int(self.query(f"SELECT count() FROM {{hot}}.{table}")[0][0])

    def stored(self) -> int:
        """Rows of all tables, whoever has inserted them."""
        return sum(self.rows(one.table) for one in self.settings.data_types.values())

    def until_more(self, rows: int = 300) -> float:
        """Seconds until so many more rows are stored."""
        began, before = time.monotonic(), wait_for(lambda: (self.stored(),), "an answer of ClickHouse's")[0]
        wait_for(lambda: self.stored() >= before + rows, f"{rows} more rows stored")
        return time.monotonic() - began

    def doubles(self) -> int:
        """Rows beyond the first of a message, over all tables and streams."""
        tables = [one.table for one in self.settings.data_types.values()]
        counted = [
            self.query(f"SELECT count() - uniqExact(_stream, _seq) FROM {{hot}}.{table}")[0][0] for table in tables
        ]
        return sum(counted)

    def dead_letters(self) -> int:
        return int(self.stream(DEAD_LETTERS)["messages"])

    def dead_letter_headers(self, stream: str, seq: int) -> dict[str, str]:
        """Of the dead letter of this message; raises BrokerError while there is none."""
        subject = f"marketprism.dlq.{DEAD_LETTERS}.*.{stream}.*.{seq}.*"
        found = self.api(f"STREAM.MSG.GET.{DEAD_LETTERS}", {"seq": 1, "next_by_subj": subject})["message"]
        lines = base64.b64decode(found["hdrs"]).decode().splitlines()
        return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}

    def send(self, subject: str, body: Mapping[str, Any] | bytes) -> int:
        """One message by hand; its sequence."""
        payload = body if isinstance(body, bytes) else json.dumps(body).encode()
        return int(self.call(self.client.jetstream().publish(subject, payload)).seq)

    def all_done(self) -> bool:
        """The records say that all that the streams hold is stored or buried, and nobody has anything in hand."""
        return all(self._is_done(lane) for lane in self.all_lanes().values())

    def _is_done(self, lane: lanes.FoundLane) -> bool:
        if lane.record is None or any(claim.end is not None or claim.cut for claim in lane.record.claims):
            return False
        waits = self.call(lanes.backlog(self.broker, lane))
        return not waits.lag and not waits.set_aside

    def what_waits(self) -> str:
        return "; ".join(f"{name}: {lane.record}" for name, lane in self.all_lanes().items() if not self._is_done(lane))

    # --- the end of every test ---

    def prove(self, *, feeds: bool = True, within: float = 120) -> AuditReport:
        """Everything that the streams hold is one row or one dead letter, with every value as it was published.

        `feeds` False: where the fault made the streams forget what a feed was told is stored.

        `within`: seconds until all is recorded as done.
        """
        accounts = [feed.stop() for feed in self.feeds]
        wait_for(self.all_done, lambda: f"all is recorded as done; {self.what_waits()}", within)
        report = self.call(
            audit(self.settings, self.store, self.client, data_types=self.settings.data_types, deep=True)
        )
        assert report.holds or not feeds, [one.findings for one in report.types]
        for one in report.types:
            assert not one.findings, one.findings
            assert one.pending == 0
            assert one.held == one.rows + one.dead_letters
        assert self.doubles() == 0
        if feeds:
            for feed, account in zip(self.feeds, accounts, strict=True):
                proven = self.call(self._truth(feed))
                assert proven.holds, proven
                assert proven.examples == []
                assert proven.acknowledged == account.stored > 0
        return report

    async def _truth(self, feed: Feed) -> proof.DemoProof:
        places = proof.places(feed.manifest)
        assert feed.account is not None
        count = feed.account.sent
        messages = (message for message, _ in zip(regenerate(feed.arguments), range(count), strict=False))
        return await proof.prove(messages, places, self.store, self.broker, DEAD_LETTERS)

    def close(self) -> list[str]:
        """Ends what the test started. Returns what the logs have that no fault excuses."""
        for one in self.ingests:
            if one.running:
                one.kill()
        for feed in self.feeds:
            with suppress(Exception):
                feed.stop()
        for database in (self.hot, self.settings.cold_db):
            with suppress(StoreError):
                self.change(f"DROP DATABASE IF EXISTS {database}")
        with suppress(Exception):
            self.call(self.store.clickhouse.close())
            self.call(self.client.close())
        return [f"{one.err.name}: {line[:1500]}" for one in self.ingests for line in one.unexpected()]
