"""One JetStream message in our hands, and what its acknowledgement subject says of it."""

from __future__ import annotations

import msgspec


class Message(msgspec.Struct, gc=False):
    """`arrived` is when the stream stored it [µs UTC]; `hold_until` is the loop time [s] up to which JetStream gives it to
    nobody else, reckoned from the request that it answers, so never too late. `consumer_seq` counts the consumer's
    deliveries, to whomever."""

    seq: int
    delivered: int
    arrived: int
    pending: int
    consumer_seq: int
    reply: bytes
    subject: str
    payload: bytes
    hold_until: float


def from_delivery(subject: bytes, reply: bytes, payload: bytes, hold_until: float) -> Message:
    """`reply` is `$JS.ACK.<stream>.<consumer>.<delivered>.<stream seq>.<consumer seq>.<ns>.<pending>`, or the longer form
    with domain and account after `$JS.ACK` (ADR-15). Raises ValueError where it is neither."""
    tokens = reply.split(b".")
    count = len(tokens)
    if count == 9:
        _, _, _, _, delivered, seq, consumer_seq, nanos, pending = tokens
    elif count >= 11:
        delivered, seq, consumer_seq, nanos, pending = tokens[6:11]
    else:
        raise ValueError(f"not an acknowledgement subject: {reply!r}")
    return Message(
        int(seq),
        int(delivered),
        int(nanos) // 1000,
        int(pending),
        int(consumer_seq),
        reply,
        subject.decode(),
        payload,
        hold_until,
    )
