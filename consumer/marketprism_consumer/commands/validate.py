"""`marketprism validate`: is what is stored right?"""

from __future__ import annotations

import asyncio
import json
import time
from enum import StrEnum
from typing import Annotated, Any

import typer
from prometheus_client import CollectorRegistry, write_to_textfile

from marketprism_api.settings import Settings
from marketprism_consumer import logs
from marketprism_consumer.commands import loop
from marketprism_consumer.commands.common import (
    File,
    OnlyTypes,
    chosen_types,
    fail,
    leave_word,
    moment,
    seconds,
    settings_of,
    stderr,
)
from marketprism_consumer.commands.exits import Exit, exit_of
from marketprism_consumer.commands.loop import RowProgress
from marketprism_consumer.commands.servers import clickhouse_of
from marketprism_consumer.errors import StoreError
from marketprism_consumer.validation import record
from marketprism_consumer.validation import report as reports
from marketprism_consumer.validation.page import page
from marketprism_consumer.validation.run import Report, Validation, ValidationRequest

EXAMPLES = """
Examples:

\b
  marketprism validate                                  the last 24 hours, or the pipeline's spec.validation.window
  marketprism validate --since 2h --type trade --symbol BTC-USDT
  marketprism validate --from 2025-09-24T00:00 --to 2025-09-25T00:00 --output markdown > report.md
  marketprism validate --output html > report.html      one page, with a line of time for each series
  marketprism validate --every 15m --port 9465          for ever, as metrics

\b
Limits are in the pipeline's file: spec.validation.limits. Environment: CLICKHOUSE_HTTP_URL, CLICKHOUSE_HOT_DB, CLICKHOUSE_COLD_DB.
"""
SUMMARY_FINDINGS = 20


class ReportOutput(StrEnum):
    TEXT = "text"
    JSON = "json"
    MARKDOWN = "markdown"
    HTML = "html"


def validate(
    file: File = "",
    since: Annotated[
        str, typer.Option(help="Look back this far, such as 24h; without it, spec.validation.window.")
    ] = "",
    start: Annotated[str, typer.Option("--from", help="From this time on (ISO 8601, UTC); instead of --since.")] = "",
    end: Annotated[str, typer.Option("--to", help="Up to this time; without it, now.")] = "",
    types: OnlyTypes = None,
    exchanges: Annotated[list[str] | None, typer.Option("--exchange", help="Only this exchange.")] = None,
    symbols: Annotated[list[str] | None, typer.Option("--symbol", help="Only this symbol.")] = None,
    output: Annotated[ReportOutput, typer.Option("--output", "-o", help="The form of the report.")] = ReportOutput.TEXT,
    metrics_file: Annotated[
        str, typer.Option("--metrics", help="Write metrics to this file, for a textfile collector.")
    ] = "",
    every: Annotated[str, typer.Option(help="Go on for ever, with a run every 15m or so.")] = "",
    port: Annotated[int, typer.Option(min=0, max=65535, help="With --every: port of /healthz, /readyz, /metrics.")] = 0,
    host: Annotated[str, typer.Option(help="Where that port listens.")] = "127.0.0.1",
) -> None:
    """Look for what is missing, wrong, late or twice in what is stored: a verdict, and each finding with its place.

    Reads both tiers, each row once, and writes the verdict down for `status`. May run beside ingest and migration.
    """
    logs.configure("error")
    settings = settings_of(file)
    chosen = chosen_types(settings, types)
    try:
        window = seconds(since, "--since", least=0.001) if since else settings.validation_window
        interval = seconds(every, "--every", least=1.0) if every else None
        fixed = (moment(start, time.time()) if start else None, moment(end, time.time()) if end else None)
        if None not in fixed and fixed[0] >= fixed[1]:  # type: ignore[operator]
            raise ValueError(f"--to {end} is not after --from {start}")
    except ValueError as error:
        fail(str(error), Exit.USAGE)
    work = _Validations(settings, chosen, exchanges or [], symbols or [], window, fixed, output, metrics_file)
    raise typer.Exit(int(asyncio.run(loop.run(work, interval, host, port))))


class _Validations:
    """Each run's report, and what a probe sees of the last one."""

    def __init__(
        self,
        settings: Settings,
        types: list[str],
        exchanges: list[str],
        symbols: list[str],
        window: float,
        fixed: tuple[int | None, int | None],
        output: ReportOutput,
        metrics_file: str,
    ) -> None:
        self._settings, self._types, self._exchanges, self._symbols = settings, types, exchanges, symbols
        self._window, self._fixed, self._output, self._metrics_file = window, fixed, output, metrics_file
        self._stop = asyncio.Event()
        self._problem = "no run has ended yet"
        self._last: Report | None = None
        self.registry = CollectorRegistry()
        self._metrics = reports.ValidationMetrics(self.registry)

    def not_ready(self) -> dict[str, str]:
        return {"validate": self._problem} if self._problem else {}

    def status(self) -> dict[str, Any]:
        return reports.as_dict(self._last) if self._last else {}

    def stop(self) -> None:
        self._stop.set()

    async def once(self) -> Exit:
        settings = self._settings
        clickhouse = clickhouse_of(settings, "validate")
        until = self._fixed[1] or time.time_ns() // 1000
        since = self._fixed[0] or until - int(self._window * 1e6)
        try:
            with RowProgress() as progress:
                report = await self._unless_stopped(
                    Validation(
                        clickhouse, settings.hot_db, settings.cold_db, settings.declarations, settings.limits, progress
                    ).run(ValidationRequest(since, until, self._types, self._exchanges, self._symbols))
                )
        except StoreError as refused:
            self._problem = str(refused)
            stderr.print(f"could not check: {refused}", style="red", markup=False)
            return exit_of(refused)
        finally:
            await clickhouse.close()
        if report is None:  # stopped before it had looked at everything
            return Exit.FINDINGS
        self._last, self._problem = report, ""
        self._metrics.set(report)
        await self._note(report)
        if self._metrics_file:
            write_to_textfile(self._metrics_file, self.registry)
        self._show(report)
        return Exit.OK if report.fine else Exit.FINDINGS

    async def _note(self, report: Report) -> None:
        whole = len(self._types) == len(self._settings.data_types)
        scope = ", ".join([*(() if whole else map(str, self._types)), *self._exchanges, *self._symbols])
        clickhouse = clickhouse_of(self._settings, "validate")
        try:
            await record.note(clickhouse, self._settings.hot_db, report, scope)
        except StoreError as refused:
            stderr.print(f"`marketprism status` will not show this verdict: {refused}", style="yellow", markup=False)
        finally:
            await clickhouse.close()

    async def _unless_stopped(self, work: Any) -> Report | None:
        task, stop = asyncio.ensure_future(work), asyncio.ensure_future(self._stop.wait())
        await asyncio.wait([task, stop], return_when=asyncio.FIRST_COMPLETED)
        stop.cancel()
        if not task.done():
            task.cancel()
            return None
        found: Report = task.result()
        return found

    def _show(self, report: Report) -> None:
        if self._output is ReportOutput.JSON:
            typer.echo(json.dumps(reports.as_dict(report)))
        elif self._output is ReportOutput.HTML:
            typer.echo(page(report), nl=False)
        else:
            for line in reports.lines(report) if self._output is ReportOutput.TEXT else reports.markdown(report):
                typer.echo(line)
        leave_word(json.dumps(reports.summary(report, SUMMARY_FINDINGS)))
