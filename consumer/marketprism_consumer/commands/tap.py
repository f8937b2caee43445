"""`marketprism tap`: what comes, and what becomes of it, without taking it from anybody."""

from __future__ import annotations

import asyncio
import json
import time
from contextlib import aclosing, suppress
from typing import Annotated, Any

import msgspec
import typer
from rich.table import Table
from rich.text import Text

from marketprism_consumer import logs, times
from marketprism_consumer.commands.common import (
    File,
    Json,
    OnlyTypes,
    Output,
    chosen_types,
    fail,
    moment,
    seconds,
    settings_of,
    stdout,
)
from marketprism_consumer.commands.exits import Exit
from marketprism_consumer.commands.servers import Servers, with_servers
from marketprism_consumer.operations.dlq import printable
from marketprism_consumer.operations.tap import TapFilter, Tapped
from marketprism_consumer.operations.tap import tap as run_tap

EXAMPLES = """
Examples:

\b
  marketprism tap                                       everything, as it is published, until Ctrl-C
  marketprism tap --type trade --exchange binance_spot --symbol BTC-USDT --count 5
  marketprism tap --refused --since 1h --for 10s        what of the last hour can't be a row
  marketprism tap --type trade --output json | jq .row  one JSON object per line

\b
Nothing is consumed: ingest gets every message all the same.
"""
WIDEST = 56  # characters of a value


def tap(
    file: File = "",
    types: OnlyTypes = None,
    exchange: Annotated[str, typer.Option(help="Only of this exchange.")] = "",
    symbol: Annotated[str, typer.Option(help="Only of this symbol.")] = "",
    refused: Annotated[bool, typer.Option("--refused", help="Only what can't be a row.")] = False,
    count: Annotated[int, typer.Option("--count", "-n", min=0, help="End after this many; 0: never.")] = 0,
    length: Annotated[str, typer.Option("--for", help="End after this long, such as 30s.")] = "",
    since: Annotated[
        str, typer.Option(help="Begin with what arrived then: ISO 8601 (UTC), or 5m for five minutes ago.")
    ] = "",
    output: Json = Output.TEXT,
) -> None:
    """Show messages as they are published: raw, the row that ingest makes of each, and the verdict, side by side."""
    logs.configure("error")
    settings = settings_of(file)
    chosen = chosen_types(settings, types)
    try:
        start = moment(since, time.time()) if since else None
        limit = seconds(length, "--for", least=0.001) if length else None
    except ValueError as error:
        fail(str(error), Exit.USAGE)
    wanted = TapFilter(exchange, symbol, refused)

    async def run(servers: Servers) -> int:
        shown = 0
        with suppress(TimeoutError):
            async with (
                asyncio.timeout(limit),
                aclosing(run_tap(servers.client, settings, chosen, start)) as messages,
            ):
                async for message in messages:
                    if not wanted(message):
                        continue
                    if output == "json":
                        typer.echo(json.dumps(message.as_dict()))
                    else:
                        stdout.print(block(message))
                    shown += 1
                    if count and shown == count:
                        break
        return shown

    try:
        shown = with_servers(settings, "tap", run)
    except KeyboardInterrupt:
        raise typer.Exit(int(Exit.OK)) from None
    raise typer.Exit(int(Exit.FINDINGS if count and shown < count else Exit.OK))


def block(message: Tapped) -> Table:
    """What came on the left, by field where it is an object; the row on the right. No message can steer the terminal."""
    good = message.refusal is None
    title = Text(f"{message.subject}  seq {message.seq}  {times.shown(message.arrived)}  ")
    title.append(printable(message.verdict), style="green" if good else "red")
    table = Table(title=title, title_justify="left", box=None, pad_edge=False, show_header=False)
    left, right = raw_lines(message.payload), [_line(name, value) for name, value in (message.row or {}).items()]
    for index in range(max(len(left), len(right))):
        table.add_row(*(Text(side[index] if index < len(side) else "") for side in (left, right)))
    return table


def raw_lines(payload: bytes) -> list[str]:
    try:
        fields = msgspec.json.decode(payload, type=dict[str, msgspec.Raw])
    except (msgspec.DecodeError, UnicodeDecodeError):
        return [_cut(payload.decode(errors="backslashreplace"))]
    return [_line(name, bytes(value).decode(errors="backslashreplace")) for name, value in fields.items()]


def _line(name: str, value: Any) -> str:
    return f"{printable(name)}: {_cut(str(value))}"


def _cut(text: str) -> str:
    shown = printable(text[: WIDEST + 1])
    return shown if len(shown) <= WIDEST else f"{shown[: WIDEST - 1]}…"
