"""`marketprism replay`."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from typing import Annotated

import typer
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from marketprism_api.settings import Settings
from marketprism_api.subjects import common
from marketprism_consumer import logs
from marketprism_consumer.camel import camel
from marketprism_consumer.commands.common import File, Json, Output, chosen_types, fail, moment, settings_of, stderr
from marketprism_consumer.commands.exits import Exit
from marketprism_consumer.commands.servers import Servers, with_servers
from marketprism_consumer.errors import NotYetStoredError, ReaderRunsError
from marketprism_consumer.ingest.lane_id import LaneId
from marketprism_consumer.jetstream.records import NatsRecords
from marketprism_consumer.operations import lanes
from marketprism_consumer.operations.dlq import printable
from marketprism_consumer.operations.replay import Replayed, Stretch, replay

EXAMPLES = """
Examples:

\b
  marketprism replay --from-time 2h                                what arrived in the last two hours
  marketprism replay --from-time 2026-11-23T07:00 --until 2026-11-23T08:00 --subject 'trade.binance_spot.>'
  marketprism replay --type trade --from-seq 1000 --until 2000 --dry-run
"""


def replay_(
    file: File = "",
    from_seq: Annotated[int, typer.Option(min=0, help="From this sequence of the stream on.")] = 0,
    from_time: Annotated[
        str, typer.Option(help="From what arrived at this time on: 2026-11-23T07:00 (UTC), or 2h for two hours ago.")
    ] = "",
    until: Annotated[str, typer.Option(help="Up to this sequence, or before this time.")] = "",
    subject: Annotated[str, typer.Option(help="Only these subjects, such as 'trade.binance_spot.>'.")] = "",
    data_type: Annotated[str | None, typer.Option("--type", metavar="TYPE", help="Only this data type.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Count only: store nothing.")] = False,
    output: Json = Output.TEXT,
) -> None:
    """Store again what a stretch of the stream holds and no tier has: after a partition was lost, or an old back-up restored.

    Idempotent: what is there is found by its stream and sequence, and skipped. May run beside ingest.
    """
    settings = settings_of(file)
    try:
        stretch = stretch_of(from_seq, from_time, until, time.time())
        types = chosen(settings, chosen_types(settings, [data_type] if data_type else None), subject)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    logs.configure("error")
    by_sequence = bool(from_seq) or until.isdigit()

    async def run(servers: Servers) -> dict[str, Replayed]:
        found = [lane for kind in types for lane in await _lanes(servers, settings, kind)]
        if by_sequence and len({lane.stream for lane in found}) > 1:
            fail("each stream has sequences of its own: name one with --type or --subject, or use times", Exit.USAGE)
        return await _replay(servers, settings, found, stretch, subject, dry_run)

    try:
        found = with_servers(settings, "replay", run)
    except (ReaderRunsError, NotYetStoredError) as error:
        hint = ": run `marketprism ingest`, it stores everything" if isinstance(error, NotYetStoredError) else ""
        fail(f"{error}{hint}", Exit.FINDINGS)
    _show(found, dry_run, output)
    raise typer.Exit(int(Exit.FINDINGS if any(replayed.refused for replayed in found.values()) else Exit.OK))


# --- what was asked for -----------------------------------------------------------------------------------------------


def stretch_of(from_seq: int, from_time: str, until: str, now: float) -> Stretch:
    """Raises ValueError."""
    if bool(from_seq) == bool(from_time):
        raise ValueError("give exactly one of --from-seq and --from-time")
    return Stretch(
        first=from_seq or 1,
        since=moment(from_time, now) if from_time else None,
        last=int(until) if until.isdigit() else None,
        until=moment(until, now) if until and not until.isdigit() else None,
    )


def chosen(settings: Settings, types: Sequence[str], subject: str) -> Sequence[str]:
    """Those of the data types that the subject is of. Raises ValueError."""
    wanted = [name for name in types if not subject or common(settings.data_types[name].subject, subject)]
    if not wanted:
        known = ", ".join(type_settings.subject for type_settings in settings.data_types.values())
        raise ValueError(f"--subject {subject!r} and --type fit none of the pipeline's subjects: {known}")
    return wanted


# --- with the servers -------------------------------------------------------------------------------------------------


async def _lanes(servers: Servers, settings: Settings, kind: str) -> list[LaneId]:
    found = await lanes.find_all(settings, servers.broker, servers.hot, kind)
    for lane in found:
        if lane.id is None:
            fail(lane.problem, Exit.FINDINGS)
    return [lane.id for lane in found if lane.id]


async def _replay(
    servers: Servers, settings: Settings, chosen: Sequence[LaneId], stretch: Stretch, subject: str, dry_run: bool
) -> dict[str, Replayed]:
    records = NatsRecords(servers.client, settings.bucket)
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=stderr, transient=True, disable=not stderr.is_terminal) as progress:
        found: dict[str, Replayed] = {}
        for lane in chosen:
            declaration = settings.data_types[lane.data_type].declaration
            table = declaration.table
            task = progress.add_task(table)
            of_lane = await replay(
                servers.broker,
                records,
                [servers.hot, servers.cold],
                lane,
                declaration,
                stretch,
                settings.messages,
                subject=common(declaration.subject, subject) if subject else "",
                dry_run=dry_run,
                progress=lambda so_far, task=task, table=table: progress.update(  # type: ignore[misc]
                    task, description=f"{table}: {so_far.read:,} read, {so_far.stored:,} stored"
                ),
            )
            found[table] = found.get(table, Replayed()) + of_lane
        return found


def _show(found: dict[str, Replayed], dry_run: bool, output: str) -> None:
    if output == "json":
        typer.echo(json.dumps({"dryRun": dry_run, "tables": camel(found)}))
        return
    verb = "would be stored" if dry_run else "stored"
    for table, replayed in found.items():
        bad = f", {sum(replayed.bad.values()):,} can't be rows (they are dead letters)" if replayed.bad else ""
        typer.echo(
            f"{table:20} read {replayed.read:,}: {replayed.stored_before:,} were there, {replayed.stored:,} {verb}{bad}"
        )
        for why in replayed.refused[:20]:
            typer.echo(f"  refused: {printable(why)}")
