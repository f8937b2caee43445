"""Keys to reconcile: each at most once in the queue, never twice at the same time, failures again after growing pauses."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable

ResourceKey = tuple[str, str, str]
"""Kind, namespace, name."""

log = logging.getLogger(__name__)


class Queue:
    def __init__(self, work: Callable[[ResourceKey], Awaitable[float]], workers: int = 4) -> None:
        self._work = work
        self._workers = workers
        self._waiting: asyncio.Queue[ResourceKey] = asyncio.Queue()
        self._queued: set[ResourceKey] = set()
        self._busy: set[ResourceKey] = set()
        self._failures: dict[ResourceKey, int] = {}
        self._later: dict[ResourceKey, asyncio.TimerHandle] = {}

    def add(self, key: ResourceKey) -> None:
        if key not in self._queued:
            self._queued.add(key)
            if key not in self._busy:
                self._waiting.put_nowait(key)

    def add_after(self, key: ResourceKey, seconds: float) -> None:
        """Adds it after a while, unless it comes sooner anyway."""
        loop = asyncio.get_running_loop()
        old = self._later.get(key)
        if old and not old.cancelled() and loop.time() < old.when() <= loop.time() + seconds:
            return
        if old:
            old.cancel()
        self._later[key] = loop.call_later(seconds, self.add, key)

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            for _ in range(self._workers):
                group.create_task(self._worker())

    async def _worker(self) -> None:
        while True:
            key = await self._waiting.get()
            self._queued.discard(key)
            self._busy.add(key)
            try:
                again = await self._work(key)
                self._failures.pop(key, None)
            except Exception:
                count = self._failures[key] = self._failures.get(key, 0) + 1
                again = min(2.0**count, 120.0)
                log.exception("reconcile of %s failed; again in %.0f s", "/".join(key), again)
            finally:
                self._busy.discard(key)
            if key in self._queued:  # it was asked for in the meantime
                self._waiting.put_nowait(key)
            elif again:
                self.add_after(key, again * random.uniform(1.0, 1.2))  # what failed together doesn't come back together
