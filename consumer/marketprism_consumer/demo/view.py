"""What the demo shows: a live table in a terminal, a line every two seconds elsewhere, and the result."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table as Grid
from rich.text import Text

from marketprism_consumer import times
from marketprism_consumer.demo.proof import DemoProof
from marketprism_consumer.demo.recording import Recording, TableSummary
from marketprism_consumer.schema.tables import TABLES


@contextlib.asynccontextmanager
async def shown(recording: Recording, console: Console) -> AsyncIterator[None]:
    task = asyncio.create_task(_live(recording, console) if console.is_terminal else _lines(recording, console))
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def _live(recording: Recording, console: Console) -> None:
    with Live(console=console, auto_refresh=False) as live:
        try:
            while True:
                await recording.refresh()
                live.update(_picture(recording), refresh=True)
                await asyncio.sleep(0.25)
        finally:
            live.update(_picture(recording), refresh=True)


async def _lines(recording: Recording, console: Console) -> None:
    progress, told = recording.progress, 0
    try:
        while True:
            await asyncio.sleep(2)
            await recording.refresh()
            told = _tell_events(recording, console, told)
            published = sum(count.acknowledged for count in progress.account.types.values())
            console.print(
                f"{recording.elapsed:5.1f} s  published {published:,}  stored {progress.stored.total():,}"
                f"  dead letters {progress.dead.total():,}  types stored {len(+progress.stored)} of {len(TABLES)}",
                markup=False,
            )
    finally:
        _tell_events(recording, console, told)


def _tell_events(recording: Recording, console: Console, told: int) -> int:
    for event in recording.progress.events[told:]:
        console.print(event, markup=False)
    return len(recording.progress.events)


def _picture(recording: Recording) -> Group:
    progress, seconds = recording.progress, recording.options.seconds
    grid = Grid(
        title=f"MarketPrism demo   {min(recording.elapsed, seconds):.0f} s of {seconds:.0f}", title_justify="left"
    )
    grid.add_column("type", style="bold")
    for name in ("published", "stored", "dead letters", "lag", "last batch", "insert"):
        grid.add_column(name, justify="right")
    for table in TABLES:
        name, one = table.data_type, progress.consumer.get(table.data_type, {})
        count = progress.account.types.get(name)
        grid.add_row(
            name,
            f"{count.acknowledged:,}" if count else "0",
            f"{progress.stored[name]:,}",
            f"{progress.dead[name]:,}",
            f"{one['lag']:,}" if one else "",
            f"{one['last_insert_rows']:,} rows" if one else "",
            f"{one['last_insert_seconds'] * 1000:.0f} ms" if one else "",
        )
    return Group(grid, *[Text(event) for event in progress.events])


def show_result(proof: DemoProof, tables: list[TableSummary], url: str, console: Console) -> None:
    console.print()
    for one in tables:
        span = f"{times.clock(one.first)} to {times.clock(one.last)}" if one.rows else ""
        console.print(f"  {one.table:20} {one.rows:>9,} rows   {span}")
    verdict, style = ("Proof", "bold green") if proof.holds else ("NO PROOF", "bold red")
    console.print(f"\n{verdict}   {proof}", style=style)
    console.print("        every value of every row compared with what was published", style="dim")
    for example in proof.examples:
        console.print(f"        {example}", markup=False)
    console.print("\nTry, with --keep, while the servers are up:", style="dim")
    for question, query in QUESTIONS.items():
        console.print(f'\n# {question}\ncurl -s {url} --data-binary "{query}"', markup=False)


QUESTIONS = {
    "one-minute candles": (
        "SELECT toStartOfMinute(timestamp) AS minute, argMin(price, (timestamp, _seq)) AS open, max(price) AS high,"
        " min(price) AS low, argMax(price, (timestamp, _seq)) AS close, sum(notional) AS turnover"
        " FROM marketprism_hot.trades WHERE symbol = 'BTC-USDT' GROUP BY minute ORDER BY minute FORMAT PrettyCompact"
    ),
    "the last spreads": (
        "SELECT timestamp, exchange, best_bid_price, best_ask_price, best_ask_price - best_bid_price AS spread"
        " FROM marketprism_hot.orderbooks WHERE symbol = 'BTC-USDT' ORDER BY timestamp DESC LIMIT 5 FORMAT PrettyCompact"
    ),
    "the latest funding rates": (
        "SELECT exchange, symbol, argMax(funding_rate, timestamp) AS latest FROM marketprism_hot.funding_rates"
        " GROUP BY exchange, symbol ORDER BY exchange, symbol FORMAT PrettyCompact"
    ),
}
