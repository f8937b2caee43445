"""`marketprism tiers`: what is in hot, what is in cold, what is in both, what is there twice."""

from __future__ import annotations

import asyncio
import json
import os

import typer
from rich.table import Table

from marketprism_api import reasons
from marketprism_api.credentials import clickhouse_auth
from marketprism_consumer.commands.common import Json, Output, fail, stdout
from marketprism_consumer.commands.exits import Exit, exit_of
from marketprism_consumer.commands.migrate import ColdUrl, OlderThan, PolicyFile, Tables, resolve
from marketprism_consumer.errors import StoreError, TieringError
from marketprism_consumer.ingest.clickhouse_errors import refused
from marketprism_consumer.tiering import servers
from marketprism_consumer.tiering.job import Job
from marketprism_consumer.tiering.overview import TableOverview, overview, run_name

EXAMPLES = """
Examples:

\b
  marketprism tiers                                every table of the default databases
  marketprism tiers -f policy.yaml --output json   against a policy's age, for a machine
"""


def tiers(
    file: PolicyFile = "",
    tables: Tables = None,
    older_than: OlderThan = "",
    cold_url: ColdUrl = "",
    output: Json = Output.TEXT,
) -> None:
    """Show what is where: rows, bytes, parts and times of both tiers, rows in both, doubles, and what is due to move."""
    job = resolve(file, cold_url, tables, older_than)
    try:
        found = asyncio.run(_run(job))
    except (StoreError, TieringError) as error:
        fail(str(error), exit_of(error) if isinstance(error, StoreError) else Exit.FINDINGS)
    doubles = sum(of_table.doubles for of_table in found.values())
    if output == "json":
        typer.echo(
            json.dumps({"ok": not doubles, "tables": {name: of_table.as_dict() for name, of_table in found.items()}})
        )
    else:
        stdout.print(_table(found))
        for name, of_table in found.items():
            if of_table.doubles:
                typer.echo(
                    f"{name}: {of_table.hot.doubles:,} doubles by identity in hot, {of_table.cold.doubles:,} in cold;"
                    f" {of_table.doubles_by_hand:,} rows by hand have the content of another row"
                )
    raise typer.Exit(int(Exit.FINDINGS if doubles else Exit.OK))


async def _run(job: Job) -> dict[str, TableOverview]:
    found: dict[str, TableOverview] = {}
    for of_shard in await servers.by_shard(job, lambda: clickhouse_auth(os.environ)):
        if not of_shard.hot_urls:
            raise refused(0, f"{reasons.CLICKHOUSE_UNREACHABLE}: no URL of shard {of_shard.shard} answers")
        hot, cold = servers.both(of_shard, "marketprism tiers")
        try:
            for table in job.tables:
                found.setdefault(table, TableOverview()).add(await overview(of_shard, hot, cold, table, run_name()))
        finally:
            await hot.close()
            await cold.close()
    return found


def _table(found: dict[str, TableOverview]) -> Table:
    table = Table(box=None, pad_edge=False)
    for name in ("table", "tier", "first", "last"):
        table.add_column(name)
    for name in ("rows", "MB", "parts", "in both", "doubles", "due"):
        table.add_column(name, justify="right")
    for name, of_table in found.items():
        for label, tier in (("hot", of_table.hot), ("cold", of_table.cold)):
            first = label == "hot"
            table.add_row(
                name if first else "",
                label,
                tier.first or "-",
                tier.last or "-",
                f"{tier.rows:,}",
                f"{tier.bytes / 1e6:,.1f}",
                f"{tier.parts:,}",
                f"{of_table.overlap:,}" if first else "",
                f"{of_table.doubles:,}" if first else "",
                f"{of_table.backlog_rows:,}" if first else "",
            )
    return table
