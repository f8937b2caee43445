"""The short way through nats-py: every frame of a pull is handed over whole, however the bytes are cut; the rest is
nats-py's."""

from __future__ import annotations

import asyncio
import inspect
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from nats.aio.client import Client

from marketprism_consumer.jetstream.client import PullClient, masked

PULL, OTHER = 7, 8
Frame = tuple[int, bytes, bytes, bytes, bytes]
CONTROL = (b"PING\r\n", b"PONG\r\n", b"+OK\r\n", b'INFO {"connect_urls": []}\r\n', b"-ERR 'Permissions Violation'\r\n")


def wire(frame: Frame | bytes) -> bytes:
    if isinstance(frame, bytes):
        return frame
    sid, subject, reply, payload, headers = frame
    head = subject + b" " + str(sid).encode() + b" " + (reply + b" " if reply else b"")
    if headers:
        return b"HMSG %b%d %d\r\n%b%b\r\n" % (head, len(headers), len(headers) + len(payload), headers, payload)
    return b"MSG %b%d\r\n%b\r\n" % (head, len(payload), payload)


frames = st.tuples(
    st.sampled_from((PULL, OTHER)),
    st.sampled_from((b"trade.okx.spot.BTC-USDT", b"a", b"MSG")),
    st.sampled_from((b"$JS.ACK.S.C.1.5.5.1758700551123000000.0", b"")),
    st.binary(max_size=300) | st.just(b"MSG a 7 3\r\nabc\r\n") | st.just(b"x" * 5000),
    st.sampled_from((b"", b"NATS/1.0\r\nNats-Msg-Id: x\r\n\r\n", b"NATS/1.0 100 Idle Heartbeat\r\n\r\n")),
)


class Recorder(PullClient):
    """`pulled` came the short way, `others` and `control` came nats-py's."""

    def __init__(self) -> None:
        super().__init__()
        self.pulled: list[Frame] = []
        self.others: list[Frame] = []
        self.control: list[str] = []
        self.pulls[PULL] = lambda sid, frames: self.pulled.extend((sid, *frame) for frame in frames)

    async def _process_msg(self, sid: int, subject: bytes, reply: bytes, data: bytes, headers: Any) -> None:
        self.others.append((sid, bytes(subject), bytes(reply), bytes(data), bytes(headers or b"")))

    async def _process_ping(self) -> None:
        self.control.append("PING")

    async def _process_pong(self) -> None:
        self.control.append("PONG")

    async def _process_info(self, _: Any, initial_connection: bool = False) -> None:
        self.control.append("INFO")

    async def _process_err(self, _: str) -> None:
        self.control.append("-ERR")


@given(st.lists(frames | st.sampled_from(CONTROL), max_size=16), st.lists(st.integers(1, 700), min_size=1, max_size=40))
def test_every_frame_arrives_whole_and_in_order_however_the_bytes_are_cut(
    sent: list[Frame | bytes], cuts: list[int]
) -> None:
    """And each of a pull's comes the short way, whatever came before it and wherever reads end."""
    client = Recorder()
    data = b"".join(map(wire, sent))

    async def feed() -> None:
        at = 0
        while at < len(data):
            size = cuts[at % len(cuts)]
            await client._ps.parse(data[at : at + size])
            at += size

    asyncio.run(feed())
    assert client.pulled == [frame for frame in sent if not isinstance(frame, bytes) and frame[0] == PULL]
    assert client.others == [frame for frame in sent if not isinstance(frame, bytes) and frame[0] == OTHER]
    told = [frame.split()[0].decode() for frame in sent if isinstance(frame, bytes)]
    assert client.control == [each for each in told if each != "+OK"]


async def test_a_receiver_that_raises_does_not_end_the_connection() -> None:
    client = Recorder()
    seen = []

    def receive(_: int, frames: Any) -> None:
        seen.extend(payload for _, _, payload, _ in frames)
        raise ValueError("of the receiver")

    client.pulls[PULL] = receive
    await client._ps.parse(wire((PULL, b"a", b"", b"1", b"")) + wire((PULL, b"a", b"", b"2", b"")))
    await client._ps.parse(wire((PULL, b"a", b"", b"3", b"")))
    assert seen == [b"1", b"2", b"3"]


def test_the_inner_names_of_nats_py_that_this_leans_on_are_there() -> None:
    client = Client()
    assert client._ps.parse
    assert client._pending == []
    assert hasattr(client, "_flush_queue")
    assert hasattr(client, "_pending_data_size")
    assert client._sid == 0
    client.options = dict.fromkeys(("verbose", "pedantic", "name", "no_echo"))
    assert client._connect_command().startswith(b"CONNECT {")
    assert list(inspect.signature(client._process_msg).parameters) == ["sid", "subject", "reply", "data", "headers"]


def test_a_url_is_shown_without_its_credentials() -> None:
    assert masked("nats://me:word@h:4222,nats://token@i") == "nats://***@h:4222,nats://***@i"
