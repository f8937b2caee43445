"""`marketprism migrate`: rows older than the policy's age go from hot to cold."""

from __future__ import annotations

import asyncio
import json
import os
import time
from dataclasses import replace
from typing import Annotated, Any

import structlog
import typer
from prometheus_client import CollectorRegistry

from marketprism_api.credentials import clickhouse_auth
from marketprism_api.problems import ResourceError, ValueRefusedError
from marketprism_api.settings import clickhouse_endpoints
from marketprism_consumer import logs
from marketprism_consumer.camel import camel
from marketprism_consumer.commands import loop
from marketprism_consumer.commands.common import Json, Output, fail, leave_word, moment, seconds, stderr
from marketprism_consumer.commands.exits import Exit, exit_of
from marketprism_consumer.commands.loop import RowProgress
from marketprism_consumer.errors import StoreError
from marketprism_consumer.tiering import servers
from marketprism_consumer.tiering.job import Job, Mode, cold_auth, job_of, read
from marketprism_consumer.tiering.ledger import Ledger, LedgerEntry
from marketprism_consumer.tiering.metrics import Metrics
from marketprism_consumer.tiering.run import LEASE, Migration, Result
from marketprism_consumer.tiering.slices import Filter

log = structlog.get_logger()

EXAMPLES = """
Examples:

\b
  marketprism migrate                                  every default: what is older than 8 hours
  marketprism migrate -f policy.yaml --mode dry-run    what a policy would move; nothing is written
  marketprism migrate --older-than 3m --every 30s --port 9464
  marketprism migrate --table trades --symbol BTC-USDT --from 2025-09-24T00:00 --to 2025-09-25T00:00
  marketprism migrate --history                        what earlier runs moved

\b
Environment: CLICKHOUSE_HTTP_URL, CLICKHOUSE_HOT_DB, CLICKHOUSE_COLD_DB, CLICKHOUSE_COLD_HTTP_URL, MIGRATION_WINDOW_HOURS
(8; fractions such as 0.05), MIGRATION_BATCH_LIMIT (5000000). Options win over it, it wins over the file.
The last line on stdout is the result as JSON.
"""
TERMINATION_LIMIT = 4096


PolicyFile = Annotated[
    str, typer.Option("--file", "-f", help="StoragePipeline, TieringPolicy or both; without it, the environment.")
]
ColdUrl = Annotated[str, typer.Option("--cold-url", help="Cold on another ClickHouse server.")]
Tables = Annotated[list[str] | None, typer.Option("--table", help="Only this table; may be repeated.")]
OlderThan = Annotated[str, typer.Option("--older-than", help="Move rows older than this, such as 8h or 0.05h.")]


def migrate(
    file: PolicyFile = "",
    older_than: OlderThan = "",
    batch_limit: Annotated[int, typer.Option(min=0, help="Rows per table and run; 0: as configured.")] = 0,
    tables: Tables = None,
    exchange: Annotated[str, typer.Option(help="Only rows of this exchange.")] = "",
    market_type: Annotated[str, typer.Option(help="Only rows of this market type.")] = "",
    symbol: Annotated[str, typer.Option(help="Only rows of this symbol.")] = "",
    start: Annotated[str, typer.Option("--from", help="Only rows from this time on (ISO 8601, UTC).")] = "",
    end: Annotated[str, typer.Option("--to", help="Only rows before this time.")] = "",
    mode: Annotated[Mode | None, typer.Option(help="copy leaves the rows in hot; dry-run only counts.")] = None,
    cold_url: ColdUrl = "",
    every: Annotated[str, typer.Option(help="Go on for ever, with a run every 30s or 5m; at least 1s.")] = "",
    port: Annotated[int, typer.Option(min=0, max=65535, help="With --every: port of /healthz, /readyz, /metrics.")] = 0,
    host: Annotated[str, typer.Option(help="Where that port listens.")] = "127.0.0.1",
    lease: Annotated[
        str, typer.Option(help="A run that is silent for this long counts as dead, and the next one begins.")
    ] = f"{LEASE:.0f}s",
    history: Annotated[bool, typer.Option("--history", help="Show what earlier runs moved.")] = False,
    output: Json = Output.TEXT,
    log_level: Annotated[str, typer.Option(help="debug, info, warning or error.")] = "warning",
) -> None:
    """Move rows from hot to cold: copied, verified value by value, then deleted. May be killed and run again at any time."""
    logs.configure(log_level)
    job = resolve(file, cold_url, tables, older_than)
    try:
        job = replace(
            job,
            batch_limit=batch_limit or job.batch_limit,
            filter=Filter(exchange or job.filter.exchange, market_type, symbol or job.filter.symbol),
            start=moment(start, time.time()) if start else None,
            end=moment(end, time.time()) if end else None,
            mode=mode or job.mode,
        )
        interval = seconds(every, "--every", least=1.0) if every else None
        lease_seconds = seconds(lease, "--lease", least=0.3)
    except ValueError as error:
        fail(str(error), Exit.USAGE)
    if history:
        raise typer.Exit(asyncio.run(_history(job, output)))
    work = _Migrations(job, lease_seconds, text=output != "json")
    raise typer.Exit(int(asyncio.run(loop.run(work, interval, host, port))))


def resolve(file: str, cold_url: str, tables: list[str] | None, older_than: str) -> Job:
    """The job of file, environment and the options that `migrate` and `tiers` share; ends the command on a mistake."""
    try:
        settings, policy = read(file, os.environ)
        job = job_of(settings, policy)
        clickhouse_auth(os.environ)  # wrong credentials are reported before anything is begun
        cold_auth()
        if cold_url:
            job = replace(job, cold_urls=tuple(endpoint.url for endpoint in clickhouse_endpoints(cold_url)))
        if unknown := sorted(set(tables or ()) - set(job.tables)):
            fail(f"--table: no such table: {', '.join(unknown)}; there are {', '.join(job.tables)}", Exit.USAGE)
        if tables:
            job = replace(job, tables=tuple(table for table in job.tables if table in tables))
        return replace(job, older_than=seconds(older_than, "--older-than", least=0.001)) if older_than else job
    except (ResourceError, ValueError, ValueRefusedError) as error:
        fail(str(error), Exit.USAGE)


class _Migrations:
    """Each run's report, and what a probe sees of the last one."""

    def __init__(self, job: Job, lease: float, *, text: bool) -> None:
        self._job, self._lease, self._text = job, lease, text
        self._migration: Migration | None = None
        self._last: Result | None = None
        self.registry = CollectorRegistry()
        self._metrics = Metrics(self.registry)

    def not_ready(self) -> dict[str, str]:
        if self._last is None:
            return {"migrate": "no run has ended yet"}
        return {failure.table or "migrate": f"{failure.reason}: {failure.message}" for failure in self._last.failures}

    def status(self) -> dict[str, Any]:
        return self._last.as_dict() if self._last else {}

    def stop(self) -> None:
        if self._migration:
            self._migration.stop()

    async def once(self) -> Exit:
        with RowProgress(shown=self._text) as progress:
            self._migration = Migration(
                self._job, lambda: clickhouse_auth(os.environ), cold_auth, lease=self._lease, progress=progress
            )
            self._last = result = await self._migration.run()
        self._metrics.count(result)
        if self._text:
            for line in lines(result):
                typer.echo(line)
        report(result)
        if result.ok:
            return Exit.OK
        return Exit.UNREACHABLE if result.unreachable else Exit.FINDINGS


def report(result: Result) -> None:
    """The last line, and the Pod's termination message."""
    typer.echo(json.dumps(result.as_dict()))
    leave_word(termination_message(result))


def termination_message(result: Result) -> str:
    """The result in at most 4096 bytes, which is what Kubernetes keeps: texts are cut until it fits."""
    for longest in (600, 200, 50, 0):
        said = result.as_dict()
        said["message"] = said["message"][: longest * 2]
        for failure in said["failures"]:
            failure["message"] = failure["message"][:longest]
        for of_table in said["tables"].values():
            of_table.pop("notes", None)
        text = json.dumps(said, ensure_ascii=False)
        if len(text.encode()) <= TERMINATION_LIMIT:
            break
    return text


def lines(result: Result) -> list[str]:
    """For people, a line per table."""
    verb = {"move": "moved", "copy": "copied", "dry-run": "would move"}[result.mode]
    found = []
    for name, of_table in result.tables.items():
        rate = (
            f", {of_table.rows / of_table.seconds:,.0f} rows/s"
            if of_table.rows and of_table.seconds and result.mode != "dry-run"
            else ""
        )
        left = f"; {of_table.backlog_rows:,} rows still due" if of_table.backlog_rows and result.mode == "move" else ""
        found.append(
            f"{name:20} {verb} {of_table.rows:,} rows, {of_table.bytes / 1e6:,.1f} MB in {of_table.seconds:.1f} s{rate}{left}"
        )
        found += [f"  note: {note}" for note in of_table.notes]
    found += [f"FAILED {failure} ({failure.reason.hint})" for failure in result.failures]
    return found


async def _history(job: Job, output: str) -> int:
    _, cold = servers.both(job, "marketprism migrate --history", job.cluster)
    try:
        entries = await Ledger(cold, job.cold_db, "", "").history(200)
    except StoreError as refused:
        if refused.code == 60:
            typer.echo("[]" if output == "json" else "nothing has been migrated yet")
            return int(Exit.OK)
        stderr.print(str(refused), style="red", markup=False)
        return int(exit_of(refused))
    finally:
        await cold.close()
    if output == "json":
        typer.echo(json.dumps(camel(entries)))
        return int(Exit.OK)
    for entry in entries:
        typer.echo(history_line(entry))
    return int(Exit.OK)


def history_line(entry: LedgerEntry) -> str:
    end = f" {entry.error}" if entry.error else ""
    took = f"{(entry.finished - entry.started).total_seconds():.1f} s" if entry.finished else "-"
    return (
        f"{entry.started:%Y-%m-%d %H:%M:%S}  {entry.run}  {entry.table:18} {entry.slice_from:%Y-%m-%d %H:%M}  {entry.rows:>12,} rows"
        f" {entry.bytes / 1e6:9,.1f} MB  {took:>8}  {entry.mode} {entry.status}{end}"
    )
