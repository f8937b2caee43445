"""`marketprism check`: is everything around the pipeline as it should be?"""

from __future__ import annotations

import asyncio
import json
import os

import typer
from rich.table import Table
from rich.text import Text

from marketprism_api import reasons
from marketprism_api.credentials import clickhouse_auth, nats_auth
from marketprism_api.problems import ResourceError
from marketprism_api.settings import Settings
from marketprism_consumer import logs
from marketprism_consumer.commands.common import File, Json, Output, fail, settings_of, stdout
from marketprism_consumer.commands.exits import Exit
from marketprism_consumer.operations.check import Level, Line
from marketprism_consumer.operations.check import check as run_check
from marketprism_consumer.operations.dlq import printable

EXAMPLES = """
Examples:

\b
  marketprism check -f pipeline.yaml                   before the first start, or when something is odd
  marketprism check --output json | jq '.lines[] | select(.level != "ok")'

\b
Endpoints, credentials, rights, streams, the bucket, lanes, schema, deduplication, clocks, parts, disks. Changes nothing:
one key is written into the bucket, to see whether we may, and removed.
"""
_CLOSED = (reasons.NATS_UNREACHABLE, reasons.NATS_DENIED, reasons.NATS_UNTRUSTED, reasons.CLICKHOUSE_UNREACHABLE)
UNREACHABLE = {reason.code for reason in _CLOSED}
COLOUR = {Level.OK: "green", Level.WARNING: "yellow", Level.WRONG: "red"}


def check(file: File = "", output: Json = Output.TEXT) -> None:
    """Check everything that the pipeline depends on, a line for each: ok, warning or wrong, and what to do about it."""
    logs.configure("critical")
    settings = settings_of(file)
    try:
        found = asyncio.run(_run(settings))
    except ResourceError as error:
        fail(str(error), Exit.USAGE)
    worst = max(line.level for line in found)
    if output == "json":
        answer = {"ok": worst is Level.OK, "worst": worst.name.lower(), "lines": [line.as_dict() for line in found]}
        typer.echo(json.dumps(answer))
    else:
        stdout.print(table(found))
    raise typer.Exit(int(exit_of(found)))


def exit_of(found: list[Line]) -> Exit:
    if any(line.code in UNREACHABLE for line in found):
        return Exit.UNREACHABLE
    return Exit.OK if all(line.level is Level.OK for line in found) else Exit.FINDINGS


async def _run(settings: Settings) -> list[Line]:
    found = run_check(settings, lambda: nats_auth(os.environ), lambda: clickhouse_auth(os.environ))
    return [line async for line in found]


def table(found: list[Line]) -> Table:
    shown = Table(box=None, pad_edge=False, show_header=False)
    for line in found:
        said = Text(printable(line.found))
        if line.level is not Level.OK:
            said.append(f"\n→ {f'{line.code}: ' if line.code else ''}{line.todo}", style="bold")
        shown.add_row(Text(line.level.name.lower(), style=COLOUR[line.level]), line.what, said)
    return shown
