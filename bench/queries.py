"""What the documented queries and a validation cost on a day of data, on one embedded server.

    python -m bench.queries [--trades 10000000] [--books 1000000] [--write]

`--write` puts the table into docs/queries.md. The median of nine runs, after one to warm up.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from bench import a_day, upstream
from marketprism_api.data_types import BUILT_IN
from marketprism_api.settings import effective
from marketprism_consumer.clickhouse import schema
from marketprism_consumer.clickhouse.client import ClickHouse
from marketprism_consumer.operations import questions
from marketprism_consumer.validation.run import Validation, ValidationRequest
from marketprism_embedded import process

PAGE = Path(__file__).parents[1] / "docs" / "queries.md"
ROUNDS = 9
MIDNIGHT = 1_758_672_000_000_000
VALIDATED = [
    "trade",
    "orderbook",
    "funding_rate",
    "open_interest",
    "lsr_top_position",
]


def documented(text: str) -> dict[str, str]:
    """Title → statement of each block of SQL on the page."""
    return dict(re.findall(r'```sql title="([a-z0-9-]+)"\n(.*?)```', text, re.DOTALL))


def with_costs(text: str, table: str) -> str:
    return re.sub(
        r"<!-- costs -->.*<!-- /costs -->", f"<!-- costs -->\n{table}\n<!-- /costs -->", text, flags=re.DOTALL
    )


TARGETS = {"query book": 0.05, "query candles": 0.02, "query candles of one day": 0.1}
"""What is promised of them [s], on a machine with nothing else to do."""

UPSTREAM = {"query book": "book-at", "query candles": "candles", "query candles of one day": "candles-of-one-day"}
"""What the same is called there."""

HOUR = 3_600_000_000
SERIES = {"exchange": "binance_spot", "market_type": "spot", "symbol": "BTC-USDT"}


@dataclass(frozen=True)
class Asked:
    sql: str
    parameters: Mapping[str, str | int] = field(default_factory=dict)


def asked(text: str) -> dict[str, Asked]:
    """What the page documents; a whole day of one symbol; how many trades there are of each hour; what `marketprism query` and
    `marketprism.data` ask."""
    found = documented(text)
    day = found["candles"].replace("24 08:00:00", "25 00:00:00").replace("24 07:00:00", "24 00:00:00")
    coverage = upstream.QUERIES["coverage"].replace("upstream.trades", "marketprism_hot.all_trades")
    candles, book = (
        question("marketprism_hot", "marketprism_cold", list(SERIES)).sql
        for question in (questions.candles, questions.book)
    )

    def of(since: int, until: int) -> Asked:
        return Asked(candles, {**SERIES, "since": MIDNIGHT + since, "until": MIDNIGHT + until, "seconds": 60})

    return {
        **{title: Asked(sql) for title, sql in {**found, "candles-of-one-day": day, "coverage": coverage}.items()},
        "query candles": of(7 * HOUR, 8 * HOUR),
        "query candles of one day": of(0, 24 * HOUR),
        "query book": Asked(book, {**SERIES, "until": MIDNIGHT + 8 * HOUR - HOUR // 15, "levels": 10}),
    }


@dataclass(frozen=True)
class Cost:
    """Rows of the answer; the median and the fastest of some runs [s]; `upstream`: the median where the same is asked of the other
    tables."""

    rows: int
    seconds: float
    fastest: float
    upstream: float | None = None


async def cost_of(clickhouse: ClickHouse, one: Asked, there: str = "") -> Cost:
    """Both in turn: what else the machine does slows both."""
    rows, ours, theirs = 0, [], []
    for _ in range(1 + ROUNDS):
        begun = time.monotonic()
        rows = len(await clickhouse.query(one.sql, one.parameters))
        ours.append(time.monotonic() - begun)
        if there:
            begun = time.monotonic()
            await clickhouse.query(there)
            theirs.append(time.monotonic() - begun)
    return Cost(rows, statistics.median(ours[1:]), min(ours[1:]), statistics.median(theirs[1:]) if there else None)


async def measure(trades: int, books: int) -> dict[str, Cost]:
    """By title."""
    with (
        tempfile.TemporaryDirectory(prefix="bench-queries-") as place,
        process.start("clickhouse", Path(place)) as server,
    ):
        clickhouse = ClickHouse([server.url])
        await schema.apply(clickhouse, effective(None, {"CLICKHOUSE_HTTP_URL": server.url}))
        begun = time.monotonic()
        await a_day.fill(clickhouse.command, "marketprism_hot", "marketprism_cold", trade_rows=trades, book_rows=books)
        await upstream.fill(clickhouse.command)
        print(f"a day made in {time.monotonic() - begun:.0f} s", flush=True, file=sys.stderr)
        found = {}
        for title, one in asked(PAGE.read_text()).items():
            there = upstream.QUERIES.get(UPSTREAM.get(title, title), "")
            cost = found[title] = await cost_of(clickhouse, one, there)
            took = f"{cost.seconds:8.3f} s, at best {cost.fastest:.3f}"
            print(f"{title:24} {cost.rows:>9,} rows  {took}{told(title, cost)}", flush=True, file=sys.stderr)
        limits = {name: each.validation for name, each in BUILT_IN.items()}
        report = await Validation(clickhouse, "marketprism_hot", "marketprism_cold", BUILT_IN, limits).run(
            ValidationRequest(MIDNIGHT, MIDNIGHT + 86_400_000_000, VALIDATED)
        )
        assert report.fine, [finding.reason for finding in report.findings]
        rows = sum(of_type.rows for of_type in report.types)
        print(f"{'marketprism validate':24} {rows:>9,} rows  {report.seconds:8.3f} s", flush=True, file=sys.stderr)
        await clickhouse.close()
        return found


def told(title: str, cost: Cost) -> str:
    there = (
        ""
        if cost.upstream is None
        else f"  upstream's tables {cost.upstream:8.3f} s ({cost.upstream / cost.seconds:.1f}x)"
    )
    target = TARGETS.get(title)
    if target is None:
        return there
    return f"{there}  target {target * 1000:.0f} ms: {'met' if cost.seconds < target else 'MISSED'}"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.queries", description=__doc__)
    parser.add_argument("--trades", type=int, default=10_000_000)
    parser.add_argument("--books", type=int, default=1_000_000)
    parser.add_argument("--write", action="store_true", help="put the table into docs/queries.md")
    parser.add_argument("--output", choices=("text", "json"), default="text")
    arguments = parser.parse_args()
    found = asyncio.run(measure(arguments.trades, arguments.books))
    if arguments.output == "json":
        print(json.dumps({title: asdict(cost) for title, cost in found.items()}))
    lines = [
        f"| query | rows | seconds ({os.cpu_count()} cores) | time first, levels as text |",
        "|---|---:|---:|---:|",
    ]
    for title, cost in found.items():
        there = "" if cost.upstream is None else f"{cost.upstream:.2f}"
        lines.append(f"| {title} | {cost.rows:,} | {cost.seconds:.2f} | {there} |")
    if arguments.write:
        PAGE.write_text(with_costs(PAGE.read_text(), "\n".join(lines)))


if __name__ == "__main__":
    main()
