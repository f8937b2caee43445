"""End to end on embedded servers: JetStream file stream → consumer process → ClickHouse, rows verified.

    python -m bench [--quick] [--processes 1 2] [--output json]

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
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import nats
from nats.js.api import StorageType, StreamConfig

from bench import freshness
from bench.baseline import DDL
from bench.process_tree import cpu, forget_peak, peak_mb, tree
from marketprism_consumer.clickhouse.client import ClickHouse
from marketprism_embedded import process

STREAM = "BENCH"


@dataclass
class Result:
    name: str
    messages: int
    seconds: float
    consumer_us: float
    clickhouse_us: float
    nats_us: float
    consumer_mb: float
    """The peak, of all its processes together; so are those of the servers."""
    clickhouse_mb: float
    nats_mb: float
    parts: int
    """Written and not yet merged."""
    bytes_a_row: float
    """On disk, at the end."""
    shares: list[float]
    """Of the consumer's CPU, by process: the parent, where there are several, then its children."""
    fresh: dict[str, float] = field(default_factory=dict)
    """At half the rate: `p50` and `p99` from publish to visible [s], and the `rate` that was published."""

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


async def measure(name: str, command: list[str], env: dict[str, str], table: str, count: int, servers: Any) -> Result:
    """From the first message delivered to `count` rows visible. The stream holds more, so that nothing waits for more."""
    clickhouse = ClickHouse([servers.clickhouse.url])
    connection = await nats.connect(servers.nats.url)
    js = connection.jetstream()
    pids = servers.clickhouse.pid, servers.nats.pid
    before = {pid: cpu(pid) for pid in pids}
    for pid in pids:
        forget_peak(pid)
    log = tempfile.TemporaryFile()  # noqa: SIM115
    child = subprocess.Popen(command, env={**os.environ, **env}, stdout=log, stderr=log)
    start = None
    idle: dict[int, float] = {}
    used: dict[int, float] = {}
    memory: dict[int, float] = {}
    deadline = time.monotonic() + 300
    try:
        while True:
            if child.poll() not in (None, 0) or time.monotonic() > deadline:
                log.seek(0)
                raise SystemExit(f"{name}: ended with {child.poll()}:\n{log.read().decode()[-2000:]}")
            if start is None:
                if any(one.delivered and one.delivered.stream_seq for one in await js.consumers_info(STREAM)):
                    start = time.monotonic()
                    idle = {pid: cpu(pid) for pid in tree(child.pid)}
                await asyncio.sleep(0.01)
                continue
            if child.poll() is None:
                for pid in tree(child.pid):
                    used[pid] = cpu(pid) - idle.get(pid, 0.0)
                    memory[pid] = max(memory.get(pid, 0.0), peak_mb(pid))
            stored = (await clickhouse.query(f"SELECT count() FROM {table}"))[0][0]
            if stored >= count:
                break
            await asyncio.sleep(0.1)
        seconds = time.monotonic() - start
        spent = {pid: (cpu(pid) - before[pid]) / stored * 1e6 for pid in pids}
        peaks = {pid: peak_mb(pid) for pid in pids}
        parts, size = (
            await clickhouse.query(
                "SELECT countIf(level = 0), sum(bytes_on_disk) / sum(rows) FROM system.parts"
                " WHERE active AND concat(database, '.', table) = {table:String}",
                {"table": table},
            )
        )[0]
        if name.startswith("marketprism"):
            child.terminate()
            child.wait(30)
            found, different, first, last = (
                await clickhouse.query(f"SELECT count(), uniqExact(_seq), min(_seq), max(_seq) FROM {table}")
            )[0]
            # Several are stopped amid stretches of their own.
            whole = (found, 1, found) if len(used) == 1 else (found, 1, last)
            assert (different, first, last) == whole, f"{name}: {found} rows are not every message once"
        consumer = sum(used.values())
        return Result(
            name, stored, seconds, consumer / stored * 1e6, spent[pids[0]], spent[pids[1]], sum(memory.values()),
            peaks[pids[0]], peaks[pids[1]], parts, size, [one / (consumer or 1) for one in used.values()],
        )  # fmt: skip
    finally:
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


async def ours(
    servers: Servers,
    directory: Path,
    data_type: str,
    rows: int,
    count: int,
    processes: int = 1,
    code: str = "",
    fresh: bool = False,
) -> Result:
    """`code`: a PYTHONPATH with the product to measure; without it, the one that is installed. `fresh`: how fresh is it, too?"""
    env = {"NATS_URL": servers.nats.url, "CLICKHOUSE_HTTP_URL": servers.clickhouse.url}
    env |= {"PYTHONPATH": code} if code else {}
    command = await prepared(servers, directory, env, data_type, rows, count + MORE[data_type], processes)
    name = f"marketprism, maxRows {rows}" + (f", {processes} processes" if processes > 1 else "")
    table = f"bench_hot.{TABLE[data_type]}"
    result = await measure(name, command, env, table, count, servers)
    if fresh:
        command = await prepared(servers, directory, env, data_type, rows, 0, processes)
        result.fresh = await freshly(command, env, table, data_type, result.rate / 2, servers)
    return result


async def prepared(
    servers: Servers, directory: Path, env: dict[str, str], data_type: str, rows: int, count: int, processes: int
) -> list[str]:
    """New tables, and a stream of so many messages. Returns the command that stores them."""
    clickhouse = ClickHouse([servers.clickhouse.url])
    for database in ("bench_hot", "bench_cold"):
        await clickhouse.command(f"DROP DATABASE IF EXISTS {database} SYNC")
    await clickhouse.close()
    # Before the tables are made: whoever makes them begins the records of the streams that are there.
    await fill(servers.nats.url, data_type, count)
    batch = "{}" if rows == 100 else f"{{batch: {{maxRows: {rows}, maxDelay: 1s}}}}"  # or the tail waits 10 s
    file = directory / "pipeline.yaml"
    file.write_text(PIPELINE.format(stream=STREAM, data_type=data_type, batch=batch))
    marketprism = [sys.executable, "-m", "marketprism_consumer.cli"]
    apply = [*marketprism, "schema", "apply", "-f", str(file)]
    subprocess.run(apply, env={**os.environ, **env}, check=True, stdout=subprocess.DEVNULL)
    more = ["--processes", str(processes)] if processes > 1 else []
    return [*marketprism, "ingest", "-f", str(file), "--port", "0", "--log-level", "warning", *more]


async def freshly(
    command: list[str], env: dict[str, str], table: str, data_type: str, rate: float, servers: Servers
) -> dict[str, float]:
    """Messages are published at `rate` by this process, on the same machine."""
    connection = await nats.connect(servers.nats.url)
    clickhouse = ClickHouse([servers.clickhouse.url])
    random = Random(7)
    variants = [MAKE[data_type](index, random) for index in range(500)]

    async def publish(number: int) -> None:
        await connection.publish(*variants[number % len(variants)])

    async def visible() -> int:
        return int((await clickhouse.query(f"SELECT count() FROM {table}"))[0][0])

    child = subprocess.Popen(command, env={**os.environ, **env}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        await publish(0)
        while not await visible():
            assert child.poll() is None, f"ended with {child.poll()}"
            await asyncio.sleep(0.05)
        found, reached = await freshness.watch(publish, visible, rate, FRESH_SECONDS)
        return {"p50": freshness.quantile(found, 0.5), "p99": freshness.quantile(found, 0.99), "rate": reached}
    finally:
        child.terminate()
        child.wait(30)
        await connection.close()
        await clickhouse.close()


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


FRESH_SECONDS = 10.0


@contextlib.contextmanager
def servers_in(directory: Path) -> Iterator[Servers]:
    with (
        process.start("nats", directory / "nats") as nats_server,
        process.start("clickhouse", directory / "ch") as server,
    ):
        yield Servers(nats_server, server)


async def run(quick: bool, only: str, processes: Sequence[int], fresh: bool) -> dict[str, list[Result]]:
    found: dict[str, list[Result]] = {}
    with tempfile.TemporaryDirectory(prefix="marketprism-bench-") as name, servers_in(Path(name)) as servers:
        for data_type, sizes in OURS.items():
            if only and only != data_type:
                continue
            part = 4 if quick else 1
            bases: list[Result] = []
            for kind in BASELINES[data_type]:
                bases.append(await usual(servers, data_type, kind, COUNT[data_type] // part))
                line(data_type, bases[-1], bases[:1])
            found[data_type] = [*bases]
            for rows, count in sizes.items():
                # Several share a backlog that is worth it.
                for several in processes if rows > 100 else processes[:1]:
                    result = await ours(
                        servers, Path(name), data_type, rows, count // part, several, fresh=fresh and rows > 100
                    )
                    found[data_type].append(result)
                    line(data_type, result, bases)
    return found


def line(data_type: str, r: Result, bases: list[Result]) -> None:
    ratios = ", ".join(f"{r.rate / base.rate:5.1f}x" for base in bases)
    shares = f"  ({'/'.join(f'{share:.0%}' for share in r.shares)})" if len(r.shares) > 1 else ""
    late = (
        f"  at {r.fresh['rate']:,.0f}/s visible after p50 {r.fresh['p50']:.2f} s, p99 {r.fresh['p99']:.2f} s"
        if r.fresh
        else ""
    )
    print(
        f"{data_type:10} {r.name:38} {r.messages:9,} in {r.seconds:6.2f} s = {r.rate:9,.0f}/s  {ratios:14}"
        f"  µs/message: consumer {r.consumer_us:6.1f}{shares}  clickhouse {r.clickhouse_us:6.1f}  nats {r.nats_us:5.1f}"
        f"  peak MB {r.consumer_mb:4.0f}/{r.clickhouse_mb:4.0f}/{r.nats_mb:4.0f}  {r.parts} parts not yet merged"
        f"  {r.bytes_a_row:,.0f} bytes/row{late}",
        file=sys.stderr,
        flush=True,
    )


def table(found: dict[str, list[Result]]) -> str:
    """For the README."""
    rows = [
        "| | per second | × baseline | CPU µs a message: consumer, ClickHouse, NATS | peak MB: the same | bytes a row |"
        " visible after p50, p99 |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for data_type, results in found.items():
        base = results[0].rate
        for r in results:
            used = ", ".join(
                f"{each:.0f}" if each >= 10 else f"{each:.1f}" for each in (r.consumer_us, r.clickhouse_us, r.nats_us)
            )
            peaks = ", ".join(f"{each:.0f}" for each in (r.consumer_mb, r.clickhouse_mb, r.nats_mb))
            late = f"{r.fresh['p50']:.2f} s, {r.fresh['p99']:.2f} s" if r.fresh else ""
            rows.append(
                f"| {data_type}: {r.name} | {r.rate:,.0f} | {r.rate / base:.1f} | {used} | {peaks} | {r.bytes_a_row:,.0f} | {late} |"
            )
    return "\n".join(rows)


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m bench", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="a quarter of the messages")
    parser.add_argument("--only", choices=OURS, default="", help="only this data type")
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2], help="of the consumer; each number in turn")
    parser.add_argument("--no-freshness", action="store_true", help="without the part at half the rate")
    parser.add_argument("--output", choices=("table", "json"), default="table", help="on stdout, at the end")
    arguments = parser.parse_args()
    found = asyncio.run(run(arguments.quick, arguments.only, arguments.processes, not arguments.no_freshness))
    if arguments.output == "json":
        print(json.dumps({name: [{**asdict(r), "rate": r.rate} for r in results] for name, results in found.items()}))
    else:
        print(table(found))


if __name__ == "__main__":
    main()
