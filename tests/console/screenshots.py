"""`make screenshots`: the pictures of the docs, of every page of the console, taken of a recording that is made for it."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import IO
from urllib.parse import urlencode
from urllib.request import urlopen

from marketprism_console.frame import MENU
from tests.console.browser import visit
from tests.waiting import wait_for

MARKETPRISM = (sys.executable, "-m", "marketprism_consumer.cli")
YESTERDAY = datetime.now(UTC).date() - timedelta(days=1)
QUERIES = {"/": f"?type=trade&days=1&to={YESTERDAY}"}
CLICKED = {"/proof": "prove it"}
SEEN = {
    "/": "rows of",
    "/market": "trades in candles",
    "/pipeline": "rows/s",
    "/tiering": "move done",
    "/dead-letters": "The newest",
    "/proof": "PROVEN (",
}
"""What stands there once a page has its answers."""
ANSWERED = 300_000  # at last [ms]
WINDOW = 40  # what is older goes to cold [hours]
STORED = f"""SELECT (SELECT max(timestamp) > now() - 60 FROM marketprism_hot.trades)
    AND (SELECT max(timestamp) > now() - INTERVAL {WINDOW * 60 + 30} MINUTE FROM marketprism_cold.trades)"""
DRAWN = 4000  # charts are drawn after their numbers have come [ms]


@contextmanager
def recording() -> Iterator[str]:
    """Two days of every data type in both tiers, validated, and what comes live. Gives the console's address."""
    ports = [part for name in ("--nats-port", "--clickhouse-port", "--port", "--console-port") for part in (name, "0")]
    with ExitStack() as stack:
        place = stack.enter_context(tempfile.TemporaryDirectory())
        environ = {**os.environ, "MIGRATION_WINDOW_HOURS": str(WINDOW)}

        def start(*command: str, stderr: int | IO[str] = subprocess.DEVNULL) -> subprocess.Popen[str]:
            child = subprocess.Popen(
                [*MARKETPRISM, *command], env=environ, stdout=subprocess.DEVNULL, stderr=stderr, text=True
            )
            stack.callback(child.wait)
            stack.callback(child.terminate)
            return child

        run = start("run", "--console", "--log-level", "error", "--dir", place, *ports, stderr=subprocess.PIPE)
        told: dict[str, str] = {}
        assert run.stderr is not None
        while "console" not in told:
            words = run.stderr.readline().split()
            assert words, "it has ended"
            told[" ".join(words[:-1])] = words[-1]
        environ |= {"NATS_URL": told["embedded NATS"], "CLICKHOUSE_HTTP_URL": told["embedded ClickHouse"]}
        start("feed", "--since", "48h", "--rate", "1.5", "--bad", "0.02%")
        start("migrate", "--every", "5s", "--port", "0")

        def stored() -> bool:
            url = f"{environ['CLICKHOUSE_HTTP_URL']}/?{urlencode({'query': STORED})}"
            return bool(urlopen(url, timeout=60).read() == b"1\n")

        wait_for(stored, "the past is stored, and what is due of it in cold", seconds=1200, every=1.0)
        subprocess.run(
            [*MARKETPRISM, "validate", "--since", "48h"], env=environ, stdout=subprocess.DEVNULL, check=False
        )
        yield told["console"]


async def take(url: str, folder: Path) -> None:
    for path, title in MENU:
        for dark in (False, True):
            async with visit(url + path.removeprefix("/") + QUERIES.get(path, ""), dark=dark) as page:
                if path in CLICKED:
                    await page.get_by_text(CLICKED[path]).click()
                await page.get_by_text(SEEN[path]).first.wait_for(timeout=ANSWERED)
                await page.wait_for_timeout(DRAWN)
                name = title.lower().replace(" ", "-")
                await page.screenshot(path=folder / f"{name}-{'dark' if dark else 'light'}.png")


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    with recording() as url:
        asyncio.run(take(url, folder))
