"""Holes of a feed, healed: from the stream what it still holds, from the venue's archive the rest. Told first, stored once, noted."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import zipfile
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec

from marketprism_consumer.faultpoints import POINTS
from tests.operations.cli import alone, cli, cli_json
from tests.pipelines import Pipeline, trade

FIRST = 1_758_700_800_000  # 2025-09-24T08:00 [ms]
TRADES = 6_000  # two pieces of a file
SYMBOL = "BTC-USDT"
SERIES = ("--exchange", "binance_spot", "--symbol", SYMBOL)
WINDOW = ("--from", "2025-09-24T07:00", "--to", "2025-09-24T09:40", "--type", "trade")
HOLES = (range(1000, 1100), range(4900, 5200), range(5500, 5501))
"""Of numbers. The second one reaches over two pieces."""
VALID = "10"  # how long an insert may be on its way, here; the next one waits for half of it [s]
MISSING = sum(map(len, HOLES))


def price(number: int) -> str:
    return f"{112_345 + number % 7}.{number % 10}0000001"


def sides(number: int) -> str:
    return "sell" if number % 3 else "buy"


def published(number: int) -> bytes:
    at = FIRST + number * 1000
    own = trade(
        trade_id=str(number), price=price(number), quantity="0.00010000", side=sides(number),
        ts_ms=at, trade_ts_ms=at, collected_ts_ms=at + 40,
    )  # fmt: skip
    return msgspec.json.encode(own)


def archive(place: Path, numbers: Sequence[int] = range(TRADES), **changed: str) -> Path:
    """As Binance gives a day's trades away, in µs; `changed`: prices by `trade_<id>`."""
    place.mkdir(exist_ok=True)
    path = place / "BTCUSDT-trades-2025-09-24.zip"
    rows = [
        f"{number},{changed.get(f'trade_{number}', price(number))},0.00010000,11.2,{(FIRST + number * 1000) * 1000},"
        f"{sides(number) == 'sell'},True\n"
        for number in numbers
    ]
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as zipped:
        zipped.writestr("BTCUSDT-trades-2025-09-24.csv", "".join(rows))
    return path


async def feed(pipeline: Pipeline, numbers: Sequence[int]) -> None:
    stream = pipeline.client.jetstream()
    for at in range(0, len(numbers), 500):
        sent = (stream.publish("trade.binance_spot.spot.BTC-USDT", published(n)) for n in numbers[at : at + 500])
        await asyncio.gather(*sent)
    await pipeline.ingest()


async def rows(pipeline: Pipeline, what: str, where: str = "1") -> Any:
    return await pipeline.clickhouse.query(f"SELECT {what} FROM {pipeline.hot}.all_trades WHERE {where}")


async def killed(pipeline: Pipeline, point: str, *arguments: str) -> None:
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "marketprism_consumer.cli", "heal", *arguments, "-f", str(pipeline.file),
        env={**os.environ, "MARKETPRISM_TEST_VALID": VALID, "MARKETPRISM_FAULTPOINT": f"{point}:kill"},
    )  # fmt: skip
    assert await child.wait() == -signal.SIGKILL


async def test_a_feed_with_holes_is_whole_again(pipeline: Pipeline, tmp_path: Path) -> None:
    gone = {number for hole in HOLES for number in hole}
    await feed(pipeline, [number for number in range(TRADES) if number not in gone])
    code, said = await alone(pipeline, "validate", *WINDOW)
    assert (code, f"({MISSING})" in said) == (1, True), said
    file = archive(tmp_path)

    # The stream has none of it.
    code, told = await cli_json(pipeline, "heal", *WINDOW)
    assert (code, len(told["holes"]), told["replayed"], len(told["left"])) == (1, 3, [], 3)
    code, said = await cli(pipeline, "heal", *WINDOW, "--dry-run")
    assert "trade_id 1000 to 1099" in said

    # What the file would do is told before.
    code, told = await cli_json(pipeline, "heal", str(file), *SERIES, "--dry-run")
    (plan,) = [each["plan"] for each in told["files"]]
    assert (code, plan["read"], plan["there"], plan["missing"], plan["disagreeing"]) == (
        0,
        TRADES,
        TRADES - MISSING,
        MISSING,
        0,
    )
    assert await rows(pipeline, "count()") == [(TRADES - MISSING,)]
    assert await rows(pipeline, "count()", "startsWith(_stream, 'file:')") == [(0,)]

    # Killed at every step, then run to its end.
    for point in (point for point in POINTS if point.startswith("heal_")):
        await killed(pipeline, point, str(file), *SERIES, "--why", "the collector was down")
    code, told = await cli_json(pipeline, "heal", str(file), *SERIES)
    assert (code, told["ok"]) == (0, True)
    assert await rows(pipeline, "count(), uniqExact(trade_id)") == [(TRADES, TRADES)]
    assert await rows(pipeline, "count(), uniqExact(_stream), uniqExact(_seq)", "startsWith(_stream, 'file:')") == [
        (MISSING, 1, MISSING)
    ]

    # As if they had never been missing.
    code, said = await alone(pipeline, "validate", *WINDOW)
    assert (code, said.startswith("FINE")) == (0, True), said
    code, told = await cli_json(pipeline, "audit", "--deep", "--type", "trade")
    assert (code, told["holds"]) == (0, True)
    assert any("healed from a file" in note and f"{MISSING} rows" in note for note in told["types"][0]["notes"])
    healed = await rows(
        pipeline, "price, quantity, toString(side), toUnixTimestamp64Milli(timestamp), collected_at, data_source, _seq",
        "trade_id = '5000'",
    )  # fmt: skip
    assert healed == [
        (Decimal(price(5000)), Decimal("0.0001"), sides(5000), FIRST + 5_000_000, None, "binance_archive", 5001)
    ]

    # One entry, whatever was killed.
    entries = await pipeline.clickhouse.query(
        "SELECT data_type, symbol, toUnixTimestamp64Milli(since), toUnixTimestamp64Milli(until), missing, healed, how, name, why, ended"
        f" FROM {pipeline.hot}.incidents FINAL"
    )
    assert [entry[:8] for entry in entries] == [
        ("trade", SYMBOL, FIRST + 1_000_000, FIRST + 5_500_000, MISSING, MISSING, "file", file.name)
    ]
    assert entries[0][9] is True

    # The same file once more, and one that has another price for a trade that is there.
    code, told = await cli_json(pipeline, "heal", str(file), *SERIES)
    assert (code, told["files"][0]["stored"], told["files"][0]["plan"]["missing"]) == (0, 0, 0)
    other = archive(tmp_path / "other", trade_77="1.5")
    code, told = await cli_json(pipeline, "heal", str(other), *SERIES)
    assert (code, told["files"][0]["stored"], told["files"][0]["plan"]["disagreeing"]) == (1, 0, 1)
    assert told["files"][0]["plan"]["disagreements"][0]["text"] == f"price 1.5 in the file, {price(77)} there"
    assert await rows(pipeline, "count(), any(price)", "trade_id = '77'") == [(1, Decimal(price(77)))]
