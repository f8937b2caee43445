"""Streams that have messages of others, as mirrors and aggregates do: read beside its origin, such a one would be stored twice."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

from marketprism_api import reasons
from marketprism_api.subjects import common
from marketprism_consumer.errors import BrokerError
from marketprism_consumer.jetstream.broker import NatsBroker


async def find_copies(broker: NatsBroker, data_type: str, subject: str, holders: Sequence[str]) -> tuple[str, ...]:
    """Those of `holders` that need not be read: every message of the subject that they have is in another one, which is. Raises
    BrokerError; StreamUnfit where, whichever is read, messages would be stored twice, or some not at all."""
    origins = {name: await _origins(broker, name, subject) for name in holders}
    copies = [name for name in holders if origins[name].keys() & set(holders) - {name}]

    for one, other in combinations([name for name in holders if name not in copies] or holders, 2):
        if shared := origins[one].keys() & origins[other].keys():
            raise unnamed(data_type, f"{one} and {other} have the same messages, those of {', '.join(sorted(shared))}")
    for name in copies:
        known = f"{name} has the messages of {', '.join(sorted(origins[name].keys() & set(holders) - {name}))}, too"
        for origin, as_it_is in origins[name].items():
            if origin not in holders and not (as_it_is and await _passes_on(broker, origin, subject)):
                raise unnamed(data_type, f"{known}, and those of {origin}, which is not read")
        for own in await broker.subjects_taken(name):
            both = common(own, subject)
            if both and await broker.next_of(name, both, 1) is not None:
                raise unnamed(data_type, f"{known}, and those of {both} for itself")
    return tuple(copies)


def unnamed(data_type: str, why: str) -> BrokerError:
    """Only who knows what they are for can choose between such streams."""
    return BrokerError(reasons.STREAM_UNFIT, f"{why}: name in spec.nats.streams.{data_type} which to read")


async def _origins(broker: NatsBroker, stream: str, subject: str) -> dict[str, bool]:
    """The stream, and all that its messages of the subject may come from; False where that can't be asked, or has them otherwise."""
    found, left = {stream: True}, [stream]
    while left:
        for source in await broker.sources_of(left.pop()) or ():
            if not any(common(each, subject) for each in source.subjects):
                continue
            if source.api:
                found[f"{source.stream} of {source.api}"] = False
                continue
            if source.changes:
                found[f"{source.stream} under other subjects"] = False
            if source.stream not in found:
                found[source.stream] = True
                left.append(source.stream)
    return found


async def _passes_on(broker: NatsBroker, stream: str, subject: str) -> bool:
    """It has none of the subject but what it has from others."""
    return bool(await broker.sources_of(stream)) or await broker.next_of(stream, subject, 1) is None
