"""`marketprism lanes list|show|reset`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Annotated

import typer
from rich.table import Table

from marketprism_api.settings import Settings
from marketprism_consumer import logs, times
from marketprism_consumer.camel import camel
from marketprism_consumer.commands.common import File, Json, Output, fail, settings_of, stdout
from marketprism_consumer.commands.exits import Exit, epilog
from marketprism_consumer.commands.servers import Servers, with_servers
from marketprism_consumer.errors import ConflictError
from marketprism_consumer.ingest.record import VALID, Claim, Record
from marketprism_consumer.jetstream.records import NatsRecords
from marketprism_consumer.operations import lanes
from marketprism_consumer.operations.lanes import FoundLane, Reset, Summary

app = typer.Typer(
    no_args_is_help=True,
    help="A lane is a stream into a table. Its record says to where all is stored, and who works on the rest.",
)

Type = Annotated[str, typer.Argument(metavar="DATA_TYPE", help="One of the pipeline's, such as trade.")]
Stream = Annotated[str, typer.Option("--stream", help="Which one, where the data type is read from several.")]

RESET = """
Examples:

\b
  marketprism lanes reset trade --to 0                 look up everything that the stream holds
  marketprism lanes reset trade --to 120000 --yes      from sequence 120001 on, without asking
"""


@app.command("list", epilog=epilog("lanes list", "Example:  marketprism lanes list -f pipeline.yaml"))
def list_(file: File = "", output: Json = Output.TEXT) -> None:
    """Show each data type's lane on a line: to where it is stored, what waits, who reads."""
    settings = _settings(file)

    async def run(servers: Servers) -> list[Summary]:
        return [
            await lanes.summary(servers.broker, lane)
            for data_type in settings.data_types
            for lane in await lanes.find_all(settings, servers.broker, servers.hot, data_type)
        ]

    found = with_servers(settings, "lanes", run)
    if output == "json":
        typer.echo(json.dumps({"lanes": camel(found)}))
    else:
        stdout.print(_table(found))
    raise typer.Exit(int(Exit.FINDINGS if any(each.problem for each in found) else Exit.OK))


@app.command(epilog=epilog("lanes show", "Example:  marketprism lanes show trade -f pipeline.yaml"))
def show(data_type: Type, stream: Stream = "", file: File = "", output: Json = Output.TEXT) -> None:
    """Show the whole record of a data type's lane: every stretch that is not done, whose it is, and what it waits for."""
    settings = _settings(file, data_type)
    try:
        found = with_servers(
            settings, "lanes", lambda servers: lanes.find(settings, servers.broker, servers.hot, data_type, stream)
        )
    except ValueError as refused:
        fail(str(refused), Exit.USAGE)
    if output == "json":
        typer.echo(json.dumps(lanes.as_dict(found)))
    else:
        for line in lines(found):
            typer.echo(line)
    raise typer.Exit(int(Exit.OK if found.record else Exit.FINDINGS))


@app.command(epilog=epilog("lanes reset", RESET))
def reset(
    data_type: Type,
    to: Annotated[
        int, typer.Option("--to", min=0, metavar="SEQ", help="The last sequence that is not looked at again.")
    ],
    stream: Stream = "",
    file: File = "",
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Don't ask.")] = False,
    output: Json = Output.TEXT,
) -> None:
    """Begin a data type's record again behind a sequence: what the stream holds from there on is looked up, and stored where
    it is not. Consumers may run meanwhile. Also replaces a record that can't be read."""
    settings = _settings(file, data_type)

    async def plan(servers: Servers) -> Reset:
        lane = await lanes.find(settings, servers.broker, servers.hot, data_type, stream)
        return await lanes.plan_reset(servers.broker, lane, to)

    async def run(servers: Servers) -> Record:
        records = NatsRecords(servers.client, settings.bucket)
        return await lanes.reset(servers.broker, records, servers.hot, planned.lane, to)

    try:
        planned = with_servers(settings, "lanes", plan)
        if not yes:
            for line in plan_lines(planned):
                typer.echo(line, err=output == "json")
            typer.confirm("begin again from there?", abort=True, err=output == "json")
        record = with_servers(settings, "lanes", run)
    except ValueError as refused:
        fail(str(refused), Exit.FINDINGS)
    except ConflictError as beaten:
        fail(f"{beaten}: try again", Exit.FINDINGS)
    after = record.claims[-1].after if record.claims else None
    if output == "json":
        numbers = {"to": to, "last": planned.last, "inDoubt": planned.in_doubt, "after": after}
        typer.echo(json.dumps({"dataType": data_type, "key": planned.lane.key, **numbers}))
    else:
        typer.echo(f"done: {planned.lane.key} begins again behind {to}")


def _settings(file: str, data_type: str | None = None) -> Settings:
    logs.configure("error")
    settings = settings_of(file)
    if data_type and data_type not in settings.data_types:
        fail(f"the pipeline does not store {data_type}", Exit.USAGE)
    return settings


# --- for people -------------------------------------------------------------------------------------------------------


def _table(found: list[Summary]) -> Table:
    table = Table(box=None, pad_edge=False)
    for name in (
        "data type",
        "stream",
        "key",
        "done",
        "end",
        "lag",
        "aside",
        "in hand",
        "in doubt",
        "unfinished",
        "tail",
    ):
        table.add_column(name, justify="left" if name in ("data type", "stream", "key", "tail") else "right")
    for each in found:
        numbers = (each.done, each.end, each.lag, each.set_aside)
        table.add_row(
            each.data_type,
            each.stream,
            each.key,
            *("-" if number is None else f"{number:,}" for number in numbers),
            *(str(number) for number in (each.in_hand, each.in_doubt, each.unfinished)),
            each.problem or each.tail or "nobody",
        )
    return table


def lines(lane: FoundLane) -> Iterator[str]:
    yield f"{lane.data_type}: {lane.stream or 'no stream'}{f', {lane.key}' if lane.key else ''}"
    record = lane.record
    if not record:
        yield f"  {lane.problem or 'no record yet: the first consumer makes it'}"
        return
    generation = f", generation {record.generation}" if record.generation else ""
    yield f"  stream made {record.created}, subject {record.subject}, table {record.table}{generation}"
    begin = f"; what came to {record.begin:,} was not wanted" if record.begin else ""
    yield f"  done to {record.done:,}, revision {lane.revision:,}{begin}"
    for claim in record.claims:
        yield f"  {_claim(claim)}"
    if not record.has_tail:
        yield f"  {record.end + 1:,}…  nobody's"


def _claim(claim: Claim) -> str:
    parts = [f"{claim.start + 1:,}…{'' if claim.end is None else f'{claim.end:,}'}"]
    parts.append(f"done to {claim.done:,}, {f'owner {claim.owner}' if claim.owner else 'nobody has it'}")
    if cut := claim.cut:
        epoch = f", epoch {cut.epoch}" if cut.epoch else ""
        parts.append(f"cut to {cut.end:,}, refused after {_moment(cut.until)}{epoch}")
    if claim.after is not None:
        parts.append(f"in doubt until {_moment(claim.after)}, then looked up")
    return "  ".join(parts)


def _moment(seconds: int) -> str:
    return times.shown(seconds * 1_000_000)


def plan_lines(planned: Reset) -> Iterator[str]:
    to = planned.to
    yield f"{planned.lane.data_type}: {planned.lane.stream} holds {planned.in_doubt:,} messages behind {to:,}"
    yield f"  they are in doubt, begun after {VALID} s, and looked up: rows that are stored are not sent again"
    yield "  what comes from now on is stored meanwhile"
    if planned.given_up:
        yield f"  {planned.given_up:,} before it are in hand and not known to be stored: they are GIVEN UP"
    if planned.skipped:
        yield f"  {planned.skipped:,} before it were never read: they are SKIPPED"
