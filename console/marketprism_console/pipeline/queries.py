"""The status of the pipeline, taken once for all visitors, and only while somebody looks."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field

from marketprism_console.sources import Sources
from marketprism_consumer.operations.status import Status, status

EVERY = 2.0  # how old a status may be that is shown [s]
REMEMBERED = 900  # of the last statuses


@dataclass
class Watch:
    sources: Sources
    history: deque[tuple[float, Mapping[str, float]]] = field(default_factory=lambda: deque(maxlen=REMEMBERED))
    """When [s since 1970], and rows stored per second by data type."""
    _found: Status | None = None
    _asking: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def status(self) -> Status:
        """Raises StoreError, and one of `sources.AWAY`."""
        async with self._asking:
            now = time.time()
            if self._found is None or now - self.history[-1][0] >= EVERY:
                broker = await self.sources.broker()
                self._found = await status(self.sources.settings, broker, self.sources.hot, self.sources.cold)
                self.history.append((now, {each.data_type: each.rate for each in self._found.types}))
            return self._found

    async def versions(self) -> str:
        """Raises StoreError, and one of `sources.AWAY`."""
        broker = await self.sources.broker()
        clickhouse = await self.sources.hot.clickhouse.value("SELECT version()")
        return f"NATS {broker.client.server_info['version']}, ClickHouse {clickhouse}"
