"""Holes of a feed, healed: from the stream what it still holds, from the venue's archive the rest. Told first, stored once, noted."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
import zipfile
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest

from marketprism_api.data_types import BUILT_IN
from marketprism_consumer.commands.common import moment
from marketprism_consumer.errors import Fault, HealRunsError, StoreError
from marketprism_consumer.faultpoints import HEAL
from marketprism_consumer.ingest.decode import decode
from marketprism_consumer.operations.healing import claim as claims
from marketprism_consumer.operations.healing.claim import HealingClaim
from marketprism_consumer.schema.tables import TRADES as TRADES_TABLE
from marketprism_consumer.validation.run import Report, Validation, ValidationRequest
from tests.blocks import block_of
from tests.operations.cli import alone, cli, cli_json
from tests.pipelines import Pipeline, trade

FIRST = 1_758_700_800_000  # 2025-09-24T08:00 [ms]
TRADES = 6_000  # two pieces of a file
SYMBOL = "BTC-USDT"
SERIES = ("--exchange", "binance_spot", "--symbol", SYMBOL)
WINDOW = ("--from", "2025-09-24T07:00", "--to", "2025-09-24T09:40", "--type", "trade")
HOLES = (range(1000, 1100), range(4900, 5200), range(5500, 5501))
"""Of numbers. The second one reaches over two pieces."""
VALID = "6"  # how long an insert may be on its way, here; the next one waits for half of it [s]
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


async def validated(pipeline: Pipeline) -> Report:
    settings = pipeline.settings
    validation = Validation(
        pipeline.clickhouse, settings.hot_db, settings.cold_db, settings.declarations, settings.limits
    )
    start, end = (moment(WINDOW[n], 0) for n in (1, 3))
    return await validation.run(ValidationRequest(start, end, ["trade"]))


async def killed(pipeline: Pipeline, point: str, *arguments: str) -> None:
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "marketprism_consumer.cli", "heal", *arguments, "-f", str(pipeline.file),
        env={**os.environ, "MARKETPRISM_TEST_VALID": VALID, "MARKETPRISM_FAULTPOINT": f"{point}:kill"},
    )  # fmt: skip
    assert await child.wait() == -signal.SIGKILL


async def test_a_feed_with_holes_is_whole_again(pipeline: Pipeline, tmp_path: Path) -> None:
    gone = {number for hole in HOLES for number in hole}
    await feed(pipeline, [number for number in range(TRADES) if number not in gone])
    told_by_validate = await validated(pipeline)
    assert {(finding.reason.name, finding.count) for finding in told_by_validate.findings} == {
        ("TradesMissing", MISSING),
        ("Silence", 1),
    }
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
    for point in HEAL:
        await killed(pipeline, point, str(file), *SERIES, "--why", "the collector was down")
    code, told = await cli_json(pipeline, "heal", str(file), *SERIES)
    assert (code, told["ok"]) == (0, True)
    assert await rows(pipeline, "count(), uniqExact(trade_id)") == [(TRADES, TRADES)]
    assert await rows(pipeline, "count(), uniqExact(_stream), uniqExact(_seq)", "startsWith(_stream, 'file:')") == [
        (MISSING, 1, MISSING)
    ]

    # As if they had never been missing, also where tiering has taken them to cold.
    code, said = await alone(pipeline, "migrate", "--table", "trades", "--older-than", "8h")
    assert (code, await pipeline.count("trades"), await pipeline.count("trades", "cold")) == (0, 0, TRADES), said
    assert (await validated(pipeline)).fine
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


async def test_the_stream_comes_first_and_exported_rows_come_back_as_they_were(
    pipeline: Pipeline, tmp_path: Path
) -> None:
    now = int(time.time() * 1000) - 60_000
    for number in range(40):
        young = trade(trade_id=str(number + 1), ts_ms=now + number, trade_ts_ms=now + number)
        await pipeline.send("trade.binance_spot.spot.BTC-USDT", msgspec.json.encode(young))
    for number in range(30):
        at = FIRST + number * 60_000
        of_old = {"exchange": "okx", "market_type": "perpetual", "symbol": "ETH-USDT", "ts_ms": at, "trade_ts_ms": at}
        old = trade(trade_id=f"t-{number}", price="0.000000000000000001", is_maker=True, **of_old)
        await pipeline.send("trade.okx.perpetual.ETH-USDT", msgspec.json.encode(old))
        book = {
            **of_old,
            "last_update_id": number + 1,
            "update_type": "snapshot",
            "bids": [["9.5", "1"], ["9", "2"]],
            "asks": [["10", "3"]],
        }
        await pipeline.send("orderbook.okx.perpetual.ETH-USDT", msgspec.json.encode(book))
    await pipeline.ingest()

    # Rows were lost that the stream still holds.
    await pipeline.change("ALTER TABLE {hot}.trades DELETE WHERE trade_id IN ('11', '12', '13')")
    young_ones = ("--since", "1h", "--type", "trade", "--symbol", SYMBOL)
    code, told = await cli_json(pipeline, "heal", *young_ones, "--dry-run")
    assert (code, [each["missing"] for each in told["holes"]], [each["rows"] for each in told["replayed"]]) == (
        0,
        [3],
        [3],
    )
    assert await pipeline.count("trades") == 67
    code, told = await cli_json(pipeline, "heal", *young_ones, "--why", "a partition was dropped")
    assert (code, [each["rows"] for each in told["replayed"]], told["left"]) == (0, [3], [])
    assert await pipeline.count("trades") == 70
    entries = await pipeline.clickhouse.query(f"SELECT how, healed, why, name FROM {pipeline.hot}.incidents FINAL")
    assert entries == [("replay", 3, "a partition was dropped", "MARKET_DATA")]

    # Rows were lost that were exported, and that no stream holds any more.
    code, said = await cli(
        pipeline, "export", "write", str(tmp_path / "data"), "--from", "2025-09-24", "--to", "2025-09-25"
    )
    assert code == 0, said
    files = sorted(str(path) for path in (tmp_path / "data").rglob("*.parquet"))
    assert len(files) == 2
    for stream in ("MARKET_DATA", "ORDERBOOK_SNAP"):
        await pipeline.broker.api(f"STREAM.PURGE.{stream}", None)
    everything = "SELECT * EXCEPT created_at FROM {}.all_{} WHERE exchange = 'okx' ORDER BY _seq"
    before = {
        table: await pipeline.clickhouse.query(everything.format(pipeline.hot, table))
        for table in ("trades", "orderbooks")
    }
    await pipeline.change("ALTER TABLE {hot}.trades DELETE WHERE exchange = 'okx' AND trade_id IN ('t-3', 't-4')")
    await pipeline.change("INSERT INTO {cold}.orderbooks SELECT * FROM {hot}.orderbooks WHERE last_update_id < 6")
    await pipeline.change("ALTER TABLE {hot}.orderbooks DELETE WHERE last_update_id < 11")
    code, told = await cli_json(pipeline, "heal", *files)
    assert (code, sorted(each["stored"] for each in told["files"])) == (0, [2, 5]), told
    code, told = await cli_json(pipeline, "heal", *files)
    assert (code, [each["stored"] for each in told["files"]]) == (0, [0, 0])
    after = {table: await pipeline.clickhouse.query(everything.format(pipeline.hot, table)) for table in before}
    assert after == before
    code, told = await cli_json(pipeline, "audit")
    assert (code, told["holds"]) == (0, True)

    # Export and console have the same entries.
    code, said = await cli(
        pipeline, "export", "write", str(tmp_path / "again"), "--from", "2025-09-24", "--to", "2025-09-25"
    )
    assert code == 0, said
    manifest = json.loads((tmp_path / "again" / "manifest.json").read_text())
    assert [(each["dataType"], each["how"], each["healed"]) for each in manifest["incidents"]] == [
        ("trade", "file", 2),
        ("orderbook", "file", 5),
    ]


async def test_one_at_a_time_and_nothing_of_the_last_one_comes_after_the_next_has_begun(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(claims, "INSERT_WITHIN", 2)

    def claim() -> HealingClaim:
        return HealingClaim(pipeline.records, pipeline.store, TRADES_TABLE)

    async with claim() as first:
        second = asyncio.ensure_future(claim().__aenter__())
        while not second.done():
            await first.renew()
        with pytest.raises(HealRunsError, match="another `marketprism heal` of trades runs"):
            await second
    async with claim() as third:  # the first one has ended, and nothing of it is on its way
        until = await third.renew()
        third.sending()
    row = decode(BUILT_IN["trade"], "", msgspec.json.encode(trade()), 1 << 60)
    async with claim():
        with pytest.raises(StoreError) as refused:
            await pipeline.store.insert(block_of(TRADES_TABLE, [row], [1], ["file:x"]), until)
        assert refused.value.fault is Fault.LATE
