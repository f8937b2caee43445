"""`marketprism audit`: the proof."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from marketprism_consumer import logs, times
from marketprism_consumer.commands.common import File, Json, OnlyTypes, Output, chosen_types, settings_of
from marketprism_consumer.commands.exits import Exit
from marketprism_consumer.commands.servers import with_servers
from marketprism_consumer.operations.audit import AuditReport
from marketprism_consumer.operations.audit import audit as run_audit

EXAMPLES = """
Examples:

\b
  marketprism audit -f pipeline.yaml                   every data type, by sequence numbers
  marketprism audit -f pipeline.yaml --deep            and every value of every row against its message
  marketprism audit -f pipeline.yaml --type trade --output json
"""


Deep = Annotated[bool, typer.Option("--deep", help="Compare every value that the stream still holds.")]
BothTiers = Annotated[
    bool, typer.Option("--both-tiers/--hot-only", help="Look for rows in hot and cold, or in hot alone.")
]


def audit(
    file: File = "",
    types: OnlyTypes = None,
    deep: Deep = False,
    both_tiers: BothTiers = True,
    output: Json = Output.TEXT,
) -> None:
    """Prove what became of every message: held = rows + dead letters + pending, none missing, none double.

    Read-only. Safe to run while ingest, replay and migration go on.
    """
    logs.configure("error")
    settings = settings_of(file)
    chosen = chosen_types(settings, types)
    report = with_servers(
        settings,
        "audit",
        lambda servers: run_audit(
            settings,
            servers.hot,
            servers.client,
            cold=servers.cold,
            data_types=chosen,
            deep=deep,
            both_tiers=both_tiers,
        ),
    )
    if output == "json":
        typer.echo(json.dumps(report.as_dict()))
    else:
        for line in lines(report):
            typer.echo(line)
    raise typer.Exit(int(Exit.OK if report.holds else Exit.FINDINGS))


def lines(report: AuditReport) -> list[str]:
    """For people: a verdict for each type, with what was found below it, and one for all."""
    found = []
    for audited in report.types:
        found.append(f"{audited}  {'PROVEN' if audited.holds else 'NOT PROVEN'}")
        found += [f"  finding: {finding}" for finding in audited.findings]
        found += [f"  note: {note}" for note in audited.notes]
    for stream in report.streams:
        if stream.lost is None:
            found.append(f"{stream.stream}: holds other subjects too, so its gaps may be theirs")
        elif stream.lost.count:
            found.append(
                f"{stream.stream}: stream lost before we read {stream.lost.count:,}: {stream.lost}  NOT PROVEN"
            )
        if stream.deleted_unread.count:
            found.append(f"{stream.stream}: deleted from the stream and in no table: {stream.deleted_unread}")
    for data_type, streams in report.not_read.items():
        found.append(f"{', '.join(streams)}: holds {data_type}, and is not read, since spec.nats.streams names others")
    for data_type, streams in report.copies.items():
        found.append(f"{', '.join(streams)}: has copies of {data_type} that is read elsewhere, and is not read")
    how = "every value compared" if report.deep else "by sequence numbers"
    if report.since is not None:
        how += f", what arrived since {times.shown(report.since)}"
    found.append(
        f"{'PROVEN' if report.holds else 'NOT PROVEN'} ({how}, {' and '.join(report.tiers)}, {report.seconds:.1f} s)"
    )
    return found
