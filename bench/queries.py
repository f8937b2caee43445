"""What the documented queries and a validation cost on a day of data, on one embedded server.

    python -m bench.queries [--trades 10000000] [--books 1000000] [--write]

`--write` puts the table into docs/queries.md. The median of three runs, after one to warm up.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import statistics
import tempfile
import time
from pathlib import Path

from bench import a_day
from marketprism_api.data_types import DataType
from marketprism_api.settings import effective
from marketprism_api.validation import DEFAULTS
from marketprism_consumer.clickhouse import schema
from marketprism_consumer.clickhouse.client import ClickHouse
from marketprism_consumer.validation.run import Validation, ValidationRequest
from marketprism_embedded import process

PAGE = Path(__file__).parents[1] / "docs" / "queries.md"
ROUNDS = 3
MIDNIGHT = 1_758_672_000_000_000
VALIDATED = [
    DataType.TRADE,
    DataType.ORDERBOOK,
    DataType.FUNDING_RATE,
    DataType.OPEN_INTEREST,
    DataType.LSR_TOP_POSITION,
]


def documented(text: str) -> dict[str, str]:
    """Title → statement of each block of SQL on the page."""
    return dict(re.findall(r'```sql title="([a-z0-9-]+)"\n(.*?)```', text, re.DOTALL))


def with_costs(text: str, table: str) -> str:
    return re.sub(
        r"<!-- costs -->.*<!-- /costs -->", f"<!-- costs -->\n{table}\n<!-- /costs -->", text, flags=re.DOTALL
    )


async def measure(trades: int, books: int) -> dict[str, tuple[int, float]]:
    """Title → rows of the answer, median seconds."""
    with (
        tempfile.TemporaryDirectory(prefix="bench-queries-") as place,
        process.start("clickhouse", Path(place)) as server,
    ):
        clickhouse = ClickHouse([server.url])
        await schema.apply(clickhouse, effective(None, {"CLICKHOUSE_HTTP_URL": server.url}))
        begun = time.monotonic()
        await a_day.fill(clickhouse.command, "marketprism_hot", "marketprism_cold", trade_rows=trades, book_rows=books)
        print(f"a day made in {time.monotonic() - begun:.0f} s", flush=True)
        found = {}
        for title, sql in documented(PAGE.read_text()).items():
            times = []
            for _ in range(1 + ROUNDS):
                begun = time.monotonic()
                answer = await clickhouse.query(sql)
                times.append(time.monotonic() - begun)
            found[title] = len(answer), statistics.median(times[1:])
            print(f"{title:24} {len(answer):>9,} rows  {found[title][1]:8.3f} s", flush=True)
        report = await Validation(clickhouse, "marketprism_hot", "marketprism_cold", DEFAULTS).run(
            ValidationRequest(MIDNIGHT, MIDNIGHT + 86_400_000_000, VALIDATED)
        )
        assert report.fine, [finding.reason for finding in report.findings]
        rows = sum(of_type.rows for of_type in report.types)
        print(f"{'marketprism validate':24} {rows:>9,} rows  {report.seconds:8.3f} s", flush=True)
        await clickhouse.close()
        return found


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.queries", description=__doc__)
    parser.add_argument("--trades", type=int, default=10_000_000)
    parser.add_argument("--books", type=int, default=1_000_000)
    parser.add_argument("--write", action="store_true", help="put the table into docs/queries.md")
    parser.add_argument("--output", choices=("text", "json"), default="text")
    arguments = parser.parse_args()
    found = asyncio.run(measure(arguments.trades, arguments.books))
    if arguments.output == "json":
        print(json.dumps({title: {"rows": rows, "seconds": seconds} for title, (rows, seconds) in found.items()}))
    lines = [f"| query | rows | seconds ({os.cpu_count()} cores) |", "|---|---:|---:|"]
    lines += [f"| {title} | {rows:,} | {seconds:.2f} |" for title, (rows, seconds) in found.items()]
    if arguments.write:
        PAGE.write_text(with_costs(PAGE.read_text(), "\n".join(lines)))


if __name__ == "__main__":
    main()
