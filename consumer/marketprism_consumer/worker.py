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
from marketprism_api.settings import Settings
from marketprism_consumer import logs
from marketprism_consumer.backoff import Backoff
from marketprism_consumer.clickhouse import schema
from marketprism_consumer.clickhouse.client import ClickHouse
from marketprism_consumer.clickhouse.servers import connected
from marketprism_consumer.clickhouse.shards import tiers_of
from marketprism_consumer.errors import BrokerError, StoreError, StreamError
from marketprism_consumer.ingest import kernel
from marketprism_consumer.ingest.allowance import TAIL_BYTES
from marketprism_consumer.ingest.batch import BatchBounds
from marketprism_consumer.ingest.columns import columnar
from marketprism_consumer.ingest.flood import Flood
from marketprism_consumer.ingest.ingest import Ingest, LaneSource
from marketprism_consumer.ingest.metrics import IngestAccount, IngestMetrics
from marketprism_consumer.ingest.owner import Owner
from marketprism_consumer.jetstream.broker import NatsBroker
from marketprism_consumer.jetstream.client import PullClient, connect
from marketprism_consumer.jetstream.copies import Streams
from marketprism_consumer.jetstream.graveyard import NatsGraveyard, in_the_way
from marketprism_consumer.jetstream.records import NatsRecords
from marketprism_consumer.jetstream.streams import Choice, choose, create_missing
from marketprism_consumer.tiering.job import cold_auth

log = structlog.get_logger()

GRACE = 20.0  # from SIGTERM to the last write; a Pod is given 30 [s]
SUMMARY_EVERY = 60.0  # [s]
LOOK_FOR_STREAMS = 10.0  # [s]


class Worker:
    """`run` until `stop`, or until nothing has been pending for `until_idle` seconds."""

    def __init__(self, settings: Settings, data_types: Sequence[str], environ: Mapping[str, str] = os.environ) -> None:
        self.settings = settings
        self.registry = CollectorRegistry()
        self.ingests: dict[tuple[str, str], Ingest] = {}
        self.data_types = data_types
        self._environ = environ
        self._metrics = IngestMetrics(self.registry)
        self._client = PullClient()
        self._broker = NatsBroker(self._client)
        self._clickhouse = connected(
            settings.clickhouse_urls,
            lambda: clickhouse_auth(environ),
            cluster=settings.cluster,
            sharded=settings.sharded,
        )
        self._cold = ClickHouse(settings.cold_urls, cold_auth) if settings.cold_urls else self._clickhouse
        self._tiers = tiers_of(settings, self._clickhouse, self._cold)
        self._records = NatsRecords(self._client, settings.bucket)
        self._owner = Owner(settings.pipeline_name)
        self._stopping = asyncio.Event()
        self._waits_for = "the JetStream streams"
        self._gone: dict[str, str] = {}  # why no stream holds it any more, by data type
        self._unfit: dict[
            str, str
        ] = {}  # streams that have come, and can't be read beside those that are, by data type
        self._unburied = ""  # why no dead letters come to their stream
        self._replicas = 1  # of what we make

    # --- from outside -------------------------------------------------------------------------------------------------

    def stop(self) -> None:
        """The first call drains; a second one gives up what is not stored yet: it is in the stream."""
        grace = 0.0 if self._stopping.is_set() else GRACE
        self._stopping.set()
        for ingest in self.ingests.values():
            ingest.stop(grace)

    def not_ready(self) -> dict[str, str]:
        """What is not as it should be, by data type (and stream, where it has several); empty where all is well."""
        if not self._client.is_connected:
            return {"worker": f"not connected to NATS: {self._client.trouble or 'connecting'}"}
        if not self.ingests:
            return {"worker": f"waits for {self._waits_for}"}
        found = {}
        for (name, stream), ingest in self.ingests.items():
            if why := self._gone.get(name) or self._unfit.get(name) or ingest.not_ready():
                found[name if len(self._of(name)) == 1 else f"{name} in {stream}"] = why
        if self._unburied:
            found["dead letters"] = self._unburied
        return found

    def status(self) -> dict[str, Any]:
        """The numbers that a view wants, by data type."""
        return {name: _numbers(self._of(name)) for name, _ in self.ingests}

    def _of(self, data_type: str) -> list[Ingest]:
        return [ingest for (name, _), ingest in self.ingests.items() if name == data_type]

    async def run(self, *, until_idle: float | None = None) -> None:
        if kernel.failed:
            log.error("messages are decoded in Python: a check of the kernel's has failed; please report it")
        elif kernel.library is None:
            log.info("messages are decoded in Python: the kernel was not compiled")
        try:
            if not await self._unless_stopped(self._start()):
                return
            helpers = [asyncio.create_task(self._summaries())]
            if until_idle is not None:
                helpers.append(asyncio.create_task(self._stop_when_idle(until_idle)))
            try:
                await self._run_all()
            finally:
                for task in helpers:
                    task.cancel()
        finally:
            await self._close()

    # --- start --------------------------------------------------------------------------------------------------------

    async def _start(self) -> None:
        await connect(
            self.settings.nats_url,
            lambda: nats_auth(self._environ),
            name=f"marketprism {self.settings.pipeline_name}",
            reconnected=lambda: self._tell_all(Ingest.reconnected),
            disconnected=lambda: self._tell_all(Ingest.disconnected),
            client=self._client,
            api=self.settings.jetstream,
        )
        streams = await self._find_streams()
        self._waits_for = "the schema"
        await self._schema()
        self._waits_for = "the bucket of records"
        await self._bucket([stream for of_type in streams.values() for stream in of_type])
        await self._see_to_letters()
        for data_type, of_type in streams.items():
            for stream in of_type:
                self.ingests[data_type, stream] = self._ingest(data_type, stream)
        self._share_connection()

    async def _find_streams(self) -> dict[str, tuple[str, ...]]:
        """The streams of each of our data types, waited for; the whole pipeline's are created where it says so."""
        backoff = Backoff()
        while True:
            try:
                found = {each: await choose(self._broker, self.settings, each) for each in self.data_types}
                missing = [self._lacks(each) for each, chosen in found.items() if not chosen.read]
                if not missing:
                    for each, chosen in found.items():
                        self._tell(each, chosen)
                    return {each: chosen.read for each, chosen in found.items()}
                if self.settings.ensure_streams == "IfMissing":
                    created = await create_missing(self._client.jetstream(), self._broker, self.settings)
                    if created:
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

    def _lacks(self, data_type: str) -> str:
        of_type = self.settings.data_types[data_type]
        named = f"; named is {', '.join(of_type.named)}" if of_type.named else ""
        return f"{of_type.subject} ({data_type}{named})"

    def _tell(self, data_type: str, chosen: Choice) -> None:
        if len(chosen.read) > 1:
            log.info("several streams hold it; each is read", data_type=data_type, streams=chosen.read)
        if chosen.left:
            log.warning("held by streams that are not read: others are named", data_type=data_type, streams=chosen.left)
        if chosen.copies:
            log.info("streams that only have copies of it are not read", data_type=data_type, streams=chosen.copies)

    async def _schema(self) -> None:
        """Wait until the tables fit: a schema Job may still be at it. Nothing is pulled before."""
        backoff = Backoff()
        while True:
            try:
                plan = await schema.current_plan(self._clickhouse, self.settings)
                lacking = [change.why for change in plan.changes if not change.convenience]
                different = [each for each in plan.differences if each.blocking]
                if self.settings.schema_mode == "Ignore":
                    lacking, different = [], [each for each in different if each.reason is reasons.RECORDED_ELSEWHERE]
                problems = [*lacking, *(f"{each.where}: {each.what}" for each in different)]
                if not problems:
                    return
                missing = any("does not exist" in problem for problem in lacking)
                of_records = any(each.reason is reasons.RECORDED_ELSEWHERE for each in different)
                reason = reasons.RECORDED_ELSEWHERE if of_records else reasons.SCHEMA_DRIFT
                reason = reasons.SCHEMA_MISSING if missing else reason
                shown = problems[:3] + ([f"and {len(problems) - 3} more"] if len(problems) > 3 else [])
            except StoreError as refused:
                reason = refused.reason if refused.code == 0 else reasons.CLICKHOUSE_DENIED
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
                most = max([await self._broker.replicas(stream) for stream in set(streams)])
                self._replicas = self.settings.replicas or most
                await self._records.ensure(self._replicas)
                return
            except BrokerError as refused:
                wait = backoff.next()
                self._waits_for = f"{refused.reason}: {refused.detail}"
                logs.reason(log, "warning", refused.reason, detail=refused.detail, next_try_in=round(wait, 1))
                await asyncio.sleep(wait)

    def _ingest(self, data_type: str, stream: str) -> Ingest:
        letters, chosen = self.settings.dead_letters, self.settings.data_types[data_type]
        return Ingest(
            LaneSource(stream, chosen.subject),
            chosen.declaration,
            self._broker,
            self._records,
            self._tiers,
            NatsGraveyard(self._broker, letters.stream, letters.max_age or 0, self._replicas),
            BatchBounds(
                chosen.batch.max_rows, chosen.batch.max_delay, chosen.batch.max_pending, chosen.batch.max_bytes
            ),
            Flood(letters.max_ratio, letters.min_messages, letters.window),
            IngestAccount(self._metrics, data_type, stream),
            self._owner.name,
            messages=self.settings.messages,
            # Rows of shards are told apart one by one.
            columnar=(lambda _: None) if self.settings.sharded else columnar,
        )

    # --- while it runs ------------------------------------------------------------------------------------------------

    async def _run_all(self) -> None:
        """Until all have ended. One that ends with an error ends the process: it is started again, and begins from the records."""
        running = {asyncio.create_task(ingest.run()): key for key, ingest in self.ingests.items()}
        look = asyncio.create_task(asyncio.sleep(LOOK_FOR_STREAMS))
        try:
            while running:
                done, _ = await asyncio.wait([*running, look], return_when=asyncio.FIRST_COMPLETED)
                for task in done - {look}:
                    task.result()
                    del running[task]
                if look in done:
                    new, streamless = await self._new_lanes()
                    await self._see_to_streams(streamless)
                    await self._see_to_letters()
                    for key in new:
                        running[asyncio.create_task(self.ingests[key].run())] = key
                    look = asyncio.create_task(asyncio.sleep(LOOK_FOR_STREAMS))
        finally:
            look.cancel()
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)

    async def _new_lanes(self) -> tuple[list[tuple[str, str]], list[str]]:
        """Of streams that have come since, and the data types that no stream holds. A lane whose stream has gone ends, where another
        stream holds its data type."""
        found: list[tuple[str, str]] = []
        streamless: list[str] = []
        known = Streams(self._broker)
        for data_type in () if self._stopping.is_set() else self.data_types:
            try:
                streams = (await choose(self._broker, self.settings, data_type, moved=False, streams=known)).read
                if any((data_type, stream) not in self.ingests for stream in streams):
                    # What has moved may be in both.
                    streams = (await choose(self._broker, self.settings, data_type, streams=known)).read
            except BrokerError as refused:
                logs.reason(log, "warning", refused.reason, detail=refused.detail)
                if refused.reason is reasons.STREAM_UNFIT:
                    self._unfit[data_type] = str(refused)
                continue
            self._unfit.pop(data_type, None)
            if not streams:
                streamless.append(data_type)
            for stream in streams:
                if (data_type, stream) not in self.ingests:
                    log.info("another stream holds it, and is read from now on", data_type=data_type, stream=stream)
                    self.ingests[data_type, stream] = self._ingest(data_type, stream)
                    found.append((data_type, stream))
            for key in [key for key in self.ingests if key[0] == data_type and streams and key[1] not in streams]:
                if await self._is_gone(key[1]):
                    log.info("its stream is gone", data_type=key[0], stream=key[1])
                    self.ingests.pop(key).stop(0.0)
        self._share_connection()
        return found, streamless

    async def _see_to_streams(self, gone: Sequence[str]) -> None:
        """Those that are gone are made again, where they would be at a start; `not_ready` tells of what is not."""
        why = "no stream holds it any more"
        try:
            if gone and self.settings.ensure_streams == "IfMissing":
                created = await create_missing(self._client.jetstream(), self._broker, self.settings)
                log.warning("streams were gone, and are made again", streams=created)
        except (BrokerError, StreamError, NatsError) as error:
            why = str(error)
        for data_type in gone:
            logs.reason(log, "warning", reasons.STREAM_MISSING, data_type=data_type, detail=why)
        self._gone = dict.fromkeys(map(str, gone), f"{reasons.STREAM_MISSING}: {why}")

    async def _see_to_letters(self) -> None:
        """Rows go on; but whoever waits for the first letter to find out that nobody takes it, finds out too late."""
        with suppress(BrokerError):  # told where it matters: by whoever reads, or buries
            why = await in_the_way(self._broker, self.settings.dead_letters.stream)
            if why and not self._unburied:
                logs.reason(log, "warning", reasons.DEAD_LETTERS_UNAVAILABLE, detail=why)
            self._unburied = f"{reasons.DEAD_LETTERS_UNAVAILABLE}: {why}" if why else ""

    def _share_connection(self) -> None:
        for ingest in self.ingests.values():
            ingest.pull_bytes = TAIL_BYTES // len(self.ingests)

    async def _is_gone(self, stream: str) -> bool:
        try:
            return await self._broker.sources_of(stream) is None
        except BrokerError:
            return False

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
            return not any([await ingest.has_more() for ingest in self.ingests.values()])
        except BrokerError:
            return False

    async def _summaries(self) -> None:
        before = self.status()
        while True:
            await asyncio.sleep(SUMMARY_EVERY)
            now = self.status()
            for name, numbers in now.items():
                gained = {
                    key: numbers[key] - before.get(name, {}).get(key, 0)
                    for key in ("received", "inserted", "deadLetters", "inserts")
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


def _numbers(ingests: Sequence[Ingest]) -> dict[str, Any]:
    """Of one data type's lanes together."""
    last = max(ingests, key=lambda ingest: ingest.account.last_insert_time or 0.0).account
    lags = [ingest.backlog for ingest in ingests if ingest.backlog is not None]
    return {
        **{to_camel(name): sum(each.account.totals[name] for each in ingests) for name in last.totals},
        "state": next((each.state.name for each in ingests if each.state is not reasons.RUNNING), reasons.RUNNING.name),
        "lag": sum(lags) if lags else None,
        "lagSeconds": round(max(each.late for each in ingests), 1),
        "inHand": sum(each.in_hand for each in ingests),
        "setAside": sum(each.set_aside for each in ingests),
        "reads": any(each.reads for each in ingests),
        "streams": [each.source.stream for each in ingests],
        "lastInsertTime": last.last_insert_time,
        "lastInsertRows": last.last_insert_rows,
        "lastInsertSeconds": round(last.last_insert_seconds, 4),
    }
