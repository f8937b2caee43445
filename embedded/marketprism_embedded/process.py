"""Start an embedded server as a child process, wait until it answers, stop it.

The child is this package's own command, and its ready line is the contract: `run`, `demo` and the tests see what a user
sees.
"""

from __future__ import annotations

import ctypes
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Literal

from marketprism_embedded.place import EmbeddedError

_PR_SET_PDEATHSIG = 1


@dataclass(slots=True)
class EmbeddedServer:
    """A running server. `pid` is that of the server itself: a signal to it needs no relay."""

    url: str
    pid: int
    process: subprocess.Popen[str]

    def stop(self, seconds: float = 15.0) -> int:
        """SIGTERM, and SIGKILL after `seconds`. Returns the exit code; does nothing when it has ended."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(seconds)
            except subprocess.TimeoutExpired:
                self.process.kill()
        return self._reap()

    def kill(self) -> int:
        """SIGKILL: a crash."""
        self.process.kill()
        return self._reap()

    def _reap(self) -> int:
        code = self.process.wait()
        if self.process.stdout:
            self.process.stdout.close()
        return code

    def __enter__(self) -> EmbeddedServer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def start(
    kind: Literal["nats", "clickhouse"],
    directory: Path,
    *,
    port: int = 0,
    host: str = "127.0.0.1",
    options: tuple[str, ...] = (),
    environment: dict[str, str] | None = None,
    stderr: int | None = None,
    seconds: float = 60.0,
) -> EmbeddedServer:
    """Start it and return when it answers. `options` are more of the command's, `environment` is added to ours,
    `stderr` is as for Popen (None: ours). Raises EmbeddedError when it ends or says nothing for `seconds`.

    The server is killed when the calling *thread* ends, however this process dies (Linux): call from the main thread or
    one that lives as long."""
    command = [sys.executable, "-m", "marketprism_embedded", kind, "--output", "json"]
    command += ["--dir", str(directory), "--host", host, "--port", str(port), *options]
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=stderr,
        text=True,
        env={**os.environ, **(environment or {})},
        preexec_fn=_die_with(os.getpid()) if sys.platform == "linux" else None,
    )
    line = _first_line(process, seconds)
    if not line:
        process.kill()
        code = process.wait()
        raise EmbeddedError(f"the embedded {kind} server on {directory} did not come up (exit code {code}).")
    ready = json.loads(line)
    return EmbeddedServer(url=ready["url"], pid=ready["pid"], process=process)


def _first_line(process: subprocess.Popen[str], seconds: float) -> str:
    assert process.stdout is not None
    deadline = time.monotonic() + seconds
    readable, _, _ = select.select([process.stdout], [], [], max(0.0, deadline - time.monotonic()))
    return process.stdout.readline() if readable else ""


_libc = ctypes.CDLL(None)  # loaded here: nothing may be imported between fork and exec


def _die_with(parent: int) -> Callable[[], None]:
    def before_exec() -> None:
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it died before the line above
            os._exit(1)

    return before_exec
