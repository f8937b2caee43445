"""What codecs make of the price ladders of order books that move: bytes of one side of a book on disk.

    python -m bench.codecs [--books 6000]

Three symbols, each with a mid price that wanders by some ticks from book to book; of the 400 ticks next to it half hold a
level. `steady`: a level stays for about fifty books, and its quantity for four. `restless`: for three, and for one.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
from pathlib import Path

from marketprism_consumer.clickhouse.client import ClickHouse
from marketprism_embedded import process

CODECS = ("ZSTD(1)", "ZSTD(3)", "ZSTD(6)", "GCD, ZSTD(1)", "GCD, ZSTD(3)")
LADDERS = {"steady": (50, 4), "restless": (3, 1)}
"""For how many books a level stays, and its quantity."""
SIDE = "Array(Decimal(38, 18))"
AT_ONCE = 1000  # books made by one statement


def ladders(first: int, count: int, stays: int, keeps: int) -> str:
    """The bids of `count` books."""
    return f"""
    WITH number % 3 AS symbol, intDiv(number, 3) AS own, toDecimal128([0.1, 0.01, 0.0001][symbol + 1], 18) AS tick,
        toInt64([1123450, 420000, 24500][symbol + 1] + 300 * sin(own / 700) + 40 * sin(own / 37) + cityHash64(own, symbol) % 5) AS mid,
        arrayFilter(at -> cityHash64(at, symbol, intDiv(own + at % {stays}, {stays})) % 2 = 0,
            arrayMap(step -> mid - step, range(1, 401))) AS held
    SELECT symbol, own, arrayMap(at -> tick * at, held) AS prices,
        arrayMap(at -> toDecimal128((1 + cityHash64(at, symbol, intDiv(own + cityHash64(at) % {keeps}, {keeps})) % 500000000)
            / 100000000., 18), held) AS quantities
    FROM numbers({first}, {count})"""


async def run(books: int) -> None:
    with (
        tempfile.TemporaryDirectory(prefix="bench-codecs-") as place,
        process.start("clickhouse", Path(place)) as server,
    ):
        clickhouse = ClickHouse([server.url])
        print("| ladder | codec | prices | quantities |\n|---|---|---:|---:|")
        for ladder, (stays, keeps) in LADDERS.items():
            for codec in CODECS:
                await clickhouse.command("DROP TABLE IF EXISTS default.books SYNC")
                await clickhouse.command(
                    "CREATE TABLE default.books (symbol UInt8, own UInt32,"
                    f" prices {SIDE} CODEC({codec}), quantities {SIDE} CODEC({codec})) ENGINE = MergeTree ORDER BY (symbol, own)"
                )
                for first in range(0, books, AT_ONCE):
                    made = ladders(first, min(AT_ONCE, books - first), stays, keeps)
                    await clickhouse.command(f"INSERT INTO default.books {made}")
                await clickhouse.command("OPTIMIZE TABLE default.books FINAL")
                sizes = await clickhouse.query(
                    "SELECT name, data_compressed_bytes FROM system.columns WHERE database = 'default' AND table = 'books'"
                )
                size = {name: int(count) / books for name, count in sizes}
                print(f"| {ladder} | {codec} | {size['prices']:,.0f} | {size['quantities']:,.0f} |", flush=True)
        await clickhouse.close()


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m bench.codecs", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--books", type=int, default=6000)
    asyncio.run(run(parser.parse_args().books))


if __name__ == "__main__":
    main()
