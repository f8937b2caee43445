"""End to end on embedded servers: JetStream file stream → consumer process → ClickHouse, rows verified.

    python -m bench [--quick] [--output json]

Ratios are of one run on one machine; absolute figures are that machine's.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random
from typing import Any

import nats
from nats.js.api import StorageType, StreamConfig

from bench.baseline import DDL
from marketprism_consumer.clickhouse.client import ClickHouse
from marketprism_embedded import process

TICKS = os.sysconf("SC_CLK_TCK")
STREAM = "BENCH"


@dataclass
class Result:
    name: str
    messages: int
    seconds: float
    consumer_us: float
    clickhouse_us: float
    nats_us: float
    peak_mb: float
    inserts: int
    shares: list[float]
    """Of the consumers' CPU, by process."""

    @property
    def rate(self) -> float:
        return self.messages / self.seconds


def trade(index: int, random: Random) -> tuple[str, bytes]:
    stamp = f"2025-09-24 07:{index // 60000 % 60:02d}:{index // 1000 % 60:02d}.{index % 1000:03d}"
    body = {
        "symbol": "BTC-USDT", "price": f"{112000 + random.random() * 1000:.8f}", "quantity": f"{random.random():.8f}",
        "timestamp": stamp, "trade_time": stamp, "collected_at": stamp, "side": random.choice(("buy", "sell")),
        "trade_id": str(5_000_000_000 + index), "exchange": "binance_spot", "market_type": "spot",
        "data_source": "marketprism", "normalized_symbol": "BTC-USDT", "data_type": "trade",
        "publisher": "unified-collector",
    }  # fmt: skip
    return "trade.binance_spot.spot.BTC-USDT", json.dumps(body).encode()


def orderbook(index: int, random: Random) -> tuple[str, bytes]:
    stamp = f"2025-09-24 07:{index // 60000 % 60:02d}:{index // 1000 % 60:02d}.{index % 1000:03d}"

    def side(sign: int) -> list[dict[str, str]]:
        return [
            {"price": f"{112345 + sign * (level + 1) * 0.1:.2f}", "quantity": f"{random.random() * 5:.8f}"}
            for level in range(200)
        ]

    body = {
        "exchange": "binance_derivatives", "market_type": "perpetual", "symbol": "BTC-USDT",
        "last_update_id": 8_812_345_678_901 + index, "bids": side(-1), "asks": side(1), "timestamp": stamp,
        "update_type": "snapshot", "depth_levels": 400, "data_source": "marketprism", "collected_at": stamp,
        "data_type": "orderbook", "publisher": "unified-collector",
    }  # fmt: skip
    return "orderbook.binance_derivatives.perpetual.BTC-USDT", json.dumps(body).encode()


MAKE = {"trade": trade, "orderbook": orderbook}
TABLE = {"trade": "trades", "orderbook": "orderbooks"}


async def fill(url: str, data_type: str, count: int) -> None:
    """A stream with `count` messages, with Nats-Msg-Id as collectors send it. The duplicate window is kept short: it is
    the publisher's affair, and its memory would be counted as ours."""
    connection = await nats.connect(url)
    js = connection.jetstream()
    with contextlib.suppress(nats.js.errors.NotFoundError):
        await js.delete_stream(STREAM)
    await js.add_stream(
        StreamConfig(STREAM, subjects=[f"{data_type}.>"], storage=StorageType.FILE, duplicate_window=0.1)
    )
    random = Random(7)
    variants = [MAKE[data_type](i, random) for i in range(count if data_type == "trade" else min(count, 500))]
    for index in range(count):
        subject, payload = variants[index % len(variants)]
        await connection.publish(subject, payload, headers={"Nats-Msg-Id": f"{data_type}:bench:{index}"})
        if index % 1000 == 999:
            await connection.flush()
    await connection.flush()
    while (await js.stream_info(STREAM)).state.messages < count:
        await asyncio.sleep(0.05)
    await connection.close()


def cpu(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def peak_mb(pid: int) -> float:
    """0 for a process that has just ended."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM")), 0.0)


async def measure(
    name: str, command: list[str], env: dict[str, str], table: str, count: int, servers: Any, processes: int = 1
) -> Result:
    """From the first message delivered to `count` rows visible. The stream holds more, so that nothing waits for more."""
    clickhouse = ClickHouse([servers.clickhouse.url])
    connection = await nats.connect(servers.nats.url)
    js = connection.jetstream()
    before = {server.pid: cpu(server.pid) for server in (servers.clickhouse, servers.nats)}
    log = tempfile.TemporaryFile()  # noqa: SIM115
    children = [subprocess.Popen(command, env={**os.environ, **env}, stdout=log, stderr=log) for _ in range(processes)]
    start = None
    used, memory = [0.0], 0.0
    idle = [0.0] * processes
    deadline = time.monotonic() + 300
    try:
        while True:
            codes = [child.poll() for child in children]
            if any(code not in (None, 0) for code in codes) or time.monotonic() > deadline:
                log.seek(0)
                raise SystemExit(f"{name}: ended with {codes}:\n{log.read().decode()[-2000:]}")
            if start is None:
                if any(one.delivered and one.delivered.stream_seq for one in await js.consumers_info(STREAM)):
                    start = time.monotonic()
                    idle = [cpu(child.pid) for child in children]
                await asyncio.sleep(0.01)
                continue
            if codes == [None] * processes:
                used = [cpu(child.pid) - before_it for child, before_it in zip(children, idle, strict=True)]
                memory = max(memory, *(peak_mb(child.pid) for child in children))
            stored = (await clickhouse.query(f"SELECT count() FROM {table}"))[0][0]
            if stored >= count:
                break
            await asyncio.sleep(0.1)
        seconds = time.monotonic() - start
        spent = {pid: cpu(pid) - cpu_before for pid, cpu_before in before.items()}
        parts = await clickhouse.query(
            "SELECT count() FROM system.parts WHERE concat(database, '.', table) = {table:String} AND level = 0",
            {"table": table},
        )
        if name.startswith("marketprism"):
            for child in children:
                child.terminate()
                child.wait(30)
            check = await clickhouse.query(f"SELECT count(), uniqExact(_seq), min(_seq), max(_seq) FROM {table}")
            rows = check[0][0]
            # Several are stopped amid stretches of their own.
            last = rows if processes == 1 else check[0][3]
            assert check[0] == (rows, rows, 1, last), f"{name}: {check[0]} is not every message once"
        return Result(
            name, stored, seconds, sum(used) / stored * 1e6, spent[servers.clickhouse.pid] / stored * 1e6,
            spent[servers.nats.pid] / stored * 1e6, memory, parts[0][0], [one / (sum(used) or 1) for one in used],
        )  # fmt: skip
    finally:
        for child in children:
            if child.poll() is None:
                child.terminate()
                child.wait(30)
        await connection.close()
        await clickhouse.close()


PIPELINE = """
apiVersion: storage.marketprism.io/v1alpha1
kind: StoragePipeline
metadata: {{name: bench}}
spec:
  nats: {{streams: {{default: {stream}}}}}
  clickhouse: {{hotDatabase: bench_hot, coldDatabase: bench_cold}}
  dataTypes:
    {data_type}: {batch}
"""


@dataclass
class Servers:
    nats: Any
    clickhouse: Any


async def ours(servers: Servers, directory: Path, data_type: str, rows: int, count: int, processes: int = 1) -> Result:
    clickhouse = ClickHouse([servers.clickhouse.url])
    for database in ("bench_hot", "bench_cold"):
        await clickhouse.command(f"DROP DATABASE IF EXISTS {database} SYNC")
    await clickhouse.close()
    # Before the tables are made: whoever makes them begins the records of the streams that are there.
    await fill(servers.nats.url, data_type, count + MORE[data_type])
    batch = "{}" if rows == 100 else f"{{batch: {{maxRows: {rows}, maxDelay: 1s}}}}"  # or the tail waits 10 s
    file = directory / "pipeline.yaml"
    file.write_text(PIPELINE.format(stream=STREAM, data_type=data_type, batch=batch))
    env = {"NATS_URL": servers.nats.url, "CLICKHOUSE_HTTP_URL": servers.clickhouse.url}
    marketprism = str(Path(sys.executable).parent / "marketprism")
    subprocess.run(
        [marketprism, "schema", "apply", "-f", str(file)],
        env={**os.environ, **env},
        check=True,
        stdout=subprocess.DEVNULL,
    )
    command = [marketprism, "ingest", "-f", str(file), "--port", "0", "--log-level", "warning"]
    return await measure(
        f"marketprism, maxRows {rows}" + (f", {processes} processes" if processes > 1 else ""),
        command,
        env,
        f"bench_hot.{TABLE[data_type]}",
        count,
        servers,
        processes,
    )


async def usual(servers: Servers, data_type: str, kind: str, count: int) -> Result:
    clickhouse = ClickHouse([servers.clickhouse.url])
    await clickhouse.command("CREATE DATABASE IF NOT EXISTS baseline")
    await clickhouse.command(f"DROP TABLE IF EXISTS baseline.{kind} SYNC")
    await clickhouse.command(DDL[kind])
    await clickhouse.close()
    await fill(servers.nats.url, data_type, count)
    command = [
        sys.executable,
        "-m",
        "bench.baseline",
        servers.nats.url,
        servers.clickhouse.url,
        STREAM,
        kind,
        str(count),
    ]
    return await measure(BASELINES[data_type][kind], command, {}, f"baseline.{kind}", count, servers)


BASELINES = {
    "trade": {"trade": "baseline: push, json.loads, 100 rows"},
    "orderbook": {
        "orderbook": "baseline: the same, levels as JSON text",
        "orderbook_typed": "baseline: the same, levels as decimals",
    },
}
COUNT = {"trade": 20_000, "orderbook": 2_000}
OURS = {"trade": {100: 200_000, 10_000: 1_000_000}, "orderbook": {100: 10_000, 10_000: 20_000}}
"""Messages by `maxRows`."""
MORE = {"trade": 150_000, "orderbook": 3_000}
"""What the stream holds beyond that: the last batch would wait up to `maxDelay` for more."""


async def run(quick: bool, only: str, processes: int) -> dict[str, list[Result]]:
    found: dict[str, list[Result]] = {}
    with tempfile.TemporaryDirectory(prefix="marketprism-bench-") as name:
        directory = Path(name)
        with (
            process.start("nats", directory / "nats") as nats_server,
            process.start("clickhouse", directory / "ch") as clickhouse,
        ):
            servers = Servers(nats_server, clickhouse)
            for data_type, sizes in OURS.items():
                if only and only != data_type:
                    continue
                part = 4 if quick else 1
                bases: list[Result] = []
                for kind in BASELINES[data_type] if processes == 1 else ():
                    bases.append(await usual(servers, data_type, kind, COUNT[data_type] // part))
                    line(data_type, bases[-1], bases[:1])
                found[data_type] = [*bases]
                for rows, count in sizes.items():
                    found[data_type].append(await ours(servers, directory, data_type, rows, count // part, processes))
                    line(data_type, found[data_type][-1], bases)
    return found


def line(data_type: str, r: Result, bases: list[Result]) -> None:
    ratios = ", ".join(f"{r.rate / base.rate:5.1f}x" for base in bases) or "/".join(f"{s:.0%}" for s in r.shares)
    print(
        f"{data_type:10} {r.name:38} {r.messages:9,} in {r.seconds:6.2f} s = {r.rate:9,.0f}/s  {ratios:14}"
        f"  µs/message: consumer {r.consumer_us:6.1f}  clickhouse {r.clickhouse_us:6.1f}  nats {r.nats_us:5.1f}"
        f"  peak {r.peak_mb:4.0f} MB  {r.inserts} parts written and not yet merged",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m bench", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="a quarter of the messages")
    parser.add_argument("--only", choices=OURS, default="", help="only this data type")
    parser.add_argument("--processes", type=int, default=1, help="that share the backlog; then without the baselines")
    parser.add_argument("--output", choices=("text", "json"), default="text")
    arguments = parser.parse_args()
    found = asyncio.run(run(arguments.quick, arguments.only, arguments.processes))
    if arguments.output == "json":
        print(json.dumps({name: [{**asdict(r), "rate": r.rate} for r in results] for name, results in found.items()}))


if __name__ == "__main__":
    main()
