"""The name of this process among those that share lanes: the same one for whoever is started again in its place."""

from __future__ import annotations

import fcntl
import os
import socket
import tempfile
import uuid
from itertools import count
from pathlib import Path
from typing import IO


class Owner:
    """Host, and the first number that no living process of this host has: the file's lock ends with its process, however it
    ends. So what a process of this name has left behind is surely nobody's."""

    def __init__(self, pipeline: str, directory: Path | None = None) -> None:
        self._lock: IO[str] | None = None
        self.name = f"{socket.gethostname()}-{uuid.uuid4().hex[:8]}"
        place = directory or Path(tempfile.gettempdir())
        for number in count():
            try:
                held = (place / f"marketprism-{os.getuid()}-{pipeline}-{number}.lock").open("a")
            except OSError:
                return  # nowhere to write: others wait for its silence
            try:
                fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                held.close()
                continue
            self._lock = held
            self.name = f"{socket.gethostname()}-{number}"
            return

    def close(self) -> None:
        if self._lock is not None:
            self._lock.close()
