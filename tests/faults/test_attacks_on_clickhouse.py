"""ClickHouse killed between the token of a block and its part, and at random under load."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest

from tests.faults.harness import Server, World, compiled, tell
from tests.waiting import wait_for

KILLS = int(os.environ.get("MARKETPRISM_TEST_KILLS", "50"))
BACK_WITHIN = 5.0  # the promise: from the server's answer to stored rows [s]


@pytest.mark.parametrize("processes", [1, *(pytest.param(count, marks=pytest.mark.slow) for count in (2, 5))])
def test_killed_between_token_and_part(make_world: Callable[..., World], tmp_path: Path, processes: int) -> None:
    """It knows the token then, and answers for rows that it does not have."""
    now = tmp_path / "now"
    environ = {"LD_PRELOAD": str(compiled("killed_at_rename", tmp_path)), "KILL_AT_RENAME": str(now)}
    server = Server("clickhouse", tmp_path / "clickhouse", environ=environ)
    world = make_world(clickhouse=server)
    world.feed()
    # So that it is back before the block is too late: else nobody asks it for what it has of the token.
    ones = world.several(processes, environ={"MARKETPRISM_TEST_VALID": "15"})
    for _ in range(2):
        told = sum(one.alarms("RowsNotThere") for one in ones)
        world.until_more()
        now.touch()
        server.child.ended()
        assert not now.exists()
        server.start()
        tell("rows flow", world.until_more(), BACK_WITHIN)
        wait_for(lambda told=told: sum(one.alarms("RowsNotThere") for one in ones) > told, "it answers for nothing")
    world.until_more()
    world.prove()
    server.kill()


@pytest.mark.slow
@pytest.mark.parametrize("processes", [1, 2])
def test_killed_again_and_again(make_world: Callable[..., World], tmp_path: Path, processes: int) -> None:
    moments = Random(processes)
    server = Server("clickhouse", tmp_path / "clickhouse")
    world = make_world(clickhouse=server)
    world.feed(rate=1000)
    world.several(processes)
    for _ in range(KILLS):
        world.until_more(moments.randrange(1, 1000))
        server.kill()
        server.start()
    world.until_more()
    world.prove()
    server.kill()
