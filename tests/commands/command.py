"""`marketprism` as a process of its own, and the port that it serves."""

from __future__ import annotations

import os
import subprocess
import sys
import urllib.error
import urllib.request

from tests.waiting import PATIENCE

MARKETPRISM = [sys.executable, "-m", "marketprism_consumer.cli"]
NO_URLS = dict.fromkeys(("MARKETPRISM_NATS_URL", "NATS_URL", "CLICKHOUSE_HTTP_URL"), "")


def call(*arguments: str, environ: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*MARKETPRISM, *arguments],
        env={**os.environ, **NO_URLS, **(environ or {})},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )


def get(port: int, path: str) -> tuple[int, str]:
    """(status, body); (0, "") while nothing answers."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=PATIENCE) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()
    except OSError:
        return 0, ""
