"""nats-server killed, its bucket of records gone or set back, its streams set back, each while an insert is on its way."""

from __future__ import annotations

import base64
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from marketprism_consumer.errors import JetStreamError
from marketprism_consumer.jetstream.refusals import NAME_IN_USE
from tests.faults.harness import VALID, Server, World, tell
from tests.faults.proxy import Parking, Proxy
from tests.waiting import wait_for

ONE = [1, pytest.param(2, marks=pytest.mark.slow), pytest.param(5, marks=pytest.mark.slow)]
BACK_WITHIN = 5.0  # the promise: from the server's answer to stored rows [s]


def _parked(proxy: Proxy, seconds: float) -> Parking:
    """The next insert."""
    parking = Parking(lambda: seconds)
    proxy.spoil(parking.fault, times=1)
    wait_for(lambda: parking.parked, "an insert is parked", every=0.002)
    return parking


# --- killed -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("processes", "consumer"),
    [
        (1, "lives"),
        (2, "dies"),
        *(
            pytest.param(*each, marks=pytest.mark.slow)
            for each in [(1, "dies"), (2, "lives"), (5, "lives"), (5, "dies")]
        ),
    ],
)
def test_killed_as_an_insert_is_parked(proxied: World, proxy: Proxy, processes: int, consumer: str) -> None:
    proxied.feed()
    ones = proxied.several(processes)
    for _ in range(2):
        proxied.until_more()
        parking = _parked(proxy, 4.0)
        proxied.nats.kill()
        if consumer == "dies":
            ones[0].kill()
        proxied.nats.start()
        if consumer == "dies":
            ones[0] = proxied.ingest()
        tell("rows flow", proxied.until_more(), BACK_WITHIN)
        wait_for(lambda parking=parking: parking.empty, "it has arrived")
    proxied.until_more()
    proxied.prove()


# --- the bucket -------------------------------------------------------------------------------------------------------


class Bucket:
    """What an administrator may do to it."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.stream = f"KV_{world.settings.bucket}"
        self.directory = world.nats.directory / "jetstream" / "$G" / "streams" / self.stream
        self.copy = world.directory / "copy"
        self.values: dict[str, bytes] = {}

    def remember(self) -> None:
        """As it is now."""
        for lane in self.world.all_lanes().values():
            subject = f"$KV.{self.world.settings.bucket}.{lane.key}"
            found = self.world.api(f"STREAM.MSG.GET.{self.stream}", {"last_by_subj": subject})["message"]
            self.values[subject] = base64.b64decode(found["data"])

    def purge(self) -> None:
        self.world.api(f"STREAM.PURGE.{self.stream}")

    def delete(self) -> None:
        self.world.api(f"STREAM.DELETE.{self.stream}")

    def delete_a_key(self) -> None:
        subject = self.trades
        headers = {"KV-Operation": "DEL"}
        self.world.call(self.world.client.jetstream().publish(subject, b"", headers=headers))

    def write_back(self) -> None:
        for subject, value in self.values.items():
            self.world.call(self.world.client.jetstream().publish(subject, value))

    def restore(self) -> None:
        """Deleted, and made anew as it was: at the revisions of then."""
        config = self.world.api(f"STREAM.INFO.{self.stream}")["config"]
        while True:
            self.delete()
            try:
                self.world.api(f"STREAM.CREATE.{self.stream}", config)
                break
            except JetStreamError as error:
                if error.code != NAME_IN_USE:  # a consumer was quicker
                    raise
        self.write_back()

    def put_back(self) -> None:
        """Its files, of a server that was stopped."""
        self.world.nats.stop()
        shutil.rmtree(self.directory)
        shutil.copytree(self.copy, self.directory)
        self.world.nats.start()

    def copy_files(self) -> None:
        self.world.nats.stop()
        shutil.copytree(self.directory, self.copy)
        self.world.nats.start()

    @property
    def trades(self) -> str:
        return f"$KV.{self.world.settings.bucket}.{self.world.lane('trade').key}"


@pytest.mark.parametrize("processes", ONE)
@pytest.mark.parametrize(
    "change",
    [Bucket.purge, Bucket.delete, Bucket.delete_a_key, Bucket.write_back, Bucket.restore, Bucket.put_back],
    ids=lambda change: change.__name__.replace("_", " "),
)
def test_bucket(proxied: World, proxy: Proxy, change: Callable[[Bucket], Any], processes: int) -> None:
    bucket = Bucket(proxied)
    proxied.feed()
    ones = proxied.several(processes)
    proxied.until_more()
    bucket.remember()
    if change is Bucket.put_back:
        bucket.copy_files()
    proxied.until_more()
    parking = _parked(proxy, VALID - 2)
    change(bucket)
    wait_for(lambda: any(one.alarms("RecordInDoubt") for one in ones), "it is noticed")
    proxied.until_more()
    wait_for(lambda: parking.empty, "it has arrived")
    proxied.prove()


@pytest.mark.parametrize("processes", ONE)
def test_bucket_set_back_while_nobody_lives_who_knew_better(proxied: World, proxy: Proxy, processes: int) -> None:
    bucket = Bucket(proxied)
    proxied.feed()
    ones = proxied.several(processes)
    proxied.until_more()
    bucket.remember()
    bucket.copy_files()
    proxied.until_more()
    parking = _parked(proxy, VALID - 2)
    for one in ones:
        one.kill()
    bucket.put_back()
    again = [proxied.ingest() for _ in range(processes)]
    wait_for(lambda: any(one.alarms("RecordInDoubt") for one in again), "it is noticed")
    proxied.until_more()
    wait_for(lambda: parking.empty, "it has arrived")
    proxied.prove()


# --- the streams ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("processes", ONE)
@pytest.mark.parametrize("known_by", [pytest.param("the record", marks=pytest.mark.slow), "the table alone"])
def test_stream_set_back(make_world: Callable[..., World], tmp_path: Path, processes: int, known_by: str) -> None:
    """A power cut: the end of the stream is lost, and other messages get the sequences of those that were. Both are kept."""
    server = Server("nats", tmp_path / "nats")
    world = make_world(nats=server)
    before = world.feed(types=["trade"])
    ones = world.several(processes)
    world.until_more()
    server.stop()
    old = shutil.copytree(server.directory, tmp_path / "old")
    server.start()
    before.until(before.acknowledged + 600)
    lost = before.trades()
    wait_for(world.all_done, world.what_waits)
    server.stop()
    if known_by == "the record":
        shutil.rmtree(old / "jetstream" / "$G" / "streams" / "KV_MARKETPRISM_LANES")
        bucket = server.directory / "jetstream" / "$G" / "streams" / "KV_MARKETPRISM_LANES"
        shutil.copytree(bucket, old / "jetstream" / "$G" / "streams" / "KV_MARKETPRISM_LANES")
    shutil.rmtree(server.directory)
    shutil.copytree(old, server.directory)
    server.start()
    ends = wait_for(lambda: world.stream("MARKET_DATA")["last_seq"], "the stream is back")
    assert ends < max(lost)
    after = world.feed(types=["trade"])
    after.until(1200)
    began = time.monotonic()
    wait_for(lambda: any(one.alarms("StreamRegressed") for one in ones), "it is told")
    tell("a stream that was set back is told", time.monotonic() - began, VALID + 5)
    gained = after.trades()
    assert set(gained) & set(lost), "the sequences come again"
    wait_for(world.all_done, world.what_waits)
    stored = [str(row[0]) for row in world.query("SELECT trade_id FROM {hot}.trades")]
    assert sorted(stored) == sorted([*lost.values(), *gained.values()])
    assert world.doubles() == 0
    server.kill()
