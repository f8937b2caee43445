"""A ClickHouse that goes away in the middle is waited for: a restart does not end an hour of files."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

from marketprism_consumer.backoff import Backoff
from marketprism_consumer.clickhouse.client import ClickHouse
from marketprism_consumer.errors import Fault, StoreError

RETURN = 60.0  # how long it may be away [s]
T = TypeVar("T")


class Patience:
    """With one server, or those of all its URLs. One that never answered is asked at each URL, and not waited for."""

    def __init__(self, server: ClickHouse) -> None:
        self._urls = len(server.urls)
        self._answered = False

    async def __call__(self, ask: Callable[[], Awaitable[T]]) -> T:
        """What `ask` says, which is asked from the start. Raises StoreError."""
        backoff, until = Backoff(), time.monotonic() + RETURN
        while True:
            try:
                found = await ask()
            except StoreError as refused:
                over = time.monotonic() > until if self._answered else backoff.tries + 1 >= self._urls
                if refused.fault is not Fault.PASSING or over:
                    raise
                await asyncio.sleep(backoff.next())
            else:
                self._answered = True
                return found
