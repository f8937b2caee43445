"""`marketprism query`: the usual questions, as a table, a file or a picture in the terminal."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import AsyncIterator, Sequence
from enum import StrEnum
from typing import Annotated, Any

import typer
from rich.table import Table

from marketprism_api.settings import Settings
from marketprism_consumer import logs
from marketprism_consumer.commands.common import File, command_line, fail, moment, seconds, settings_of, stdout
from marketprism_consumer.commands.exits import Exit, exit_of
from marketprism_consumer.commands.servers import clickhouse_of
from marketprism_consumer.errors import StoreError
from marketprism_consumer.operations.dlq import printable
from marketprism_consumer.operations.questions import QUESTIONS, Question, named_series

PATIENCE = 600.0  # for the next piece of an answer [s]
SHOWN = 200  # rows of a table on the screen
POINTS = 500  # of a plot's line
MINUTE = 60

EXAMPLES = {
    "candles": "  marketprism query candles binance_spot BTC-USDT --since 6h --every 5m -o plot",
    "vwap": "  marketprism query vwap binance_spot BTC-USDT --since 24h --every 1h",
    "book": "  marketprism query book binance_spot BTC-USDT --at 2025-09-24T07:56 --levels 5",
    "funding": "  marketprism query funding --symbol BTC-USDT --since 168h -o csv > funding.csv",
    "gaps": "  marketprism query gaps --since 24h -o json",
}


class QueryOutput(StrEnum):
    TABLE = "table"
    CSV = "csv"
    JSON = "json"
    PARQUET = "parquet"
    PLOT = "plot"


CLICKHOUSE_FORMATS = {QueryOutput.CSV: "CSVWithNames", QueryOutput.JSON: "JSONEachRow", QueryOutput.PARQUET: "Parquet"}
# Numbers as texts: a float would be another number.
EXACT = {
    "output_format_json_quote_decimals": 1,
    "output_format_json_quote_64bit_integers": 0,
    "output_format_parquet_string_as_string": 1,
}

AskedExchange = Annotated[str, typer.Argument(help="Such as binance_spot.")]
AskedSymbol = Annotated[str, typer.Argument(help="Such as BTC-USDT.")]
OnlyExchange = Annotated[str, typer.Option("--exchange", help="Only this exchange.")]
OnlySymbol = Annotated[str, typer.Option("--symbol", help="Only this symbol.")]
AskedMarket = Annotated[
    str, typer.Option("--market-type", help="Such as spot; where the exchange has the symbol in several.")
]
AskedSince = Annotated[str, typer.Option(help="From this time (ISO 8601, UTC), or so long ago, such as 6h.")]
AskedUntil = Annotated[str, typer.Option("--to", help="Up to this time; without it, now.")]
CandleLength = Annotated[str, typer.Option(help="How long a candle is: a multiple of 1m.")]
AskedForm = Annotated[
    QueryOutput, typer.Option("--output", "-o", help="parquet and csv go to stdout; json is a row a line.")
]


def candles(
    exchange: AskedExchange,
    symbol: AskedSymbol,
    file: File = "",
    market_type: AskedMarket = "",
    since: AskedSince = "1h",
    to: AskedUntil = "",
    every: CandleLength = "1m",
    output: AskedForm = QueryOutput.TABLE,
) -> None:
    """Open, high, low, close, volume and turnover, exactly, from both tiers."""
    _ask("candles", file, output, named_series(exchange, symbol, market_type), since, to, seconds=_minutes(every))


def vwap(
    exchange: AskedExchange,
    symbol: AskedSymbol,
    file: File = "",
    market_type: AskedMarket = "",
    since: AskedSince = "1h",
    to: AskedUntil = "",
    every: CandleLength = "1m",
    output: AskedForm = QueryOutput.TABLE,
) -> None:
    """The volume-weighted average price."""
    _ask("vwap", file, output, named_series(exchange, symbol, market_type), since, to, seconds=_minutes(every))


def book(
    exchange: AskedExchange,
    symbol: AskedSymbol,
    file: File = "",
    market_type: AskedMarket = "spot",
    at: Annotated[str, typer.Option(help="At this time, or so long ago; without it, now.")] = "",
    levels: Annotated[int, typer.Option(min=1, help="Of each side.")] = 10,
    output: AskedForm = QueryOutput.TABLE,
) -> None:
    """The order book at a time: the last full one, and what came since."""
    _ask("book", file, output, named_series(exchange, symbol, market_type), at or "0s", at, levels=levels)


def funding(
    file: File = "",
    exchange: OnlyExchange = "",
    symbol: OnlySymbol = "",
    market_type: AskedMarket = "",
    since: AskedSince = "24h",
    to: AskedUntil = "",
    output: AskedForm = QueryOutput.TABLE,
) -> None:
    """Funding rates."""
    _ask("funding", file, output, named_series(exchange, symbol, market_type), since, to)


def gaps(
    file: File = "",
    exchange: OnlyExchange = "",
    symbol: OnlySymbol = "",
    market_type: AskedMarket = "",
    since: AskedSince = "24h",
    to: AskedUntil = "",
    longer_than: Annotated[str, typer.Option(help="What counts as a silence of trades or books.")] = "60s",
    output: AskedForm = QueryOutput.TABLE,
) -> None:
    """Trades and books that are missing by the venue's own numbers, and silences."""
    try:
        silence = int(seconds(longer_than, "--longer-than", least=1.0))
    except ValueError as error:
        fail(str(error), Exit.USAGE)
    _ask("gaps", file, output, named_series(exchange, symbol, market_type), since, to, longer_than=silence)


def _minutes(every: str) -> int:
    try:
        found = seconds(every, "--every", least=MINUTE)
        if found % MINUTE:
            raise ValueError(f"--every: {every} is no multiple of 1m")
    except ValueError as error:
        fail(str(error), Exit.USAGE)
    return int(found)


def _ask(name: str, file: str, output: QueryOutput, named: dict[str, str], since: str, to: str, **given: int) -> None:
    logs.configure("error")
    settings = settings_of(file)
    now = time.time()
    try:
        span = moment(since, now), moment(to, now) if to else int(now * 1e6)
        if name != "book" and span[0] >= span[1]:
            raise ValueError(f"--to {to or 'now'} is not after --since {since}")
    except ValueError as error:
        fail(str(error), Exit.USAGE)
    question = QUESTIONS[name](settings.hot_db, settings.cold_db, list(named))
    if output is QueryOutput.PLOT and not question.ys:
        fail(f"there is nothing to plot of {name}: -o table shows them", Exit.USAGE)
    parameters = {**named, **question.span(*span), **given}
    try:
        asyncio.run(_show(settings, question, parameters, output))
    except StoreError as refused:
        fail(str(refused), exit_of(refused))


async def _show(settings: Settings, question: Question, parameters: dict[str, Any], output: QueryOutput) -> None:
    server = clickhouse_of(settings, "query", patience=PATIENCE)
    try:
        if form := CLICKHOUSE_FORMATS.get(output):
            async for piece in server.stream(f"{question.sql} FORMAT {form}", parameters, settings=EXACT):
                sys.stdout.buffer.write(piece)
            sys.stdout.buffer.flush()
            return
        rows = await _rows(
            server.stream(f"{question.sql} FORMAT JSONCompactEachRowWithNames", parameters, settings=EXACT)
        )
    finally:
        await server.close()
    if output is QueryOutput.PLOT:
        typer.echo(plot(question, rows))
    else:
        stdout.print(_table(rows))


async def _rows(data: AsyncIterator[bytes]) -> list[list[Any]]:
    """Names first."""
    return [json.loads(line) for line in b"".join([piece async for piece in data]).splitlines()]


def _table(rows: Sequence[Sequence[Any]]) -> Table:
    names, *found = rows or [[]]
    table = Table(*names, box=None, pad_edge=False)
    for row in found[:SHOWN]:
        table.add_row(*("" if value is None else printable(str(value)) for value in row))
    if len(found) > SHOWN:
        table.caption = f"{len(found) - SHOWN:,} more: -o csv has all"
    if not found:
        table.caption = "nothing"
    return table


def plot(question: Question, rows: Sequence[Sequence[Any]]) -> str:
    """In the size of the terminal. The numbers are exact in every other output; here they are as fine as the screen."""
    try:
        import plotext
    except ImportError:
        fail("-o plot needs plotext: pip install 'marketprism-consumer[plot]'", Exit.USAGE)
    names, *found = rows or [[]]
    if not found:
        return "nothing to plot"
    thinned = found[:: max(1, len(found) // POINTS)]
    plotext.clear_figure()
    columns = {name: number for number, name in enumerate(names)}
    sides = sorted({row[columns["side"]] for row in thinned}) if "side" in columns else [""]
    for y in question.ys:
        for side in sides:
            points = [
                row for row in thinned if (not side or row[columns["side"]] == side) and row[columns[y]] is not None
            ]
            if question.x == "time":
                plotext.date_form("Y-m-d H:M:S")
                xs: list[Any] = [str(row[columns["time"]])[:19] for row in points]
            else:
                xs = [float(row[columns[question.x]]) for row in points]
            plotext.plot(xs, [float(row[columns[y]]) for row in points], label=side or y)
    if not sys.stdout.isatty():
        plotext.clear_color()
        plotext.plot_size(100, 25)
    return str(plotext.build())


app = command_line(
    "The usual questions about the market, over both tiers.",
    [
        (command.__name__, command, f"\nExamples:\n\n\b\n{EXAMPLES[command.__name__]}\n")
        for command in (candles, vwap, book, funding, gaps)
    ],
    within="query",
)
