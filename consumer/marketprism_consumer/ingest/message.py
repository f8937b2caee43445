"""One JetStream message in our hands, and what the subject of its delivery says of it."""

from __future__ import annotations

import msgspec


class Message(msgspec.Struct, gc=False):
    """`arrived` is when the stream stored it [µs UTC]; `pending` what its reader had not been sent yet at that moment."""

    seq: int
    arrived: int
    pending: int
    subject: str
    payload: bytes


def from_delivery(subject: bytes, reply: bytes, payload: bytes) -> tuple[Message, int]:
    """The message, and its number among its consumer's deliveries.

    `reply` is `$JS.ACK.<stream>.<consumer>.<delivered>.<stream seq>.<consumer seq>.<ns>.<pending>`, or the longer form
    with domain and account after `$JS.ACK` (ADR-15). Raises ValueError where it is neither."""
    tokens = reply.split(b".")
    count = len(tokens)
    if count == 9:
        _, _, _, _, _, seq, number, nanos, pending = tokens
    elif count >= 11:
        seq, number, nanos, pending = tokens[7:11]
    else:
        raise ValueError(f"not an acknowledgement subject: {reply!r}")
    return Message(int(seq), int(nanos) // 1000, int(pending), subject.decode(), payload), int(number)
