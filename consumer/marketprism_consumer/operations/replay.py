"""A stretch of a stream once more: what it still holds is decoded again, and stored where no tier has it.

Only up to the durable consumer's ack floor: what comes after is in the hands of ingest, which stores it anyway.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from marketprism_api.settings import DataTypeSettings
from marketprism_consumer.clickhouse.store import ClickHouseStore
from marketprism_consumer.errors import BrokerError, MessageError, NotYetStoredError
from marketprism_consumer.ingest.decode import decode
from marketprism_consumer.ingest.identity import stream_identity
from marketprism_consumer.jetstream.broker import CONSUMER_NOT_FOUND, NatsBroker
from marketprism_consumer.jetstream.stream_reader import INACTIVE, Read, StreamReader
from marketprism_consumer.operations.restore import Restorable, Restore
from marketprism_consumer.schema.tables import BY_DATA_TYPE

READ_AT_ONCE = 5_000
INSERT_WITHIN = INACTIVE / 2  # no insert of ours may outlive our claim to be the only replay [s]


@dataclass(frozen=True, slots=True)
class Stretch:
    """From a sequence, or from a time of arrival [µs UTC] where that is given; to `last` inclusive, and before `until`."""

    first: int = 1
    since: int | None = None
    last: int | None = None
    until: int | None = None

    def ends_before(self, message: Read) -> bool:
        return (self.last is not None and message.seq > self.last) or (
            self.until is not None and message.arrived >= self.until
        )


@dataclass(slots=True)
class Replayed:
    """What became of one data type's messages. `bad` counts those that can't be a row, by reason: they are dead letters."""

    read: int = 0
    stored: int = 0
    stored_before: int = 0
    bad: dict[str, int] = field(default_factory=dict)
    refused: list[str] = field(default_factory=list)
    """What ClickHouse said of each row that it refused."""


async def replay(
    broker: NatsBroker,
    tiers: Sequence[ClickHouseStore],
    chosen: DataTypeSettings,
    stretch: Stretch,
    *,
    subject: str = "",
    dry_run: bool = False,
    progress: Callable[[Replayed], None] = lambda _: None,
) -> Replayed:
    """Of one data type. Raises NotYetStoredError, ReaderRunsError, BrokerError, StoreError."""
    data_type = chosen.subject.partition(".")[0]
    table = BY_DATA_TYPE[data_type]
    floor = await ack_floor(broker, chosen)
    stream = stream_identity(chosen.stream, (await broker.stream(chosen.stream)).created)
    restore: Restore[int] = Restore(tiers)
    done = Replayed()
    async with StreamReader(
        broker,
        chosen.stream,
        [subject or chosen.subject],
        first=stretch.first,
        since=stretch.since,
        name=f"marketprism-replay-{data_type}",
    ) as reader:
        async for messages in reader.batches(READ_AT_ONCE):
            deadline = asyncio.get_running_loop().time() + INSERT_WITHIN
            ours = [m for m in messages if m.seq <= floor and not stretch.ends_before(m)]
            entries = _entries(data_type, ours, done)
            if dry_run:
                there = await restore.stored(table, stream, [seq for _, seq, _ in entries])
                done.stored_before += len(there)
                done.stored += len(entries) - len(there)
            elif entries:
                for _, state, why in await restore.store(table, stream, entries, deadline):
                    done.stored += state == "stored"
                    done.stored_before += state == "stored before"
                    done.refused += [why] if why else []
            progress(done)
            if len(ours) < len(messages):
                break
    return done


def _entries(data_type: str, messages: Sequence[Read], done: Replayed) -> list[Restorable[int]]:
    entries: list[Restorable[int]] = []
    done.read += len(messages)
    for message in messages:
        try:
            row = decode(data_type, message.subject, message.payload, message.arrived)
        except MessageError as refusal:
            done.bad[str(refusal.reason)] = done.bad.get(str(refusal.reason), 0) + 1
        else:
            entries.append((message.seq, message.seq, row))
    return entries


async def ack_floor(broker: NatsBroker, chosen: DataTypeSettings) -> int:
    """Up to this sequence of the stream everything of the data type is acknowledged."""
    last_seq = (
        await broker.stream(chosen.stream)
    ).last_seq  # before the consumer is asked: what comes later is not in it
    try:
        info = await broker.api(f"CONSUMER.INFO.{chosen.stream}.{chosen.durable}", None)
    except BrokerError as refused:
        if refused.code != CONSUMER_NOT_FOUND:
            raise
        raise NotYetStoredError(f"{chosen.stream} has no consumer {chosen.durable}") from None
    if not info["num_pending"] and not info["num_ack_pending"]:
        return last_seq
    return int(info["ack_floor"]["stream_seq"])
