"""The reader against a real nats-server: how requests end, and what breaks it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from marketprism_consumer.errors import LostError, ReaderBrokenError
from marketprism_consumer.ingest.allowance import PULL_BYTES
from marketprism_consumer.ingest.broker import ReaderState
from marketprism_consumer.ingest.message import Message
from marketprism_consumer.ingest.reader import Reader
from tests.pipelines import Environ, Pipeline, pipeline, servers
from tests.waiting import PATIENCE

__all__ = ["Environ", "pipeline", "servers"]

SUBJECT = "trade.okx.spot.BTC-USDT"
PULL = 2 << 20  # what a request is for [bytes]


class Reading:
    """What came, and a way to wait for it."""

    def __init__(self) -> None:
        self.came: list[Message] = []
        self.look = asyncio.Event()

    def receive(self, messages: Sequence[Message]) -> None:
        self.came.extend(messages)
        self.look.set()

    async def open(self, pipeline: Pipeline, start: int = 1) -> Reader:
        created = (await pipeline.broker.stream("MARKET_DATA")).created
        reader = Reader(pipeline.broker, "MARKET_DATA", created, "trade.okx.>", start, self.receive, self.look.set)
        return await reader.open()

    async def until(self, count: int) -> None:
        async with asyncio.timeout(PATIENCE):
            while len(self.came) < count:
                self.look.clear()
                await self.look.wait()


async def _broken(reader: Reader) -> str:
    """Why it is, waited for."""
    async with asyncio.timeout(PATIENCE):
        while True:
            try:
                reader.check()
            except ReaderBrokenError as broken:
                return str(broken)
            await asyncio.sleep(0.05)


async def _missed(pipeline: Pipeline, reader: Reader) -> int:
    return reader.missed(await pipeline.broker.stream("MARKET_DATA"))


async def test_it_reads_its_subject_in_order_from_where_it_was_told(pipeline: Pipeline) -> None:
    for number in range(6):
        await pipeline.send(SUBJECT if number % 2 else "trade.binance.spot.BTC-USDT", str(number).encode())
    reading = Reading()
    reader = await reading.open(pipeline, start=3)
    assert reader.pending == 2
    reader.request(100, PULL)
    await reading.until(2)
    assert [(message.seq, message.payload, message.pending) for message in reading.came] == [(4, b"3", 1), (6, b"5", 0)]
    assert (reader.next, reader.pending, reader.delivered) == (7, 0, 2)


async def test_a_request_whose_bytes_come_out_even_is_over(pipeline: Pipeline) -> None:
    """The server then ends it without a word, and only counting tells."""
    reading = Reading()
    reader = await reading.open(pipeline)
    head = len(SUBJECT) + len(f"$JS.ACK.MARKET_DATA.{reader.name}.1.1.1.1758700007535109819.9")
    share, rest = divmod(PULL, 9)
    for size in [share] * 8 + [share + rest, 1]:  # nine of them fill a request, and one is left
        await pipeline.send(SUBJECT, bytes(max(1, size - head)))
    reader.request(100, PULL)
    await reading.until(9)
    assert (reader.outstanding, reader.outstanding_bytes) == (0, 0)
    assert (len(reading.came), reader.pending, reader.broken) == (9, 1, "")


async def test_a_reader_that_is_deleted_breaks(pipeline: Pipeline) -> None:
    reading = Reading()
    reader = await reading.open(pipeline)
    reader.request(10, PULL)
    await pipeline.broker.api(f"CONSUMER.DELETE.MARKET_DATA.{reader.name}", None)
    # The server may have seen the deletion before the request: then silence tells.
    assert await _broken(reader) in ("409 Consumer Deleted", "silence")


async def test_a_request_to_a_reader_that_is_gone_breaks_it(pipeline: Pipeline) -> None:
    """The server forgets one that was silent for long; nobody answers for it then."""
    reading = Reading()
    reader = await reading.open(pipeline)
    await pipeline.broker.api(f"CONSUMER.DELETE.MARKET_DATA.{reader.name}", None)
    reader.request(10, PULL)
    assert await _broken(reader)


async def test_a_stream_that_was_made_anew_is_another_lane(pipeline: Pipeline) -> None:
    reader = Reader(pipeline.broker, "MARKET_DATA", "2020-01-01T00:00:00Z", "trade.>", 1, lambda _: None, lambda: None)
    with pytest.raises(LostError):
        await reader.open()


async def test_all_readers_of_a_connection_ask_for_no_more_than_a_server_bears_and_each_gets_its_turn(
    pipeline: Pipeline,
) -> None:
    await pipeline.send(SUBJECT, b"x" * 1000)
    broker, readings = pipeline.broker, [Reading() for _ in range(40)]
    created = (await broker.stream("MARKET_DATA")).created
    readers = [
        await Reader(broker, "MARKET_DATA", created, "trade.okx.>", 1, each.receive, each.look.set).open()
        for each in readings
    ]
    async with asyncio.timeout(PATIENCE):
        while not all(each.came for each in readings):
            for reader, each in zip(readers, readings, strict=True):
                if not (reader.outstanding or each.came):
                    reader.request(1, PULL)
            assert sum(reader.outstanding_bytes for reader in readers) == broker.allowance.taken <= PULL_BYTES
            await asyncio.sleep(0.01)
    assert broker.allowance.taken == 0


async def test_a_message_that_is_larger_than_all_that_a_connection_bears_comes_alone(pipeline: Pipeline) -> None:
    reading = Reading()
    reader = await reading.open(pipeline)
    allowance = reader._broker.allowance
    reader.request(1, 2 * PULL_BYTES)
    assert allowance.taken == 2 * PULL_BYTES
    assert not allowance.take(None, 1)
    reader.close()
    assert allowance.taken == 0


async def test_it_tells_how_many_were_discarded_before_they_came(pipeline: Pipeline) -> None:
    for number in range(6):
        await pipeline.send(SUBJECT, str(number).encode())
    reading = Reading()
    reader = await reading.open(pipeline)
    assert await reader.ask()
    await pipeline.broker.api("STREAM.PURGE.MARKET_DATA", {"keep": 2})
    reader.request(100, PULL)
    await reading.until(2)
    assert await _missed(pipeline, reader) == 0  # who knows what is to come up to there
    await pipeline.send(SUBJECT, b"6")
    await reading.until(3)
    assert [await _missed(pipeline, reader) for _ in range(2)] == [4, 0]  # it is told once


async def test_one_that_was_discarded_from_the_middle_is_told_of(pipeline: Pipeline) -> None:
    for number in range(3):
        await pipeline.send(SUBJECT, str(number).encode())
    reading = Reading()
    reader = await reading.open(pipeline)
    assert await reader.ask()
    await pipeline.broker.api("STREAM.MSG.DELETE.MARKET_DATA", {"seq": 2})
    reader.request(100, PULL)
    await pipeline.send(SUBJECT, b"3")
    await reading.until(3)
    assert await _missed(pipeline, reader) == 1


async def test_what_a_server_counts_too_high_is_not_told_as_lost(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For a moment nats-server takes a message for pending that it has just delivered. The stream holds all that it had from there on:
    others that it has discarded came before."""
    await pipeline.send("trade.binance.spot.BTC-USDT", b"another's")
    reading = Reading()
    reader = await reading.open(pipeline)
    await pipeline.send(SUBJECT, b"0")
    await pipeline.broker.api("STREAM.PURGE.MARKET_DATA", {"keep": 1})
    state = pipeline.broker.reader_state

    async def one_too_many(stream: str, name: str) -> ReaderState:
        pending, delivered = await state(stream, name)
        return ReaderState(pending + 1, delivered)

    with monkeypatch.context() as counting:
        counting.setattr(pipeline.broker, "reader_state", one_too_many)
        assert await reader.ask()
    reader.request(100, PULL)
    await pipeline.send(SUBJECT, b"1")
    await reading.until(2)
    assert await reader.ask()
    assert [await _missed(pipeline, reader) for _ in range(3)] == [0, 0, 0]


async def test_what_its_server_discarded_first_is_told_when_the_stream_has_discarded_it_too(pipeline: Pipeline) -> None:
    for number in range(3):
        await pipeline.send(SUBJECT, str(number).encode())
    reading = Reading()
    reader = await reading.open(pipeline)
    before = await pipeline.broker.stream("MARKET_DATA")
    assert await reader.ask()
    await pipeline.broker.api("STREAM.PURGE.MARKET_DATA", {})
    assert await reader.ask()
    assert reader.missed(before) == 0
    assert await _missed(pipeline, reader) == 3


async def test_it_tells_so_too_where_nothing_comes_after(pipeline: Pipeline) -> None:
    for number in range(6):
        await pipeline.send(SUBJECT, str(number).encode())
    reading = Reading()
    reader = await reading.open(pipeline)
    assert await reader.ask()
    await pipeline.broker.api("STREAM.PURGE.MARKET_DATA", {})
    reader.request(100, PULL)
    assert await reader.ask()
    assert (reader.pending, await _missed(pipeline, reader)) == (0, 6)
    assert await reader.ask()
    assert await _missed(pipeline, reader) == 0


async def test_it_is_known_what_came_after_a_message_that_is_gone(pipeline: Pipeline) -> None:
    if pipeline.client.connected_server_version.minor == 11:
        pytest.xfail("nats-server 2.11 finds a time too late where a message was deleted from the middle")
    for number in range(4):
        await pipeline.send(SUBJECT, str(number).encode())
    broker = pipeline.broker
    arrivals = {seq: await broker.arrival("MARKET_DATA", seq) for seq in range(1, 5)}
    await broker.api("STREAM.MSG.DELETE.MARKET_DATA", {"seq": 2})
    assert await broker.arrival("MARKET_DATA", 2) is None
    after = [await broker.first_after("MARKET_DATA", arrived or 0) for arrived in (0, *arrivals.values())]
    assert after == [1, 3, 3, 4, 5]


async def test_the_leader_tells_what_of_a_subject_comes_next(pipeline: Pipeline) -> None:
    for subject in (SUBJECT, "trade.bybit.spot.ETH-USDT", SUBJECT):
        await pipeline.send(subject, b"1")
    broker = pipeline.broker
    assert [await broker.next_of("MARKET_DATA", SUBJECT, start) for start in (0, 1, 2, 3, 4)] == [1, 1, 3, 3, None]
    assert await broker.next_of("MARKET_DATA", "trade.bybit.>", 1) == 2
