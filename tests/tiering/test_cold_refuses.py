"""Cold on a server that can't or won't have the rows: a clear error, nothing deleted, and the next run finishes the work."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from yarl import URL

from marketprism_api import reasons
from marketprism_api.credentials import ClickHouseAuth
from marketprism_consumer.schema.ddl import Target, render
from marketprism_consumer.schema.tables import TRADES
from marketprism_consumer.tiering import run as tiering_run
from marketprism_consumer.tiering.servers import server as open_server
from marketprism_embedded import process
from marketprism_embedded.process import EmbeddedServer
from tests.tiering.tiering_place import HOUR, Place, make

ROWS = 2000


@dataclass
class SmallDisk:
    """A ClickHouse whose directory is a file system of its own, seen from outside under `root`."""

    url: str
    pid: int
    directory: Path

    @property
    def filler(self) -> Path:
        return Path(f"/proc/{self.pid}/root{self.directory}/filler")

    def fill(self) -> None:
        """But for less than the engine keeps free: where a write fails it would end."""
        with self.filler.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, shutil.disk_usage(self.filler.parent).free - (4 << 20))


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[SmallDisk]:
    if os.geteuid() or subprocess.run(["unshare", "-m", "true"], check=False).returncode:
        pytest.skip("NOT TESTED: a small disk needs root and mount namespaces")
    directory = tmp_path / "disk"
    directory.mkdir()
    command = [sys.executable, "-m", "marketprism_embedded", "clickhouse", "--output", "json"]
    command += ["--dir", str(directory), "--port", "0"]
    mounted = f'mount -t tmpfs -o size=64m tmpfs {directory} && exec "$@"'
    with subprocess.Popen(
        ["unshare", "-m", "sh", "-c", mounted, "sh", *command],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as child:
        assert child.stdout is not None
        ready = json.loads(child.stdout.readline())
        yield SmallDisk(ready["url"], ready["pid"], directory)
        child.kill()


@pytest.fixture
def no_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiering_run, "TRIES", 0)


@dataclass
class Gate:
    """Stands before a ClickHouse and lets whoever comes only read: the embedded one has no users of its own."""

    behind: str
    url: str = ""
    read_only: bool = False

    async def answer(self, request: web.Request) -> web.StreamResponse:
        url = URL(f"{self.behind}{request.path_qs}", encoded=True)
        if self.read_only and request.method == "POST":
            url = url.update_query(readonly="2")
        headers = {name: value for name, value in request.headers.items() if name != "Host"}
        async with (
            aiohttp.ClientSession(auto_decompress=False) as session,
            session.request(request.method, url, headers=headers, data=await request.read()) as answer,
        ):
            kept = {k: v for k, v in answer.headers.items() if k not in ("Transfer-Encoding", "Content-Length")}
            return web.Response(status=answer.status, body=await answer.read(), headers=kept)


@pytest.fixture
async def gate(clickhouse_server: EmbeddedServer) -> AsyncIterator[Gate]:
    made = Gate(clickhouse_server.url)
    application = web.Application(client_max_size=1 << 30)
    application.router.add_route("*", "/{path:.*}", made.answer)
    runner = web.AppRunner(application)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    made.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield made
    await runner.cleanup()


async def test_a_full_disk(clickhouse_server: EmbeddedServer, small_disk: SmallDisk, no_patience: None) -> None:
    place = await make(clickhouse_server.url, small_disk.url)
    await place.fill(ROWS, hours_ago=12, span=HOUR)
    before = (await place.rows())["hot"]
    small_disk.fill()
    result = await place.migrate()
    assert [(one.reason, one.code) for one in result.failures] == [(reasons.TIER_TAKES_NO_WRITES, 243)]
    assert (await place.counts())[0] == ROWS
    small_disk.filler.unlink()
    assert (await place.migrate()).ok
    assert await place.counts() == (0, 0)
    cold = Place(small_disk.url, place.hot, place.cold, open_server([small_disk.url], ClickHouseAuth, "test"))
    assert (await cold.rows())["cold"] == before
    await cold.server.close()


async def test_a_server_that_may_only_be_read(place: Place, gate: Gate, no_patience: None) -> None:
    await place.fill(ROWS, hours_ago=12, span=HOUR)
    gate.read_only = True
    result = await place.migrate(cold_urls=(gate.url,))
    assert [(one.reason, one.code) for one in result.failures] == [(reasons.TIER_TAKES_NO_WRITES, 164)]
    assert await place.counts() == (ROWS, 0)
    gate.read_only = False
    assert (await place.migrate(cold_urls=(gate.url,))).ok
    assert await place.counts() == (0, ROWS)


async def test_a_wrong_password(clickhouse_server: EmbeddedServer, tmp_path: Path) -> None:
    guarded = process.start(
        "clickhouse", tmp_path, environment={"MARKETPRISM_EMBEDDED_PASSWORD": "right"}, stderr=subprocess.DEVNULL
    )
    cold = open_server([guarded.url], lambda: ClickHouseAuth(password="right"), "test")
    with guarded:
        place = await make(clickhouse_server.url)
        for change in render(Target(place.hot, place.cold), [TRADES]):
            await cold.command(change.sql)
        await place.fill(ROWS, hours_ago=12, span=HOUR)

        async def migrate(password: str) -> tuple[int, str]:
            arguments = ("migrate", "--table", "trades", "--cold-url", guarded.url)
            code, told = await asyncio.to_thread(
                lambda: place.cli(*arguments, CLICKHOUSE_COLD_USER="default", CLICKHOUSE_COLD_PASSWORD=password)
            )
            return code, json.dumps(told)

        code, told = await migrate("wr0ng-secret")
        assert (code, str(reasons.CLICKHOUSE_DENIED) in told, "wr0ng-secret" in told) == (1, True, False), told
        assert (await place.counts())[0] == ROWS
        code, told = await migrate("right")
        assert (code, await place.counts()) == (0, (0, 0)), told
        assert await cold.value(f"SELECT count() FROM {place.cold}.trades") == ROWS
        await cold.close()
        await place.server.close()
