"""What an acknowledgement subject says of a message."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from marketprism_consumer.ingest.message import Message, from_delivery

SHORT = b"$JS.ACK.MARKET_DATA.trade.3.8812.77.1758700551123456789.42"
WITH_ACCOUNT = b"$JS.ACK.hub.ACC7xY.MARKET_DATA.trade.3.8812.77.1758700551123456789.42"
WITH_TOKEN = WITH_ACCOUNT + b".pMnqRyTb"
NO_DOMAIN = b"$JS.ACK._.ACC7xY.MARKET_DATA.trade.3.8812.77.1758700551123456789.42.pMnqRyTb"


@pytest.mark.parametrize("reply", [SHORT, WITH_ACCOUNT, WITH_TOKEN, NO_DOMAIN])
def test_all_forms_say_the_same(reply: bytes) -> None:
    message, number = from_delivery(b"trade.okx.spot.BTC-USDT", reply, b"{}")
    assert message == Message(
        seq=8812,
        arrived=1_758_700_551_123_456,
        pending=42,
        subject="trade.okx.spot.BTC-USDT",
        payload=b"{}",
    )
    assert number == 77


@pytest.mark.parametrize(
    "reply",
    [
        b"",
        b"_INBOX.abc.1",
        b"$JS.ACK.MARKET_DATA.trade.3.8812.77.1758700551123456789",
        b"$JS.ACK.acc.MARKET_DATA.trade.3.8812.77.1758700551123456789.42",
        b"$JS.ACK.MARKET_DATA.trade.3.x.77.1758700551123456789.42",
        b"$JS.ACK.MARKET_DATA.trade.3..77.1758700551123456789.42",
    ],
)
def test_anything_else_is_no_delivery(reply: bytes) -> None:
    with pytest.raises(ValueError):
        from_delivery(b"trade.x", reply, b"")


@given(st.integers(1, 2**64 - 1), st.integers(1, 2**32), st.integers(0, 2**62), st.integers(0, 2**63))
def test_numbers_are_whole_and_exact(seq: int, delivered: int, nanos: int, pending: int) -> None:
    reply = f"$JS.ACK.S.c.1.{seq}.{delivered}.{nanos}.{pending}".encode()
    message, number = from_delivery(b"s", reply, b"")
    assert (message.seq, number, message.arrived, message.pending) == (
        seq,
        delivered,
        nanos // 1000,
        pending,
    )
