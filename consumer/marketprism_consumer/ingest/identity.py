"""Which message a row comes from: `_stream` and `_seq`, and what to do when a sequence number is not enough.

A stream that is deleted and created again numbers its messages from 1, so `_stream` carries the creation time. A stream that
lost acknowledged messages in a power cut (Jepsen, NATS 2.12.1) numbers new ones like the lost: same stream, same sequence,
other content. From there on rows get the next generation of the identity, `…~1`, so that neither is taken for the other.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from marketprism_consumer.ingest.decode import Row
from marketprism_consumer.ingest.store import Stored
from marketprism_consumer.schema.tables import Table

CONTENT = ("timestamp", "exchange", "market_type", "symbol", "collected_at")
OWN_CONTENT = {"trade": ("trade_id",), "orderbook": ("last_update_id",), "liquidation": ("liquidation_id",)}


def stream_identity(name: str, created: str) -> str:
    """`created` as the server gives it (RFC 3339 with nanoseconds)."""
    return f"{name}@{created}"


def generation(stream: str, number: int) -> str:
    return f"{stream}~{number}" if number else stream


def content_columns(table: Table) -> tuple[str, ...]:
    return CONTENT + OWN_CONTENT.get(table.data_type, ())


def content_indexes(table: Table) -> tuple[int, ...]:
    names = [column.name for column in table.inserted]
    return tuple(names.index(name) for name in content_columns(table))


def place(row: Row, indexes: Sequence[int], stream: str, there: Sequence[Stored], least: int = 0) -> str | None:
    """The identity under which the row is to be inserted, in generation `least` or a later one; None where the table already
    has this very message."""
    content: tuple[Any, ...] = tuple(row[i] for i in indexes)
    if any(stored.content == content for stored in there):
        return None
    taken = {stored.stream for stored in there}
    number = least
    while generation(stream, number) in taken:
        number += 1
    return generation(stream, number)
