"""One consumer as several processes: they share the work, and are hurt, watched and ended together."""

from __future__ import annotations

import json
import os
import signal
from contextlib import suppress
from typing import Any

import pytest

from tests.commands.command import call
from tests.faults.harness import TYPES, Ingest, World
from tests.waiting import wait_for

TWO = ("--processes", "2")


def processes(ingest: Ingest) -> list[dict[str, Any]]:
    return list(json.loads(ingest.get("/status.json")[1] or "{}").get("processes", []))


def runs(pid: int) -> bool:
    with suppress(ProcessLookupError):
        os.kill(pid, 0)
        return True
    return False


def stopped(several: Ingest) -> None:
    """All drain, and the parent ends when they have."""
    pids = [each["pid"] for each in processes(several)]
    several.signal(signal.SIGTERM)
    assert several.ended() == 0, several.wrote()
    assert not any(map(runs, pids))
    assert several.log(event="stopped", process=0)
    assert several.log(event="stopped", process=1)


def test_a_backlog_is_shared_and_seen_at_one_port(world: World) -> None:
    world.feed(rate=20_000, types=["trade", "orderbook"]).until(30_000)
    world.feeds[0].stop()
    several = world.ingest(options=TWO, environ={"MARKETPRISM_TEST_CHUNK": "1500"})
    wait_for(lambda: several.running and world.all_done(), lambda: f"all is stored; {several.wrote()[-2000:]}")
    several.until_ready()
    shares = [several.metric("marketprism_rows_inserted_total", process=str(number)) for number in range(2)]
    assert min(shares) > 0
    # A block that was sent again, since its record was not sure, counts again; the rows are there once.
    assert sum(shares) == several.inserted() >= world.stored()
    assert several.alive
    told = processes(several)
    assert [(each["process"], each["starts"], each["ready"], each["problem"]) for each in told] == [
        (0, 1, True, ""),
        (1, 1, True, ""),
    ]
    shown = call("status", "-f", str(world.file), "--output", "json")
    at_work = {one["dataType"]: one["processes"] for one in json.loads(shown.stdout)["types"]}
    assert set(at_work) == set(TYPES)
    assert set(at_work.values()) <= {1, 2}
    stopped(several)
    world.prove()


def test_one_that_is_killed_is_told_and_started_again(world: World) -> None:
    several = world.ingest(options=TWO)
    several.until_ready()
    world.feed()
    several.until_more(300)
    for number in (0, 1):
        os.kill(processes(several)[number]["pid"], signal.SIGKILL)
        wait_for(lambda at=number: several.log(reason="ProcessEnded", process=at), "its end is told")
        wait_for(lambda at=number: processes(several)[at]["starts"] == 2, "it is started again")
        several.until_ready()
        several.until_more(300)
    line = several.until_logged("ProcessEnded")
    assert (line["code"], line["ended"]) == ("MP6004", "ended by SIGKILL")
    world.feeds[0].stop()
    stopped(several)
    world.prove()


def test_while_one_is_away_the_whole_is_not_ready_and_lives(world: World) -> None:
    """It dies again and again, so that there is a pause to look in."""
    several = world.ingest(options=TWO)
    several.until_ready()

    def away() -> str:
        with suppress(ProcessLookupError):
            if pid := processes(several)[1]["pid"]:
                os.kill(pid, signal.SIGKILL)
        status, text = several.get("/readyz")
        return text if status == 503 and "MP6004" in text else ""

    assert "process 1: MP6004 ProcessEnded: ended by SIGKILL" in wait_for(away, "/readyz says so")
    assert several.alive
    several.until_ready()
    stopped(several)


def test_one_that_hangs_is_told_by_healthz(world: World) -> None:
    several = world.ingest(options=TWO)
    several.until_ready()
    pid = processes(several)[1]["pid"]
    os.kill(pid, signal.SIGSTOP)
    try:
        text = wait_for(lambda: (found := several.get("/healthz"))[0] == 503 and found[1], "/healthz says so")
        assert text == "process 1: does not answer\n"
        assert "process 1: does not answer" in several.get("/readyz")[1]
    finally:
        os.kill(pid, signal.SIGCONT)
    wait_for(lambda: several.alive, "all answer")
    stopped(several)


def test_when_the_parent_is_killed_all_drain_and_end(world: World) -> None:
    several = world.ingest(options=TWO)
    several.until_ready()
    world.feed()
    several.until_more(300)
    pids = [each["pid"] for each in processes(several)]
    several.kill()
    wait_for(lambda: not any(map(runs, pids)), "its children have ended")
    assert several.log(event="stopped", process=0)
    again = world.ingest(options=TWO)
    again.until_ready()
    again.until_more(300)
    world.feeds[0].stop()
    stopped(again)
    world.prove()


@pytest.mark.parametrize("number", ["0", "65", "two", "-1"])
def test_a_number_that_is_none_is_refused(number: str) -> None:
    for command in ("ingest", "run"):
        refused = call(command, f"--processes={number}")
        assert refused.returncode == 2
        assert f"--processes: '{number}' is neither a number from 1 to 64 nor auto" in refused.stderr


def test_a_back_fill_ends_when_all_are_idle(world: World) -> None:
    world.feed(rate=20_000, types=["trade"]).until(20_000)
    world.feeds[0].stop()
    several = world.ingest(options=(*TWO, "--until-idle", "1s"))
    assert several.ended() == 0, several.wrote()
    world.prove()
