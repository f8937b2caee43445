"""Processes of ours that are killed, frozen and race each other, and whose machine's clock is put back."""

from __future__ import annotations

import struct
import time
from pathlib import Path
from random import Random

import pytest

from marketprism_consumer.faultpoints import INGEST
from tests.faults.harness import VALID, World, compiled
from tests.faults.proxy import Parking, Proxy, clickhouse_error
from tests.faults.test_ingest_killed import RARE
from tests.waiting import wait_for

SILENCE = 5.0  # after so long another takes over [s]


@pytest.mark.slow
@pytest.mark.parametrize("processes", [2, 5])
@pytest.mark.parametrize("point", INGEST)
def test_one_of_several_is_killed_at_each_point_of_its_way(
    proxied: World, proxy: Proxy, point: str, processes: int
) -> None:
    proxied.feed()
    doomed = proxied.ingest(fault=f"{point}:kill:{1 if point in RARE else 3}")
    others = [proxied.ingest() for _ in range(processes - 1)]
    if point in RARE:
        proxied.until_more(100)
        proxy.spoil(clickhouse_error(469, "VIOLATED_CONSTRAINT"), times=8)
    wait_for(lambda: not doomed.running or proxied.stored() > 2000, "it gets there, or others have the work")
    doomed.kill()
    proxied.ingest()
    proxied.until_more()
    proxied.prove()
    assert all(one.running for one in others)


@pytest.mark.parametrize("others", [1, pytest.param(4, marks=pytest.mark.slow)])
def test_one_is_frozen_until_all_that_it_knows_is_past(proxied: World, proxy: Proxy, others: int) -> None:
    """With an insert of its own on its way all the time."""
    proxied.feed(rate=800)
    frozen, *rest = proxied.several(1 + others)
    parking = Parking(lambda: SILENCE + 2)
    proxied.until_more()
    proxy.spoil(parking.fault, times=2)
    wait_for(lambda: parking.parked, "an insert is parked", every=0.002)
    frozen.freeze()
    at = time.monotonic()
    proxied.until_more()
    wait_for(lambda: time.monotonic() - at > VALID + SILENCE, "all that it knows is past")
    frozen.thaw()
    wait_for(lambda: parking.empty, "it has arrived")
    proxied.until_more()
    for one in rest:
        one.kill()
    frozen.until_more(100)  # it has taken over in turn
    proxied.prove()


class Machine:
    """A machine of its own for one process: suspended, its clocks stand still; and they can be put back."""

    def __init__(self, directory: Path) -> None:
        self.library = compiled("set_back_clock", directory)
        self.behind = directory / "behind"
        self._write(0)
        self.environ = {"LD_PRELOAD": str(self.library), "CLOCK_BEHIND": str(self.behind)}
        self._total = 0.0

    def put_back(self, seconds: float) -> None:
        self._total += seconds
        self._write(int(self._total * 1e9))

    def _write(self, nanoseconds: int) -> None:
        with self.behind.open("r+b" if self.behind.exists() else "wb") as file:
            file.write(struct.pack("q", nanoseconds))


def test_a_machine_is_suspended_and_does_not_know(world: World, tmp_path: Path) -> None:
    """It wakes with the clocks of then: to it, what it was about to send is fresh."""
    machine = Machine(tmp_path)
    world.feed(rate=800)
    sleeper = world.ingest(environ=machine.environ)
    sleeper.until_more(100)
    other = world.ingest()
    other.until_ready()
    sleeper.freeze()
    began = time.monotonic()
    other.until_more(300)  # it has taken over
    wait_for(lambda: time.monotonic() - began > VALID + SILENCE, "all that it knows is past")
    machine.put_back(time.monotonic() - began)
    sleeper.thaw()
    sleeper.until_ready()
    other.kill()
    sleeper.until_more(300)  # so has this one, in turn
    world.prove()


@pytest.fixture
def backlog(world: World) -> World:
    """Forty thousand messages that nobody has read."""
    feed = world.feed(rate=8000)
    feed.until(40_000)
    feed.stop()
    return world


@pytest.mark.parametrize("processes", [2, pytest.param(5, marks=pytest.mark.slow)])
def test_several_race_on_a_backlog_and_are_killed_at_random(backlog: World, processes: int) -> None:
    moments = Random(processes)
    small = {"MARKETPRISM_TEST_CHUNK": "1500"}
    racing = [backlog.ingest(environ=small) for _ in range(processes)]
    more = backlog.feed(rate=1000, types=["trade"])  # the first feed's ratios may not come again
    wait_for(lambda: all(one.inserted() for one in racing), "each has got some of the work")
    for _ in range(2 * processes):
        one = moments.randrange(processes)
        backlog.until_more(moments.randrange(1, 1000))
        racing[one].kill()
        racing[one] = backlog.ingest(environ=small)
    more.stop()
    backlog.prove()
