"""Hot to cold with every check, against a bare INSERT … SELECT and DELETE of the same rows.

    python -m bench.tiering [--rows 5000000] [--output json]

One embedded server, one run: the ratio counts, absolute figures are this machine's.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from marketprism_api.credentials import ClickHouseAuth
from marketprism_api.settings import effective
from marketprism_consumer.clickhouse import schema
from marketprism_consumer.clickhouse.client import ClickHouse
from marketprism_consumer.schema.tables import TRADES
from marketprism_consumer.tiering.servers import server as open_server
from marketprism_embedded import process

HOURS = 30
YOUNG = 500_000
ROUNDS = 3


@dataclass
class Result:
    rows: int
    bare_seconds: float
    seconds: float
    ratio: float
    rows_per_second: float
    peak_mb: float
    read_idle_ms: float
    read_busy_ms: float
    read_ratio: float


async def fill(server: ClickHouse, database: str, rows: int) -> None:
    """`rows` over 30 hours that are due, and half a million that are not."""
    columns = (
        "INSERT INTO {database}.trades (timestamp, exchange, market_type, symbol, trade_id, price, quantity, side, is_maker,"
        " trade_time, data_source, collected_at, _stream, _seq) SELECT {time} AS t, ['binance_spot', 'okx_spot',"
        " 'bybit_spot'][1 + number % 3], 'spot', concat('S', toString(number % 10), '-USDT'), toString(5000000000 + number),"
        " toDecimal64(100000 + rand(1) % 1000000 / 100, 8), toDecimal64(rand(2) % 100000000 / 100000000, 8),"
        " ['buy', 'sell'][1 + rand(3) % 2], NULL, t, 'marketprism', t + 0.05, 'MARKET_DATA@bench', number + {first}"
        " FROM numbers({count})"
    )
    old = f"now64(6) - INTERVAL 39 HOUR + toIntervalMicrosecond(intDiv(number * {HOURS * 3600 * 1000}, {rows}) * 1000)"
    young = "now64(6) - toIntervalMicrosecond(number * 7000)"
    for time_, count, first in ((old, rows, 1), (young, YOUNG, rows + 1)):
        await server.command(columns.format(database=database, time=time_, count=count, first=first))


async def databases(url: str, name: str) -> tuple[str, str]:
    environ = {"CLICKHOUSE_HTTP_URL": url, "CLICKHOUSE_HOT_DB": f"{name}_hot", "CLICKHOUSE_COLD_DB": f"{name}_cold"}
    clickhouse = ClickHouse([url])
    for database in (environ["CLICKHOUSE_HOT_DB"], environ["CLICKHOUSE_COLD_DB"]):
        await clickhouse.command(f"DROP DATABASE IF EXISTS {database} SYNC")
    settings = replace(effective(None, environ), hot_retention=None)
    await schema.apply(clickhouse, settings)
    await clickhouse.close()
    return settings.hot_db, settings.cold_db


async def bare(server: ClickHouse, hot: str, cold: str) -> float:
    """What one would write by hand: no identity, no check, nothing that survives a kill."""
    names = ", ".join(column.name for column in TRADES.stored)
    due = "WHERE timestamp < now() - INTERVAL 8 HOUR"
    began = time.monotonic()
    every = {"max_threads": os.cpu_count() or 2}
    await server.command(f"INSERT INTO {cold}.trades ({names}) SELECT {names} FROM {hot}.trades {due}", settings=every)
    await server.command(f"ALTER TABLE {hot}.trades DELETE {due}", settings=every)
    return time.monotonic() - began


class Reader:
    """What a dashboard asks, again and again, with a pause as long as the answer took."""

    def __init__(self, url: str, hot: str) -> None:
        self.took: list[float] = []
        self._url, self._hot = url, hot
        self._done = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._read()))

    def __enter__(self) -> Reader:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    async def _read(self) -> None:
        server = open_server([self._url], ClickHouseAuth, "bench reader")
        sql = (
            "SELECT toStartOfMinute(timestamp) AS minute, count(), sum(quantity), max(price) FROM"
            f" {self._hot}.trades WHERE exchange = 'okx_spot' AND symbol = 'S1-USDT' AND timestamp > now() - INTERVAL 50 MINUTE"
            " GROUP BY minute ORDER BY minute"
        )
        while not self._done.is_set():
            began = time.monotonic()
            await server.query(sql)
            self.took.append(time.monotonic() - began)
            await asyncio.sleep(self.took[-1])
        await server.close()


def peak_mb(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    line = next((line for line in status.splitlines() if line.startswith("VmHWM")), "VmHWM: 0 kB")
    return int(line.split()[1]) / 1024


def migrate(url: str, hot: str, cold: str) -> tuple[dict[str, Any], float]:
    """As a user runs it. Returns its result, and its memory at its peak."""
    child = subprocess.Popen(
        [sys.executable, "-m", "marketprism_consumer.cli", "migrate", "--table", "trades", "--output", "json"],
        env={**os.environ, "CLICKHOUSE_HTTP_URL": url, "CLICKHOUSE_HOT_DB": hot, "CLICKHOUSE_COLD_DB": cold,
             "MIGRATION_BATCH_LIMIT": "1000000000"},
        stdout=subprocess.PIPE,
        text=True,
    )  # fmt: skip
    peak = 0.0
    while child.poll() is None:
        peak = max(peak, peak_mb(child.pid))
        time.sleep(0.02)
    assert child.stdout is not None
    result = json.loads(child.stdout.read().splitlines()[-1])
    if not result["ok"]:
        raise SystemExit(f"the migration failed: {result}")
    return result, peak


async def measure(url: str, rows: int) -> Result:
    server = open_server([url], ClickHouseAuth, "bench")
    by_hand, ours, memory, idle, busy = [], [], [], [], []
    for _ in range(ROUNDS):
        hot, cold = await databases(url, "bare")
        await fill(server, hot, rows)
        by_hand.append(await bare(server, hot, cold))
        hot, cold = await databases(url, "ours")
        await fill(server, hot, rows)
        with Reader(url, hot) as reader:
            await asyncio.sleep(2)
            idle += reader.took[5:]
        with Reader(url, hot) as reader:
            result, peak = await asyncio.to_thread(migrate, url, hot, cold)
            busy += reader.took[5:]
        moved = await server.query(f"SELECT count(), uniqExact(_seq) FROM {cold}.trades")
        assert moved == [(rows, rows)], moved
        assert (await server.query(f"SELECT count() FROM {hot}.trades"))[0][0] == YOUNG
        ours.append(float(result["tables"]["trades"]["seconds"]))
        memory.append(peak)
    await server.close()
    hand, own = statistics.median(by_hand), statistics.median(ours)
    quiet, loud = statistics.median(idle) * 1000, statistics.median(busy) * 1000
    return Result(rows, hand, own, own / hand, rows / own, max(memory), quiet, loud, loud / quiet)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=5_000_000)
    parser.add_argument("--output", choices=("text", "json"), default="text")
    given = parser.parse_args()
    with (
        tempfile.TemporaryDirectory(prefix="bench-tiering-") as directory,
        process.start("clickhouse", Path(directory), stderr=subprocess.DEVNULL) as clickhouse,
    ):
        result = asyncio.run(measure(clickhouse.url, given.rows))
    if given.output == "json":
        print(json.dumps(asdict(result)))
        return
    reads = f"{result.read_idle_ms:.1f} ms idle, {result.read_busy_ms:.1f} ms meanwhile"
    print(f"{result.rows:,} trades hot → cold, one server, the median of {ROUNDS}")
    print(f"  bare INSERT … SELECT and DELETE  {result.bare_seconds:6.2f} s")
    print(f"  marketprism migrate              {result.seconds:6.2f} s, {result.ratio:.2f} × bare (target 2)")
    print(f"  {result.rows_per_second:,.0f} rows/s; the migrator has {result.peak_mb:.0f} MB at most (target 150)")
    print(f"  a reader of hot waits {reads}: {result.read_ratio:.2f} × (target 2)")


if __name__ == "__main__":
    main()
