"""What a nats-server bears of us: how many requests, how large ones, how much on the way to a consumer that stands still."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests.faults.harness import NatsByHand, World
from tests.pipelines import trade
from tests.waiting import PATIENCE, free_port, wait_for

MIB = 1 << 20
SUBJECT = "trade.okx.spot.BTC-USDT"


class Watched(NatsByHand):
    """A server that says what its connections do."""

    def __init__(self, directory: Path, limits: str) -> None:
        self.monitor, self._limits = free_port(), limits
        super().__init__(directory, self._config)

    def _config(self) -> str:
        jetstream = f'limits: {{{self._limits}}}, store_dir: "{self.directory}/js"'
        return f"http: 127.0.0.1:{self.monitor}\nmax_payload: {16 * MIB}\njetstream: {{{jetstream}}}"

    def says(self, page: str) -> dict[str, Any]:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.monitor}/{page}", timeout=PATIENCE) as answer:
            return dict(json.loads(answer.read()))

    def came_from(self, world: World) -> int:
        """Messages of the world's ingest: requests, and everything else."""
        connections = self.says("connz")["connections"]
        return sum(int(one["in_msgs"]) for one in connections if one.get("name") == world.client_name)


@pytest.fixture
def watched(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Watched]:
    made = Watched(tmp_path / "watched", getattr(request, "param", ""))
    yield made
    with suppress(ProcessLookupError):
        made.kill()


@pytest.mark.every_nats
@pytest.mark.parametrize("watched", ["max_request_batch: 10"], indirect=True)
def test_a_server_that_answers_small_requests_only_is_asked_once_for_each_answer(
    make_world: Callable[..., World], watched: Watched
) -> None:
    world = make_world(nats=watched)
    world.feed(rate=2000, bad=0, types=["trade"]).until(2000).stop()
    one = world.ingest()
    wait_for(lambda: one.inserted("trade") > 1500, "most are stored")
    world.prove()
    stored = one.inserted("trade")
    assert watched.came_from(world) < 2 * stored / 10 + 500
    assert not one.alarms("NATSRefused")


@pytest.mark.every_nats
def test_a_message_larger_than_max_bytes_passes(make_world: Callable[..., World], watched: Watched) -> None:
    world = make_world(nats=watched, spec={"dataTypes": {"trade": {"batch": {"maxBytes": "1Mi", "maxDelay": "200ms"}}}})
    world.send(SUBJECT, {**trade(), "padding": "x" * 12 * MIB})
    world.ingest()
    wait_for(lambda: world.rows("trades"), "it is stored")
    world.prove()
    assert watched.came_from(world) < 100


def _all_sent(world: World) -> bool:
    """The server has answered all requests of the reader of trades."""
    readers = world.api("CONSUMER.LIST.MARKET_DATA")["consumers"]
    return all(not one["num_waiting"] for one in readers if one["config"]["filter_subject"] == "trade.>")


def test_one_that_stands_still_with_much_on_its_way_is_not_cut_off(
    make_world: Callable[..., World], watched: Watched
) -> None:
    large = {"batch": {"maxBytes": "64Mi", "maxDelay": "200ms"}}
    types = ("trade", "orderbook")
    world = make_world(nats=watched, spec={"dataTypes": dict.fromkeys(types, large)})
    one = world.ingest()
    one.until_ready()
    wait_for(lambda: all(one.status(name).get("reads") for name in types), "it reads")
    one.freeze()
    for _ in range(40):
        world.send(SUBJECT, {**trade(), "padding": "x" * 3 * MIB})
    wait_for(
        lambda: _all_sent(world) or watched.says("varz")["slow_consumers"], "all that it has asked for is on its way"
    )
    one.thaw()
    wait_for(lambda: world.rows("trades") == 40, "all are stored")
    world.prove()
    assert watched.says("varz")["slow_consumers"] == 0
