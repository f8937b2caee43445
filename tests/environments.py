"""Virtual environments for what PyPI has in several versions: each is made once, in the user's cache."""

from __future__ import annotations

import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path


class NotInstalledError(Exception):
    """What was wanted can't be had here; it says what was tried."""


def interpreter(home: Path, requirement: str) -> Path:
    """The Python of the environment at `home`, which has this requirement and nothing else. Raises NotInstalledError."""
    python, complete = home / "bin" / "python", home / "complete"
    if not complete.exists():
        shutil.rmtree(home, ignore_errors=True)
        for command in _installation(home, python, requirement):
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                raise NotInstalledError(f"{' '.join(command)}: {done.stderr.strip()[-500:]}")
        complete.touch()
    return python


def _installation(home: Path, python: Path, requirement: str) -> list[list[str]]:
    uv = [sys.executable, "-m", "uv"] if find_spec("uv") else [found] if (found := shutil.which("uv")) else None
    if uv:
        return [
            [*uv, "venv", "--quiet", "--python", sys.executable, str(home)],
            [*uv, "pip", "install", "--quiet", "--no-deps", "--python", str(python), requirement],
        ]
    return [
        [sys.executable, "-m", "venv", str(home)],
        [str(python), "-m", "pip", "install", "--quiet", "--no-input", "--no-deps", requirement],
    ]
