"""Compiles the kernel of `ingest/kernel.py`: python compile_kernel.py [SOURCE]. Needs the package `ziglang`, no compiler of the system.

SOURCE: kernel.zig; the library is written beside it.
"""

from __future__ import annotations

import platform
import subprocess
import sys
import tempfile
from pathlib import Path

SOURCE = Path(__file__).parent / "marketprism_consumer" / "ingest" / "kernel.zig"
SYSTEMS = {"Linux": "linux-musl", "Darwin": "macos"}  # it uses no libc: either will do
MACHINES = {"x86_64": "x86_64", "AMD64": "x86_64", "aarch64": "aarch64", "arm64": "aarch64"}


def target() -> str:
    """As Zig names it; empty where the kernel is not to be had."""
    machine, system = MACHINES.get(platform.machine()), SYSTEMS.get(platform.system())
    return f"{machine}-{system}" if machine and system else ""


def compile_kernel(source: Path = SOURCE) -> Path:
    """Raises CalledProcessError."""
    source = source.resolve()
    library = source.with_name("_kernel.so")
    with tempfile.TemporaryDirectory() as cache:
        subprocess.run(
            [
                *(sys.executable, "-m", "ziglang", "build-lib", "-dynamic", "-target", target(), "-mcpu=baseline"),
                *("-O", "ReleaseSafe", "-fstrip", "-fno-unwind-tables", f"-femit-bin={library}"),
                *("--cache-dir", cache, "--name", "kernel", str(source)),
            ],
            check=True,
            cwd=cache,  # Zig takes a library below the working directory for a part of the program: / has them all
        )
    return library


if __name__ == "__main__":
    compile_kernel(*map(Path, sys.argv[1:]))
