"""`marketprism console`: look at it in a browser. The pages are a package of its own, which an image has only where it is asked for."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from typing import Annotated

import typer

from marketprism_api.settings import Settings
from marketprism_consumer import logs
from marketprism_consumer.commands.common import File, fail, settings_of, stderr
from marketprism_consumer.commands.exits import Exit
from marketprism_consumer.errors import PortTakenError

EXAMPLES = """
Examples:

\b
  marketprism console -f pipeline.yaml        on this machine: http://127.0.0.1:8500/
  marketprism console --host 0.0.0.0 --allow-host prism.example.org
                                              for others, too: with the token that it prints, or that of
                                              MARKETPRISM_CONSOLE_TOKEN

\b
It only reads. Give it a ClickHouse user with `readonly = 2` (CLICKHOUSE_USER, CLICKHOUSE_PASSWORD).
"""
NOT_INSTALLED = "the console is not installed here: pip install 'marketprism-consumer[console]'"
TOKEN = "MARKETPRISM_CONSOLE_TOKEN"  # noqa: S105 - the variable's name


PORT = 8500


def console(
    file: File = "",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Where to listen; 0: any free port.")] = PORT,
    host: Annotated[
        str, typer.Option(help="The address to listen at; others than loopback need a token.")
    ] = "127.0.0.1",
    allow_host: Annotated[
        list[str] | None, typer.Option(help="Another name that browsers may call it by; may be repeated.")
    ] = None,
) -> None:
    """Look at it in a browser: what is stored and whether it is whole, how the pipeline runs, what became a dead letter. Reads only."""
    logs.configure("error")
    settings = settings_of(file)
    if not installed():
        fail(NOT_INSTALLED, Exit.USAGE)
    from marketprism_console.serve import serve

    try:
        serve(
            settings,
            host,
            port,
            allow_host or [],
            os.environ.get(TOKEN, "").strip(),
            lambda url: stderr.print(f"console  {url}", markup=False),
        )
    except PortTakenError as error:
        fail(str(error), Exit.USAGE)


def installed() -> bool:
    return find_spec("marketprism_console") is not None


@contextlib.contextmanager
def console_beside(settings: Settings, file: str, port: int) -> Iterator[None]:
    """A console of these settings in a process of its own, for the length of the block; its address is told by itself. It is no part of
    the work: where it can't start it says why, and the work goes on."""
    if not installed():
        fail(NOT_INSTALLED, Exit.USAGE)
    command = [sys.executable, "-m", "marketprism_consumer.cli", "console", "--port", str(port)]
    urls = {"MARKETPRISM_NATS_URL": settings.nats_url, "CLICKHOUSE_HTTP_URL": ",".join(settings.clickhouse_urls)}
    child = subprocess.Popen(
        [*command, *(("-f", file) if file else ())], env={**os.environ, **urls}, stdin=subprocess.DEVNULL
    )
    try:
        yield
    finally:
        child.terminate()
        child.wait()
