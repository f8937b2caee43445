"""`marketprism status`: one screen."""

from __future__ import annotations

import asyncio
import json
import math
import os
import sys
import time
from collections.abc import Mapping
from contextlib import nullcontext
from typing import Annotated

import typer
from rich.console import Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from marketprism_api.problems import ResourceError, ValueRefusedError
from marketprism_consumer import logs
from marketprism_consumer.commands.common import Json, Output, fail, seconds, stdout
from marketprism_consumer.commands.exits import Exit
from marketprism_consumer.commands.migrate import PolicyFile, history_line
from marketprism_consumer.commands.servers import Servers, with_servers
from marketprism_consumer.commands.sparklines import ASCII_BARS, BARS, narrowed, sparkline
from marketprism_consumer.operations.history import MINUTES, Hour, last_hour
from marketprism_consumer.operations.status import MINUTE, READ, Status
from marketprism_consumer.operations.status import status as take
from marketprism_consumer.tiering.job import read
from marketprism_consumer.validation.record import Verdict

EXAMPLES = """
Examples:

\b
  marketprism status -f pipeline.yaml
  marketprism status --watch                           the same, again every 2 s; Ctrl-C ends it
  marketprism status --no-history                      without the bars of the last hour, which a terminal shows
  marketprism status --output json | jq '.types[] | {dataType, rate, lag}'

\b
processes: at work on it just now, others stand by; rate: rows stored per second over the last minute; lag: messages
not yet stored, those set aside (to be looked up first) apart; newest: how long ago the newest row was stored.

\b
The last hour, as bars from 0 to the number beside them, a blank where nothing was stored: rows stored per second, and how old 95 % of
the rows were at most when they were stored.
"""
ROOM = 26  # of a line, beside a name and two rows of bars
WITH_SIZES = 115  # a terminal of so many columns has room for megabytes and parts


def status(
    file: PolicyFile = "",
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Go on until Ctrl-C.")] = False,
    every: Annotated[str, typer.Option(help="With --watch: how often to look.")] = "2s",
    history: Annotated[
        bool | None,
        typer.Option("--history/--no-history", help="Bars of the last hour; by default in a terminal only."),
    ] = None,
    output: Json = Output.TEXT,
) -> None:
    """Show a running pipeline on one screen: rates, lag, freshness, dead letters, sizes of both tiers, last migration and validation."""
    logs.configure("critical")
    try:
        settings, _ = read(file, os.environ)
        pause = seconds(every, "--every", least=0.1)
    except (ResourceError, ValueRefusedError, ValueError) as error:
        fail(str(error), Exit.USAGE)
    if history and output == "json":
        fail("--history is for people: JSON has the numbers of now only", Exit.USAGE)
    drawn = output != "json" and (sys.stdout.isatty() if history is None else history)

    async def run(servers: Servers) -> bool:
        with Live(console=stdout, auto_refresh=False) if watch and output != "json" else nullcontext() as live:
            hours: Mapping[str, Hour] = {}
            looked = -math.inf
            while True:
                found = await take(settings, servers.broker, servers.hot, servers.cold)
                if drawn and time.monotonic() - looked >= MINUTE:
                    hours, looked = await last_hour(settings, servers.hot, found), time.monotonic()
                if output == "json":
                    typer.echo(json.dumps(found.as_dict()))
                elif live:
                    live.update(screen(found, hours), refresh=True)
                else:
                    stdout.print(screen(found, hours))
                if not watch:
                    return found.flows
                await asyncio.sleep(pause)

    try:
        flows = with_servers(settings, "status", run)
    except KeyboardInterrupt:
        raise typer.Exit(int(Exit.OK)) from None
    raise typer.Exit(int(Exit.OK if flows else Exit.FINDINGS))


def screen(found: Status, hours: Mapping[str, Hour]) -> RenderableType:
    table = Table(box=None, pad_edge=False)
    table.add_column(f"pipeline {found.pipeline}", no_wrap=True, overflow="fold")
    table.add_column("", overflow="fold")
    sizes = ("MB", "parts") if stdout.width >= WITH_SIZES else ()
    for name in ("processes", "rate/s", "lag", "aside", "newest", "dead", "hot rows", *sizes, "cold rows", *sizes):
        table.add_column(name, justify="right", overflow="fold")
    for of_type in found.types:
        table.add_row(
            of_type.data_type,
            Text(of_type.state, style="green" if of_type.state == READ else "red"),
            str(of_type.processes),
            f"{of_type.rate:,.1f}",
            "-" if of_type.lag is None else f"{of_type.lag:,}",
            "-" if of_type.set_aside is None else f"{of_type.set_aside:,}",
            "-" if of_type.age is None else age(of_type.age),
            Text(f"{of_type.dead_letters:,}", style="red" if of_type.dead_letters else ""),
            *(
                cell
                for tier in (of_type.hot, of_type.cold)
                for cell in (f"{tier.rows:,}", f"{tier.bytes / 1e6:,.1f}", f"{tier.parts:,}")[: 1 + len(sizes)]
            ),
        )
    last = f"last migration: {history_line(found.migration)}" if found.migration else "no migration yet"
    bars: list[RenderableType] = [Text(), last_hour_of(hours)] if hours else []
    return Group(table, Text(last), validation_line(found.validation), *bars)


def last_hour_of(hours: Mapping[str, Hour]) -> Table:
    """As many cells as the terminal has room for: a minute each, or two, or three."""
    widest = max(len(name) for name in hours)
    cells = next((each for each in (MINUTES, 30) if widest + 2 * each + ROOM <= stdout.width), 20)
    bars = ASCII_BARS if stdout.options.ascii_only else BARS
    table = Table(box=None, pad_edge=False)
    table.add_column("last hour", no_wrap=True)
    table.add_column(f"rows/s by {MINUTES // cells} min", no_wrap=True)
    table.add_column("max", justify="right")
    table.add_column("late by", no_wrap=True)
    table.add_column("max", justify="right")
    for name, hour in hours.items():
        late = [delay for delay in hour.delays if delay is not None]
        rates = [rate or None for rate in hour.rates]
        table.add_row(
            name,
            sparkline(narrowed(rates, cells), bars),
            f"{max(hour.rates):,.1f}",
            sparkline(narrowed(hour.delays, cells), bars),
            age(max(late)) if late else "-",
        )
    return table


def validation_line(found: Verdict | None) -> Text:
    if not found:
        return Text("no validation yet")
    scope = f" (only {found.scope})" if found.scope else ""
    line = f"last validation: {found.at:%Y-%m-%d %H:%M:%S}  {found.text}{scope}"
    return Text(line, style="" if found.ok else "red")


def age(found: float) -> str:
    for unit, size in (("d", 86_400), ("h", 3600), ("min", 60)):
        if found >= 2 * size:
            return f"{found / size:.0f} {unit}"
    return f"{found:.1f} s"
