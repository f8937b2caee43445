"""What was read from NATS is cut as the one rule cuts it, by the kernel, too: every message whole, once, in order."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from marketprism_consumer.ingest import frames, kernel
from marketprism_consumer.ingest.frames import Messages, cut
from marketprism_consumer.ingest.message import Message

SUBJECT = b"trade.okx.spot.BTC-USDT"


def ack(number: int, *, reader: str = "S.r", seq: int = 0) -> bytes:
    return f"$JS.ACK.{reader}.1.{seq or 10 * number}.{number}.{1_000 * number}.{100 - number}".encode()


def frame(
    number: int = 1, payload: bytes = b"{}", *, sid: int = 7, reply: bytes | None = None, headers: bytes = b""
) -> bytes:
    reply = ack(number) if reply is None else reply
    head = b"%b %d %b%b" % (SUBJECT, sid, reply, b" " if reply else b"")
    if headers:
        return b"HMSG %b%d %d\r\n%b%b\r\n" % (head, len(headers), len(headers) + len(payload), headers, payload)
    return b"MSG %b%d\r\n%b\r\n" % (head, len(payload), payload)


def messages_of(data: bytes) -> Messages:
    found = cut(data, 0)
    assert found.messages
    assert found.end == len(data)
    return found.messages


def test_what_came_of_one_reader_is_one_run_whatever_requests_it_came_for() -> None:
    found = messages_of(
        frame(5, b"a", sid=7) + frame(6, b"bc", sid=8) + frame(7, b"def", sid=7, headers=b"NATS/1.0\r\n\r\n")
    )
    assert [(each.seq, each.arrived, each.pending, each.payload) for each in found] == [
        (50, 5, 95, b"a"),
        (60, 6, 94, b"bc"),
        (70, 7, 93, b"def"),
    ]
    assert (found.first_number, found.pending, found.headers(2)) == (5, 93, b"NATS/1.0\r\n\r\n")
    size = len(SUBJECT) + len(ack(5))
    assert found.shares == {7: (2, 2 * size + 1 + 12 + 3), 8: (1, size + 2)}
    assert found[-1] == Message(70, 7, 93, SUBJECT.decode(), b"def")


@pytest.mark.parametrize(
    "other",
    [
        frame(3),  # one is missing
        frame(2, reply=ack(2, seq=5)),  # before the one before it
        frame(2, reply=ack(2, reader="S.other")),
        frame(2, reply=ack(2, reader="T.r")),
        frame(2, reply=b""),
        b"PING\r\n",
    ],
)
def test_a_run_ends_where_something_else_begins(other: bytes) -> None:
    first = frame(1)
    found = cut(first + other, 0)
    assert found.messages
    assert (len(found.messages), found.end) == (1, len(first))


def test_a_status_is_told_by_its_headers() -> None:
    status = b"NATS/1.0 408 Request Timeout\r\n\r\n"
    data = frame(reply=b"", headers=status, payload=b"")
    found = cut(data, 0)
    assert (found.sid, found.status, found.end) == (7, status, len(data))


@pytest.mark.parametrize("size", [0, 3, 30, 70])
def test_what_is_not_whole_is_waited_for(size: int) -> None:
    data = frame(1, b"x" * 20)
    found = cut(data[:size], 0)
    assert found.messages is None
    assert found.end in (size + 1, len(data))


def test_a_part_of_a_run_is_by_sequence() -> None:
    found = messages_of(b"".join(frame(number) for number in range(1, 6)))
    part = found.between(15, 40)
    assert list(part.seqs) == [20, 30, 40]
    assert [each.seq for each in part] == [20, 30, 40]
    assert (part.pending, part[0].pending) == (96, 98)


parts = st.one_of(
    st.builds(
        frame,
        st.integers(1, 4),
        st.binary(max_size=40) | st.just(b"MSG a 7 3\r\nabc\r\n"),
        sid=st.integers(1, 3),
        headers=st.sampled_from((b"", b"NATS/1.0\r\n\r\n")),
    ),
    st.builds(lambda reply: frame(reply=reply), st.sampled_from((b"", b"_INBOX.1", b"$JS.ACK.S.r.1.2.3.4.5"))),
    st.sampled_from((b"PING\r\n", b"+OK\r\n", b"MSG  a 7  3\r\nabc\r\n", b"\r\n", b"MSG")),
)


@pytest.mark.skipif(kernel.library is None, reason="there is no kernel: it was not compiled for this platform")
@given(st.lists(parts, max_size=12), st.integers(0, 60))
def test_the_kernel_cuts_as_the_rule_does_or_leaves_it_alone(given_: list[bytes], short: int) -> None:
    data = b"".join(given_)
    data = data[: len(data) - short] if short else data
    at = 0
    assert frames._cutter
    while at < len(data):
        quick = frames._cutter.cut(data, at)
        rule = frames._cut(data, at)
        assert quick is None or quick == rule
        at = rule.end


@pytest.mark.skipif(kernel.library is None, reason="there is no kernel: it was not compiled for this platform")
@given(st.binary(max_size=200), st.integers(0, 200))
def test_whatever_comes_the_kernel_ends(noise: bytes, place: int) -> None:
    data = frame(1) + frame(2)
    data = data[:place] + noise + data[place:]
    assert frames._cutter
    quick = frames._cutter.cut(data, 0)
    assert quick is None or quick.end > 0
