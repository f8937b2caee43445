"""Rows to one Native block of frozen bytes.

ClickHouse applies an insert token to each block, not to each statement: the same rows cut into other blocks are stored
twice. So one cut is one block; whoever sends it, and however often, sends the same rows under the token of the cut.
"""

from __future__ import annotations

import struct
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate

from _ch_core import encode_native_block  # clickhouse-connect's Rust codec: one call, one block

from marketprism_consumer.ingest.columns import Columns, native, of_rows, string, varint
from marketprism_consumer.ingest.decode import Row
from marketprism_consumer.ingest.levels import WIDTH, packed
from marketprism_consumer.schema.tables import DECIMALS, EXPIRES, Table


@dataclass(frozen=True, slots=True)
class Block:
    """`pieces` are the Native block without its header; `expiring` completes it with the moment after which it is refused."""

    table: Table
    columns: tuple[str, ...]
    rows: int
    pieces: tuple[bytes, ...]
    token: str

    def expiring(self, at: int) -> list[bytes]:
        """The block's bytes, in pieces: refused by ClickHouse after `at` (epoch seconds, its own clock)."""
        deadline = string(EXPIRES) + string("DateTime") + struct.pack("<I", at) * self.rows
        return [varint(len(self.columns)) + varint(self.rows), *self.pieces, deadline]


def encode(
    table: Table,
    rows: Sequence[Row],
    seqs: Sequence[int],
    streams: Sequence[str],
    token: str,
    columns: Sequence[Columns] = (),
    stream: str = "",
) -> Block:
    """`rows` as one block, each with the identity (stream, sequence) of its message; behind those of `columns`, all of one stream."""
    if columns:
        parts = [*columns, of_rows(table, rows, seqs)] if rows else columns
        names = [*(column.name for column in table.inserted), "_stream", "_seq"]
        return Block(table, (*names, EXPIRES), sum(map(len, parts)), tuple(native(table, parts, stream)), token)
    # Not zip(*rows): it makes an iterator for each row, and the garbage collector looks at them all.
    values = {column.name: [row[i] for row in rows] for i, column in enumerate(table.inserted)}
    levels = {name: values.pop(name) for name in list(values) if table.column(name).type == DECIMALS}
    names = [*values, "_stream", "_seq"]
    types = [table.column(name).type for name in names]
    data: bytes = encode_native_block(names, types, [*values.values(), streams, seqs], len(rows), None)
    header = varint(len(names)) + varint(len(rows))
    assert data.startswith(header), "the codec wrote block info before the block"
    pieces = [data[len(header) :]]
    for name, numbers in levels.items():
        pieces += _levels(name, numbers)
    return Block(table, (*names, *levels, EXPIRES), len(rows), tuple(pieces), token)


def _levels(name: str, of_rows: Iterable[bytes | Sequence[str]]) -> list[bytes]:
    """An array of decimals for each row: where each ends, then all numbers."""
    numbers = [each if isinstance(each, bytes) else packed(each) for each in of_rows]
    ends = array("Q", accumulate(len(each) // WIDTH for each in numbers))
    return [string(name), string(DECIMALS), ends.tobytes(), *numbers]
