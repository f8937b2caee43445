"""Does the consumer need more CPU for a message than before? Fails where it is 15 % more.

    python -m bench.gate [--base COMMIT] [--most 0.15]

The base is where this branch grew from main; on main itself, what was there before the last commit (of a merge: before all of the
merge). Both do the same recorded work (`bench/workload.py`) in turn, a few hundredths of a second each, and of each the best is
compared: what else the machine does makes a turn dearer, never cheaper, and hardly ever all of them. So it needs no quiet machine, but
says nothing of servers, sockets and disks: `make bench-pairs` does, on a quiet one.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType

from bench.workload import MESSAGES

ROOT = Path(__file__).parents[1]
PARTS = "api", "consumer", "embedded", "operator"
KERNEL = Path("consumer/marketprism_consumer/ingest/_kernel.so")
PROCESSES = 2  # of each: where one happens to lie in memory makes a difference of its own
TURNS = 25
KEPT_MEMORY = {"MALLOC_TRIM_THRESHOLD_": "2000000000", "MALLOC_MMAP_THRESHOLD_": "1000000000"}
"""glibc keeps what is freed. Whether it gives it back after each turn, and takes it again, depends on so little as the length of a path,
and is half as much again as the work on books."""
MOST = 0.15
"""How much more it may be. What is slower for a reason raises this with the change, and the next change sets it back."""
UNKNOWN = 3
"""The exit code where there is nothing to compare with."""


def git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=ROOT, check=True, capture_output=True, text=True).stdout.strip()


def base_of(main: str) -> str:
    """The commit to compare with. Raises CalledProcessError where it is not known here, as in a shallow clone."""
    fork = git("merge-base", main, "HEAD")
    return git("rev-parse", "HEAD^1") if fork == git("rev-parse", "HEAD") else fork


def check_out(commit: str, tree: Path) -> None:
    """With its kernel: this one's, where it is of the same source."""
    archive = subprocess.run(["git", "archive", commit], cwd=ROOT, check=True, capture_output=True).stdout
    tree.mkdir()
    subprocess.run(["tar", "-x", "-C", str(tree)], input=archive, check=True)
    if (ROOT / KERNEL).exists() and sources(tree) == sources(ROOT):
        shutil.copy(ROOT / KERNEL, tree / KERNEL)
        return
    (compiler,) = (tree / "consumer").glob("compile_*.py")
    build = tomllib.loads((tree / "consumer" / "pyproject.toml").read_text())["build-system"]["requires"]
    zig = next(each.partition(";")[0] for each in build if each.startswith("ziglang"))
    # By the compiler that its own build asks for: this environment has none.
    compiled = [sys.executable, "-m", "uv", "run", "--quiet", "--no-project", "--with", zig, "python", compiler.name]
    subprocess.run(compiled, cwd=compiler.parent, check=True)


def sources(tree: Path) -> dict[str, bytes]:
    """What the kernel is made of."""
    files = [*(tree / KERNEL).parent.glob("*.zig"), *(tree / "consumer").glob("compile_*.py")]
    return {file.name: file.read_bytes() for file in files}


def path_of(tree: Path) -> str:
    """A PYTHONPATH with the product of this tree."""
    return os.pathsep.join(str(tree / part) for part in PARTS)


class Worker:
    """A process that does the work of a tree, as this tree describes it; where it does not, as we do."""

    def __init__(self, tree: Path, data_type: str) -> None:
        own = tree if (tree / "bench" / "workload.py").exists() else ROOT
        self._process = subprocess.Popen(
            [sys.executable, "-m", "bench.workload", data_type],
            cwd=own,
            env={
                **os.environ,
                **KEPT_MEMORY,
                "PYTHONPATH": f"{path_of(tree)}{os.pathsep}{own}",
                "PYTHONHASHSEED": "0",
            },
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        where = Path(self._line())
        assert where == (tree / "consumer" / "marketprism_consumer").resolve(), f"{where} is not the code of {tree}"

    def turn(self) -> float:
        """µs a message."""
        assert self._process.stdin
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        return float(self._line())

    def _line(self) -> str:
        assert self._process.stdout
        line = self._process.stdout.readline().strip()
        if not line:
            raise SystemExit(f"the work ended with {self._process.wait()}")
        return line

    def __enter__(self) -> Worker:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.communicate()


def best_of(trees: tuple[Path, Path], data_type: str) -> tuple[float, float]:
    """µs a message, before and now."""
    with ExitStack() as stack:
        workers = [
            (side, stack.enter_context(Worker(tree, data_type)))
            for _ in range(PROCESSES)
            for side, tree in enumerate(trees)
        ]
        turns = [(side, worker.turn()) for _ in range(TURNS) for side, worker in workers]
    before, now = (min(took for side, took in turns if side == wanted) for wanted in (0, 1))
    return before, now


def verdict(found: Mapping[str, tuple[float, float]], most: float) -> list[str]:
    """What costs more than it may."""
    return [
        f"{data_type}: {now / before - 1:.0%} more CPU a message than before, {most:.0%} are allowed"
        for data_type, (before, now) in found.items()
        if now / before - 1 > most
    ]


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m bench.gate", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--base", default="", help="this commit")
    parser.add_argument("--main", default="origin/main", help="the branch that this one is to be merged into")
    parser.add_argument("--most", type=float, default=MOST, help="how much more it may be")
    arguments = parser.parse_args()
    try:
        commit = git("rev-parse", "--verify", arguments.base) if arguments.base else base_of(arguments.main)
    except subprocess.CalledProcessError as error:
        print(f"{' '.join(error.cmd)}: {error.stderr.strip() or 'there is none'}", file=sys.stderr)
        return UNKNOWN
    with tempfile.TemporaryDirectory(prefix="marketprism-base-") as name:
        tree = Path(name) / "base"
        check_out(commit, tree)
        found = {data_type: best_of((tree, ROOT), data_type) for data_type in MESSAGES}
    for data_type, (before, now) in found.items():
        print(f"{data_type}: CPU a message {before:.2f} µs in {commit[:10]}, {now:.2f} now: {now / before - 1:+.1%}")
    slower = verdict(found, arguments.most)
    for line in slower:
        print(line, file=sys.stderr)
    return bool(slower)


if __name__ == "__main__":
    sys.exit(main())
