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

from marketprism_api.credentials import clickhouse_auth
from marketprism_api.problems import ResourceError, ValueRefused
from marketprism_consumer import logs
from marketprism_consumer.commands.common import Exit, Json, fail, seconds, stdout
from marketprism_consumer.commands.migrate import PolicyFile, history_line
from marketprism_consumer.commands.servers import Servers, with_servers
from marketprism_consumer.operations.status import READ, Status
from marketprism_consumer.operations.status import status as take
from marketprism_consumer.tiering.job import cold_auth, job_of, read
from marketprism_consumer.tiering.server import Server
from marketprism_consumer.validation.record import Verdict

EXAMPLES = """
Examples:

\b
  marketprism status -f pipeline.yaml
  marketprism status --watch                           the same, again every 2 s; Ctrl-C ends it
  marketprism status --output json | jq '.types[] | {data_type, rate, lag}'

\b
rate: rows stored a second over the last minute; newest: since the newest row was stored. Exit: 0 every data type is read,
1 one is not, 2 usage, 4 NATS or ClickHouse unreachable.
"""


def status(
    file: PolicyFile = "",
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Go on until Ctrl-C.")] = False,
    every: Annotated[str, typer.Option(help="With --watch: how often to look.")] = "2s",
    output: Json = "text",
) -> None:
    """Show a running pipeline on one screen: rates, lag, freshness, dead letters, sizes of both tiers, last migration and validation."""
    logs.configure("critical")
    try:
        settings, policy = read(file, os.environ)
        job = job_of(settings, policy)
        pause = seconds(every, "--every", least=0.1)
    except (ResourceError, ValueRefused, ValueError) as error:
        fail(str(error), Exit.USAGE)

    async def run(servers: Servers) -> bool:
        hot = Server(job.hot_urls, lambda: clickhouse_auth(os.environ), "marketprism status")
        cold = Server(job.cold_urls, cold_auth, hot.comment) if job.cold_urls else hot
        try:
            with Live(console=stdout, auto_refresh=False) if watch and output != "json" else nullcontext() as live:
                while True:
                    found = await take(settings, servers.broker, hot, cold)
                    if output == "json":
                        typer.echo(json.dumps(found.as_dict()))
                    elif live:
                        live.update(screen(found), refresh=True)
                    else:
                        stdout.print(screen(found))
                    if not watch:
                        return found.flows
                    await asyncio.sleep(pause)
        finally:
            await hot.close()
            await cold.close()

    try:
        flows = with_servers(settings, "status", run)
    except KeyboardInterrupt:
        raise typer.Exit(int(Exit.OK)) from None
    raise typer.Exit(int(Exit.OK if flows else Exit.FINDINGS))


def screen(found: Status) -> RenderableType:
    table = Table(box=None, pad_edge=False)
    table.add_column(f"pipeline {found.pipeline}")
    table.add_column("")
    for name in ("rate/s", "lag", "unacked", "newest", "dead", "hot rows", "MB", "parts", "cold rows", "MB", "parts"):
        table.add_column(name, justify="right")
    for one in found.types:
        table.add_row(
            one.data_type,
            Text(one.state, style="green" if one.state == READ else "red"),
            f"{one.rate:,.1f}",
            "-" if one.lag is None else f"{one.lag:,}",
            "-" if one.unacknowledged is None else f"{one.unacknowledged:,}",
            "-" if one.age is None else age(one.age),
            Text(f"{one.dead_letters:,}", style="red" if one.dead_letters else ""),
            *(
                cell
                for tier in (one.hot, one.cold)
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
