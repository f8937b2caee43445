"""Rows to one Native block of frozen bytes.

ClickHouse applies an insert token to each block, not to each statement: the same rows cut into other blocks are stored
twice. So one cut is one block; whoever sends it, and however often, sends the same rows under the token of the cut.
"""

from __future__ import annotations

import struct
from array import array
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate

from _ch_core import encode_native_block  # clickhouse-connect's Rust codec: one call, one block

from marketprism_consumer.ingest.decode import Row
from marketprism_consumer.ingest.levels import WIDTH, packed
from marketprism_consumer.schema.tables import DECIMALS, EXPIRES, Table


@dataclass(frozen=True)
class Block:
    """Rows of one table, each with the identity (stream, sequence) of its message, under one token. Bytes are made once, when they
    are first asked for: of what is spread over shards, only those of its parts."""

    table: Table
    values: Sequence[Row]
    seqs: Sequence[int]
    streams: Sequence[str]
    token: str

    @property
    def rows(self) -> int:
        return len(self.values)

    @property
    def columns(self) -> tuple[str, ...]:
        return self._native[0]

    @cached_property
    def _native(self) -> tuple[tuple[str, ...], tuple[bytes, ...]]:
        """Columns, and the Native block without its header, in pieces."""
        return _native(self.table, self.values, self.seqs, self.streams)

    def expiring(self, at: int) -> list[bytes]:
        """The block's bytes, in pieces: refused by ClickHouse after `at` (epoch seconds, its own clock)."""
        deadline = _name(EXPIRES) + _name("DateTime") + struct.pack("<I", at) * self.rows
        return [_varint(len(self.columns)) + _varint(self.rows), *self._native[1], deadline]

    def parts(self, part: Callable[[Row], str]) -> dict[str, Block]:
        """One block for each part that has rows, in the order of the rows, under a token of its own."""
        of: dict[str, list[int]] = {}
        for number, row in enumerate(self.values):
            of.setdefault(part(row), []).append(number)
        return {
            name: Block(
                self.table,
                [self.values[n] for n in numbers],
                [self.seqs[n] for n in numbers],
                [self.streams[n] for n in numbers],
                f"{self.token}@{name}",
            )
            for name, numbers in of.items()
        }


def encode(table: Table, rows: Sequence[Row], seqs: Sequence[int], streams: Sequence[str], token: str) -> Block:
    return Block(table, rows, seqs, streams, token)


def _native(
    table: Table, rows: Sequence[Row], seqs: Sequence[int], streams: Sequence[str]
) -> tuple[tuple[str, ...], tuple[bytes, ...]]:
    # Not zip(*rows): it makes an iterator for each row, and the garbage collector looks at them all.
    columns = {column.name: [row[i] for row in rows] for i, column in enumerate(table.inserted)}
    levels = {name: columns.pop(name) for name in list(columns) if table.column(name).type == DECIMALS}
    names = [*columns, "_stream", "_seq"]
    types = [table.column(name).type for name in names]
    data: bytes = encode_native_block(names, types, [*columns.values(), streams, seqs], len(rows), None)
    header = _varint(len(names)) + _varint(len(rows))
    assert data.startswith(header), "the codec wrote block info before the block"
    pieces = [data[len(header) :]]
    for name, of_rows in levels.items():
        pieces += _levels(name, of_rows)
    return (*names, *levels, EXPIRES), tuple(pieces)


def _levels(name: str, of_rows: Iterable[bytes | Sequence[str]]) -> list[bytes]:
    """An array of decimals for each row: where each ends, then all numbers."""
    numbers = [each if isinstance(each, bytes) else packed(each) for each in of_rows]
    ends = array("Q", accumulate(len(each) // WIDTH for each in numbers))
    return [_name(name), _name(DECIMALS), ends.tobytes(), *numbers]


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def _name(text: str) -> bytes:
    raw = text.encode()
    return _varint(len(raw)) + raw
