"""One process's share of a pipeline: an Ingest for each of its data types, over one NATS connection and one ClickHouse."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any

import structlog
from nats.errors import Error as NatsError
from prometheus_client import CollectorRegistry
from pydantic.alias_generators import to_camel

from marketprism_api import reasons
from marketprism_api.credentials import clickhouse_auth, nats_auth
from marketprism_api.data_types import DataType
from marketprism_api.settings import DataTypeSettings, Settings
from marketprism_consumer import logs
from marketprism_consumer.backoff import Backoff
from marketprism_consumer.clickhouse import schema
from marketprism_consumer.clickhouse.client import ClickHouse
from marketprism_consumer.clickhouse.store import ClickHouseStore
from marketprism_consumer.errors import BrokerError, StoreError, StreamError
from marketprism_consumer.ingest import levels
from marketprism_consumer.ingest.batch import BatchBounds
from marketprism_consumer.ingest.flood import Flood
from marketprism_consumer.ingest.ingest import Ingest, LaneSource
from marketprism_consumer.ingest.metrics import IngestAccount, IngestMetrics
from marketprism_consumer.ingest.owner import Owner
from marketprism_consumer.jetstream.broker import NatsBroker, NatsGraveyard
from marketprism_consumer.jetstream.client import PullClient, connect
from marketprism_consumer.jetstream.records import NatsRecords
from marketprism_consumer.jetstream.streams import create_missing
from marketprism_consumer.schema.tables import BY_DATA_TYPE
from marketprism_consumer.tiering.job import cold_auth

log = structlog.get_logger()

GRACE = 20.0  # from SIGTERM to the last write; a Pod is given 30 [s]
SUMMARY_EVERY = 60.0  # [s]


class Worker:
    """`run` until `stop`, or until nothing has been pending for `until_idle` seconds."""

    def __init__(
        self, settings: Settings, data_types: Sequence[DataType], environ: Mapping[str, str] = os.environ
    ) -> None:
        self.settings = settings
        self.registry = CollectorRegistry()
        self.ingests: dict[str, Ingest] = {}
        self.data_types = data_types
        self._environ = environ
        self._metrics = IngestMetrics(self.registry)
        self._client = PullClient()
        self._broker = NatsBroker(self._client)
        self._clickhouse = ClickHouse(
            settings.clickhouse_urls, lambda: clickhouse_auth(environ), cluster=settings.cluster
        )
        self._cold = ClickHouse(settings.cold_urls, cold_auth) if settings.cold_urls else self._clickhouse
        self._tiers = (
            ClickHouseStore(self._clickhouse, settings.hot_db),
            ClickHouseStore(self._cold, settings.cold_db),
        )
        self._records = NatsRecords(self._client, settings.bucket)
        self._owner = Owner(settings.pipeline_name)
        self._stopping = asyncio.Event()
        self._waits_for = "the JetStream streams"
        self._replicas = 1  # of what we make

    # --- from outside -------------------------------------------------------------------------------------------------

    def stop(self) -> None:
        """The first call drains; a second one gives up what is not stored yet: it is in the stream."""
        grace = 0.0 if self._stopping.is_set() else GRACE
        self._stopping.set()
        for ingest in self.ingests.values():
            ingest.stop(grace)

    def not_ready(self) -> dict[str, str]:
        """What is not as it should be, by data type; empty where all is well."""
        if not self._client.is_connected:
            return {"worker": f"not connected to NATS: {self._client.trouble or 'connecting'}"}
        if not self.ingests:
            return {"worker": f"waits for {self._waits_for}"}
        return {name: why for name, ingest in self.ingests.items() if (why := ingest.not_ready())}

    def status(self) -> dict[str, Any]:
        """The numbers that a view wants, by data type."""
        return {
            name: {
                **{to_camel(name): total for name, total in ingest.account.totals.items()},
                "state": ingest.state.name,
                "lag": ingest.backlog,
                "lagSeconds": round(ingest.late, 1),
                "inHand": ingest.in_hand,
                "setAside": ingest.set_aside,
                "reads": ingest.reads,
                "lastInsertTime": ingest.account.last_insert_time,
                "lastInsertRows": ingest.account.last_insert_rows,
                "lastInsertSeconds": round(ingest.account.last_insert_seconds, 4),
            }
            for name, ingest in self.ingests.items()
        }

    async def run(self, *, until_idle: float | None = None) -> None:
        if levels.kernel is None and DataType.ORDERBOOK in self.data_types:
            log.info("order books are decoded in Python: the kernel for their levels was not compiled")
        try:
            if not await self._unless_stopped(self._start()):
                return
            runs = [asyncio.create_task(ingest.run(), name=name) for name, ingest in self.ingests.items()]
            helpers = [asyncio.create_task(self._summaries())]
            if until_idle is not None:
                helpers.append(asyncio.create_task(self._stop_when_idle(until_idle)))
            try:
                await _all_or_first_failure(runs)
            finally:
                for task in helpers:
                    task.cancel()
        finally:
            await self._close()

    # --- start --------------------------------------------------------------------------------------------------------

    async def _start(self) -> None:
        auth = nats_auth(self._environ)
        await connect(
            self.settings.nats_url,
            auth,
            name=f"marketprism {self.settings.pipeline_name}",
            reconnected=lambda: self._tell_all(Ingest.reconnected),
            disconnected=lambda: self._tell_all(Ingest.disconnected),
            client=self._client,
        )
        streams = await self._find_streams()
        self._waits_for = "the schema"
        await self._schema()
        self._waits_for = "the bucket of records"
        await self._bucket(streams.values())
        for data_type in self.data_types:
            type_settings = self.settings.data_types[data_type]
            self.ingests[str(data_type)] = self._ingest(str(data_type), type_settings, streams[str(data_type)])

    async def _find_streams(self) -> dict[str, str]:
        """The stream of each of our data types, waited for; the whole pipeline's are created where it says so."""
        backoff = Backoff()
        while True:
            try:
                subjects = {str(t): self.settings.data_types[t].subject for t in self.data_types}
                found = {name: await self._broker.streams_of(subject) for name, subject in subjects.items()}
                missing = [f"{subjects[name]} ({name})" for name, streams in found.items() if not streams]
                if not missing:
                    return {name: self._choose(name, streams) for name, streams in found.items()}
                if self.settings.ensure_streams == "IfMissing":
                    created = await create_missing(self._client.jetstream(), self._broker, self.settings)
                    log.info("streams created", streams=created)
                    continue
                reason, detail = reasons.STREAM_MISSING, "no stream holds " + ", ".join(missing)
            except BrokerError as error:
                reason, detail = error.reason, error.detail
            except (StreamError, NatsError) as error:
                reason, detail = reasons.STREAM_MISSING, str(error)
            wait = backoff.next()
            self._waits_for = f"{reason}: {detail}"
            logs.reason(log, "warning", reason, detail=detail, next_try_in=round(wait, 1))
            await asyncio.sleep(wait)

    def _choose(self, name: str, streams: Sequence[str]) -> str:
        """Where the collector's side put a type elsewhere than the pipeline says, it is read from where it is."""
        named = self.settings.data_types[DataType(name)].stream
        if named in streams:
            return named
        log.warning(
            "the subject is held by another stream than the pipeline names",
            data_type=name,
            named=named,
            used=streams[0],
        )
        return streams[0]

    async def _schema(self) -> None:
        """Wait until the tables fit: a schema Job may still be at it. Nothing is pulled before."""
        if self.settings.schema_mode == "Ignore":
            return
        backoff = Backoff()
        while True:
            try:
                plan = await schema.current_plan(self._clickhouse, self.settings)
                problems = [change.why for change in plan.changes if not change.convenience]
                problems += [f"{d.where}: {d.what}" for d in plan.differences if d.blocking]
                if not problems:
                    return
                missing = any("does not exist" in problem for problem in problems)
                reason = reasons.SCHEMA_MISSING if missing else reasons.SCHEMA_DRIFT
                shown = problems[:3] + ([f"and {len(problems) - 3} more"] if len(problems) > 3 else [])
            except StoreError as refused:
                reason = reasons.CLICKHOUSE_UNREACHABLE if refused.code == 0 else reasons.CLICKHOUSE_DENIED
                shown = [str(refused)]
            self._waits_for = f"{reason}: {'; '.join(shown)}"
            wait = backoff.next()
            logs.reason(log, "warning", reason, problems=shown, next_try_in=round(wait, 1))
            await asyncio.sleep(wait)

    async def _bucket(self, streams: Iterable[str]) -> None:
        """Wait until the bucket is there; made with as many replicas as the streams that it records."""
        backoff = Backoff()
        while True:
            try:
                self._replicas = max([await self._broker.replicas(stream) for stream in set(streams)])
                await self._records.ensure(self._replicas)
                return
            except BrokerError as refused:
                wait = backoff.next()
                self._waits_for = f"{refused.reason}: {refused.detail}"
                logs.reason(log, "warning", refused.reason, detail=refused.detail, next_try_in=round(wait, 1))
                await asyncio.sleep(wait)

    def _ingest(self, name: str, chosen: DataTypeSettings, stream: str) -> Ingest:
        letters = self.settings.dead_letters
        return Ingest(
            LaneSource(stream, chosen.subject),
            BY_DATA_TYPE[name],
            self._broker,
            self._records,
            self._tiers,
            NatsGraveyard(self._broker, letters.stream, letters.max_age or 0, self._replicas),
            BatchBounds(
                chosen.batch.max_rows, chosen.batch.max_delay, chosen.batch.max_pending, chosen.batch.max_bytes
            ),
            Flood(letters.max_ratio, letters.min_messages, letters.window),
            IngestAccount(self._metrics, name),
            self._owner.name,
        )

    # --- while it runs ------------------------------------------------------------------------------------------------

    def _tell_all(self, news: Callable[[Ingest], None]) -> None:
        for ingest in self.ingests.values():
            news(ingest)

    async def _stop_when_idle(self, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        since = loop.time()
        while loop.time() - since < seconds:
            await asyncio.sleep(min(0.2, seconds / 5))
            if not await self._idle():
                since = loop.time()
        log.info("nothing is pending", seconds=seconds)
        self.stop()

    async def _idle(self) -> bool:
        if not all(ingest.idle for ingest in self.ingests.values()):
            return False
        try:
            return not any([await ingest.pending() for ingest in self.ingests.values()])
        except BrokerError:
            return False

    async def _summaries(self) -> None:
        before = self.status()
        while True:
            await asyncio.sleep(SUMMARY_EVERY)
            now = self.status()
            for name, numbers in now.items():
                gained = {
                    key: numbers[key] - before[name][key] for key in ("received", "inserted", "deadLetters", "inserts")
                }
                log.info("last minute", data_type=name, state=numbers["state"], lag=numbers["lag"], **gained)
            before = now

    async def _unless_stopped(self, work: Any) -> bool:
        """True when `work` is done; False, and the work ended, when `stop` came first."""
        task, stop = asyncio.ensure_future(work), asyncio.ensure_future(self._stopping.wait())
        await asyncio.wait([task, stop], return_when=asyncio.FIRST_COMPLETED)
        stop.cancel()
        if task.done():
            task.result()
            return True
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        return False

    async def _close(self) -> None:
        with suppress(Exception):
            async with asyncio.timeout(3):
                await self._client.close()
        for clickhouse in {self._clickhouse, self._cold}:
            await clickhouse.close()
        self._owner.close()


async def _all_or_first_failure(tasks: Sequence[asyncio.Task[None]]) -> None:
    """One data type that ends with an error ends the process: it is started again, and begins from the records."""
    try:
        for finished in asyncio.as_completed(tasks):
            await finished
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
