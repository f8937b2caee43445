"""The embedded NATS: the real nats-server in a directory."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import nats
import pytest

from marketprism_embedded.nats import config
from marketprism_embedded.process import start
from tests.waiting import PATIENCE


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "marketprism_embedded", "nats", *arguments],
        check=False, capture_output=True, text=True, timeout=PATIENCE,
    )  # fmt: skip


async def test_jetstream_survives_kill_9(tmp_path: Path) -> None:
    server = start("nats", tmp_path)
    client = await nats.connect(server.url, allow_reconnect=False)
    stream = client.jetstream()
    await stream.add_stream(name="MARKET_DATA", subjects=["trade.>"])
    for number in range(50):
        await stream.publish("trade.a.b.c", b"%d" % number)
    assert server.kill() == -signal.SIGKILL
    await client.close()

    with start("nats", tmp_path) as server:
        client = await nats.connect(server.url)
        state = (await client.jetstream().stream_info("MARKET_DATA")).state
        assert (state.messages, state.last_seq) == (50, 50)
        message = await client.jetstream().get_msg("MARKET_DATA", 50)
        assert message.data == b"49"
        await client.close()


async def test_the_pid_is_nats_server_and_sigterm_ends_it(tmp_path: Path) -> None:
    server = start("nats", tmp_path)
    assert "nats-server" in Path(f"/proc/{server.pid}/cmdline").read_text()
    assert server.process.pid == server.pid
    assert server.stop() in (0, 1)
    assert (tmp_path / "nats-server.log").read_text().count("Server Exiting") == 1


def test_the_ready_line_is_the_url(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "marketprism_embedded", "nats", "--port", "0", "--dir", str(tmp_path)],
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline().startswith("nats://127.0.0.1:")
    process.send_signal(signal.SIGINT)
    process.wait(PATIENCE)
    assert process.stdout.read() == ""
    process.stdout.close()


def test_a_taken_port_or_directory_is_refused(tmp_path: Path) -> None:
    with start("nats", tmp_path / "one") as server:
        port = server.url.rpartition(":")[2]
        refused = command("--port", port, "--dir", str(tmp_path / "two"))
        assert refused.returncode == 2
        assert f"port {port} on 127.0.0.1 is already in use" in refused.stderr
        refused = command("--port", "0", "--dir", str(tmp_path / "one"))
        assert refused.returncode == 2
        assert f"in use by another embedded server (pid {server.pid})" in refused.stderr


def test_help_has_an_example() -> None:
    assert "marketprism embedded nats --port 4222" in command("--help").stdout


@pytest.mark.parametrize(
    ("host", "listen"), [("127.0.0.1", '"127.0.0.1:4222"'), ("::1", '"[::1]:4222"')], ids=["IPv4", "IPv6"]
)
def test_the_configuration_is_loopback_and_syncs_every_second(host: str, listen: str) -> None:
    text = config(Path("/data"), host, 4222)
    assert f"listen: {listen}" in text
    assert 'sync_interval: "1s"' in text
