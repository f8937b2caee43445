"""One pair of servers for all fault tests (killed and brought back as a test wants), a pipeline of its own for each."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests.faults.harness import TIMES, Loop, Server, World
from tests.faults.proxy import Proxy

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.timeout(600))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if TIMES:
        terminalreporter.section("promised times")
        for line in TIMES:
            terminalreporter.line(line)


@pytest.fixture(scope="session")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, Server]]:
    place = tmp_path_factory.mktemp("servers")
    pair = Server("nats", place / "nats"), Server("clickhouse", place / "clickhouse")
    yield pair
    for one in pair:
        with suppress(ProcessLookupError):
            one.child.kill()


@pytest.fixture
def loop() -> Iterator[Loop]:
    made = Loop()
    yield made
    made.close()


@pytest.fixture
def make_world(servers: tuple[Server, Server], tmp_path: Path, loop: Loop) -> Iterator[Callable[..., World]]:
    """`make_world(spec=…)`: with streams and tables; `bare=True` without both."""
    made: list[World] = []

    def make(
        nats: Server = servers[0], clickhouse: Server = servers[1], *, bare: bool = False, **options: Any
    ) -> World:
        for one in (nats, clickhouse):
            if not one.child.running:
                one.start()
        world = World(nats, clickhouse, tmp_path, loop, **options)
        made.append(world)
        world.clean()
        if not bare:
            world.make_streams()
            world.make_tables()
        return world

    yield make
    unexpected = [line for world in made for line in world.close()]
    assert not unexpected, "in the log of ingest:\n" + "\n".join(unexpected)


@pytest.fixture
def world(make_world: Callable[..., World]) -> World:
    return make_world()


@pytest.fixture
def proxy(servers: tuple[Server, Server], loop: Loop) -> Iterator[Proxy]:
    """Between ingest and ClickHouse."""
    made = Proxy(servers[1].port)
    loop.call(made.start())
    yield made
    loop.call(made.close())


@pytest.fixture
def proxied(make_world: Callable[..., World], proxy: Proxy) -> World:
    """A world whose ingest reaches ClickHouse through the proxy alone."""
    return make_world(clickhouse_url=proxy.url)
