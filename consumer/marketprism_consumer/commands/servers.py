"""NATS and ClickHouse for the length of a command; what goes wrong there as its exit code."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Collection
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import TypeVar

from nats.errors import Error as NatsError

from marketprism_api.credentials import nats_auth
from marketprism_api.problems import ResourceError
from marketprism_api.settings import Settings
from marketprism_consumer.clickhouse.client import PATIENCE, ClickHouse
from marketprism_consumer.clickhouse.store import ClickHouseStore
from marketprism_consumer.commands.common import fail
from marketprism_consumer.commands.exits import Exit, exit_of
from marketprism_consumer.errors import BrokerError, StoreError, StreamError
from marketprism_consumer.jetstream.broker import NatsBroker
from marketprism_consumer.jetstream.client import PullClient, connect
from marketprism_consumer.jetstream.streams import create_missing
from marketprism_consumer.operations import lanes
from marketprism_consumer.schema.tables import Table
from marketprism_consumer.tiering.servers import hot_of, stores_of

T = TypeVar("T")

CONNECT_WAIT = 5.0  # [s]


@dataclass(frozen=True, slots=True)
class Servers:
    client: PullClient
    hot: ClickHouseStore
    cold: ClickHouseStore

    @property
    def broker(self) -> NatsBroker:
        return NatsBroker(self.client)


def clickhouse_of(settings: Settings, command: str, *, patience: float = PATIENCE) -> ClickHouse:
    """Hot's server, whose answers may take so long [s]."""
    return hot_of(settings, f"marketprism {command}", patience=patience)


def tiers_of(settings: Settings, command: str) -> tuple[ClickHouseStore, ClickHouseStore]:
    """Hot and cold."""
    return stores_of(settings, f"marketprism {command}")


async def nats_of(
    settings: Settings, command: str, wait: float = CONNECT_WAIT, client: PullClient | None = None
) -> PullClient:
    """A connection, as `connect` makes it. The login is read anew at every try."""
    return await connect(
        settings.nats_url,
        lambda: nats_auth(os.environ),
        name=f"marketprism {command}",
        wait=wait,
        client=client,
        api=settings.jetstream,
    )


async def begin_lanes(settings: Settings, created: Collection[Table], *, make_streams: bool = False) -> str:
    """Write the first records of tables that this process has just made; why not where it can't be done, which only means
    that the first consumer waits a minute. `make_streams`: those that are missing, as a consumer would: a lane needs its stream."""
    if not created:
        return ""
    client, tiers = PullClient(), tiers_of(settings, "schema")
    try:
        await nats_of(settings, "schema", client=client)
        broker = NatsBroker(client)
        if make_streams and settings.ensure_streams == "IfMissing":
            await create_missing(client.jetstream(), broker, settings)
        await lanes.begin(settings, broker, tiers, created)
    except (ResourceError, BrokerError, StoreError, StreamError, NatsError, TimeoutError, OSError) as error:
        return f"no first record was written, so that the first consumer looks for rows for a minute: {error}"
    finally:
        await client.close()
        for tier in tiers:
            await tier.clickhouse.close()
    return ""


def with_servers(settings: Settings, command: str, ask: Callable[[Servers], Awaitable[T]]) -> T:
    """What `ask` finds; ends the command where NATS or ClickHouse can't be asked."""

    async def run() -> T:
        async with AsyncExitStack() as stack:
            client = await nats_of(settings, command)
            stack.push_async_callback(client.close)
            servers = Servers(client, *tiers_of(settings, command))
            stack.push_async_callback(servers.hot.clickhouse.close)
            stack.push_async_callback(servers.cold.clickhouse.close)
            for tier in (servers.hot, servers.cold):
                await tier.clickhouse.reach()
            return await ask(servers)

    try:
        return asyncio.run(run())
    except ResourceError as error:
        fail(str(error), Exit.USAGE)
    except (BrokerError, TimeoutError) as refused:
        fail(str(refused), Exit.UNREACHABLE)
    except StoreError as refused:
        fail(str(refused), exit_of(refused))
