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
    """Host, the first number that no living process has here, and what its file says: another directory has other files, though its
    host may be called the same. The file's lock ends with its process, however it ends. So what a process of this name has left
    behind is surely nobody's."""

    def __init__(self, pipeline: str, directory: Path | None = None) -> None:
        self._lock: IO[str] | None = None
        new = uuid.uuid4().hex[:8]
        self.name = f"{socket.gethostname()}-{new}"
        place = directory or Path(tempfile.gettempdir())
        for number in count():
            try:
                held = (place / f"marketprism-{os.getuid()}-{pipeline}-{number}.lock").open("a+")
            except OSError:
                return  # nowhere to write: others wait for its silence
            try:
                fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                held.close()
                continue
            self._lock = held
            held.seek(0)
            known = held.read()
            if not known:
                held.write(new)
                held.flush()
            self.name = f"{socket.gethostname()}-{number}-{known or new}"
            return

    def close(self) -> None:
        if self._lock is not None:
            self._lock.close()
