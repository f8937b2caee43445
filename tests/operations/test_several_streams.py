"""A data type in several streams: each is a lane of its own, and all that asks covers all of them."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from typing import Any

import pytest

from marketprism_api.credentials import NatsAuth
from marketprism_consumer.clickhouse.store import ClickHouseStore
from marketprism_consumer.commands.audit import lines
from marketprism_consumer.errors import BrokerError, CopyUnnamedError
from marketprism_consumer.jetstream.client import PullClient
from marketprism_consumer.jetstream.records import begin
from marketprism_consumer.jetstream.streams import Choice, choose, create_missing
from marketprism_consumer.operations.audit import AuditReport, audit
from marketprism_consumer.operations.check import check_nats
from marketprism_consumer.operations.lanes import find, find_all
from marketprism_consumer.operations.status import status
from marketprism_consumer.worker import Worker
from tests.commands.command import call
from tests.pipelines import Pipeline, trade
from tests.waiting import until

BINANCE, OKX = "trade.binance_spot.spot.BTC-USDT", "trade.okx_spot.spot.BTC-USDT"
MADE = ("MIRROR", "OKX", "ALL", "RAW")


@pytest.fixture
async def split(pipeline: Pipeline) -> Any:
    """Trades of one exchange in MARKET_DATA, those of another in OKX."""
    config = (await pipeline.broker.api("STREAM.INFO.MARKET_DATA", {}))["config"]
    subjects = ["trade.binance_spot.>" if each == "trade.>" else each for each in config["subjects"]]
    await pipeline.broker.api("STREAM.UPDATE.MARKET_DATA", {**config, "subjects": subjects})
    await make(pipeline, "OKX", subjects=["trade.okx_spot.>"])
    for number in range(3):
        await pipeline.send(BINANCE, json.dumps(trade(trade_id=f"b{number}")).encode())
    for number in range(2):
        await pipeline.send(OKX, json.dumps(trade(exchange="okx_spot", trade_id=f"o{number}")).encode())
    yield pipeline
    for name in MADE:
        if await pipeline.broker.sources_of(name) is not None:
            await pipeline.broker.api(f"STREAM.DELETE.{name}", None)


async def make(pipeline: Pipeline, name: str, **config: Any) -> None:
    await pipeline.broker.api(
        f"STREAM.CREATE.{name}", {"name": name, "retention": "limits", "storage": "file", **config}
    )


def named(pipeline: Pipeline, *streams: str) -> None:
    data_types = dict(pipeline.settings.data_types)
    data_types["trade"] = replace(data_types["trade"], named=streams)
    pipeline.settings = replace(pipeline.settings, data_types=data_types)


async def stored(pipeline: Pipeline) -> AuditReport:
    """After all was read; nobody has to wait for a record that was never there."""
    for lane in await find_all(pipeline.settings, pipeline.broker, pipeline.store, "trade"):
        assert lane.id, lane.problem
        await begin(pipeline.records, lane.id)
    await pipeline.ingest()
    return await audit(pipeline.settings, pipeline.store, pipeline.client, data_types=["trade"], deep=True)


async def test_each_is_read_stored_and_proven(split: Pipeline) -> None:
    report = await stored(split)
    assert report.holds, report
    assert {(each.stream, each.held, each.rows) for each in report.types} == {("MARKET_DATA", 3, 3), ("OKX", 2, 2)}
    assert await split.count("trades") == 5
    cold = ClickHouseStore(split.clickhouse, split.settings.cold_db)
    (of_trades,) = [
        each
        for each in (await status(split.settings, split.broker, split.store, cold)).types
        if each.data_type == "trade"
    ]
    assert (of_trades.stream, of_trades.lag) == ("MARKET_DATA,OKX", 0)


async def test_what_is_read_from_several_is_asked_for_by_the_streams_name(split: Pipeline) -> None:
    with pytest.raises(ValueError, match="MARKET_DATA, OKX: name one with --stream"):
        await find(split.settings, split.broker, split.store, "trade")
    lane = await find(split.settings, split.broker, split.store, "trade", "OKX")
    assert lane.stream == "OKX"


async def test_where_streams_are_named_exactly_those_are_read_and_the_others_told(split: Pipeline) -> None:
    named(split, "OKX")
    report = await stored(split)
    assert report.holds
    assert report.not_read == {"trade": ("MARKET_DATA",)}
    assert await split.count("trades") == 2
    async with PullClientOf(split) as client:
        lines = [line async for line in check_nats(split.settings, NatsAuth, client)]
    assert any("MARKET_DATA holds trade.>, and is not read" in line.found for line in lines)


@pytest.mark.every_nats
async def test_a_mirror_that_is_named_is_read_and_not_its_origin(split: Pipeline) -> None:
    await make(split, "MIRROR", mirror={"name": "MARKET_DATA"})
    named(split, "MIRROR", "OKX")
    report = await stored(split)
    assert {(each.stream, each.held, each.rows) for each in report.types} == {("MIRROR", 3, 3), ("OKX", 2, 2)}
    (streams,) = await split.clickhouse.query(
        f"SELECT groupUniqArray(splitByChar('@', _stream)[1]) FROM {split.hot}.trades"
    )
    assert sorted(streams[0]) == ["MIRROR", "OKX"]


@pytest.mark.every_nats
async def test_an_aggregate_beside_its_origin_is_told_and_not_read(split: Pipeline) -> None:
    """Read together, each of its messages would be stored twice."""
    await make(split, "ALL", subjects=["trade.bybit_spot.>"], sources=[{"name": "OKX"}])
    await until(lambda: holds(split, "ALL", 2), "ALL has what OKX has")
    report = await stored(split)
    assert report.holds
    assert {(each.stream, each.held, each.rows) for each in report.types} == {("MARKET_DATA", 3, 3), ("OKX", 2, 2)}
    assert report.as_dict()["notRead"] == {"trade": ["ALL"]}
    assert "ALL: has copies of trade that is read elsewhere, and is not read" in lines(report)
    async with PullClientOf(split) as client:
        said = [line.found async for line in check_nats(split.settings, NatsAuth, client)]
    assert "ALL has copies of what is in MARKET_DATA, OKX, and is not read" in said


async def test_an_aggregate_that_has_more_than_its_origin_has_to_be_chosen_by_name(split: Pipeline) -> None:
    """Left alone, what came to it would not be stored; read, what came from its origin twice."""
    await make(split, "ALL", subjects=["trade.bybit_spot.>"], sources=[{"name": "OKX"}])
    await split.send("trade.bybit_spot.spot.BTC-USDT", json.dumps(trade()).encode())
    why = (
        r"ALL has the messages of OKX, too, and those of trade.bybit_spot.> for itself: name in spec.nats.streams.trade"
    )
    with pytest.raises(BrokerError, match=why):
        await choose(split.broker, split.settings, "trade")
    named(split, "MARKET_DATA", "ALL")
    assert await choose(split.broker, split.settings, "trade") == Choice(("MARKET_DATA", "ALL"), ("OKX",))


async def test_an_aggregate_that_was_read_before_its_origin_came_has_to_be_chosen_by_name(split: Pipeline) -> None:
    await make(split, "ALL", subjects=["trade.bybit_spot.>"])
    await stored(split)
    config = (await split.broker.api("STREAM.INFO.ALL", {}))["config"]
    await split.broker.api("STREAM.UPDATE.ALL", {**config, "sources": [{"name": "OKX"}]})
    with pytest.raises(BrokerError, match="ALL was read before, and has the messages of others"):
        await choose(split.broker, split.settings, "trade")


async def test_an_aggregate_of_what_nobody_reads_has_to_be_chosen_by_name(split: Pipeline) -> None:
    elsewhere = {"name": "TRADES", "external": {"api": "$JS.hub.API"}}
    await make(split, "ALL", subjects=["trade.bybit_spot.>"], sources=[{"name": "OKX"}, elsewhere])
    with pytest.raises(BrokerError, match=r"OKX, too, and those of TRADES of \$JS.hub.API, which is not read"):
        await choose(split.broker, split.settings, "trade")


@pytest.mark.every_nats
async def test_what_is_changed_on_the_way_is_no_copy(split: Pipeline) -> None:
    transforms = [{"src": "trade.okx_spot.>", "dest": "trade.copied.>"}]
    await make(
        split, "ALL", subjects=["trade.bybit_spot.>"], sources=[{"name": "OKX", "subject_transforms": transforms}]
    )
    with pytest.raises(BrokerError, match="OKX, too, and those of OKX under other subjects, which is not read"):
        await choose(split.broker, split.settings, "trade")


@pytest.mark.every_nats
@pytest.mark.parametrize(
    "source",
    [
        {"name": "OKX", "filter_subject": "funding_rate.>"},
        {"name": "OKX", "subject_transforms": [{"src": "funding_rate.>", "dest": ""}]},
    ],
    ids=["filter", "filters"],
)
async def test_a_stream_that_has_another_data_type_of_a_second_one_is_read_beside_it(
    split: Pipeline, source: dict[str, Any]
) -> None:
    await make(split, "ALL", subjects=["trade.bybit_spot.>"], sources=[source])
    assert (await choose(split.broker, split.settings, "trade")) == Choice(("MARKET_DATA", "ALL", "OKX"))


async def test_two_that_have_the_same_from_a_third_have_to_be_chosen_by_name(split: Pipeline) -> None:
    await make(split, "RAW", subjects=["raw.>"])
    await make(split, "ALL", subjects=["trade.bybit_spot.>"], sources=[{"name": "RAW"}])
    config = (await split.broker.api("STREAM.INFO.OKX", {}))["config"]
    await split.broker.api("STREAM.UPDATE.OKX", {**config, "sources": [{"name": "RAW"}]})
    with pytest.raises(BrokerError, match="ALL and OKX have the same messages, those of RAW: name in"):
        await choose(split.broker, split.settings, "trade")


async def holds(pipeline: Pipeline, stream: str, messages: int) -> bool:
    return (await pipeline.broker.stream(stream)).messages == messages


class PullClientOf:
    """A connection for a check, which makes it itself."""

    def __init__(self, pipeline: Pipeline) -> None:
        self._client = PullClient()

    async def __aenter__(self) -> PullClient:
        return self._client

    async def __aexit__(self, *_: object) -> None:
        await self._client.close()


@pytest.mark.every_nats
async def test_what_comes_by_detours_is_a_copy_as_well(split: Pipeline) -> None:
    await make(split, "MIRROR", mirror={"name": "MARKET_DATA"})
    await make(split, "ALL", subjects=["trade.bybit_spot.>"], sources=[{"name": "MIRROR"}])
    chosen = await choose(split.broker, split.settings, "trade")
    assert (chosen.read, chosen.copies) == (("MARKET_DATA", "OKX"), ("ALL",))


async def test_a_named_stream_that_is_missing_is_no_proof(split: Pipeline) -> None:
    named(split, "OKX", "TYPO")
    report = await stored(split)
    assert not report.holds
    assert "there is no TYPO, which spec.nats.streams names" in str(
        report["trade"].findings + report.types[-1].findings
    )


async def test_a_missing_stream_that_is_named_is_waited_for_and_told(pipeline: Pipeline) -> None:
    """Another one holds the subject, so that it can't be made."""
    named(pipeline, "BOOKS_MIRROR")
    worker = Worker(pipeline.settings, ["trade"], pipeline.environ)
    running = asyncio.create_task(worker.run())
    async with asyncio.timeout(20):
        while "named is BOOKS_MIRROR" not in str(worker.not_ready()):
            await asyncio.sleep(0.05)
    worker.stop()
    await running


async def test_replay_counts_all_of_its_streams(split: Pipeline) -> None:
    await stored(split)
    done = await asyncio.to_thread(
        call,
        "replay",
        "-f",
        str(split.file),
        "--type",
        "trade",
        "--from-time",
        "1h",
        "-o",
        "json",
        environ=split.environ,
    )
    assert json.loads(done.stdout)["tables"]["trades"]["read"] == 5


async def test_a_workqueue_is_no_proof_and_no_failure_of_the_audit(pipeline: Pipeline) -> None:
    config = (await pipeline.broker.api("STREAM.INFO.MARKET_DATA", {}))["config"]
    await pipeline.broker.api("STREAM.DELETE.MARKET_DATA", None)
    await pipeline.broker.api("STREAM.CREATE.MARKET_DATA", {**config, "retention": "workqueue"})
    done = await asyncio.to_thread(call, "audit", "-f", str(pipeline.file), environ=pipeline.environ)
    assert done.returncode == 1
    assert "MP3012 StreamUnfit" in done.stdout


async def test_what_is_left_in_a_stream_whose_subject_has_moved_is_read(pipeline: Pipeline) -> None:
    for lane in await find_all(pipeline.settings, pipeline.broker, pipeline.store, "trade"):
        assert lane.id, lane.problem
        await begin(pipeline.records, lane.id)
    for number in range(3):
        await pipeline.send(BINANCE, json.dumps(trade(trade_id=f"b{number}")).encode())
    config = (await pipeline.broker.api("STREAM.INFO.MARKET_DATA", {}))["config"]
    subjects = [each for each in config["subjects"] if each != "trade.>"]
    await pipeline.broker.api("STREAM.UPDATE.MARKET_DATA", {**config, "subjects": subjects})
    await make(pipeline, "MOVED", subjects=["trade.>"])
    await pipeline.send(BINANCE, json.dumps(trade(trade_id="after")).encode())
    try:
        report = await stored(pipeline)
        assert report.holds, report
        assert {(each.stream, each.held, each.rows) for each in report.types} == {
            ("MARKET_DATA", 3, 3),
            ("MOVED", 1, 1),
        }
    finally:
        await pipeline.broker.api("STREAM.DELETE.MOVED", None)


async def test_no_stream_is_made_beside_one_that_has_the_messages_from_elsewhere(pipeline: Pipeline) -> None:
    """It would be empty, and proven, for ever."""
    config = (await pipeline.broker.api("STREAM.INFO.MARKET_DATA", {}))["config"]
    subjects = [each for each in config["subjects"] if each != "trade.>"]
    await pipeline.broker.api("STREAM.UPDATE.MARKET_DATA", {**config, "subjects": subjects})
    await make(pipeline, "RAW", subjects=["raw.>"])
    transforms = [{"src": "raw.>", "dest": "trade.>"}]
    await make(pipeline, "ALL", sources=[{"name": "RAW", "subject_transforms": transforms}])
    await pipeline.send("raw.binance_spot.spot.BTC-USDT", json.dumps(trade()).encode())
    try:
        async with asyncio.timeout(20):
            while (await pipeline.broker.stream("ALL")).messages < 1:
                await asyncio.sleep(0.05)
        with pytest.raises(CopyUnnamedError, match=r"ALL has messages of it .*: .* name it in spec.nats.streams.trade"):
            await create_missing(pipeline.client.jetstream(), pipeline.broker, pipeline.settings)
        named(pipeline, "ALL")
        report = await stored(pipeline)
        assert report.holds, report
        assert [(each.stream, each.held, each.rows) for each in report.types] == [("ALL", 1, 1)]
    finally:
        for name in ("ALL", "RAW"):
            await pipeline.broker.api(f"STREAM.DELETE.{name}", None)


async def test_a_stream_of_another_domain_is_no_stream_of_the_same_name_here(split: Pipeline) -> None:
    elsewhere = {"name": "OKX", "external": {"api": "$JS.hub.API"}}
    await make(split, "ALL", subjects=["trade.bybit_spot.>"], sources=[elsewhere])
    chosen = await choose(split.broker, split.settings, "trade")
    assert chosen.read == ("MARKET_DATA", "ALL", "OKX")
