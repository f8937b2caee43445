"""`marketprism status`: one screen."""

from __future__ import annotations

import asyncio
import json
import os
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
from marketprism_consumer.operations.status import READ, Status
from marketprism_consumer.operations.status import status as take
from marketprism_consumer.tiering.job import read
from marketprism_consumer.validation.record import Verdict

EXAMPLES = """
Examples:

\b
  marketprism status -f pipeline.yaml
  marketprism status --watch                           the same, again every 2 s; Ctrl-C ends it
  marketprism status --output json | jq '.types[] | {dataType, rate, lag}'

\b
processes: at work on it just now, others stand by; rate: rows stored per second over the last minute; lag: messages
not yet stored, those set aside (to be looked up first) apart; newest: how long ago the newest row was stored.
"""


def status(
    file: PolicyFile = "",
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Go on until Ctrl-C.")] = False,
    every: Annotated[str, typer.Option(help="With --watch: how often to look.")] = "2s",
    output: Json = Output.TEXT,
) -> None:
    """Show a running pipeline on one screen: rates, lag, freshness, dead letters, sizes of both tiers, last migration and validation."""
    logs.configure("critical")
    try:
        settings, _ = read(file, os.environ)
        pause = seconds(every, "--every", least=0.1)
    except (ResourceError, ValueRefusedError, ValueError) as error:
        fail(str(error), Exit.USAGE)

    async def run(servers: Servers) -> bool:
        with Live(console=stdout, auto_refresh=False) if watch and output != "json" else nullcontext() as live:
            while True:
                found = await take(settings, servers.broker, servers.hot, servers.cold)
                if output == "json":
                    typer.echo(json.dumps(found.as_dict()))
                elif live:
                    live.update(screen(found), refresh=True)
                else:
                    stdout.print(screen(found))
                if not watch:
                    return found.flows
                await asyncio.sleep(pause)

    try:
        flows = with_servers(settings, "status", run)
    except KeyboardInterrupt:
        raise typer.Exit(int(Exit.OK)) from None
    raise typer.Exit(int(Exit.OK if flows else Exit.FINDINGS))


def screen(found: Status) -> RenderableType:
    table = Table(box=None, pad_edge=False)
    table.add_column(f"pipeline {found.pipeline}")
    table.add_column("")
    for name in (
        "processes",
        "rate/s",
        "lag",
        "aside",
        "newest",
        "dead",
        "hot rows",
        "MB",
        "parts",
        "cold rows",
        "MB",
        "parts",
    ):
        table.add_column(name, justify="right")
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
                for cell in (f"{tier.rows:,}", f"{tier.bytes / 1e6:,.1f}", f"{tier.parts:,}")
            ),
        )
    last = f"last migration: {history_line(found.migration)}" if found.migration else "no migration yet"
    return Group(table, Text(last), validation_line(found.validation))


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
