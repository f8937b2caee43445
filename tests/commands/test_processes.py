"""How several processes end: by themselves, as asked, and by what nobody can go on with. Real processes, which do nothing."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest

from marketprism_api.settings import effective
from marketprism_consumer.commands.one_process import CRASHED, Share
from marketprism_consumer.commands.processes import Processes

SHARE = Share(effective(None, {}), (), "info")
HEAD = "import pickle, signal, sys, time; share = pickle.load(sys.stdin.buffer);"
STAYS = "signal.signal(signal.SIGTERM, lambda *_: sys.exit(0)); time.sleep(600)"


def several(place: Path, program: str, share: Share = SHARE) -> Processes:
    return Processes(share, 2, place, (sys.executable, "-c", f"{HEAD} {program}"))


async def test_when_one_cannot_go_on_until_somebody_acts_all_end_and_say_so(tmp_path: Path) -> None:
    assert await several(tmp_path, f"share.number == 0 and sys.exit(1); {STAYS}").run() == 1


async def test_all_end_when_all_are_idle(tmp_path: Path) -> None:
    assert await several(tmp_path, "sys.exit(0)", Share(SHARE.settings, (), "info", until_idle=1.0)).run() == 0


@pytest.mark.parametrize("end", [0, CRASHED, 137])
async def test_one_that_ends_unasked_is_started_again(tmp_path: Path, end: int) -> None:
    """Each life leaves its mark, and the second one stays."""
    file = "file = share.socket.with_suffix('.lives')"
    again = "lives = file.read_text() if file.exists() else ''; file.write_text(lives + '+')"
    life = f"{file}; {again}; lives or sys.exit({end});"
    processes = several(tmp_path, f"{life} {STAYS}")
    running = asyncio.create_task(processes.run())
    while [file.read_text() for file in tmp_path.glob("*.lives")] != ["++", "++"]:
        await asyncio.sleep(0.05)
    processes.stop()
    assert await running == 0


@pytest.mark.parametrize("signal_name", ["SIGILL", "SIGTRAP", "SIGKILL"])
async def test_one_that_a_check_of_the_kernels_ended_goes_on_without_the_kernel(
    tmp_path: Path, signal_name: str
) -> None:
    """The same message would end it again, for ever."""
    file = "file = share.socket.with_suffix('.lives')"
    life = f"file.exists() or (file.write_text(''), os.kill(os.getpid(), signal.{signal_name}))"
    told = "from marketprism_consumer.ingest import kernel; file.write_text(str(kernel.failed))"
    processes = several(tmp_path, f"import os; {file}; {life}; {told}; {STAYS}")
    running = asyncio.create_task(processes.run())
    while not all(found := [file.read_text() for file in tmp_path.glob("*.lives")]) or len(found) < 2:
        await asyncio.sleep(0.05)
    processes.stop()
    assert await running == 0
    assert found == [str(signal_name != "SIGKILL")] * 2


async def test_who_was_killed_while_it_ended_is_a_finding(tmp_path: Path) -> None:
    ready = "open(share.socket.with_suffix('.ready'), 'w').close();"
    dies = "signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGKILL));"
    processes = several(tmp_path, f"{dies} {ready} time.sleep(600)")
    running = asyncio.create_task(processes.run())
    while len(list(tmp_path.glob("*.ready"))) < 2:
        await asyncio.sleep(0.05)
    processes.stop()
    assert await running == 1
