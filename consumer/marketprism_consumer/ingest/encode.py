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
from itertools import accumulate, chain

from _ch_core import encode_native_block  # clickhouse-connect's Rust codec: one call, one block

from marketprism_consumer.ingest.columns import Columns, native, of_rows, string, varint
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
    in_columns: Sequence[Columns] = ()
    stream: str = ""
    """Of the rows in columns."""

    @property
    def rows(self) -> int:
        return len(self.values) + sum(map(len, self.in_columns))

    @property
    def columns(self) -> tuple[str, ...]:
        return self._native[0]

    def identities(self) -> tuple[list[int], list[str]]:
        """The sequences of its rows, and their streams."""
        of_columns = list(chain.from_iterable(part.seqs for part in self.in_columns))
        return [*of_columns, *self.seqs], [*[self.stream] * len(of_columns), *self.streams]

    @cached_property
    def _native(self) -> tuple[tuple[str, ...], tuple[bytes, ...]]:
        """Columns, and the Native block without its header, in pieces."""
        if not self.in_columns:
            return _native(self.table, self.values, self.seqs, self.streams)
        parts = [*self.in_columns, of_rows(self.table, self.values, self.seqs)] if self.values else self.in_columns
        names = *(column.name for column in self.table.inserted), "_stream", "_seq", EXPIRES
        return names, tuple(native(self.table, parts, self.stream))

    def expiring(self, at: int) -> list[bytes]:
        """The block's bytes, in pieces: refused by ClickHouse after `at` (epoch seconds, its own clock)."""
        deadline = string(EXPIRES) + string("DateTime") + struct.pack("<I", at) * self.rows
        return [varint(len(self.columns)) + varint(self.rows), *self._native[1], deadline]

    def parts(self, part: Callable[[Row], str]) -> dict[str, Block]:
        """One block for each part that has rows, in the order of the rows, under a token of its own."""
        assert not self.in_columns, "rows that are to be told apart are decoded one by one"
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


def _native(
    table: Table, rows: Sequence[Row], seqs: Sequence[int], streams: Sequence[str]
) -> tuple[tuple[str, ...], tuple[bytes, ...]]:
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
    return (*names, *levels, EXPIRES), tuple(pieces)


def _levels(name: str, of_rows: Iterable[bytes | Sequence[str]]) -> list[bytes]:
    """An array of decimals for each row: where each ends, then all numbers."""
    numbers = [each if isinstance(each, bytes) else packed(each) for each in of_rows]
    ends = array("Q", accumulate(len(each) // WIDTH for each in numbers))
    return [string(name), string(DECIMALS), ends.tobytes(), *numbers]
