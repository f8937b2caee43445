"""What JetStream refuses is told by its own code, and what it refuses for good is not asked for again and again."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import Any

import pytest

from marketprism_api import reasons
from marketprism_api.reasons import Reason
from marketprism_consumer.errors import BrokerError, SubjectsTakenError
from marketprism_consumer.ingest.message import Message
from marketprism_consumer.ingest.reader import Reader
from marketprism_consumer.jetstream.broker import SECOND, NatsBroker
from marketprism_consumer.jetstream.client import connect
from marketprism_consumer.jetstream.refusals import jetstream_error
from marketprism_consumer.jetstream.stream_reader import StreamReader
from marketprism_consumer.jetstream.streams import ensure_streams
from tests.faults.harness import NatsByHand

SUBJECT = "trade.okx.spot.BTC-USDT"
PULL = 2 << 20
LIMITED = 'max_payload: 33554432\njetstream: {{limits: {{max_request_batch: 10}}, store_dir: "{}/js"}}'

Made = Callable[..., Any]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsByHand]:
    place = tmp_path_factory.mktemp("nats") / "limited"
    made = NatsByHand(place, lambda: LIMITED.format(place))
    yield made
    with suppress(ProcessLookupError):
        made.kill()


@pytest.fixture
async def broker(server: NatsByHand) -> Any:
    client = await connect(server.url, wait=10)
    broker = NatsBroker(client)
    yield broker
    for name in await broker.streams_of(">"):
        await broker.api(f"STREAM.DELETE.{name}", None)
    await client.close()


async def make(broker: NatsBroker, **config: Any) -> str:
    made = {"name": "MARKET_DATA", "subjects": ["trade.>"], "retention": "limits", "storage": "file", **config}
    return str((await broker.api("STREAM.CREATE.MARKET_DATA", made))["created"])


async def read(broker: NatsBroker, created: str, count: int, rows: int) -> tuple[list[int], int]:
    """The sizes of the messages that came, and how many requests that took."""
    found: list[Message] = []
    look = asyncio.Event()

    def receive(messages: Sequence[Message]) -> None:
        found.extend(messages)
        look.set()

    reader = await Reader(broker, "MARKET_DATA", created, "trade.>", 1, receive, look.set).open()
    requests = 0
    async with asyncio.timeout(20):
        while len(found) < count:
            assert not reader.broken
            if not reader.outstanding:
                reader.request(rows, PULL)
                requests += 1
            look.clear()
            await look.wait()
    reader.close()
    return [len(message.payload) for message in found], requests


async def test_a_server_that_answers_small_requests_only_is_asked_for_less(broker: NatsBroker) -> None:
    created = await make(broker)
    for _ in range(25):
        await broker.client.jetstream().publish(SUBJECT, b"x")
    sizes, requests = await read(broker, created, 25, 1000)
    assert sizes == [1] * 25
    assert requests == 4, "one that was refused, then ten, ten and five"
    async with StreamReader(broker, "MARKET_DATA", ["trade.>"]) as reader:
        assert [len(batch) async for batch in reader.batches(1000)] == [10, 10, 5]


async def test_no_more_requests_wait_than_a_server_keeps(broker: NatsBroker) -> None:
    """It drops what is beyond 512 without a word, and then they would be waited for."""
    created = await make(broker)
    found: list[Message] = []
    look = asyncio.Event()

    def receive(messages: Sequence[Message]) -> None:
        found.extend(messages)
        look.set()

    reader = await Reader(broker, "MARKET_DATA", created, "trade.>", 1, receive, look.set).open()
    for _ in range(1000):
        reader.request(1, PULL)
    asked = reader.outstanding
    for _ in range(asked):
        await broker.client.jetstream().publish(SUBJECT, b"x")
    async with asyncio.timeout(20):
        while len(found) < asked:
            reader.check()
            look.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(1.0):
                    await look.wait()
    assert reader.outstanding == 0
    reader.close()


async def test_what_reads_a_stream_once_does_not_ask_again_for_what_is_refused(broker: NatsBroker) -> None:
    await make(broker)
    await broker.client.jetstream().publish(SUBJECT, b"x")
    async with StreamReader(broker, "MARKET_DATA", ["trade.>"]) as reader:
        for name in (await broker.api("CONSUMER.NAMES.MARKET_DATA", None))["consumers"]:
            await broker.api(f"CONSUMER.DELETE.MARKET_DATA.{name}", None)
        with pytest.raises(BrokerError, match=r"MP3015 NATSRefused: .*(consumer not found|409)"):
            [batch async for batch in reader.batches(10)]


async def test_a_message_that_is_larger_than_a_request_comes_all_the_same(broker: NatsBroker) -> None:
    created = await make(broker)
    large = 2 * PULL + 1
    await broker.client.jetstream().publish(SUBJECT, b"x" * large)
    sizes, requests = await read(broker, created, 1, 5)
    assert sizes == [large]
    assert requests == 3, "each asks for twice as much"


@pytest.mark.parametrize("seconds", [1, 3600])
async def test_a_stream_that_limits_its_consumers_is_read_all_the_same(broker: NatsBroker, seconds: int) -> None:
    limits = {"inactive_threshold": seconds * SECOND, "max_ack_pending": 3}
    created = await make(broker, consumer_limits=limits)
    for _ in range(20):
        await broker.client.jetstream().publish(SUBJECT, b"x")
    assert await read(broker, created, 20, 10) == ([1] * 20, 2)
    async with StreamReader(broker, "MARKET_DATA", ["trade.>"]) as reader:
        assert [len(batch) async for batch in reader.batches(10)] == [10, 10]
    assert await broker.first_after("MARKET_DATA", 0) == 1


async def test_why_a_stream_can_not_be_made_is_told_in_the_servers_words(broker: NatsBroker) -> None:
    await make(broker)
    with pytest.raises(SubjectsTakenError, match=r"OTHER can't be created: trade.> already goes to stream MARKET_DATA"):
        await ensure_streams(broker.client.jetstream(), {"OTHER": ["trade.>"]})
    with pytest.raises(
        BrokerError, match=r"MP3015 NATSRefused: stream BOOKS can't be created: replicas > 1 .*\(10074\)"
    ):
        await ensure_streams(broker.client.jetstream(), {"BOOKS": ["orderbook.>"]}, replicas=3)


async def test_a_limit_is_told_as_one(broker: NatsBroker) -> None:
    await make(broker, max_consumers=1)
    await broker.make_reader("MARKET_DATA", "trade.>", 1)
    with pytest.raises(BrokerError, match=r"MP3013 NATSLimit: .*maximum consumers limit reached \(10026\)"):
        await broker.make_reader("MARKET_DATA", "trade.>", 1)


async def test_what_nobody_has_foreseen_keeps_its_words_and_is_no_matter_of_rights(broker: NatsBroker) -> None:
    await make(broker)
    with pytest.raises(BrokerError, match=r"MP3015 NATSRefused: .*subjects overlap with an existing stream \(10065\)"):
        await broker.api("STREAM.CREATE.OTHER", {"name": "OTHER", "subjects": ["trade.okx.>"]})


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (10059, reasons.STREAM_MISSING),
        (10039, reasons.NO_JETSTREAM),
        (10084, reasons.STREAM_UNFIT),
        (10008, reasons.NATS_BUSY),
        (10047, reasons.NATS_LIMIT),
        (10113, reasons.NATS_LIMIT),
        (10163, reasons.NATS_BUSY),
        (10035, reasons.NATS_DENIED),
        (19999, reasons.NATS_REFUSED),
    ],
)
def test_each_code_has_its_reason(code: int, reason: Reason) -> None:
    error = jetstream_error("X", {"err_code": code, "description": "said so"})
    assert (error.reason, error.code, "said so" in str(error)) == (reason, code, True)
