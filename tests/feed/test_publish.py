"""Publishing to a real nats-server: the account says what the stream holds, also when the server was killed."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import Any

import nats
import pytest
import typer
from typer.testing import CliRunner

from marketprism_consumer.commands.feed import feed
from marketprism_consumer.errors import SubjectsTakenError
from marketprism_consumer.feed import DATA_TYPES, messages, regenerate
from marketprism_consumer.feed.publish import publish
from marketprism_consumer.jetstream.streams import ensure_streams, subjects_by_stream
from tests.waiting import PATIENCE, free_port, until

STREAMS = {"default": "MARKET_DATA", "orderbook": "ORDERBOOK_SNAP"}


def _program() -> str | None:
    beside = Path(sys.executable).parent / "nats-server"
    return str(beside) if beside.exists() else shutil.which("nats-server")


pytestmark = pytest.mark.skipif(_program() is None, reason="nats-server is not installed")


class Server:
    def __init__(self, store: Path) -> None:
        self.port = free_port()
        self.url = f"nats://127.0.0.1:{self.port}"
        self._store = store
        self.start()

    def start(self) -> None:
        arguments = ["-js", "-sd", str(self._store), "-a", "127.0.0.1", "-p", str(self.port)]
        self._process = subprocess.Popen([_program() or "", *arguments], stderr=subprocess.DEVNULL)

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    server = Server(tmp_path / "jetstream")
    yield server
    server.kill()


@pytest.fixture
async def nc(server: Server) -> AsyncIterator[Any]:
    async def ignore(_: Exception) -> None: ...

    connection = await nats.connect(
        server.url, error_cb=ignore, reconnect_time_wait=0.05, max_reconnect_attempts=-1, connect_timeout=1
    )
    yield connection
    await connection.close()


async def stored(nc: Any, name: str) -> dict[int, bytes]:
    """Sequence -> payload."""
    js = nc.jetstream()
    state = (await js.stream_info(name)).state
    found = {}
    subscription = await js.subscribe("", stream=name, ordered_consumer=True)
    for _ in range(state.messages):
        message = await subscription.next_msg(timeout=PATIENCE)
        found[message.metadata.sequence.stream] = message.data
    await subscription.unsubscribe()
    return found


async def test_account_and_manifest_are_what_the_streams_hold(nc: Any, tmp_path: Path) -> None:
    await ensure_streams(nc.jetstream(), subjects_by_stream(STREAMS, DATA_TYPES))
    sent = list(islice(messages(7, bad_ratio=0.02, book_levels=2, types=DATA_TYPES), 3_000))
    sent += islice(messages(7, types=["lsr_top_position"]), 200)  # repeats, which JetStream drops
    sent = [type(m)(i, m.data_type, m.subject, m.payload, m.msg_id, m.truth, m.bad_kind) for i, m in enumerate(sent)]
    manifest = tmp_path / "sent.ndjson"
    account = await publish(nc, sent, streams=STREAMS, manifest=manifest)

    assert account.sent == account.acknowledged == len(sent)
    assert (account.unknown, account.refused) == ([], {})
    assert account.bad == sum(m.truth is None for m in sent) > 0
    assert account.duplicates == account.acknowledged - account.stored > 0
    assert sum(of_type.acknowledged for of_type in account.types.values()) == account.acknowledged
    assert account.bytes == sum(len(m.payload) for m in sent)

    lines = [json.loads(line) for line in manifest.read_text().splitlines()]
    assert sorted(line["i"] for line in lines) == list(range(len(sent)))
    places = {(line["stream"], line["seq"]): line for line in lines}
    for name, count in account.streams.items():
        held = await stored(nc, name)
        assert (len(held), min(held), max(held)) == (count.messages, count.first_seq, count.last_seq)
        for seq, payload in held.items():
            message = sent[places.pop((name, seq))["i"]]
            assert message.payload == payload
    assert not places


async def test_a_killed_server_costs_nothing(nc: Any, server: Server) -> None:
    await ensure_streams(nc.jetstream(), subjects_by_stream(STREAMS, DATA_TYPES))
    sent = list(islice(messages(8, book_levels=1), 20_000))
    # No rate: thousands are on their way when the server dies.
    publishing = asyncio.create_task(publish(nc, sent, streams=STREAMS, settle=8))

    async def stored_some() -> bool:
        return bool((await nc.jetstream().stream_info("MARKET_DATA")).state.messages)

    await until(stored_some, "the first message is stored")
    server.kill()
    assert not publishing.done()

    async def disconnected() -> bool:
        return not nc.is_connected

    await until(disconnected, "the connection is gone")
    server.start()
    account = await publishing

    assert account.resent
    assert account.sent == account.acknowledged + len(account.unknown) == len(sent)
    assert all(sent[index].msg_id is None for index in account.unknown)
    held = sum([(await nc.jetstream().stream_info(name)).state.messages for name in account.streams])
    assert account.stored <= held <= account.stored + len(account.unknown)


async def test_rate_is_kept_and_stop_ends_it(nc: Any) -> None:
    await ensure_streams(nc.jetstream(), subjects_by_stream(STREAMS, DATA_TYPES))
    stop = asyncio.Event()
    asyncio.get_running_loop().call_later(0.5, stop.set)
    account = await publish(nc, messages(9), rate=1_000, streams=STREAMS, stop=stop)
    assert 0 < account.sent <= 1_000 * account.seconds + 1
    assert account.acknowledged == account.sent


async def test_missing_stream_is_said(nc: Any) -> None:
    with pytest.raises(LookupError, match="MARKET_DATA"):
        await publish(nc, [], streams=STREAMS)


async def test_streams_are_created_once_and_left_alone(nc: Any) -> None:
    js = nc.jetstream()
    await js.add_stream(name="ORDERBOOK_SNAP", subjects=["orderbook.>"], max_msgs=17)
    wanted = subjects_by_stream(STREAMS, DATA_TYPES)
    assert await ensure_streams(js, wanted) == ["MARKET_DATA"]
    assert await ensure_streams(js, wanted) == []
    assert (await js.stream_info("ORDERBOOK_SNAP")).config.max_msgs == 17
    made = (await js.stream_info("MARKET_DATA")).config
    assert (made.max_msgs, made.max_bytes, made.max_age, made.duplicate_window) == (5_000_000, 2 << 30, 172_800, 120)
    with pytest.raises(SubjectsTakenError) as taken:
        await ensure_streams(js, {"BOOKS": ["orderbook.>"]})
    assert taken.value.holder == "ORDERBOOK_SNAP"


# --- the command --------------------------------------------------------------------------------------------------

app = typer.Typer()
app.command()(feed)


def test_command_prints_an_account_that_regenerates(server: Server) -> None:
    result = CliRunner().invoke(
        app, ["--url", server.url, "--rate", "0", "--count", "300", "--bad", "5%", "-o", "json"]
    )
    assert result.exit_code == 0, result.output
    account = json.loads(result.stdout.splitlines()[-1])
    assert account["sent"] == account["acknowledged"] == 300
    again = list(islice(regenerate(account["arguments"]), account["sent"]))
    assert sum(m.truth is None for m in again) == account["bad"] > 0
    assert sum(len(m.payload) for m in again) == account["bytes"]


def test_what_is_past_comes_at_once_and_the_rest_at_its_rate(server: Server) -> None:
    """An hour of one message a second: the first 3,600 are due."""
    began = datetime.now(UTC)
    options = ["--url", server.url, "--since", "1h", "--rate", "1", "--count", "3602", "-o", "json"]
    result = CliRunner().invoke(app, options)
    assert result.exit_code == 0, result.output
    account = json.loads(result.stdout.splitlines()[-1])
    assert account["acknowledged"] == 3602
    assert 1 < account["seconds"] < 600
    first = datetime.fromisoformat(account["arguments"]["start"])
    assert timedelta(0) <= first - (began - timedelta(hours=1)) < timedelta(minutes=1)


@pytest.mark.parametrize(
    ("options", "code", "says"),
    [
        (["--url", "nats://user:secret@127.0.0.1:1"], 4, "no connection to NATS at nats://127.0.0.1:1"),
        (["--bad", "lots"], 2, "share"),
        (["--since", "1h", "--rate", "0"], 2, "--since needs a --rate above 0"),
        (["--since", "yesterday"], 2, "--since: "),
        (["--types", "quote"], 2, "no such data type"),
        (["--streams", "orderbook"], 2, "type=STREAM"),
    ],
)
def test_command_says_what_is_wrong(options: list[str], code: int, says: str) -> None:
    result = CliRunner().invoke(app, options)
    assert (result.exit_code, says in " ".join(result.output.split())) == (code, True), result.output
    assert "secret" not in result.output
