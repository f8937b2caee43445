"""`marketprism types`: the data types of a pipeline, what becomes of a sample, and a declaration proposed from samples."""

from __future__ import annotations

import json
import sys
import time
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml
from rich.table import Table

from marketprism_api.data_types import BUILT_IN, Declaration, DeclaredField
from marketprism_api.settings import Settings
from marketprism_consumer.commands.common import File, Json, Output, chosen_types, fail, settings_of, stderr, stdout
from marketprism_consumer.commands.exits import Exit, epilog
from marketprism_consumer.errors import MessageError
from marketprism_consumer.ingest.decode import decode, values_by_column
from marketprism_consumer.operations.dlq import printable
from marketprism_consumer.operations.infer import propose, samples_in
from marketprism_consumer.schema.tables import table_of

SHOW = """
Examples:

\b
  marketprism types show                           the eight that are built in
  marketprism types show -f pipeline.yaml kline    one of the pipeline's, with its fields and where they stand
"""
CHECK = """
Examples:

\b
  marketprism types check -f pipeline.yaml sample.json                          what a message becomes
  marketprism types check -f pipeline.yaml --subject kline.binance.spot samples.ndjson
  nats sub --raw 'kline.>' --count 10 | marketprism types check -f pipeline.yaml --type kline -
"""
INFER = """
Examples:

\b
  marketprism types infer --name kline samples.ndjson            a declaration for spec.dataTypes
  nats sub --raw 'kline.>' --count 100 | marketprism types infer --name kline -

\b
Look it over: a sample shows no unit of a number, and not what a venue leaves out only sometimes.
"""

app = typer.Typer(help="The data types of a pipeline, and those that you declare.", no_args_is_help=True)

Samples = Annotated[str, typer.Argument(metavar="SAMPLES", help="A JSON object, or one on each line; - reads stdin.")]


@app.command(epilog=epilog("types show", SHOW))
def show(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[TYPE]...", help="Only these, with their fields.")
    ] = None,
    file: File = "",
    output: Json = Output.TEXT,
) -> None:
    """The data types that the pipeline stores: subject, table, and the fields of each."""
    settings = settings_of(file)
    chosen = [settings.data_types[name].declaration for name in chosen_types(settings, names)]
    if output is Output.JSON:
        typer.echo(json.dumps([_as_dict(each) for each in chosen]))
        return
    for declaration in chosen if names else ():
        stdout.print(_fields(declaration))
    if not names:
        table = Table("type", "subject", "table", "fields", "built in", box=None, pad_edge=False)
        for each in chosen:
            table.add_row(
                each.name, each.subject, each.table, str(len(each.names)), "yes" if each.name in BUILT_IN else "no"
            )
        stdout.print(table)


def _fields(declaration: Declaration) -> Table:
    table = Table(
        "column", "type", "in the message", "", box=None, pad_edge=False, title=declaration.name, title_justify="left"
    )
    for each in _as_dict(declaration)["fields"]:
        table.add_row(each["name"], each["type"], each["from"], each["description"])
    return table


def _as_dict(declaration: Declaration) -> dict[str, Any]:
    fields = [
        {"name": each.name, "type": each.type, "from": _from(each), "description": each.description}
        for each in declaration.message_fields
    ]
    return {
        "name": declaration.name,
        "subject": declaration.subject,
        "table": declaration.table,
        "orderBy": list(declaration.order_by),
        "partition": declaration.partition,
        "fields": fields,
    }


def _from(field: DeclaredField) -> str:
    if field.constant is not None:
        return f"always {field.constant}"
    return f"token {field.token} of the subject" if field.token else ", ".join(field.places or (field.name,))


@app.command(epilog=epilog("types check", CHECK))
def check(
    samples: Samples,
    file: File = "",
    data_type: Annotated[
        str, typer.Option("--type", metavar="TYPE", help="What they are; else the subject tells.")
    ] = "",
    subject: Annotated[str, typer.Option(help="The subject that they came with.")] = "",
    output: Json = Output.TEXT,
) -> None:
    """The row that each message becomes, or why it would be a dead letter. Asks no server."""
    settings = settings_of(file)
    declaration = _declared(settings, data_type, subject)
    verdicts = [_verdict(settings, declaration, subject, payload) for payload in _read(samples)]
    refused = sum("refused" in each for each in verdicts)
    if output is Output.JSON:
        typer.echo(json.dumps({"dataType": declaration.name, "messages": verdicts}, default=str))
    else:
        for number, each in enumerate(verdicts, 1):
            stdout.print(f"message {number}: " + ("dead letter" if "refused" in each else "row"), style="bold")
            for name, value in each.get("row", {}).items():
                stdout.print(f"  {name:20} {printable(str(value))}", markup=False)
            for name, value in each.get("refused", {}).items():
                stdout.print(f"  {name:20} {printable(value)}", markup=False)
        stderr.print(f"{len(verdicts) - refused} rows, {refused} dead letters")
    raise typer.Exit(int(Exit.FINDINGS if refused else Exit.OK))


def _declared(settings: Settings, data_type: str, subject: str) -> Declaration:
    if data_type:
        return settings.data_types[chosen_types(settings, [data_type])[0]].declaration
    if subject:
        name = settings.type_of(subject)
        if name is None:
            fail(
                f"--subject {subject} is of none of the pipeline's data types: {', '.join(settings.data_types)}",
                Exit.USAGE,
            )
        return settings.data_types[name].declaration
    own = [name for name in settings.data_types if name not in BUILT_IN] or list(settings.data_types)
    if len(own) > 1:
        fail(f"which of {', '.join(own)}? Name it with --type, or give --subject", Exit.USAGE)
    return settings.data_types[own[0]].declaration


def _verdict(settings: Settings, declaration: Declaration, subject: str, payload: bytes) -> dict[str, Any]:
    try:
        row = decode(declaration, subject or declaration.subject, payload, time.time_ns() // 1000, settings.messages)
    except MessageError as refusal:
        said = {"reason": str(refusal.reason), "field": refusal.field, "detail": refusal.detail}
        return {"refused": {**said, "text": refusal.reason.text, "hint": refusal.reason.hint}}
    return {"row": values_by_column(table_of(declaration), row)}


@app.command(epilog=epilog("types infer", INFER))
def infer(
    samples: Samples,
    name: Annotated[str, typer.Option(help="Of the data type.")] = "my_type",
) -> None:
    """A declaration for spec.dataTypes, proposed from samples of its messages."""
    try:
        found = [json.loads(each, parse_float=Decimal) for each in _read(samples)]
        if not all(isinstance(each, dict) for each in found):
            raise ValueError("not every message is a JSON object")
        proposed = propose(name, found)
    except ValueError as error:
        fail(f"{samples}: {error}", Exit.USAGE)
    typer.echo(f"# Proposed from {len(found)} messages: look it over, then `marketprism types check` it.")
    typer.echo(yaml.safe_dump({"dataTypes": proposed}, sort_keys=False, default_flow_style=None, width=120).rstrip())


def _read(samples: str) -> list[bytes]:
    try:
        return samples_in(sys.stdin.read() if samples == "-" else Path(samples).read_text())
    except (OSError, ValueError) as error:
        fail(f"{samples}: {error}", Exit.USAGE)
