"""What the streams still hold of holes, replayed: each stretch once, and of it only the series that lack something."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from marketprism_api.settings import Settings
from marketprism_consumer.clickhouse import incidents as noted
from marketprism_consumer.clickhouse.store import ClickHouseStore
from marketprism_consumer.errors import HealError, NotYetStoredError
from marketprism_consumer.ingest.decode import Row
from marketprism_consumer.ingest.identity import stream_identity
from marketprism_consumer.ingest.lane_id import LaneId
from marketprism_consumer.jetstream.broker import NatsBroker
from marketprism_consumer.jetstream.records import NatsRecords
from marketprism_consumer.operations import lanes
from marketprism_consumer.operations.healing.holes import Hole
from marketprism_consumer.operations.lanes import FoundLane
from marketprism_consumer.operations.replay import Replayed, Stretch, replay
from marketprism_consumer.schema.incidents import Incident

EARLY = 60_000_000  # an event may come so long before its own time: clocks differ [µs]
LATE = 3_600_000_000  # and so long after it [µs]


@dataclass(frozen=True, slots=True)
class HealedStretch:
    """Of one series, from one stream. `rows`: that were stored, or would be."""

    hole: Hole
    stream: str
    rows: int


def together(holes: Iterable[Hole]) -> list[list[Hole]]:
    """Those whose messages may have come at the same time, so that a stream is read once for them. Pure."""
    made: list[list[Hole]] = []
    until = 0
    for hole in sorted(holes, key=lambda hole: hole.since):
        if made and hole.since - EARLY <= until:
            made[-1].append(hole)
        else:
            made.append([hole])
        until = max(until, hole.until + LATE)
    return made


def per_series(holes: Iterable[Hole]) -> list[Hole]:
    """One for each series, over all of its holes. Pure."""
    of: dict[tuple[str, str, str], Hole] = {}
    for hole in holes:
        one = of.get(hole.series)
        of[hole.series] = (
            hole
            if one is None
            else replace(
                one,
                since=min(one.since, hole.since),
                until=max(one.until, hole.until),
                missing=one.missing + hole.missing,
                text=f"{one.text}, {hole.text}" if len(one.text) < 200 else one.text,
            )
        )
    return [of[series] for series in sorted(of)]


class StreamHealing:
    """`progress` is called with a table's name and what was done of a stretch so far."""

    def __init__(
        self,
        settings: Settings,
        broker: NatsBroker,
        tiers: Sequence[ClickHouseStore],
        progress: Callable[[str, Replayed], None] = lambda *_: None,
    ) -> None:
        self._settings, self._broker, self._tiers, self._progress = settings, broker, tiers, progress
        self._records = NatsRecords(broker.client, settings.bucket)
        self._lanes: dict[str, list[FoundLane]] = {}

    async def heal(self, holes: Sequence[Hole], why: str, *, dry_run: bool) -> list[HealedStretch]:
        """Raises HealError, NotYetStoredError, ReaderRunsError, BrokerError, StoreError."""
        found: list[HealedStretch] = []
        of_type: defaultdict[str, list[Hole]] = defaultdict(list)
        for hole in holes:
            of_type[hole.data_type].append(hole)
        for data_type, own in of_type.items():
            for stretch in together(own):
                for lane in await self.lanes(data_type):
                    found += await self._stretch(lane, stretch, why, dry_run=dry_run)
        return found

    async def lanes(self, data_type: str) -> list[LaneId]:
        return [lane.id for lane in await self._found(data_type) if lane.id]

    async def horizon(self, data_type: str) -> int:
        """What happened before it is stored, or will never be: nothing that is older is still waiting in a stream [µs]. Raises HealError,
        NotYetStoredError, BrokerError, StoreError."""
        arrived = int(time.time() * 1e6)
        for lane in await self._found(data_type):
            if lane.id is None:
                raise HealError(lane.problem, findings=True)
            if lane.record is None:
                raise NotYetStoredError(lane.problem or f"{lane.stream} has no record of {data_type}")
            seq = await self._broker.next_of(lane.stream, lane.id.subject, lane.record.done + 1)
            if seq and (came := await self._broker.arrival(lane.stream, seq)):
                arrived = min(arrived, came)
        return arrived - LATE

    async def _found(self, data_type: str) -> list[FoundLane]:
        if data_type not in self._lanes:
            self._lanes[data_type] = await lanes.find_all(self._settings, self._broker, self._tiers[0], data_type)
        return self._lanes[data_type]

    async def _stretch(self, lane: LaneId, holes: Sequence[Hole], why: str, *, dry_run: bool) -> list[HealedStretch]:
        declaration = self._settings.data_types[lane.data_type].declaration
        wanted = {hole.series for hole in holes}
        stored: Counter[tuple[str, str, str]] = Counter()

        def count(row: Row) -> None:
            stored[row[1], row[2], row[3]] += 1

        await replay(
            self._broker,
            self._records,
            self._tiers,
            lane,
            declaration,
            Stretch(since=min(hole.since for hole in holes) - EARLY, until=max(hole.until for hole in holes) + LATE),
            self._settings.messages,
            dry_run=dry_run,
            progress=lambda so_far: self._progress(declaration.table, so_far),
            only=lambda row: (row[1], row[2], row[3]) in wanted,
            restored=count,
        )
        healed = [HealedStretch(hole, lane.stream, stored[hole.series]) for hole in per_series(holes)]
        if not dry_run:
            for one in healed:
                if one.rows:
                    await self._note(lane, one, why)
        return [one for one in healed if one.rows]

    async def _note(self, lane: LaneId, healed: HealedStretch, why: str) -> None:
        hole, hot = healed.hole, self._tiers[0]
        incident = Incident(
            hole.data_type, *hole.series, hole.since, hole.until, max(hole.missing, healed.rows), healed.rows, 0,
            "replay", stream_identity(lane.stream, lane.created), lane.stream, why or hole.text, True,
        )  # fmt: skip
        await noted.note(hot.clickhouse, hot.database, incident)
