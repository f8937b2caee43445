"""One demo from the first message to the proof; `view.py` shows its progress."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any

import aiohttp

from marketprism_api.settings import Settings
from marketprism_consumer.camel import camel
from marketprism_consumer.clickhouse import schema
from marketprism_consumer.clickhouse.client import ClickHouse
from marketprism_consumer.clickhouse.shards import tiers_of
from marketprism_consumer.clickhouse.store import ClickHouseStore
from marketprism_consumer.demo.proof import DemoProof, dead_letters, places, prove
from marketprism_consumer.feed import arguments, regenerate
from marketprism_consumer.feed.publish import PublishAccount, publish
from marketprism_consumer.jetstream.broker import NatsBroker
from marketprism_consumer.jetstream.client import PullClient, connect
from marketprism_consumer.jetstream.streams import ensure_streams, subjects_by_stream
from marketprism_consumer.operations import lanes
from marketprism_consumer.schema.ddl import Change
from marketprism_consumer.schema.tables import TABLES

PIPELINE = """
apiVersion: storage.marketprism.io/v1alpha1
kind: StoragePipeline
metadata: {name: demo}
spec:
  dataTypes:
    trade: {batch: {maxDelay: 1s}}
    orderbook: {batch: {maxDelay: 1s}}
    funding_rate: {batch: {maxDelay: 1s}}
    open_interest: {batch: {maxDelay: 1s}}
    liquidation: {batch: {maxDelay: 1s}}
    lsr_top_position: {}
    lsr_all_account: {}
    volatility_index: {}
"""
BAD = 0.0005  # of the messages can't become a row: something for the dead letters
CATCH_UP = 120.0  # how long the consumer may take to store the last messages: longer than a block is in doubt [s]


@dataclass(frozen=True, slots=True)
class DemoOptions:
    """What the user asked for. `rate` in messages per second."""

    seconds: float
    rate: float
    seed: int
    chaos: bool


@dataclass(frozen=True, slots=True)
class TableSummary:
    """Times in µs since 1970."""

    table: str
    rows: int
    first: int
    last: int


@dataclass(slots=True)
class DemoProgress:
    """What the view shows."""

    account: PublishAccount = field(default_factory=PublishAccount)
    stored: Counter[str] = field(default_factory=Counter)
    dead: Counter[str] = field(default_factory=Counter)
    consumer: dict[str, dict[str, Any]] = field(default_factory=dict)
    events: list[str] = field(default_factory=list)


class Recording:
    """Connects at `async with`; `run` publishes, kills and waits; `prove` compares; `refresh` brings `progress` up to date."""

    def __init__(self, options: DemoOptions, settings: Settings, environ: Mapping[str, str], place: Path) -> None:
        self.options, self.settings, self.place = options, settings, place
        self.progress = DemoProgress()
        self.store = ClickHouseStore(ClickHouse(settings.clickhouse_urls), settings.hot_db)
        self._environ = environ
        self._client: PullClient
        self._broker: NatsBroker
        self._consumer: Consumer
        self._http: aiohttp.ClientSession
        self._started = time.monotonic()
        # The start is part of what makes the messages: with it, the same ones can be made again for the proof.
        self._feed = arguments(options.seed, bad_ratio=BAD, start=datetime.now(UTC), rate=options.rate)

    async def __aenter__(self) -> Recording:
        self._client = await connect(self.settings.nats_url, wait=10)
        self._broker = NatsBroker(self._client)
        self._http = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=1))
        done: list[Change] = []
        await schema.apply(self.store.clickhouse, self.settings, done.append)
        types = list(self.settings.data_types)
        await ensure_streams(self._client.jetstream(), subjects_by_stream({"default": self._stream}, types))
        made = [change.makes for change in done if change.makes]
        tiers = tiers_of(self.settings, self.store.clickhouse, self.store.clickhouse)
        await lanes.begin(self.settings, self._broker, tiers, made)
        self._consumer = self._start_consumer()
        return self

    async def __aexit__(self, *_: object) -> None:
        self._consumer.kill()
        await self._http.close()
        await self._client.close()
        await self.store.clickhouse.close()

    @property
    def elapsed(self) -> float:
        return time.monotonic() - self._started

    def _published(self, account: PublishAccount) -> None:
        self.progress.account = account

    async def run(self) -> None:
        feeding = asyncio.create_task(
            publish(
                self._client,
                islice(regenerate(self._feed), int(self.options.seconds * self.options.rate)),
                rate=self.options.rate,
                streams={"default": self._stream},
                manifest=self._manifest,
                on_progress=self._published,
                arguments=self._feed,
            )
        )
        if self.options.chaos:
            await asyncio.sleep(self.options.seconds / 2)
            await self._kill_consumer()
        self.progress.account = await feeding
        self._tell(
            f"{self.progress.account.acknowledged:,} messages acknowledged by JetStream; the consumer catches up"
        )
        await self._caught_up()
        self._consumer.stop()

    async def prove(self) -> DemoProof:
        published = islice(regenerate(self._feed), self.progress.account.sent)
        return await prove(published, places(self._manifest), self.store, self._broker, self._dlq)

    async def tables(self) -> list[TableSummary]:
        micros = "toUnixTimestamp64Micro"
        return [
            TableSummary(table.name, *rows[0])
            for table in TABLES
            if (
                rows := await self.store.clickhouse.query(
                    f"SELECT count(), {micros}(min(timestamp)), {micros}(max(timestamp)) FROM {self.store.table(table)}"
                )
            )
        ]

    async def refresh(self) -> None:
        """Rows and dead letters are counted where they are stored: a killed consumer's own count dies with it."""
        counts = " UNION ALL ".join(
            f"SELECT '{table.data_type}', count() FROM {self.store.table(table)}" for table in TABLES
        )
        self.progress.stored = Counter(dict(row[:2] for row in await self.store.clickhouse.query(counts)))
        self.progress.dead = Counter()
        for (_, data_type, _), count in (await dead_letters(self._broker, self._dlq)).items():
            self.progress.dead[data_type] += count
        self.progress.consumer = (await self._consumer.status(self._http)).get("dataTypes", {})

    @property
    def _stream(self) -> str:
        return self.settings.streams[0]

    @property
    def _dlq(self) -> str:
        return self.settings.dead_letters.stream

    @property
    def _manifest(self) -> Path:
        return self.place / "manifest.ndjson"

    def _tell(self, text: str) -> None:
        self.progress.events.append(f"{self.elapsed:5.1f} s  {text}")

    def _start_consumer(self) -> Consumer:
        return Consumer(self.place / "pipeline.yaml", self._environ, self.place / "ingest.log")

    async def _kill_consumer(self) -> None:
        self._tell(f"kill -9 of the consumer, process {self._consumer.process.pid}")
        self._consumer.kill()
        at = time.monotonic()
        self._consumer = self._start_consumer()
        while not (await self._consumer.status(self._http)).get("ready"):
            await asyncio.sleep(0.05)
        self._tell(
            f"started again, ready after {time.monotonic() - at:.1f} s; the block that it was at is sent again as it was"
        )

    async def _caught_up(self) -> None:
        """Wait until the records say that all is done, of every data type. Raises TimeoutError."""
        async with asyncio.timeout(CATCH_UP):
            while any([await self._behind(data_type) for data_type in self.settings.data_types]):
                await asyncio.sleep(0.1)

    async def _behind(self, data_type: str) -> bool:
        for lane in await lanes.find_all(self.settings, self._broker, self.store, data_type):
            waits = await lanes.backlog(self._broker, lane) if lane.record else None
            if waits is None or waits.lag or waits.set_aside:
                return True
        return False


class Consumer:
    """`marketprism ingest` as a child process; its log goes to a file."""

    def __init__(self, file: Path, environ: Mapping[str, str], log: Path) -> None:
        self._url = f"http://127.0.0.1:{(port := free_port())}/status.json"
        command = [sys.executable, "-m", "marketprism_consumer.cli", "ingest", "-f", str(file), "--port", str(port)]
        with log.open("ab") as out:
            self.process = subprocess.Popen(command, env=environ, stdout=out, stderr=out)

    async def status(self, http: aiohttp.ClientSession) -> dict[str, Any]:
        """Empty while it does not answer."""
        with contextlib.suppress(aiohttp.ClientError, TimeoutError, OSError):
            async with http.get(self._url) as answer:
                found: dict[str, Any] = await answer.json()
                return found
        return {}

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(30)

    def kill(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def as_dict(recording: Recording, proof: DemoProof, tables: list[TableSummary]) -> dict[str, Any]:
    return {
        "holds": proof.holds,
        "proof": camel(proof),
        "tables": camel(tables),
        "events": recording.progress.events,
        "feed": recording.progress.account.as_dict(),
        "nats": recording.settings.nats_url,
        "clickhouse": recording.settings.clickhouse_urls[0],
    }
