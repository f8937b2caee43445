"""The laptop's tutorial, and what the pages on operations tell to run, pasted line by line into real terminals."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docs.pages import ROOT, typed
from tests.waiting import PATIENCE, wait_for

TUTORIAL = typed(ROOT / "docs/tutorial/laptop.md")
README = typed(ROOT / "README.md")
OPERATIONS = [
    one
    for page in ("health", "troubleshooting")
    for one in typed(ROOT / f"docs/operations/{page}.md")
    if not one.line.startswith("kubectl")
]
SETUP = ("make install", ". .venv/bin/activate")
PORTS = (4222, 8123, 9464)


def taken(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def environment() -> dict[str, str]:
    ours = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("NATS_", "CLICKHOUSE_", "MARKETPRISM_"))
    }
    return {**ours, "PATH": f"{Path(sys.executable).parent}:{ours['PATH']}"}


@pytest.fixture(scope="module")
def terminal_1(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The directory in which the tutorial's first terminal runs its pipeline."""
    if busy := [port for port in PORTS if taken(port)]:
        pytest.skip(f"ports {busy} are taken on this machine, and the tutorial uses them as it is")
    if not shutil.which("curl"):
        pytest.skip("there is no curl on this machine")
    directory = tmp_path_factory.mktemp("tutorial")
    (line,) = [one.line for one in TUTORIAL if one.tab == "terminal 1"]
    with (directory / "terminal-1.log").open("w") as log:
        process = subprocess.Popen(
            ["bash", "-c", f"exec {line}"],
            cwd=directory,
            env=environment(),
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        wait_for(lambda: process.poll() is not None or ready(), "the pipeline is ready")
        assert process.poll() is None, (directory / "terminal-1.log").read_text()
        yield directory
    finally:
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE) == 0, (directory / "terminal-1.log").read_text()


def ready() -> bool:
    try:
        with urllib.request.urlopen("http://127.0.0.1:9464/readyz", timeout=2) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def paste(line: str, directory: Path) -> str:
    done = subprocess.run(
        ["bash", "-c", line],
        cwd=directory,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 0, f"$ {line}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.mark.timeout(600)
def test_the_tutorial_works_by_pasting(terminal_1: Path) -> None:
    assert "warning" not in (terminal_1 / "terminal-1.log").read_text(), "of a first start there is nothing to warn"
    said = {
        one.line: paste(one.line, terminal_1) for one in TUTORIAL if one.tab != "terminal 1" and one.line not in SETUP
    }
    query, audit, letters, tiers = (
        next(text for line, text in said.items() if word in line) for word in ("curl", "audit", "dlq list", "tiers")
    )
    assert "BTC-USDT" in query
    assert "missing 0" in audit
    assert "double 0" in audit
    assert "MP2" in letters
    assert "trades" in tiers


@pytest.mark.timeout(600)
def test_the_readmes_ten_minutes_end_with_an_export_in_polars(terminal_1: Path) -> None:
    """In the tutorial's terminal instead of `marketprism run --console`."""
    (feed,) = (one.line for one in README if one.line.startswith("marketprism feed"))
    paste(f"{feed} --count 5000", terminal_1)  # it would go on for ever
    wait_for(lambda: stored(paste("marketprism audit", terminal_1)), "all of it is stored", every=1.0)
    first, last = (
        next(number for number, one in enumerate(README) if one.line.startswith(start))
        for start in ("marketprism status", "python -c")
    )
    said = [paste(one.line, terminal_1) for one in README[first : last + 1]]
    assert "high" in said[1], "candles"
    assert "BTC-USDT" in said[-1], "polars"


def stored(audit: str) -> bool:
    return all(" 0 pending;" in line for line in audit.splitlines() if " held " in line)


@pytest.mark.parametrize("line", [one.line for one in OPERATIONS])
def test_what_the_pages_on_operations_tell_to_run_works(terminal_1: Path, line: str) -> None:
    assert paste(line, terminal_1)
