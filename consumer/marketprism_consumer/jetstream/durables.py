"""The durable consumers of a pipeline, from outside: whether something uses them, and how to delete them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from marketprism_api.settings import Settings
from marketprism_consumer.errors import BrokerError, DurablesInUseError
from marketprism_consumer.jetstream.broker import CONSUMER_NOT_FOUND, STREAM_NOT_FOUND, NatsBroker

LOOK_EVERY = 0.25  # [s]

DurableAddress = tuple[str, str]
"""Stream, durable consumer."""
DurableActivity = tuple[Any, ...]
"""What changes while somebody pulls or acknowledges; the first is the number of waiting pulls."""


async def addresses(broker: NatsBroker, settings: Settings) -> list[DurableAddress]:
    """Where they may be: in the stream that the pipeline names, and in any that holds the subject. Raises BrokerError."""
    found: list[DurableAddress] = []
    for data_type in settings.data_types.values():
        streams = dict.fromkeys([data_type.stream, *await broker.streams_of(data_type.subject)])
        found += [(stream, data_type.durable) for stream in streams]
    return found


async def delete_unused(
    broker: NatsBroker, among: Sequence[DurableAddress], quiet: float, wait: float
) -> list[DurableAddress]:
    """Delete those that are there, once nothing has used any of them for `quiet` seconds, and see that they stay away.

    A Pod that is ending does not create them again, a running one does: DurablesInUseError is raised when `wait` seconds were not enough.
    """
    clock = asyncio.get_running_loop().time
    began = since = clock()
    before: dict[DurableAddress, DurableActivity] = {}
    deleted: list[DurableAddress] = []
    while True:
        states = {address: state for address in among if (state := await _activity(broker, *address))}
        if states != before:
            before, since = states, clock()
        if clock() - since >= quiet:
            if not states:
                return deleted
            if not any(state[0] for state in states.values()):
                for stream, name in states:
                    await broker.api(f"CONSUMER.DELETE.{stream}.{name}", None)
                deleted += [address for address in states if address not in deleted]
                continue
        if clock() - began > wait:
            raise DurablesInUseError(list(states))
        await asyncio.sleep(LOOK_EVERY)


async def _activity(broker: NatsBroker, stream: str, name: str) -> DurableActivity | None:
    try:
        found = await broker.api(f"CONSUMER.INFO.{stream}.{name}", None)
    except BrokerError as refused:
        if refused.code in (CONSUMER_NOT_FOUND, STREAM_NOT_FOUND):
            return None
        raise
    return (
        found["num_waiting"],
        found["created"],
        found["delivered"]["consumer_seq"],
        found["ack_floor"]["consumer_seq"],
    )
