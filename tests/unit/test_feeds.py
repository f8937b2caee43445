"""Lanes of one stream into one table whose subjects have messages in common: one at a time, whoever is late, frozen or killed."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
import pytest

from marketprism_api import reasons
from marketprism_consumer.errors import BrokerError, ConflictError, LostError
from marketprism_consumer.ingest.feeds import Entrance, Feeds, begun, entered, key_of
from marketprism_consumer.ingest.lane_id import LaneId

pytestmark = pytest.mark.quick

SILENCE = 60.0


def lane(subject: str) -> LaneId:
    return LaneId("trade", "MARKET_DATA", "2026-01-01T00:00:00Z", subject, "a-table")


WIDE, NARROW, OTHER = lane("trade.>"), lane("trade.okx.>"), lane("trade.bybit.>")
EMPTY = Feeds("MARKET_DATA", "2026-01-01T00:00:00Z", "a-table")


class BucketByHand:
    boot = ""

    def __init__(self) -> None:
        self.entries: dict[str, tuple[int, bytes]] = {}
        self.last = 0

    async def read(self, key: str) -> tuple[int, bytes]:
        return self.entries.get(key, (0, b""))

    async def write(self, key: str, value: bytes, revision: int) -> int:
        if (await self.read(key))[0] != revision:
            raise ConflictError(key)
        self.last += 1
        self.entries[key] = self.last, value
        return self.last

    def feeds(self) -> Feeds:
        return msgspec.json.decode(self.entries[key_of(WIDE)][1], type=Feeds)


class ClockByHand:
    now = 0.0

    def __call__(self) -> float:
        return self.now


class LaneProcess:
    """Of one lane: it enters, reads or lays the record, confirms, works. `at`: the revision of the record that it works by."""

    def __init__(self, bucket: BucketByHand, id: LaneId, clock: ClockByHand) -> None:
        self.bucket, self.id = bucket, id
        self.entrance = Entrance(bucket, id, SILENCE, clock)
        self.at = 0
        self.confirmed = False

    async def enter(self) -> None:
        await self.entrance.enter()

    async def look(self) -> None:
        self.at, value = await self.bucket.read(self.id.key)
        if not value:
            self.at = await self.bucket.write(self.id.key, b"record", self.at)

    async def confirm(self) -> None:
        await self.entrance.confirm()
        self.confirmed = True

    @property
    def able(self) -> bool:
        """Its next write would be taken."""
        return self.confirmed and self.bucket.entries[self.id.key] == (self.at, b"record")

    async def work(self) -> None:
        """Raises ConflictError where its record is not what it was: nothing may be sent."""
        self.at = await self.bucket.write(self.id.key, b"record", self.at)

    async def start(self) -> None:
        await self.enter()
        await self.look()
        await self.confirm()


@pytest.fixture
def clock() -> ClockByHand:
    return ClockByHand()


async def test_subjects_without_a_message_in_common_are_read_beside_each_other(clock: ClockByHand) -> None:
    bucket = BucketByHand()
    for id in (NARROW, OTHER):
        await LaneProcess(bucket, id, clock).start()
    assert {feed.subject for feed in bucket.feeds().feeds} == {"trade.okx.>", "trade.bybit.>"}


async def test_who_comes_second_waits_for_as_long_as_the_first_is_heard(clock: ClockByHand) -> None:
    bucket = BucketByHand()
    first, second = LaneProcess(bucket, WIDE, clock), LaneProcess(bucket, NARROW, clock)
    await first.start()
    for _ in range(10):
        with pytest.raises(BrokerError, match=r"of MARKET_DATA trade\.> is stored in the same table") as refused:
            await second.enter()
        assert refused.value.reason is reasons.FED_BY_ANOTHER
        clock.now += SILENCE / 2
        await first.work()
    assert NARROW.key not in bucket.entries, "it has laid no record, which would be old when it begins"


async def test_it_takes_the_place_of_one_that_was_silent_and_what_still_runs_there_finds_no_record(
    clock: ClockByHand,
) -> None:
    bucket = BucketByHand()
    first, second = LaneProcess(bucket, WIDE, clock), LaneProcess(bucket, NARROW, clock)
    await first.start()
    with pytest.raises(BrokerError):
        await second.enter()
    clock.now += SILENCE
    await second.start()
    await second.work()
    with pytest.raises(ConflictError):
        await first.work()
    with pytest.raises(BrokerError, match=r"trade\.okx\.> is stored"):
        await first.enter()


async def test_who_comes_back_begins_without_what_its_record_said_before(clock: ClockByHand) -> None:
    bucket = BucketByHand()
    await LaneProcess(bucket, WIDE, clock).start()
    for id in (NARROW, WIDE):
        process = LaneProcess(bucket, id, clock)
        with pytest.raises(BrokerError):
            await process.enter()
        clock.now += SILENCE
        await process.enter()
        if id is WIDE:
            assert not (await bucket.read(WIDE.key))[1]
        await process.start()


def orders(*lengths: int) -> Iterator[tuple[int, ...]]:
    """Every order of the steps of several, each one's own kept."""
    if not any(lengths):
        yield ()
    for which, length in enumerate(lengths):
        if length:
            rest = [each - (number == which) for number, each in enumerate(lengths)]
            yield from ((which, *order) for order in orders(*rest))


@pytest.mark.parametrize("started", [False, True])
async def test_in_no_order_of_their_steps_two_could_work_at_once(started: bool) -> None:
    """The second has found the first silent, which goes on, or begins, or is started anew beside a frozen one."""
    second_worked = False
    for order in orders(3, 3, 3):
        clock, bucket = ClockByHand(), BucketByHand()
        wide, narrow, _ = processes = [LaneProcess(bucket, id, clock) for id in (WIDE, NARROW, WIDE)]
        steps = [["enter", "look", "confirm"] for _ in processes]
        await wide.enter()
        if started:
            await wide.look()
            await wide.confirm()
            steps[0] = ["work"] * 3
        with pytest.raises(BrokerError):
            await narrow.enter()
        clock.now += SILENCE
        for which in order:
            if steps[which]:
                try:
                    await getattr(processes[which], steps[which].pop(0))()
                except (BrokerError, LostError, ConflictError):
                    processes[which].confirmed, steps[which] = False, []
            able = {process.id.subject for process in processes if process.able}
            assert len(able) <= 1, f"{order}: {able}"
            second_worked = second_worked or narrow.able
    assert second_worked


def test_what_is_begun_has_nothing_to_clear() -> None:
    feeds = entered(entered(EMPTY, WIDE), NARROW)
    assert [feed.clears for feed in feeds.feeds] == [(WIDE.key,)]
    assert feeds.left == (WIDE.key,)
    assert [feed.clears for feed in begun(feeds, NARROW).feeds] == [()]
