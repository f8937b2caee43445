"""`marketprism replay`."""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import Sequence
from dataclasses import asdict
from typing import Annotated

import typer
from marketprism_api.credentials import clickhouse_auth, nats_auth
from marketprism_api.data_types import DataType
from marketprism_api.settings import DataTypeSettings, Settings
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from marketprism_consumer import logs
from marketprism_consumer.broker import BrokerRefused
from marketprism_consumer.clickhouse import ClickHouse
from marketprism_consumer.commands.common import Exit, File, Json, fail, moment, settings_of, stderr
from marketprism_consumer.dlq import printable
from marketprism_consumer.nats_broker import NatsBroker
from marketprism_consumer.nats_client import connect
from marketprism_consumer.replay import NotYetStoredError, Replayed, Stretch, replay
from marketprism_consumer.store import InsertRefused
from marketprism_consumer.stream_reader import ReaderRunsError

CONNECT_WAIT = 5.0  # [s]

EXAMPLES = """
Examples:

\b
  marketprism replay --from-time 2h                                what arrived in the last two hours
  marketprism replay --from-time 2026-11-23T07:00 --until 2026-11-23T08:00 --subject 'trade.binance_spot.>'
  marketprism replay --type trade --from-seq 1000 --until 2000 --dry-run

\b
Exit: 0 done, 1 ClickHouse refused rows or there is nothing to replay to, 2 usage, 4 NATS or ClickHouse unreachable.
"""


def replay_(
    file: File = "",
    from_seq: Annotated[int, typer.Option(min=0, help="From this sequence of the stream on.")] = 0,
    from_time: Annotated[
        str, typer.Option(help="From what arrived then on: 2026-11-23T07:00 (UTC), or 2h for two hours ago.")
    ] = "",
    until: Annotated[str, typer.Option(help="Up to this sequence, or before this time.")] = "",
    subject: Annotated[str, typer.Option(help="Only these, such as 'trade.binance_spot.>'.")] = "",
    data_type: Annotated[DataType | None, typer.Option("--type", metavar="TYPE", help="Only this data type.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Count only: store nothing.")] = False,
    output: Json = "text",
) -> None:
    """Store again what a stretch of the stream holds and no tier has: after a partition was lost, or an old back-up restored.

    Idempotent: what is there is found by its stream and sequence, and skipped. May go on beside ingest.
    """
    settings = settings_of(file)
    try:
        stretch = stretch_of(from_seq, from_time, until, time.time())
        types = chosen(settings, data_type, subject, by_sequence=bool(from_seq) or until.isdigit())
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    logs.configure("error")
    try:
        found = asyncio.run(_replay(settings, types, stretch, subject, dry_run))
    except (ReaderRunsError, NotYetStoredError) as error:
        hint = ": run `marketprism ingest`, it stores everything" if isinstance(error, NotYetStoredError) else ""
        fail(f"{error}{hint}", Exit.FINDINGS)
    except (BrokerRefused, TimeoutError) as error:
        fail(str(error), Exit.UNREACHABLE)
    except InsertRefused as refused:
        fail(str(refused), Exit.UNREACHABLE if refused.code == 0 else Exit.FINDINGS)
    _show(found, dry_run, output)
    raise typer.Exit(int(Exit.FINDINGS if any(one.refused for one in found.values()) else Exit.OK))


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


def chosen(
    settings: Settings, data_type: DataType | None, subject: str, *, by_sequence: bool
) -> Sequence[DataTypeSettings]:
    """The data types that are replayed. Raises ValueError."""
    token = subject.partition(".")[0]
    wanted = [
        one
        for kind, one in settings.data_types.items()
        if (data_type is None or kind is data_type) and token in ("", "*", ">", one.subject.partition(".")[0])
    ]
    if not wanted:
        known = ", ".join(one.subject for one in settings.data_types.values())
        raise ValueError(f"--subject {subject!r} and --type fit none of the pipeline's subjects: {known}")
    if by_sequence and len({one.stream for one in wanted}) > 1:
        raise ValueError("each stream counts for itself: name one with --type or --subject, or use times")
    return wanted


# --- with the servers -------------------------------------------------------------------------------------------------


async def _replay(
    settings: Settings, types: Sequence[DataTypeSettings], stretch: Stretch, subject: str, dry_run: bool
) -> dict[str, Replayed]:
    client = await connect(settings.nats_url, nats_auth(os.environ), name="marketprism replay", wait=CONNECT_WAIT)
    tiers = [
        ClickHouse(
            settings.clickhouse_urls, database, auth=lambda: clickhouse_auth(os.environ), cluster=settings.cluster
        )
        for database in (settings.hot_db, settings.cold_db)
    ]
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    try:
        with Progress(*columns, console=stderr, transient=True, disable=not stderr.is_terminal) as progress:
            found = {}
            for one in types:
                task = progress.add_task(one.table)
                # `>` and `*` may stand for the data type: the subject is then the data type's own part of it.
                narrowed = one.subject.partition(".")[0] + subject[1:] if subject[:1] == "*" else subject
                found[one.table] = await replay(
                    NatsBroker(client),
                    tiers,
                    one,
                    stretch,
                    subject="" if narrowed == ">" else narrowed,
                    dry_run=dry_run,
                    progress=lambda so_far, task=task, table=one.table: progress.update(  # type: ignore[misc]
                        task, description=f"{table}: {so_far.read:,} read, {so_far.stored:,} stored"
                    ),
                )
            return found
    finally:
        await client.close()
        for tier in tiers:
            await tier.close()


def _show(found: dict[str, Replayed], dry_run: bool, output: str) -> None:
    if output == "json":
        typer.echo(json.dumps({"dryRun": dry_run, "tables": {table: asdict(one) for table, one in found.items()}}))
        return
    verb = "would be stored" if dry_run else "stored"
    for table, one in found.items():
        bad = f", {sum(one.bad.values()):,} can't be rows (they are dead letters)" if one.bad else ""
        typer.echo(f"{table:20} read {one.read:,}: {one.stored_before:,} were there, {one.stored:,} {verb}{bad}")
        for why in one.refused[:20]:
            typer.echo(f"  refused: {printable(why)}")
