"""Requests for messages against a real nats-server: how they end."""

from __future__ import annotations

import asyncio

from marketprism_consumer.ingest.broker import Durable
from marketprism_consumer.ingest.message import Message
from marketprism_consumer.ingest.source import Source
from tests.pipelines import Environ, Pipeline, pipeline, servers
from tests.waiting import PATIENCE

__all__ = ["Environ", "pipeline", "servers"]

SUBJECT, PAYLOAD = "trade.okx.spot.BTC-USDT", b"x" * 100


async def test_a_request_whose_bytes_come_out_even_is_over(pipeline: Pipeline) -> None:
    """The server then ends it without a word, and only counting tells."""
    for _ in range(5):
        await pipeline.send(SUBJECT, PAYLOAD)
    durable = Durable("MARKET_DATA", "C", "trade.>", 30.0)
    await pipeline.broker.ensure(durable)
    came: list[Message] = []
    all_came = asyncio.Event()

    def deliver(messages: list[Message]) -> None:
        came.extend(messages)
        if len(came) == 3:
            all_came.set()

    source = Source(pipeline.broker, durable, deliver=deliver, ended=lambda: None, lost=lambda *_: None)  # type: ignore[arg-type]
    each = len(SUBJECT) + len("$JS.ACK.MARKET_DATA.C.1.1.1.1758700007535109819.4") + len(PAYLOAD)
    source.request(100, 3 * each)
    await asyncio.wait_for(all_came.wait(), PATIENCE)
    assert (source.outstanding, source.outstanding_bytes) == (0, 0)
    waiting = (await pipeline.broker.api("CONSUMER.INFO.MARKET_DATA.C", None))["num_waiting"]
    assert (len(came), waiting) == (3, 0)
