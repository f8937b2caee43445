"""The embedded servers, for `run` and `demo`: a package of its own, which no image contains."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from marketprism_api.settings import Settings
from marketprism_consumer.commands.common import fail, stderr
from marketprism_consumer.commands.exits import Exit

NOT_INSTALLED = (
    "the embedded servers are not installed here: pip install 'marketprism-consumer[embedded]', "
    "or name your own by MARKETPRISM_NATS_URL and CLICKHOUSE_HTTP_URL"
)


@contextlib.contextmanager
def embedded_servers() -> Iterator[Any]:
    """`start("nats" | "clickhouse", directory, ...)` for the length of the block; what it refuses ends the command."""
    try:
        from marketprism_embedded.place import EmbeddedError
        from marketprism_embedded.process import start
    except ModuleNotFoundError:
        fail(NOT_INSTALLED, Exit.USAGE)
    try:
        yield start
    except EmbeddedError as error:
        fail(str(error), Exit.USAGE)


@contextlib.contextmanager
def embedded_where_needed(
    settings: Settings, directory: Path, nats_port: int, clickhouse_port: int
) -> Iterator[Settings]:
    """Starts what has no URL, and yields settings that point to it. The servers end with this block, their data stays."""
    if settings.nats_url_given and settings.clickhouse_url_given:
        yield settings
        return
    with embedded_servers() as start, contextlib.ExitStack() as stack:
        if not settings.nats_url_given:
            server = stack.enter_context(start("nats", directory / "nats", port=nats_port))
            settings = replace(settings, nats_urls=(server.url,))
            stderr.print(f"embedded NATS        {server.url}")
        if not settings.clickhouse_url_given:
            server = stack.enter_context(start("clickhouse", directory / "clickhouse", port=clickhouse_port))
            settings = replace(settings, clickhouse_urls=(server.url,))
            stderr.print(f"embedded ClickHouse  {server.url}")
        yield settings
