"""Is this slower than where it branched off? Both in one run, in turn; fails where the median of the pairs lost too much.

    python -m bench.pairs [--base main] [--pairs 3] [--most 0.15]

What is compared: messages per second, and CPU per message of consumer, ClickHouse and NATS together. It wants a machine without other
work, which is noisy in both, and in the first more: what the two of a pair see is alike, and one bad pair moves no median.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from bench.__main__ import OURS, Result, Servers, ours, servers_in
from bench.gate import ROOT, base_of, check_out, path_of

ROWS = 10_000
PART = 4  # of the bench's messages


def losses(pairs: Sequence[tuple[Result, Result]]) -> dict[str, float]:
    """Of (base, head) each: how much head lost, as a part of base's; below zero where it gained."""
    return {
        "messages per second": 1 - statistics.median(head.rate / base.rate for base, head in pairs),
        "CPU per message": 1 - statistics.median(cpu_of(base) / cpu_of(head) for base, head in pairs),
    }


def cpu_of(result: Result) -> float:
    return result.consumer_us + result.clickhouse_us + result.nats_us


def verdict(found: Mapping[str, Mapping[str, float]], most: float) -> list[str]:
    """What lost more than it may."""
    return [
        f"{data_type}: {what} is {loss:.0%} worse than before, {most:.0%} are allowed"
        for data_type, each in found.items()
        for what, loss in each.items()
        if loss > most
    ]


async def compare(
    servers: Servers, directory: Path, data_type: str, base: Path, head: Path, pairs: int
) -> dict[str, float]:
    found = []
    for number in range(pairs):
        # Who is first has the colder machine: in turn.
        order = (base, head) if number % 2 == 0 else (head, base)
        both = {
            tree: await ours(servers, directory, data_type, ROWS, OURS[data_type][ROWS] // PART, code=path_of(tree))
            for tree in order
        }
        found.append((both[base], both[head]))
        rates = " and ".join(f"{one.rate:,.0f}/s {cpu_of(one):.1f} µs" for one in found[-1])
        print(f"{data_type}: pair {number + 1}: before and now {rates}", flush=True)
    return losses(found)


async def run(base: Path, head: Path, pairs: int, only: str) -> dict[str, dict[str, float]]:
    found = {}
    with tempfile.TemporaryDirectory(prefix="marketprism-gate-") as name, servers_in(Path(name)) as servers:
        for data_type in [only] if only else OURS:
            found[data_type] = await compare(servers, Path(name), data_type, base, head, pairs)
    return found


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m bench.pairs", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--base", default="origin/main", help="the branch that this one is to be merged into")
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--only", choices=OURS, default="", help="only this data type")
    parser.add_argument("--most", type=float, default=0.15, help="how much may be lost")
    arguments = parser.parse_args()
    commit = base_of(arguments.base)
    with tempfile.TemporaryDirectory(prefix="marketprism-base-") as name:
        tree = Path(name) / "base"
        check_out(commit, tree)
        found = asyncio.run(run(tree, ROOT, arguments.pairs, arguments.only))
    for data_type, each in found.items():
        for what, loss in each.items():
            print(f"{data_type}: {what}: {-loss:+.1%} against {commit[:10]}")
    slower = verdict(found, arguments.most)
    for line in slower:
        print(line, file=sys.stderr)
    return bool(slower)


if __name__ == "__main__":
    sys.exit(main())
