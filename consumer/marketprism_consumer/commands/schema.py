"""`marketprism schema plan|apply|verify|ensure|render`."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterable
from typing import Annotated

import typer
from nats.errors import Error as NatsError

from marketprism_api import reasons
from marketprism_api.settings import Settings
from marketprism_consumer import logs
from marketprism_consumer.clickhouse import schema
from marketprism_consumer.clickhouse.client import ClickHouse
from marketprism_consumer.commands.common import File, Json, Output, fail, seconds, settings_of, stderr, stdout
from marketprism_consumer.commands.exits import Exit, epilog, exit_of
from marketprism_consumer.commands.servers import begin_lanes, clickhouse_of, nats_of
from marketprism_consumer.errors import BrokerError, StoreError, StreamError
from marketprism_consumer.jetstream.broker import NatsBroker
from marketprism_consumer.jetstream.client import PullClient
from marketprism_consumer.jetstream.streams import create_missing
from marketprism_consumer.schema.ddl import Change, Plan, render
from marketprism_consumer.schema.tables import table_of

app = typer.Typer(
    no_args_is_help=True, help="The tables: see what is missing, make it, check it. Nothing is ever dropped."
)


@app.command(epilog=epilog("schema plan", "Example:  marketprism schema plan -f pipeline.yaml"))
def plan(file: File = "", output: Json = Output.TEXT) -> None:
    """Print the statements that `apply` would run. Read-only."""
    found = _with_server(settings_of(file), schema.current_plan)
    _show(found, output, statements=True)


@app.command(epilog=epilog("schema apply", "Example:  marketprism schema apply -f pipeline.yaml"))
def apply(file: File = "", output: Json = Output.TEXT) -> None:
    """Create and extend what is missing, in both databases. Safe to run again, and twice at once."""
    done: list[Change] = []

    async def run(clickhouse: ClickHouse, settings: Settings) -> Plan:
        left = await schema.apply(clickhouse, settings, done.append)
        await _begin_lanes(settings, done)
        return left

    left = _with_server(settings_of(file), run)
    if output != "json":
        for change in done:
            stdout.print(f"done: {change.why}", markup=False)
    _show(left, output, statements=False)
    if not left.fits:
        raise typer.Exit(int(Exit.FINDINGS))


async def _begin_lanes(settings: Settings, done: Iterable[Change]) -> None:
    if why := await begin_lanes(settings, [change.makes for change in done if change.makes]):
        stderr.print(why, style="yellow", markup=False)


@app.command(epilog=epilog("schema verify", "Example:  marketprism schema verify -f pipeline.yaml"))
def verify(file: File = "", output: Json = Output.TEXT) -> None:
    """Compare the server with what the pipeline needs, and explain every difference. Read-only."""
    found = _with_server(settings_of(file), schema.current_plan)
    _show(found, output, statements=False)
    if not found.fits:
        raise typer.Exit(int(Exit.FINDINGS))


@app.command(
    epilog=epilog(
        "schema ensure", "Example:  marketprism schema ensure -f pipeline.yaml; what the operator's schema Job runs"
    )
)
def ensure(
    file: File = "",
    wait: Annotated[str, typer.Option(help="How long NATS may take to answer.")] = "10s",
) -> None:
    """See that NATS and ClickHouse answer; make the streams that are missing, as spec.nats.ensureStreams says, and make,
    compare or leave the tables, as spec.schema.mode says.

    Whatever is wrong is reported on stderr, each on a line with its code.
    """
    logs.configure("error")
    settings = settings_of(file)
    try:
        patience = seconds(wait, "--wait", least=0.1)
    except ValueError as error:
        fail(str(error), Exit.USAGE)
    problems = asyncio.run(_ensure(settings, patience))
    for text, _ in problems:
        stderr.print(text, style="red", markup=False)
    if problems:
        raise typer.Exit(int(max(code for _, code in problems)))
    stdout.print("NATS and ClickHouse answer; " + ENSURED[settings.schema_mode], markup=False)


ENSURED = {"Apply": "the tables fit", "Verify": "the tables fit", "Ignore": "the tables were not looked at"}

Misfit = tuple[str, Exit]


async def _ensure(settings: Settings, wait: float) -> list[Misfit]:
    clickhouse = clickhouse_of(settings, "schema")
    done: list[Change] = []
    try:
        nats, tables = await asyncio.gather(_nats(settings, wait), _tables(settings, clickhouse, done))
        if not nats:
            await _begin_lanes(settings, done)
    finally:
        await clickhouse.close()
    return [*nats, *tables]


async def _nats(settings: Settings, wait: float) -> list[Misfit]:
    """Whether JetStream takes the request that every consumer begins with; the streams that all consumers will look for."""
    client = PullClient()
    try:
        await nats_of(settings, "schema", wait, client)
        broker = NatsBroker(client)
        for type_settings in settings.data_types.values():
            await broker.streams_of(type_settings.subject)
        if settings.ensure_streams == "IfMissing":
            await create_missing(client.jetstream(), broker, settings)
    except StreamError as error:
        return [(f"{reasons.STREAM_MISSING}: {error}", Exit.FINDINGS)]
    except (BrokerError, TimeoutError) as error:
        return [(str(error), Exit.UNREACHABLE)]
    except (NatsError, OSError) as error:
        return [(f"{client.trouble} {error}", Exit.UNREACHABLE)]
    finally:
        await client.close()
    return []


async def _tables(settings: Settings, clickhouse: ClickHouse, done: list[Change]) -> list[Misfit]:
    try:
        if settings.schema_mode == "Ignore":
            await clickhouse.query("SELECT 1")
            return []
        if settings.schema_mode == "Apply":
            left = await schema.apply(clickhouse, settings, done.append)
        else:
            left = await schema.current_plan(clickhouse, settings)
        return [(text, Exit.FINDINGS) for text in _misfits(left)]
    except StoreError as refused:
        return [(str(refused), exit_of(refused))]


def _misfits(plan: Plan) -> list[str]:
    missing = [f"{reasons.SCHEMA_MISSING}: {change.why}" for change in plan.changes if not change.convenience]
    return missing + [f"{d.reason}: {d.where}: {d.what}" for d in plan.differences if d.blocking]


@app.command(
    "render", epilog=epilog("schema render", "Example:  marketprism schema render -f pipeline.yaml > schema.sql")
)
def render_(file: File = "") -> None:
    """Print the whole DDL for an empty server, or for a cluster where spec.clickhouse.cluster names one. Offline."""
    settings = settings_of(file)
    if settings.sharded:
        fail("only the cluster knows its shards, which the tables name: see `marketprism schema plan`", Exit.USAGE)
    tables = [table_of(each.declaration) for each in settings.data_types.values()]
    for change in render(schema.target_of(settings), tables):
        typer.echo(change.sql + ";\n")


def _with_server(settings: Settings, ask: Callable[[ClickHouse, Settings], Awaitable[Plan]]) -> Plan:
    async def run() -> Plan:
        clickhouse = clickhouse_of(settings, "schema")
        try:
            return await ask(clickhouse, settings)
        finally:
            await clickhouse.close()

    try:
        return asyncio.run(run())
    except StoreError as refused:
        fail(str(refused), exit_of(refused))


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
        if difference.reason is not reasons.SCHEMA_DRIFT:
            mark = f"{mark}: {difference.reason}"
        typer.echo(f"{mark}: {difference.where}: {difference.what}")
    if plan.fits:
        typer.echo("the schema fits")
