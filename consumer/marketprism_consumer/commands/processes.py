"""One consumer as several processes, one core each: a parent starts them, starts again what dies, ends them, and says how all are.

They share lanes as Pods do: of each, one reads the tail, and a backlog is split. The parent stores nothing and connects to nothing.
"""

from __future__ import annotations

import asyncio
import json
import math
import os
import pickle
import signal
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import aiohttp
import structlog
import typer
from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST

from marketprism_api import reasons
from marketprism_consumer import health, logs
from marketprism_consumer.backoff import Backoff
from marketprism_consumer.commands import together
from marketprism_consumer.commands.common import fail
from marketprism_consumer.commands.exits import Exit
from marketprism_consumer.commands.one_process import ChildShare, Share, work
from marketprism_consumer.errors import PortTakenError
from marketprism_consumer.ingest import kernel
from marketprism_consumer.worker import GRACE, Worker

log = structlog.get_logger()

ProcessesOption = Annotated[
    str, typer.Option(help="How many share the work, a core each; auto: as many as there are cores.")
]

PROGRAM = (sys.executable, "-m", "marketprism_consumer.commands.one_process")
MOST = 64
ANSWER = 1.5  # a process that turns answers sooner; whoever probes us waits for 2 s [s]
STEADY = 60.0  # who has lived for so long begins its back-off anew [s]
STARTS, HANGS = "starts", "does not answer"
KERNEL_FAILED = (-signal.SIGILL, -signal.SIGTRAP)  # on x86-64, and on ARM
KILL = GRACE + 5.0  # after the word to end; a Pod is given 30 [s]


def number_of(processes: str) -> int:
    """Of `--processes`; anything else than a number or auto ends the command."""
    if processes == "auto":
        return cores()
    if not processes.isascii() or not processes.isdecimal() or not 1 <= int(processes) <= MOST:
        fail(f"--processes: {processes!r} is neither a number from 1 to {MOST} nor auto", Exit.USAGE)
    return int(processes)


def cores(limit: Path = Path("/sys/fs/cgroup/cpu.max")) -> int:
    """That this process may use: by its affinity, and by its container's limit, rounded up."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    with suppress(OSError, ValueError):
        quota, period = map(int, limit.read_text().split())  # "max" in place of a quota is none
        usable = min(usable, math.ceil(quota / period))
    return max(1, min(usable, MOST))


async def consume(share: Share, processes: int, host: str, port: int) -> int:
    """Until SIGTERM, Ctrl-C or idleness; returns the exit code."""

    async def listen(worker: Worker) -> tuple[web.AppRunner, str]:
        server, bound = await health.serve(worker, host, port)
        return server, f"http://{host}:{bound}/readyz"

    if processes == 1:
        kernel.go_on_as(sys.executable, [sys.executable, *sys.orig_argv[1:]])
    try:
        return await (work(share, listen) if processes == 1 else _several(share, processes, host, port))
    except PortTakenError as error:
        log.error(str(error))
        return int(Exit.USAGE)


async def _several(share: Share, count: int, host: str, port: int) -> int:
    # A socket's path has 107 bytes at most; some TMPDIRs alone have more.
    short = None if len(tempfile.gettempdir()) < 80 else "/tmp"  # noqa: S108 - a new directory, ours alone
    with tempfile.TemporaryDirectory(prefix="marketprism-", dir=short) as place:
        several = Processes(share, count, Path(place))
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, several.stop)
        server, bound = await health.listen(several.pages(), host, port)
        log.info("starting", processes=count, ready=f"http://{host}:{bound}/readyz")
        try:
            return await several.run()
        finally:
            await server.cleanup()


@dataclass(slots=True)
class Child:
    """`problem`: what keeps it from running; empty while it runs. `done`: it has ended for good, as it was to."""

    number: int
    socket: Path
    process: asyncio.subprocess.Process | None = None
    starts: int = 0
    problem: str = STARTS
    done: bool = False
    environ: dict[str, str] = field(default_factory=lambda: dict(os.environ))

    @property
    def pid(self) -> int | None:
        return self.process.pid if self.process and self.process.returncode is None else None

    def signal(self, number: int) -> None:
        if self.process and self.process.returncode is None:
            with suppress(ProcessLookupError):
                self.process.send_signal(number)


@dataclass(frozen=True, slots=True)
class Said:
    """A process's page, or why there is none."""

    status: int = 0
    body: str = ""
    problem: str = ""

    @property
    def text(self) -> str:
        return self.problem or self.body

    def page(self) -> dict[str, Any]:
        """Of `/status.json`."""
        found: dict[str, Any] = json.loads(self.body or '{"ready": false, "dataTypes": {}}')
        return found


class Processes:
    """`run` until `stop`, or until all have ended idle. `place`: an own directory, for their sockets. `program`: what a child
    runs, with its ChildShare on stdin."""

    def __init__(self, share: Share, count: int, place: Path, program: Sequence[str] = PROGRAM) -> None:
        self._share, self._program = share, program
        self._children = [Child(number, place / str(number)) for number in range(count)]
        self._stopping = asyncio.Event()

    def stop(self) -> None:
        """As for one process: the first call drains, a second one gives up what is not stored yet. Who stays is killed."""
        if not self._stopping.is_set():
            asyncio.get_running_loop().call_later(KILL, self._kill)
        self._stopping.set()
        for child in self._children:
            child.signal(signal.SIGTERM)

    def _kill(self) -> None:
        for child in self._children:
            child.signal(signal.SIGKILL)

    async def run(self) -> int:
        """The exit code: the worst of theirs."""
        return max(await asyncio.gather(*map(self._keep, self._children)))

    async def _keep(self, child: Child) -> int:
        """Started again and again until it has ended as asked, or can't go on until somebody acts: then the others end too."""
        now = asyncio.get_running_loop().time
        backoff = Backoff(first=0.5, cap=30.0)
        while not self._stopping.is_set():
            began = now()
            code = await self._once(child)
            if code == Exit.FINDINGS:
                self.stop()
                return code
            if self._stopping.is_set():
                return int(Exit.OK if code in (Exit.OK, -signal.SIGTERM) else Exit.FINDINGS)
            if code == Exit.OK and self._share.until_idle is not None:
                child.done = True
                return code
            if now() - began > STEADY:
                backoff = Backoff(first=0.5, cap=30.0)
            wait = backoff.next()
            if code in KERNEL_FAILED:
                child.environ |= kernel.WITHOUT
            ended = f"ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
            child.problem = f"{reasons.PROCESS_ENDED}: {ended}, is started again"
            logs.reason(
                log, "warning", reasons.PROCESS_ENDED, process=child.number, ended=ended, next_try_in=round(wait, 1)
            )
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), wait)
        return int(Exit.OK)

    async def _once(self, child: Child) -> int:
        """One life; returns its exit code, -n where signal n ended it. Its stdin stays open for as long as we live, so that it
        ends when we do, however we end. In a session of its own: Ctrl-C is for us to pass on, once."""
        child.socket.unlink(missing_ok=True)
        child.process = await asyncio.create_subprocess_exec(
            *self._program,
            stdin=asyncio.subprocess.PIPE,
            start_new_session=True,
            env=child.environ,
        )
        child.starts += 1
        child.problem = ""
        stdin = child.process.stdin
        assert stdin
        stdin.write(pickle.dumps(ChildShare(child.number, child.socket, self._share)))
        if self._stopping.is_set():
            child.signal(signal.SIGTERM)
        return await child.process.wait()

    # --- how they are -------------------------------------------------------------------------------------------------

    def pages(self) -> dict[str, health.Page]:
        """The pages of one process, gathered from all when they are asked for."""
        return {
            "/healthz": self._healthz,
            "/readyz": self._readyz,
            "/metrics": self._metrics,
            "/status.json": self._status,
        }

    async def _healthz(self, _: web.Request) -> web.Response:
        """One that has ended is started again by us; one that hangs needs somebody else."""
        found = await self._ask("/healthz")
        return _told({number: [said.problem] for number, said in found.items() if said.problem == HANGS})

    async def _readyz(self, _: web.Request) -> web.Response:
        found = await self._ask("/readyz")
        return _told({number: said.text.splitlines() for number, said in found.items() if said.status != 200})

    async def _metrics(self, _: web.Request) -> web.Response:
        found = await self._ask("/metrics")
        text = together.metrics({number: said.text for number, said in found.items() if not said.problem})
        return web.Response(body=text, headers={"Content-Type": CONTENT_TYPE_LATEST})

    async def _status(self, _: web.Request) -> web.Response:
        found = {number: (said, said.page()) for number, said in (await self._ask("/status.json")).items()}
        processes = [
            {
                "process": number,
                "pid": child.pid,
                "starts": child.starts,
                "ready": page["ready"],
                "problem": said.problem,
            }
            for number, (said, page) in found.items()
            if (child := self._children[number])
        ]
        return web.json_response(
            {
                "ready": all(each["ready"] for each in processes),
                "dataTypes": together.data_types(page["dataTypes"] for _, page in found.values()),
                "processes": processes,
            }
        )

    async def _ask(self, path: str) -> dict[int, Said]:
        """Those that have not ended for good."""
        asked = [child for child in self._children if not child.done]
        said = await asyncio.gather(*(_ask(child, path) for child in asked))
        return {child.number: each for child, each in zip(asked, said, strict=True)}


async def _ask(child: Child, path: str) -> Said:
    if child.problem:
        return Said(problem=child.problem)
    timeout = aiohttp.ClientTimeout(total=ANSWER)
    try:
        async with (
            aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(child.socket)), timeout=timeout) as session,
            session.get(f"http://process{path}") as answer,
        ):
            return Said(answer.status, await answer.text())
    except TimeoutError:
        return Said(problem=HANGS)
    except (aiohttp.ClientError, OSError):
        return Said(problem=STARTS)  # it does not listen yet, or not any more: that is told in a moment


def _told(problems: Mapping[int, list[str]]) -> web.Response:
    lines = together.problems(problems)
    return web.Response(text="".join(f"{line}\n" for line in lines) or "ok\n", status=503 if lines else 200)
