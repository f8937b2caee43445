"""Work that is done once, or again and again with a pause between two runs: signals, probes, progress."""

from __future__ import annotations

import asyncio
import signal
import sys
import time
from typing import Any, Protocol

from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from marketprism_consumer import health
from marketprism_consumer.commands.common import fail, stderr
from marketprism_consumer.commands.exits import Exit
from marketprism_consumer.errors import PortTakenError


class Work(health.Probed, Protocol):
    async def once(self) -> Exit:
        """One run, with its report."""

    def stop(self) -> None:
        """The run in progress ends as soon as it may."""


async def run(work: Work, every: float | None, host: str, port: int) -> Exit:
    """`every` None: one run, and its exit code. Else a run every so many seconds until SIGTERM or Ctrl-C, probes at `port`
    (0: none). A loop that is asked to end has done its work: the last run's failure is in its output."""
    stopping = asyncio.Event()

    def stop() -> None:
        stopping.set()
        work.stop()

    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop)
    if every is None:
        return await work.once()
    server = None
    try:
        if port:
            server, _ = await health.serve(work, host, port)
        while not stopping.is_set():
            await work.once()
            try:
                await asyncio.wait_for(stopping.wait(), every)
            except TimeoutError:
                continue
        return Exit.OK
    except PortTakenError as error:
        fail(str(error), Exit.USAGE)
    finally:
        if server:
            await server.cleanup()


class RowProgress:
    """Rows per table, on stderr where that is a terminal. Called with a table, its rows done and planned, and bytes done."""

    def __init__(self, *, shown: bool = True) -> None:
        self._bar = Progress(
            TextColumn("{task.description:20}"),
            BarColumn(),
            TextColumn("{task.completed:,.0f} of {task.total:,.0f} rows  {task.fields[rate]:,.0f} rows/s"),
            TextColumn("{task.fields[size]}"),
            TimeRemainingColumn(),
            console=stderr,
            transient=True,
            disable=not (shown and sys.stderr.isatty()),
        )
        self._tasks: dict[str, Any] = {}
        self._began: dict[str, float] = {}

    def __enter__(self) -> RowProgress:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def __call__(self, table: str, rows: int, planned: int, size: int = 0) -> None:
        if table not in self._tasks:
            self._tasks[table] = self._bar.add_task(table, total=planned, rate=0.0, size="")
            self._began[table] = time.monotonic()
        rate = rows / max(time.monotonic() - self._began[table], 0.001)
        shown = f"{size / 1e6:,.1f} MB" if size else ""
        self._bar.update(self._tasks[table], completed=rows, total=planned, rate=rate, size=shown)
