"""A whole pipeline on embedded servers: one pair of servers for a module, streams and databases of its own for each test."""

from __future__ import annotations

import time
import uuid
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from nats.js.errors import NotFoundError

from marketprism_api.load import load_pipeline
from marketprism_api.settings import Settings, effective
from marketprism_consumer.clickhouse import schema
from marketprism_consumer.clickhouse.client import ClickHouse
from marketprism_consumer.clickhouse.store import ClickHouseStore
from marketprism_consumer.feed import FeedMessage
from marketprism_consumer.feed.publish import publish
from marketprism_consumer.jetstream.broker import NatsBroker
from marketprism_consumer.jetstream.client import PullClient, connect
from marketprism_consumer.jetstream.records import NatsRecords, begin
from marketprism_consumer.jetstream.streams import ensure_streams, subjects_by_stream
from marketprism_consumer.operations.lanes import FoundLane, find
from marketprism_consumer.worker import Worker
from marketprism_embedded import process

Environ = dict[str, str]

PIPELINE = """
apiVersion: storage.marketprism.io/v1alpha1
kind: StoragePipeline
metadata: {name: test}
spec:
  nats: {streams: {default: MARKET_DATA, orderbook: ORDERBOOK_SNAP}}
  deadLetters: {maxRatio: "1"}
  dataTypes:
    trade: {batch: {maxRows: 500, maxDelay: 100ms}}
    orderbook: {batch: {maxRows: 500, maxDelay: 100ms}}
    lsr_top_position: {batch: {maxRows: 500, maxDelay: 100ms}}
"""


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Environ]:
    place = tmp_path_factory.mktemp("servers")
    with process.start("nats", place / "nats") as nats, process.start("clickhouse", place / "clickhouse") as clickhouse:
        yield {"MARKETPRISM_NATS_URL": nats.url, "CLICKHOUSE_HTTP_URL": clickhouse.url}


@dataclass
class Pipeline:
    file: Path
    environ: Environ
    settings: Settings
    client: PullClient
    clickhouse: ClickHouse

    @property
    def broker(self) -> NatsBroker:
        return NatsBroker(self.client)

    @property
    def records(self) -> NatsRecords:
        return NatsRecords(self.client, self.settings.bucket)

    @property
    def store(self) -> ClickHouseStore:
        return ClickHouseStore(self.clickhouse, self.hot)

    @property
    def hot(self) -> str:
        return self.settings.hot_db

    @property
    def cold(self) -> str:
        return self.settings.cold_db

    async def make_streams(self) -> None:
        await ensure_streams(
            self.client.jetstream(),
            subjects_by_stream({"default": "MARKET_DATA", "orderbook": "ORDERBOOK_SNAP"}, self.settings.data_types),
        )

    async def begin(self) -> None:
        """A record for every lane that has none: as for tables that were just made, so that the first consumer need not wait."""
        await self.records.ensure(1)
        for data_type in self.settings.data_types:
            lane = await self.lane(data_type)
            assert lane.id, lane.problem
            await begin(self.records, lane.id)

    async def forget_records(self) -> None:
        await self.broker.api(f"STREAM.PURGE.{self.records.stream}", None)

    async def lane(self, data_type: str = "trade") -> FoundLane:
        return await find(self.settings, self.broker, self.store, data_type)

    async def feed(self, messages: Sequence[FeedMessage]) -> None:
        account = await publish(self.client, messages)
        assert account.acknowledged == len(messages)

    async def send(self, subject: str, payload: bytes) -> int:
        """One message; its sequence."""
        return int((await self.client.jetstream().publish(subject, payload)).seq)

    async def ingest(self) -> None:
        """Everything that the streams hold now, by the real worker; ends when all is stored."""
        worker = Worker(self.settings, list(self.settings.data_types), self.environ)
        await worker.run(until_idle=0.01)

    async def count(self, table: str, tier: str = "hot") -> int:
        database = self.hot if tier == "hot" else self.cold
        return int((await self.clickhouse.query(f"SELECT count() FROM {database}.{table}"))[0][0])

    async def change(self, sql: str) -> None:
        """By hand, as somebody might: with `{hot}` and `{cold}` for the databases."""
        await self.clickhouse.command(sql.format(hot=self.hot, cold=self.cold), settings={"mutations_sync": 2})


@pytest.fixture
async def pipeline(servers: Environ, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Pipeline]:
    name = uuid.uuid4().hex[:8]
    environ = {**servers, "CLICKHOUSE_HOT_DB": f"hot_{name}", "CLICKHOUSE_COLD_DB": f"cold_{name}"}
    for variable, value in environ.items():
        monkeypatch.setenv(variable, value)
    file = tmp_path / "pipeline.yaml"
    file.write_text(PIPELINE)
    settings = effective(load_pipeline(file), environ)
    client = await connect(settings.nats_url, wait=10)
    clickhouse = ClickHouse(settings.clickhouse_urls)
    await schema.apply(clickhouse, settings)
    made = Pipeline(file, environ, settings, client, clickhouse)
    await made.make_streams()
    await made.begin()
    yield made
    await clickhouse.close()
    for stream in ("MARKET_DATA", "ORDERBOOK_SNAP", settings.dead_letters.stream):
        with suppress(NotFoundError):
            await client.jetstream().delete_stream(stream)
    await client.close()


def trade(**fields: Any) -> dict[str, Any]:
    """A trade as a collector publishes it, of now."""
    now = int(time.time() * 1000)
    return {
        "exchange": "binance_spot", "market_type": "spot", "symbol": "BTC-USDT", "data_type": "trade",
        "publisher": "unified-collector", "data_source": "marketprism", "trade_id": "1", "price": "112345.67",
        "quantity": "0.5", "side": "buy", "ts_ms": now, "trade_ts_ms": now, "collected_ts_ms": now,
    } | fields  # fmt: skip


__all__ = ["Environ", "Pipeline", "pipeline", "servers", "trade"]
