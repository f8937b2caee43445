"""Starting where something is missing or refuses: a sentence with a code and a hint, no traceback; and on when it is mended."""

from __future__ import annotations

import json
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.faults.harness import NatsByHand, Server, World


class NatsWithPassword(NatsByHand):
    def __init__(self, directory: Path, user: str, password: str) -> None:
        self.user, self.password = user, password
        super().__init__(directory, self._authorization)

    def _authorization(self) -> str:
        return f"authorization: {json.dumps({'user': self.user, 'password': self.password})}"


def test_servers_that_are_not_there_are_waited_for(world: World) -> None:
    world.feed().until(200)
    world.clickhouse.kill()
    world.nats.kill()
    ingest = world.ingest()
    line = ingest.until_logged("NATSUnreachable")
    assert "NATS_URL" in line["hint"]
    assert ingest.alive
    status, why = ingest.get("/readyz")
    assert status == 503
    assert why.startswith("worker: not connected to NATS: MP3001")
    world.nats.start()
    line = ingest.until_logged("ClickHouseUnreachable")
    assert str(world.clickhouse.port) in str(line)
    assert "MP4001" in ingest.get("/readyz")[1]
    world.clickhouse.start()
    ingest.until_more(300)
    world.prove()


def test_sigterm_ends_a_start_that_waits(world: World) -> None:
    world.nats.kill()
    ingest = world.ingest()
    ingest.until_logged("NATSUnreachable")
    ingest.signal(signal.SIGTERM)
    assert ingest.ended() == 0
    world.nats.start()


def test_wrong_nats_password_is_told_and_not_shown(world: World, tmp_path: Path) -> None:
    locked = NatsWithPassword(tmp_path / "locked", "ann", "right-word")
    file = world.write_file("locked", nats={"url": locked.url})
    ingest = world.ingest(file=file, environ={"NATS_USER": "ann", "NATS_PASSWORD": "wrong-word"})
    assert "authSecretRef" in ingest.until_logged("NATSDenied")["hint"]
    assert ingest.alive
    assert "wrong-word" not in ingest.wrote()
    locked.kill()
    locked.password = "wrong-word"  # the operator mends it on the server's side
    locked.start()
    ingest.until_ready()
    locked.kill()


def test_wrong_clickhouse_password_is_told_and_not_shown(make_world: Callable[..., World], tmp_path: Path) -> None:
    world = make_world()
    environ = {"MARKETPRISM_EMBEDDED_PASSWORD": "right-word"}
    locked = Server("clickhouse", tmp_path / "locked", environ=environ)
    file = world.write_file("locked", clickhouse={**world.spec["clickhouse"], "url": locked.url})
    ingest = world.ingest(file=file, environ={"CLICKHOUSE_PASSWORD": "wrong-word"})
    assert "authSecretRef" in ingest.until_logged("ClickHouseDenied")["hint"]
    assert "MP4002" in ingest.get("/readyz")[1]
    assert ingest.alive
    assert "wrong-word" not in ingest.wrote()
    locked.kill()


def test_rotated_clickhouse_password_file_is_read_again(make_world: Callable[..., World], tmp_path: Path) -> None:
    locked = Server("clickhouse", tmp_path / "locked", environ={"MARKETPRISM_EMBEDDED_PASSWORD": "new-word"})
    world = make_world()
    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / "username").write_text("default")
    (secret / "password").write_text("old-word\n")
    file = world.write_file("locked", clickhouse={**world.spec["clickhouse"], "url": locked.url})
    ingest = world.ingest(file=file, environ={"MARKETPRISM_CLICKHOUSE_AUTH_DIR": str(secret)})
    ingest.until_logged("ClickHouseDenied")
    (secret / "password").write_text("new-word\n")
    ingest.until_logged("SchemaMissing")
    locked.kill()


def test_a_missing_stream_that_may_not_be_made_is_waited_for(make_world: Callable[..., World]) -> None:
    world = make_world(bare=True, spec={"nats": {"ensureStreams": "Never"}})
    world.make_tables()
    ingest = world.ingest()
    line = ingest.until_logged("StreamMissing")
    assert "trade.>" in line["detail"]
    assert "ensureStreams" in line["hint"]
    assert "MP3003" in ingest.get("/readyz")[1]
    world.make_streams()
    world.feed()
    ingest.until_more(300)
    world.prove()


def test_missing_tables_are_waited_for(make_world: Callable[..., World]) -> None:
    world = make_world(bare=True)
    world.make_streams()
    world.feed()
    ingest = world.ingest()
    assert "schema apply" in ingest.until_logged("SchemaMissing")["hint"]
    assert "MP5001" in ingest.get("/readyz")[1]
    world.make_tables()
    ingest.until_more(300)
    world.prove()


# --- where the URL comes from -----------------------------------------------------------------------------------------

NOWHERE = "nats://127.0.0.1:1"


@pytest.mark.parametrize("variable", ["MARKETPRISM_NATS_URL", "NATS_URL"])
def test_the_environment_goes_before_the_file(world: World, variable: str) -> None:
    file = world.write_file("elsewhere", nats={**world.spec["nats"], "url": NOWHERE})
    world.ingest(file=file, environ={variable: world.nats.url}).until_ready()


def test_our_own_variable_goes_before_the_common_one(world: World) -> None:
    environ = {"MARKETPRISM_NATS_URL": world.nats.url, "NATS_URL": NOWHERE}
    world.ingest(environ=environ).until_ready()


def test_the_file_goes_before_the_default(world: World) -> None:
    world.ingest().until_ready()


@pytest.fixture
def default_nats(tmp_path: Path) -> Iterator[Server]:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if probe.connect_ex(("127.0.0.1", 4222)) == 0:
            pytest.skip("NOT TESTED: something listens on 4222 already")
    server = Server("nats", tmp_path / "default", port=4222)
    yield server
    server.kill()


def test_the_default_is_port_4222_of_this_machine(make_world: Callable[..., World], default_nats: Server) -> None:
    world = make_world(nats=default_nats)
    nats = {name: value for name, value in world.spec["nats"].items() if name != "url"}
    world.ingest(file=world.write_file("no-url", nats=nats)).until_ready()
