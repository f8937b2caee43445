"""Who stores what of a stream in a table. Lanes whose subjects have messages in common and are not one lane would store those twice:
the first one works, and another waits until it was not heard for as long as a block may be on its way.

All of it is in one key of the bucket for each stream and table, changed by compare-and-set. Who takes another's place takes away
its record before it begins, so that what still runs there finds none and comes here again; and who has begun looks here once
more, so that it did not come too late.
"""

from __future__ import annotations

from collections.abc import Callable
from hashlib import blake2b

import msgspec
from msgspec.structs import replace

from marketprism_api import reasons
from marketprism_api.subjects import common
from marketprism_consumer.errors import BrokerError, LostError
from marketprism_consumer.ingest.broker import Records
from marketprism_consumer.ingest.lane_id import LaneId

VERSION = 1  # of this format


class LaneFeed(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A lane by its record's key. `clears`: keys whose records are to be taken away before it begins."""

    subject: str
    key: str
    clears: tuple[str, ...] = ()


class Feeds(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Of one stream into one table. No two have messages in common. `left`: keys of those that gave their place to others."""

    stream: str
    created: str
    table: str
    feeds: tuple[LaneFeed, ...] = ()
    left: tuple[str, ...] = ()
    version: int = VERSION

    def of(self, lane: LaneId) -> LaneFeed | None:
        return next((feed for feed in self.feeds if feed.key == lane.key), None)

    def beside(self, lane: LaneId) -> tuple[LaneFeed, ...]:
        """Others that have messages in common with it."""
        return tuple(feed for feed in self.feeds if feed.key != lane.key and common(feed.subject, lane.subject))


def entered(feeds: Feeds, lane: LaneId) -> Feeds:
    """With the lane in the place of those beside it."""
    out = feeds.beside(lane)
    clears = tuple(feed.key for feed in out)
    if lane.key in feeds.left:
        clears = (*clears, lane.key)  # what it was before others took its place says nothing any more
    stay = tuple(feed for feed in feeds.feeds if feed not in out)
    left = tuple(sorted({*feeds.left, *(feed.key for feed in out)} - {lane.key}))
    return replace(feeds, feeds=(*stay, LaneFeed(lane.subject, lane.key, clears)), left=left)


def begun(feeds: Feeds, lane: LaneId) -> Feeds:
    """What it had to clear is cleared."""
    return replace(
        feeds, feeds=tuple(replace(each, clears=()) if each.key == lane.key else each for each in feeds.feeds)
    )


def key_of(lane: LaneId) -> str:
    """Of the same stream and table, whatever the subject. No data type's keys begin like it."""
    identity = "\0".join((lane.stream, lane.created, lane.table))
    return f"feeds-{blake2b(identity.encode(), digest_size=12).hexdigest()}"


class Entrance:
    """Of one lane in one process. `silence`: how long those in the way are watched before they are taken for gone [s]. Methods
    raise BrokerError, and ConflictError where somebody else was first."""

    def __init__(self, records: Records, lane: LaneId, silence: float, now: Callable[[], float]) -> None:
        self._records, self._lane, self._silence, self._now = records, lane, silence, now
        self._heard: dict[str, tuple[int, float]] = {}  # the revision of a record, and since when it is that

    async def enter(self) -> None:
        """Before the lane's record is read. Raises BrokerError FED_BY_ANOTHER where another one is in the way."""
        revision, feeds = await self._read()
        own = feeds.of(self._lane)
        if own is None:
            await self._until_silent(feeds.beside(self._lane))
            feeds = entered(feeds, self._lane)
            revision = await self._write(feeds, revision)
            own = feeds.of(self._lane)
        if own and own.clears:
            for key in own.clears:
                at, value = await self._records.read(key)
                if value:
                    await self._records.write(key, b"", at)
            await self._write(begun(feeds, self._lane), revision)

    async def confirm(self) -> None:
        """When the record is there, and before anything is done by it. Raises LostError where another took our place meanwhile."""
        own = (await self._read())[1].of(self._lane)
        if own is None or own.clears:
            raise LostError("another subject's lane took its place")

    async def _until_silent(self, others: tuple[LaneFeed, ...]) -> None:
        now = self._now()
        for other in others:
            revision, _ = await self._records.read(other.key)
            if self._heard.get(other.key, (None,))[0] != revision:
                self._heard[other.key] = revision, now
        waits = [other for other in others if now - self._heard[other.key][1] < self._silence]
        if waits:
            subjects = ", ".join(other.subject for other in waits)
            raise BrokerError(
                reasons.FED_BY_ANOTHER,
                f"of {self._lane.stream} {subjects} is stored in the same table, and has messages of {self._lane.subject}",
            )

    async def _read(self) -> tuple[int, Feeds]:
        lane = self._lane
        revision, value = await self._records.read(key_of(lane))
        if not value:
            return revision, Feeds(lane.stream, lane.created, lane.table)
        try:
            feeds = msgspec.json.decode(value, type=Feeds)
        except (msgspec.DecodeError, msgspec.ValidationError) as error:
            raise BrokerError(reasons.RECORD_UNAVAILABLE, f"{key_of(lane)}: not a list of feeds: {error}") from None
        if feeds.version != VERSION:
            raise BrokerError(reasons.RECORD_UNAVAILABLE, f"{key_of(lane)}: version {feeds.version}; this is {VERSION}")
        return revision, feeds

    async def _write(self, feeds: Feeds, revision: int) -> int:
        return await self._records.write(key_of(self._lane), msgspec.json.encode(feeds), revision)
