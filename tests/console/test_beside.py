"""The console beside a pipeline on one machine: it comes with it, and goes with it."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import pytest
import structlog
from typer.testing import CliRunner

from marketprism_consumer.cli import app
from tests.waiting import PATIENCE


@pytest.fixture(autouse=True)
def logs_as_they_were() -> Iterator[None]:
    """A command that runs here writes its log to a stream that ends with it."""
    before = structlog.get_config()
    yield
    structlog.configure(**before)


def test_run_brings_it_along_and_takes_it_away(tmp_path: Path) -> None:
    ports = [part for name in ("--nats-port", "--clickhouse-port", "--port", "--console-port") for part in (name, "0")]
    command = [sys.executable, "-m", "marketprism_consumer.cli", "run", "--dir", str(tmp_path), "--console", *ports]
    with subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True) as process:
        try:
            assert process.stderr is not None
            url = next(line.split()[1] for line in process.stderr if line.startswith("console  http"))
            deadline = time.monotonic() + PATIENCE
            while not answers(url):
                assert time.monotonic() < deadline
                time.sleep(0.1)
        finally:
            process.send_signal(signal.SIGTERM)
            process.stderr.read()
    assert not answers(url)


def answers(url: str) -> bool:
    try:
        with urlopen(f"{url}healthz", timeout=PATIENCE) as answer:
            return bool(answer.status == 200)
    except (URLError, ConnectionError):
        return False


@pytest.mark.parametrize("arguments", [("console",), ("run", "--console")])
def test_where_it_is_not_installed_it_says_what_to_install(
    arguments: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MARKETPRISM_NATS_URL", "nats://127.0.0.1:1")
    monkeypatch.setenv("CLICKHOUSE_HTTP_URL", "http://127.0.0.1:1")
    monkeypatch.setattr("marketprism_consumer.commands.console.find_spec", lambda _: None)
    refused = CliRunner().invoke(app, list(arguments))
    assert (refused.exit_code, "marketprism-consumer[console]" in refused.stderr) == (2, True)
