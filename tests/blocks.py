"""Blocks for tests: the same rows of the same messages are the same block under the same token."""

from __future__ import annotations

import time
from collections.abc import Sequence

from marketprism_consumer.ingest.decode import Row
from marketprism_consumer.ingest.encode import Block
from marketprism_consumer.operations.restore import token
from marketprism_consumer.schema.tables import Table


def block_of(table: Table, rows: Sequence[Row], seqs: Sequence[int], streams: Sequence[str]) -> Block:
    return Block(table, rows, seqs, streams, token(table, seqs, streams))


def seconds_from_now(seconds: float = 60.0) -> int:
    """Until when a block is taken, on a server of this machine [s since 1970]."""
    return int(time.time() + seconds)
