"""`marketprism validate`: is what is stored right?"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Any, cast

import typer
from prometheus_client import CollectorRegistry, write_to_textfile
from rich.progress import BarColumn, Progress, TextColumn

from marketprism_api.credentials import clickhouse_auth
from marketprism_api.data_types import DataType
from marketprism_api.problems import ValueRefused
from marketprism_api.settings import Settings
from marketprism_api.types import Duration
from marketprism_consumer import health, logs
from marketprism_consumer.clickhouse.store import ClickHouse
from marketprism_consumer.commands.common import Exit, File, fail, leave_word, settings_of, stderr
from marketprism_consumer.ingest.store import InsertRefused
from marketprism_consumer.tiering.server import Server
from marketprism_consumer.validation import record
from marketprism_consumer.validation import report as told
from marketprism_consumer.validation.run import Report, Request, Validation
from marketprism_consumer.worker import Worker

EXAMPLES = """
Examples:

\b
  marketprism validate                                  the last 24 hours, or the pipeline's spec.validation.window
  marketprism validate --since 2h --type trade --symbol BTC-USDT
  marketprism validate --from 2025-09-24T00:00 --to 2025-09-25T00:00 --output markdown > report.md
  marketprism validate --every 15m --port 9465          for ever, as metrics

\b
Limits are in the pipeline's file: spec.validation.limits. Environment: CLICKHOUSE_HTTP_URL, CLICKHOUSE_HOT_DB, CLICKHOUSE_COLD_DB.
Exit: 0 fine, 1 findings, 2 could not check (usage, ClickHouse unreachable, tables missing).
"""
COULD_NOT_CHECK = Exit.USAGE
SUMMARY_FINDINGS = 20


class Output(StrEnum):
    TEXT = "text"
    JSON = "json"
    MARKDOWN = "markdown"


def validate(
    file: File = "",
    since: Annotated[str, typer.Option(help="Look back so far, such as 24h; not given: spec.validation.window.")] = "",
    start: Annotated[str, typer.Option("--from", help="From this time on (ISO 8601, UTC); instead of --since.")] = "",
    end: Annotated[str, typer.Option("--to", help="Up to this time; not given: now.")] = "",
    types: Annotated[
        list[DataType] | None, typer.Option("--type", metavar="TYPE", help="Only this data type; may be given again.")
    ] = None,
    exchanges: Annotated[list[str] | None, typer.Option("--exchange", help="Only this exchange.")] = None,
    symbols: Annotated[list[str] | None, typer.Option("--symbol", help="Only this symbol.")] = None,
    output: Annotated[Output, typer.Option("--output", "-o", help="How the report is told.")] = Output.TEXT,
    metrics_file: Annotated[
        str, typer.Option("--metrics", help="Write metrics to this file, for a textfile collector.")
    ] = "",
    every: Annotated[str, typer.Option(help="Go on for ever, a run each 15m or so.")] = "",
    port: Annotated[int, typer.Option(min=0, max=65535, help="With --every: of /healthz, /readyz, /metrics.")] = 0,
    host: Annotated[str, typer.Option(help="Where that port listens.")] = "127.0.0.1",
) -> None:
    """Look for what is missing, wrong, late or twice in what is stored: a verdict, and each finding with its place.

    Reads both tiers, each row once, and writes the verdict down for `status`. May run beside ingest and migration.
    """
    logs.configure("error")
    settings = settings_of(file)
    chosen = types or list(settings.data_types)
    if unknown := [str(name) for name in chosen if name not in settings.data_types]:
        fail(f"the pipeline does not store {', '.join(unknown)}", COULD_NOT_CHECK)
    try:
        window = _seconds(since, "--since") if since else settings.validation_window
        interval = _seconds(every, "--every") if every else None
        fixed = (_time(start) if start else None, _time(end) if end else None)
        if None not in fixed and fixed[0] >= fixed[1]:  # type: ignore[operator]
            raise ValueError(f"--to {end} is not after --from {start}")
    except ValueError as error:
        fail(str(error), COULD_NOT_CHECK)
    runner = _Runner(settings, chosen, exchanges or [], symbols or [], window, fixed, output, metrics_file)
    raise typer.Exit(int(asyncio.run(runner.serve(interval, host, port))))


def _seconds(text: str, option: str) -> float:
    try:
        return Duration(text).seconds
    except ValueRefused as refused:
        raise ValueError(f"{option}: {refused}: {Duration.ALLOWED}") from None


def _time(text: str) -> int:
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"{text!r} is not a time such as 2025-09-24T07:00:00") from None
    found = found.replace(tzinfo=UTC) if found.tzinfo is None else found
    return round(found.timestamp() * 1_000_000)


class _Runner:
    """One validation, or one after the other; and what a probe sees of it."""

    def __init__(
        self,
        settings: Settings,
        types: list[DataType],
        exchanges: list[str],
        symbols: list[str],
        window: float,
        fixed: tuple[int | None, int | None],
        output: Output,
        metrics_file: str,
    ) -> None:
        self._settings, self._types, self._exchanges, self._symbols = settings, types, exchanges, symbols
        self._window, self._fixed, self._output, self._metrics_file = window, fixed, output, metrics_file
        self._stop = asyncio.Event()
        self._problem = "no run has ended yet"
        self._last: Report | None = None
        self.registry = CollectorRegistry()
        self._metrics = told.Metrics(self.registry)

    def not_ready(self) -> dict[str, str]:
        return {"validate": self._problem} if self._problem else {}

    def status(self) -> dict[str, Any]:
        return told.as_dict(self._last) if self._last else {}

    async def serve(self, every: float | None, host: str, port: int) -> Exit:
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, self._stop.set)
        server = None
        if every and port:
            try:
                server, _ = await health.serve(
                    cast(Worker, self), host, port
                )  # it asks for no more than this class has
            except health.PortTakenError as error:
                fail(str(error), COULD_NOT_CHECK)
        try:
            while True:
                code = await self._once()
                if not every or self._stop.is_set():
                    return Exit.OK if every else code
                try:
                    await asyncio.wait_for(self._stop.wait(), every)
                except TimeoutError:
                    continue
                return Exit.OK
        finally:
            if server:
                await server.cleanup()

    async def _once(self) -> Exit:
        settings = self._settings
        clickhouse = ClickHouse(settings.clickhouse_urls, settings.hot_db, auth=lambda: clickhouse_auth(os.environ))
        until = self._fixed[1] or time.time_ns() // 1000
        since = self._fixed[0] or until - int(self._window * 1e6)
        try:
            with _Progress() as progress:
                report = await self._unless_stopped(
                    Validation(clickhouse, settings.hot_db, settings.cold_db, settings.limits, progress).run(
                        Request(since, until, self._types, self._exchanges, self._symbols)
                    )
                )
        except InsertRefused as refused:
            self._problem = str(refused)
            stderr.print(f"could not check: {refused}", style="red", markup=False)
            return COULD_NOT_CHECK
        finally:
            await clickhouse.close()
        if report is None:
            return COULD_NOT_CHECK
        self._last, self._problem = report, ""
        self._metrics.set(report)
        await self._note(report)
        if self._metrics_file:
            write_to_textfile(self._metrics_file, self.registry)
        self._tell(report)
        return Exit.OK if report.fine else Exit.FINDINGS

    async def _note(self, report: Report) -> None:
        whole = len(self._types) == len(self._settings.data_types)
        scope = ", ".join([*(() if whole else map(str, self._types)), *self._exchanges, *self._symbols])
        server = Server(self._settings.clickhouse_urls, lambda: clickhouse_auth(os.environ), "marketprism validate")
        try:
            await record.note(server, self._settings.hot_db, report, scope)
        except InsertRefused as refused:
            stderr.print(f"`marketprism status` will not show this verdict: {refused}", style="yellow", markup=False)
        finally:
            await server.close()

    async def _unless_stopped(self, work: Any) -> Report | None:
        task, stop = asyncio.ensure_future(work), asyncio.ensure_future(self._stop.wait())
        await asyncio.wait([task, stop], return_when=asyncio.FIRST_COMPLETED)
        stop.cancel()
        if not task.done():
            task.cancel()
            return None
        found: Report = task.result()
        return found

    def _tell(self, report: Report) -> None:
        if self._output is Output.JSON:
            typer.echo(json.dumps(told.as_dict(report)))
        else:
            for line in told.lines(report) if self._output is Output.TEXT else told.markdown(report):
                typer.echo(line)
        leave_word(json.dumps(told.summary(report, SUMMARY_FINDINGS)))


class _Progress:
    """On a terminal, on stderr."""

    def __init__(self) -> None:
        columns = (
            TextColumn("{task.description:20}"),
            BarColumn(),
            TextColumn("{task.completed:,.0f} of {task.total:,.0f} rows"),
        )
        self._bar = Progress(*columns, console=stderr, transient=True, disable=not sys.stderr.isatty())
        self._tasks: dict[str, Any] = {}

    def __enter__(self) -> _Progress:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def __call__(self, table: str, rows: int, total: int) -> None:
        if table not in self._tasks:
            self._tasks[table] = self._bar.add_task(table, total=total)
        self._bar.update(self._tasks[table], completed=rows, total=total)
