"""`make screenshots`: the pictures of the docs, taken of a pipeline that runs for it."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.console.browser import visit

SECONDS = 30  # for which the feed runs before the first picture
PAGES = {"coverage": "?type=trade&days=1", "pipeline": "pipeline", "dead-letters": "dead-letters"}
SEEN = {"coverage": "rows of", "pipeline": "rows/s", "dead-letters": "The newest"}


async def main(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    marketprism = [sys.executable, "-m", "marketprism_consumer.cli"]
    ports = [part for name in ("--nats-port", "--clickhouse-port", "--port", "--console-port") for part in (name, "0")]
    with tempfile.TemporaryDirectory() as place:
        command = [*marketprism, "run", "--console", "--dir", place, *ports]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as run:
            assert run.stderr is not None
            told: dict[str, str] = {}
            for line in run.stderr:
                if line.startswith(("embedded NATS ", "console ")):
                    told[line.split()[-2]] = line.split()[-1]
                if "console" in told:
                    break
            environ = {**os.environ, "MARKETPRISM_NATS_URL": told["NATS"]}
            feed = subprocess.Popen([*marketprism, "feed", "--rate", "200", "--bad", "1%"], env=environ)
            try:
                await asyncio.sleep(SECONDS)
                for name, path in PAGES.items():
                    for dark in (False, True):
                        async with visit(told["console"] + path, dark=dark) as page:
                            await page.get_by_text(SEEN[name]).first.wait_for()
                            await page.wait_for_timeout(3000)  # charts are drawn after their numbers have come
                            await page.screenshot(path=folder / f"{name}-{'dark' if dark else 'light'}.png")
            finally:
                feed.terminate()
                feed.wait()
                run.terminate()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
