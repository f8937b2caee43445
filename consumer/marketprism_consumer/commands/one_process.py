"""A consumer's one process; and the same as a child of several (`processes.py`), which is sent its share on stdin."""

from __future__ import annotations

import asyncio
import gc
import pickle
import signal
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import structlog
import uvloop
from aiohttp import web

from marketprism_api.settings import Settings
from marketprism_consumer import health, logs
from marketprism_consumer.commands.exits import Exit
from marketprism_consumer.errors import BrokerError
from marketprism_consumer.worker import Worker

log = structlog.get_logger()

CRASHED = 70
"""A child's exit code after an error that nobody foresaw (EX_SOFTWARE): it is started again. After FINDINGS nothing would change."""


@dataclass(frozen=True, slots=True)
class Share:
    """What a process is to do. `until_idle`: it ends when nothing was pending for so long [s]; None: it goes on."""

    settings: Settings
    data_types: tuple[str, ...]
    log_level: str
    until_idle: float | None = None


@dataclass(frozen=True, slots=True)
class ChildShare:
    """The same for one of several. `socket`: where it says how it is."""

    number: int
    socket: Path
    share: Share


Listen = Callable[[Worker], Awaitable[tuple[web.AppRunner, str]]]
"""Serves the worker's pages; returns the server and where it is."""


async def work(share: Share, listen: Listen, parent: int | None = None) -> int:
    """A worker with its pages until SIGTERM, Ctrl-C or idleness, or until the other end of `parent`, a pipe, is gone. Returns
    the exit code. Raises PortTakenError."""
    # Rows come and go by the ten thousand, without cycles: looking for some after every 700 would cost a tenth of the time.
    gc.freeze()
    gc.set_threshold(100_000, 20, 100)
    worker = Worker(share.settings, share.data_types)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, worker.stop)
    if parent is not None:

        def gone() -> None:
            loop.remove_reader(parent)
            worker.stop()

        loop.add_reader(parent, gone)
    server, where = await listen(worker)
    log.info("starting", data_types=[str(t) for t in worker.data_types], ready=where)
    try:
        await worker.run(until_idle=share.until_idle)
    except BrokerError as refused:
        logs.reason(log, "error", refused.reason, detail=refused.detail)
        return int(Exit.FINDINGS)
    finally:
        await server.cleanup()
    log.info("stopped", **{name: numbers["inserted"] for name, numbers in worker.status().items()})
    return int(Exit.OK)


def main() -> int:
    # Its own parent's bytes: nobody else writes into this pipe.
    child: ChildShare = pickle.load(sys.stdin.buffer)  # noqa: S301
    logs.configure(child.share.log_level)
    structlog.contextvars.bind_contextvars(process=child.number)

    async def listen(worker: Worker) -> tuple[web.AppRunner, str]:
        return await health.listen_at(health.pages(worker), child.socket), str(child.socket)

    try:
        return uvloop.run(work(child.share, listen, sys.stdin.fileno()))
    except Exception:
        log.exception("ends by an error that nobody foresaw")
        return CRASHED


if __name__ == "__main__":
    sys.exit(main())
