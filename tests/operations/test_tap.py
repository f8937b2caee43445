"""`marketprism tap`: raw, row and verdict of what comes, and nobody misses anything for it."""

from __future__ import annotations

import asyncio
import json
from contextlib import aclosing

import msgspec
from rich.console import Console

from marketprism_api.data_types import BUILT_IN
from marketprism_consumer.commands.tap import block, raw_lines
from marketprism_consumer.operations.tap import TapFilter, tap, tapped
from tests.operations.cli import cli
from tests.pipelines import Pipeline, trade
from tests.waiting import until

ARRIVED = 1_758_700_551_000_000
SUBJECT = "trade.binance_spot.spot.BTC-USDT"


def encoded(**fields: object) -> bytes:
    return msgspec.json.encode(trade(**fields))


async def consumers(pipeline: Pipeline) -> int:
    return int((await pipeline.broker.api("CONSUMER.LIST.MARKET_DATA", {}))["total"])


async def test_a_message_is_shown_as_it_is_published_with_its_row(pipeline: Pipeline) -> None:
    async with aclosing(tap(pipeline.client, pipeline.settings, ["trade"])) as messages:
        coming = asyncio.ensure_future(anext(messages))
        await until(lambda: consumers(pipeline), "tap's consumer is there")
        seq = await pipeline.send(SUBJECT, encoded(price="1.25"))
        one = await coming
    assert (one.seq, one.stream, one.subject, one.verdict) == (seq, "MARKET_DATA", SUBJECT, "row")
    assert one.row is not None
    assert (one.row["price"], one.row["symbol"]) == ("1.25", "BTC-USDT")
    assert json.loads(one.payload)["price"] == "1.25"


async def test_nothing_is_taken_from_ingest_and_no_consumer_is_left(pipeline: Pipeline) -> None:
    for number in range(30):
        await pipeline.send(SUBJECT, encoded(trade_id=str(number)))
    code, text = await cli(pipeline, "tap", "--type", "trade", "--since", "1h", "-n", "30", "--output", "json")
    assert code == 0
    assert [json.loads(line)["seq"] for line in text.splitlines()] == list(range(1, 31))

    async def gone() -> bool:
        return not await consumers(pipeline)

    await until(gone, "tap's consumer is gone")
    await pipeline.ingest()
    assert await pipeline.count("trades") == 30


async def test_filters_and_what_can_not_be_a_row(pipeline: Pipeline) -> None:
    await pipeline.send(SUBJECT, encoded())
    await pipeline.send(SUBJECT, encoded(price="NaN"))
    await pipeline.send("trade.okx_spot.spot.ETH-USDT", b"{")
    arguments = ("tap", "--since", "1h", "--for", "20s", "--output", "json", "--type", "trade", "-n", "1")
    code, text = await cli(pipeline, *arguments, "--refused")
    told = json.loads(text)
    assert (code, told["seq"], told["verdict"], told["code"], told["row"]) == (0, 2, "dead letter", "MP2203", None)
    code, text = await cli(pipeline, *arguments, "--exchange", "okx_spot", "--symbol", "ETH-USDT")
    assert (code, json.loads(text)["seq"], json.loads(text)["raw"]) == (0, 3, "{")
    code, text = await cli(pipeline, "tap", "--since", "1h", "--for", "300ms", "--symbol", "NONE", "-n", "1")
    assert (code, text) == (1, "")


def test_a_message_is_wanted_by_its_row_or_else_by_its_subject() -> None:
    row = encoded(exchange="binance", ts_ms=ARRIVED // 1000, trade_ts_ms=ARRIVED // 1000)
    good = tapped(BUILT_IN["trade"], "S", 1, ARRIVED, SUBJECT, row)
    bad = tapped(BUILT_IN["trade"], "S", 2, ARRIVED, SUBJECT, b"?")
    assert [TapFilter(exchange="binance")(one) for one in (good, bad)] == [True, False]
    assert [TapFilter(exchange="binance_spot")(one) for one in (good, bad)] == [False, True]
    assert [TapFilter(refused_only=True)(one) for one in (good, bad)] == [False, True]


def test_a_message_can_not_steer_the_terminal() -> None:
    console = Console(width=160, record=True, file=None, quiet=False)
    with console.capture() as captured:
        console.print(
            block(
                tapped(BUILT_IN["trade"], "S", 1, ARRIVED, SUBJECT, b'{"a\\u001b[31m": "[red]\\u202e", "b": "\x1b[2J"}')
            )
        )
        console.print(block(tapped(BUILT_IN["trade"], "S", 2, ARRIVED, SUBJECT, b"\x1b[2J" + b"x" * 500)))
    shown = captured.get()
    assert "\x1b[2J" not in shown
    assert "\u202e" not in shown
    assert "[red]" in shown
    assert max(map(len, raw_lines(b"x" * 500))) <= 60
