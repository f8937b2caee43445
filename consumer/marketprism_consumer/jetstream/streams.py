"""The streams that messages arrive in: created when they are missing, left alone when somebody else created them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

from nats.js.api import DiscardPolicy, RetentionPolicy, StorageType, StreamConfig
from nats.js.errors import APIError, NotFoundError

from marketprism_api.settings import Settings
from marketprism_consumer.errors import (
    BrokerError,
    CopyUnnamedError,
    DomainUnnamedError,
    StreamLackingError,
    SubjectsTakenError,
)
from marketprism_consumer.ingest.record import load
from marketprism_consumer.jetstream.broker import NatsBroker
from marketprism_consumer.jetstream.copies import find_copies, unnamed
from marketprism_consumer.jetstream.records import NatsRecords
from marketprism_consumer.jetstream.refusals import NAME_IN_USE, SUBJECTS_OVERLAP, jetstream_error


class Choice(NamedTuple):
    """Streams of one data type. `read`: each is a lane of its own. `left`: hold it as well, and are not read, since others were
    named. `copies`: not read either, since those that are have each of their messages."""

    read: tuple[str, ...]
    left: tuple[str, ...] = ()
    copies: tuple[str, ...] = ()


async def choose(broker: NatsBroker, settings: Settings, data_type: str, *, moved: bool = True) -> Choice:
    """The one rule for which streams a data type is read from: those that the pipeline names for it, whatever they are; else all
    that hold its subject, but for copies. `moved`: also those that have given it to another, and hold messages of it still.

    Raises BrokerError, StreamUnfit where two that are not named hold the same messages, and neither can be left."""
    chosen = settings.data_types[data_type]
    holders = await broker.streams_of(chosen.subject)
    if moved:
        known = {name for name, _ in await _begun(broker, settings, data_type)}
        holders += [name for name in known if name not in holders and await _holds_more(broker, name, chosen.subject)]
    if chosen.named:
        there = tuple([name for name in chosen.named if await broker.sources_of(name) is not None])
        return Choice(there, tuple(name for name in holders if name not in chosen.named))
    copies = await find_copies(broker, data_type, chosen.subject, holders) if len(holders) > 1 else ()
    begun = await _begun(broker, settings, data_type) if copies else set()
    for name in copies:
        if (name, (await broker.stream(name)).created) in begun:
            raise unnamed(data_type, f"{name} was read before, and has the messages of others")
    read = [name for name in holders if name not in copies]
    # The one where it would be made comes first.
    return Choice(tuple(sorted(read, key=lambda name: (name != chosen.stream, name))), copies=copies)


def subjects_by_stream(stream_of: Mapping[str, str], types: Iterable[str]) -> dict[str, list[str]]:
    """{'default': 'MARKET_DATA', 'orderbook': 'ORDERBOOK_SNAP'} -> the subjects of each stream."""
    found: dict[str, list[str]] = {}
    for name in types:
        found.setdefault(stream_of.get(name, stream_of["default"]), []).append(f"{name}.>")
    return found


async def _begun(broker: NatsBroker, settings: Settings, data_type: str) -> set[tuple[str, str]]:
    """The streams of the data type's records, and when they were made: each has been read, at least for a while."""
    records = NatsRecords(broker.client, settings.bucket)
    found = set()
    for key in await records.keys(data_type):
        with suppress(ValueError):  # told by whoever works with that very record
            record = load((await records.read(key))[1])
            if record.subject == settings.data_types[data_type].subject:
                found.add((record.stream, record.created))
    return found


async def _holds_more(broker: NatsBroker, stream: str, subject: str) -> bool:
    """False for a mirror as well, and for what has sources: such a stream is read by its name only."""
    return await broker.sources_of(stream) == [] and await broker.next_of(stream, subject, 1) is not None


async def create_missing(js: Any, broker: NatsBroker, settings: Settings) -> list[str]:
    """Make the streams of a pipeline, each with the subjects of all data types that are assigned to it: whoever comes first
    makes them for every other process. Subjects that any stream holds are left where they are.

    Returns the names of those created. Raises StreamError, BrokerError, NATS's errors.
    """
    missing: dict[str, list[str]] = {}
    for data_type in settings.data_types.values():
        # A stream by another name may be a mirror, which has no subjects: what is named and there is not made.
        if data_type.named and all([await broker.sources_of(name) is not None for name in data_type.named]):
            continue
        if not await broker.streams_of(data_type.subject):
            missing.setdefault(data_type.stream, []).append(data_type.subject)
    if missing:
        await _no_other_jetstream(broker, settings, list(missing))
        await _no_mirror(broker, [subject for subjects in missing.values() for subject in subjects])
    created = await ensure_streams(js, missing, settings.replicas or 1)
    for stream, subjects in missing.items():
        if stream not in created:
            # Somebody may have made it, whole, since the look-up.
            lacking = [subject for subject in subjects if not await broker.streams_of(subject)]
            if lacking:
                raise StreamLackingError(stream, lacking)
    return created


async def _no_other_jetstream(broker: NatsBroker, settings: Settings, missing: Sequence[str]) -> None:
    """An empty stream here would be stored, and proven, for ever, while the messages are in the hub. Raises DomainUnnamedError."""
    if settings.domain_given:
        return
    if broker.domain:
        raise DomainUnnamedError(missing, f"the JetStream domain {broker.domain} of this server", "this one")
    here = "set spec.nats.apiPrefix to $JS.API"
    try:
        if await broker.leaf_nodes():
            raise DomainUnnamedError(missing, "the JetStream of this server, which is connected to leaf nodes", here)
    except BrokerError as unknown:
        where = f"the JetStream of this server, which does not tell whether there are leaf nodes ({unknown.detail})"
        raise DomainUnnamedError(missing, where, here) from unknown


async def _no_mirror(broker: NatsBroker, subjects: Sequence[str]) -> None:
    """What comes to a mirror, or from sources, is in no subjects of its own. Raises CopyUnnamedError."""
    for stream in await broker.all_streams():
        if await broker.sources_of(stream):
            for subject in subjects:
                if await broker.next_of(stream, subject, 1) is not None:
                    raise CopyUnnamedError(stream, subject)


async def ensure_streams(js: Any, subjects_by_stream: Mapping[str, Sequence[str]], replicas: int = 1) -> list[str]:
    """The names of the streams that were missing and have been created. Raises SubjectsTakenError, JetStreamError, NATS's errors."""
    return [name for name, subjects in subjects_by_stream.items() if await _ensure(js, name, subjects, replicas)]


async def _ensure(js: Any, name: str, subjects: Sequence[str], replicas: int) -> bool:
    try:
        await js.stream_info(name)
        return False
    except NotFoundError:
        pass
    try:
        await js.add_stream(_config(name, subjects, replicas))
        return True
    except APIError as error:
        if error.err_code == NAME_IN_USE:  # somebody was quicker, with settings of their own
            return False
        if error.err_code == SUBJECTS_OVERLAP and (taken := await _taken(js, subjects)):
            raise SubjectsTakenError(name, *taken) from error
        said = {"err_code": error.err_code, "description": error.description}
        raise jetstream_error(f"stream {name} can't be created", said) from error


async def _taken(js: Any, subjects: Sequence[str]) -> tuple[str, str] | None:
    for subject in subjects:
        try:
            return subject, await js.find_stream_name_by_subject(subject)
        except NotFoundError:
            continue
    return None


def _config(name: str, subjects: Sequence[str], replicas: int) -> StreamConfig:
    return StreamConfig(
        name=name,
        subjects=list(subjects),
        retention=RetentionPolicy.LIMITS,
        storage=StorageType.FILE,
        discard=DiscardPolicy.OLD,
        max_msgs=5_000_000,
        max_bytes=2 * 1024**3,
        max_age=48 * 3600,
        duplicate_window=120,
        num_replicas=replicas,
    )
