"""The streams that messages arrive in: created when they are missing, left alone when somebody else created them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations
from typing import Any, NamedTuple, Protocol

from nats.js.api import DiscardPolicy, RetentionPolicy, StorageType, StreamConfig
from nats.js.errors import APIError, NotFoundError

from marketprism_api import reasons
from marketprism_api.data_types import DataType
from marketprism_api.settings import Settings
from marketprism_consumer.errors import BrokerError, DomainUnnamedError, StreamLackingError, SubjectsTakenError
from marketprism_consumer.jetstream.refusals import NAME_IN_USE, SUBJECTS_OVERLAP, jetstream_error


class Lookup(Protocol):
    @property
    def domain(self) -> str:
        """The JetStream domain of the server that one is connected to; empty where it has none."""

    async def leaf_nodes(self) -> int:
        """How many of them the server has for our account; the hub is one to its leaf."""

    async def streams_of(self, subject: str) -> list[str]:
        """The names of the streams that hold any of the subject."""

    async def sources_of(self, stream: str) -> list[str] | None:
        """The streams that it mirrors or has as sources; None where there is no such stream."""


class Choice(NamedTuple):
    """Streams of one data type. `read`: each is a lane of its own. `left`: hold it as well, and are not read, since others were
    named."""

    read: tuple[str, ...]
    left: tuple[str, ...]


async def choose(lookup: Lookup, settings: Settings, data_type: DataType) -> Choice:
    """The one rule for which streams a data type is read from: those that the pipeline names for it, whatever they are; else all
    that hold its subject. Raises BrokerError, StreamUnfit where two of the latter hold the same messages."""
    chosen = settings.data_types[data_type]
    holders = await lookup.streams_of(chosen.subject)
    if chosen.named:
        there = tuple([name for name in chosen.named if await lookup.sources_of(name) is not None])
        return Choice(there, tuple(name for name in holders if name not in chosen.named))
    if len(holders) > 1:
        origins = {name: await _origins(lookup, name) for name in holders}
        for one, other in combinations(holders, 2):
            if shared := origins[one] & origins[other]:
                several = " and ".join(sorted({one, other} - shared) or [one])
                detail = f"{several} has the messages of {', '.join(sorted(shared))}, too: name in"
                raise BrokerError(reasons.STREAM_UNFIT, f"{detail} spec.nats.streams.{data_type} which to read")
    # The one where it would be made comes first.
    return Choice(tuple(sorted(holders, key=lambda name: (name != chosen.stream, name))), ())


def subjects_by_stream(stream_of: Mapping[str, str], types: Iterable[str]) -> dict[str, list[str]]:
    """{'default': 'MARKET_DATA', 'orderbook': 'ORDERBOOK_SNAP'} -> the subjects of each stream."""
    found: dict[str, list[str]] = {}
    for name in types:
        found.setdefault(stream_of.get(name, stream_of["default"]), []).append(f"{name}.>")
    return found


async def _origins(lookup: Lookup, stream: str) -> set[str]:
    """The stream, and all that its messages come from."""
    found, left = {stream}, [stream]
    while left:
        for origin in await lookup.sources_of(left.pop()) or ():
            if origin not in found:
                found.add(origin)
                left.append(origin)
    return found


async def create_missing(js: Any, lookup: Lookup, settings: Settings) -> list[str]:
    """Make the streams of a pipeline, each with the subjects of all data types that are assigned to it: whoever comes first
    makes them for every other process. Subjects that any stream holds are left where they are.

    Returns the names of those created. Raises SubjectsTakenError, StreamLackingError, JetStreamError, NATS's errors.
    """
    missing: dict[str, list[str]] = {}
    for data_type in settings.data_types.values():
        # A stream by another name may be a mirror, which has no subjects: what is named and there is not made.
        if data_type.named and all([await lookup.sources_of(name) is not None for name in data_type.named]):
            continue
        if not await lookup.streams_of(data_type.subject):
            missing.setdefault(data_type.stream, []).append(data_type.subject)
    if missing and not settings.domain_given:
        await _no_other_jetstream(lookup, list(missing))
    created = await ensure_streams(js, missing, settings.replicas or 1)
    for stream, subjects in missing.items():
        if stream not in created:
            # Somebody may have made it, whole, since the look-up.
            lacking = [subject for subject in subjects if not await lookup.streams_of(subject)]
            if lacking:
                raise StreamLackingError(stream, lacking)
    return created


async def _no_other_jetstream(lookup: Lookup, missing: Sequence[str]) -> None:
    """An empty stream here would be stored, and proven, for ever, while the messages are in the hub. Raises DomainUnnamedError."""
    if lookup.domain:
        raise DomainUnnamedError(missing, f"the JetStream domain {lookup.domain} of this server", "this one")
    here = "set spec.nats.apiPrefix to $JS.API"
    try:
        if await lookup.leaf_nodes():
            raise DomainUnnamedError(missing, "the JetStream of this server, which is connected to leaf nodes", here)
    except BrokerError as unknown:
        where = f"the JetStream of this server, which does not tell whether there are leaf nodes ({unknown.detail})"
        raise DomainUnnamedError(missing, where, here) from unknown


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
