"""A real browser for the console's tests: Debian's chromium, driven by Playwright. Where there is none, they are skipped, and say so."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import pytest
from playwright.async_api import Browser, Page, async_playwright

CHROMIUM = os.environ.get("MARKETPRISM_CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome") or ""
WAIT = 120_000  # for what must come at last [ms]

needs_browser = pytest.mark.skipif(
    not CHROMIUM,
    reason="NOT TESTED: there is no browser; `apt-get install chromium`, or name one by MARKETPRISM_CHROMIUM",
)


@asynccontextmanager
async def browser() -> AsyncIterator[Browser]:
    async with async_playwright() as playwright:
        # Its sandbox does not start as root, as which CI runs; it sees our own pages only.
        yield await playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])


@asynccontextmanager
async def visit(url: str, *, width: int = 1280, dark: bool = False, scripts: bool = True) -> AsyncIterator[Page]:
    """A page, and at its end the proof that the browser had nothing to complain of. With `scripts`, what the HTML itself shows has gone."""
    async with browser() as chromium:
        page = await chromium.new_page(
            viewport={"width": width, "height": 800},
            color_scheme="dark" if dark else "light",
            java_script_enabled=scripts,
        )
        page.set_default_timeout(WAIT)
        complaints: list[str] = []
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("console", lambda said: complaints.append(said.text) if said.type == "error" else None)
        page.on("request", lambda asked: None if asked.url.startswith(origin(url)) else complaints.append(asked.url))
        await page.goto(url)
        if scripts:
            await page.locator("#first").wait_for(state="detached")
        yield page
        assert not complaints, complaints


def origin(url: str) -> tuple[str, ...]:
    host = "/".join(url.split("/")[:3])
    return (host, host.replace("http", "ws"), "data:", "blob:")


@contextmanager
def console(file: Path, *arguments: str) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """`marketprism console` as a process, with the address that it says."""
    command = [sys.executable, "-m", "marketprism_consumer.cli", "console", "-f", str(file), "--port", "0", *arguments]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            line = process.stderr.readline()
            assert line.startswith("console  http"), line + process.stderr.read()
            yield line.split()[1], process
        finally:
            process.terminate()
