"""`marketprism schema plan|apply|verify|render`."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Awaitable, Callable

import typer
from marketprism_api.credentials import clickhouse_auth
from marketprism_api.settings import Settings

from marketprism_consumer import schema_server
from marketprism_consumer.clickhouse import ClickHouse
from marketprism_consumer.commands.common import Exit, File, Json, fail, settings_of, stdout
from marketprism_consumer.schema import Plan, render
from marketprism_consumer.store import InsertRefused
from marketprism_consumer.tables import BY_DATA_TYPE

app = typer.Typer(no_args_is_help=True, help="The tables: what is missing, make it, check it. Nothing is ever dropped.")


@app.command(epilog="Example:  marketprism schema plan -f pipeline.yaml")
def plan(file: File = "", output: Json = "text") -> None:
    """Print the statements that `apply` would run. Reads only."""
    found = _with_server(settings_of(file), schema_server.current_plan)
    _show(found, output, statements=True)


@app.command(epilog="Example:  marketprism schema apply -f pipeline.yaml")
def apply(file: File = "", output: Json = "text") -> None:
    """Create and extend what is missing, in both databases. May be run again, and twice at once."""
    done: list[str] = []
    left = _with_server(
        settings_of(file),
        lambda ch, settings: schema_server.apply(ch, settings, lambda change: done.append(change.why)),
    )
    if output == "json":
        _show(left, output, statements=False)
        return
    for why in done:
        stdout.print(f"done: {why}", markup=False)
    _show(left, output, statements=False)


@app.command(epilog="Example:  marketprism schema verify -f pipeline.yaml; exits with 1 where something differs")
def verify(file: File = "", output: Json = "text") -> None:
    """Compare the server with what the pipeline needs, and explain every difference. Reads only."""
    found = _with_server(settings_of(file), schema_server.current_plan)
    _show(found, output, statements=False)
    if not found.fits:
        raise typer.Exit(int(Exit.FINDINGS))


@app.command("render", epilog="Example:  marketprism schema render -f pipeline.yaml > schema.sql")
def render_(file: File = "") -> None:
    """Print the whole DDL for an empty server, or for a cluster where spec.clickhouse.cluster names one. Offline."""
    settings = settings_of(file)
    tables = [BY_DATA_TYPE[str(data_type)] for data_type in settings.data_types]
    for change in render(schema_server.target_of(settings), tables):
        typer.echo(change.sql + ";\n")


def _with_server(settings: Settings, ask: Callable[[ClickHouse, Settings], Awaitable[Plan]]) -> Plan:
    async def run() -> Plan:
        clickhouse = ClickHouse(
            settings.clickhouse_urls, "default", auth=lambda: clickhouse_auth(os.environ), cluster=settings.cluster
        )
        try:
            return await ask(clickhouse, settings)
        finally:
            await clickhouse.close()

    try:
        return asyncio.run(run())
    except InsertRefused as refused:
        fail(str(refused), Exit.UNREACHABLE if refused.code == 0 else Exit.FINDINGS)


def _show(plan: Plan, output: str, *, statements: bool) -> None:
    if output == "json":
        typer.echo(
            json.dumps(
                {
                    "fits": plan.fits,
                    "changes": [{"sql": change.sql, "why": change.why} for change in plan.changes],
                    "differences": [
                        {"where": d.where, "what": d.what, "blocking": d.blocking} for d in plan.differences
                    ],
                }
            )
        )
        return
    for change in plan.changes:
        typer.echo(f"-- {change.why}\n{change.sql};\n" if statements else f"missing: {change.why}")
    for difference in plan.differences:
        mark = "differs" if difference.blocking else "note"
        typer.echo(f"{mark}: {difference.where}: {difference.what}")
    if plan.fits:
        typer.echo("the schema fits")
