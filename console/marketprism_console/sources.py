"""What the console asks: both tiers, for reading only, and NATS, where it can be reached."""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass, field

from nats.errors import Error as NatsError

from marketprism_api.credentials import nats_auth
from marketprism_api.settings import Settings
from marketprism_consumer.clickhouse.client import SPILL
from marketprism_consumer.clickhouse.store import ClickHouseStore
from marketprism_consumer.errors import BrokerError
from marketprism_consumer.jetstream.broker import NatsBroker
from marketprism_consumer.jetstream.client import PullClient, connect
from marketprism_consumer.tiering.servers import stores_of

COMMENT = "marketprism console"
# Of each statement, whatever the user may do: it can't write, it ends, and it leaves the server its memory.
READS_ONLY = {"readonly": 2, "max_execution_time": 30, **SPILL}
NATS_WAIT = 3.0  # for a connection [s]
AWAY = (BrokerError, NatsError, OSError)
"""What NATS raises that can't be asked; a timeout is an OSError."""


@dataclass
class Sources:
    """`close` it."""

    settings: Settings
    hot: ClickHouseStore
    cold: ClickHouseStore
    _nats: PullClient | None = field(default=None)
    _connecting: asyncio.Lock = field(default_factory=asyncio.Lock)

    @classmethod
    def of(cls, settings: Settings) -> Sources:
        return cls(settings, *stores_of(settings, COMMENT, READS_ONLY))

    @property
    def cold_is_elsewhere(self) -> bool:
        return self.cold.clickhouse is not self.hot.clickhouse

    async def broker(self) -> NatsBroker:
        """Raises one of `AWAY` where NATS can't be reached."""
        async with self._connecting:  # visitors come together, and share one
            if self._nats is None:
                self._nats = await connect(
                    self.settings.nats_url,
                    lambda: nats_auth(os.environ),
                    name=COMMENT,
                    wait=NATS_WAIT,
                    api=self.settings.jetstream,
                )
        return NatsBroker(self._nats)

    async def close(self) -> None:
        await self.hot.clickhouse.close()
        if self.cold_is_elsewhere:
            await self.cold.clickhouse.close()
        if self._nats is not None:
            await self._nats.close()
