"""Rows as the bytes of ClickHouse's columns, as its Native format has them: made without an object for a row."""

from __future__ import annotations

import ctypes
import struct
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from marketprism_api.data_types import Declaration
from marketprism_consumer.ingest import kernel
from marketprism_consumer.ingest.decode import ARRIVAL_SLACK, Row
from marketprism_consumer.ingest.decode_fast import as_built_in
from marketprism_consumer.ingest.frames import Messages
from marketprism_consumer.ingest.levels import WIDTH, packed
from marketprism_consumer.schema.tables import DECIMAL, TEXT, TIME, Table

HOUR = 3_600_000_000  # a partition of hot [µs]
PARTITIONS = 32  # of one block: ClickHouse remembers a token for each, and must remember all of a minute

_SLOTS = 1 << 16
_MOST = _SLOTS // 2
_TEXT_BYTES = 1 << 20
_TEXTS = ("exchange", "market_type", "symbol", "side", "data_source")


class Texts:
    """Texts, each once, by number: what a LowCardinality column refers to. It only grows."""

    def __init__(self) -> None:
        self._slots, self._ends, self._bytes = bytearray(2 * _SLOTS), bytearray(4 * _MOST), bytearray(_TEXT_BYTES)
        self.state = _Texts(*map(kernel.address, (self._slots, self._ends, self._bytes)), _TEXT_BYTES, 0)

    def __len__(self) -> int:
        return int(self.state.count)

    def __getitem__(self, number: int) -> bytes:
        ends = memoryview(self._ends).cast("I")
        return bytes(self._bytes[ends[number - 1] if number else 0 : ends[number]])

    @property
    def full(self) -> bool:
        return len(self) > _MOST // 2 or memoryview(self._ends).cast("I")[max(0, len(self) - 1)] > _TEXT_BYTES // 2


class _Texts(ctypes.Structure):
    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("slots", "ends", "bytes")),
        ("room", ctypes.c_uint64),
        ("count", ctypes.c_uint64),
    )


class _Columns(ctypes.Structure):
    _fields_ = (
        *((name, ctypes.c_void_p) for name in (
            "seqs", "timestamp", "trade_time", "collected_at", "not_collected", "price", "quantity", "is_maker", "not_maker",
            *_TEXTS, "ids",
        )),
        ("ids_room", ctypes.c_uint64),
        ("ids_length", ctypes.c_uint64),
        ("hours", ctypes.c_void_p),
        ("hours_count", ctypes.c_uint64),
        ("others", ctypes.c_void_p),
        ("others_count", ctypes.c_uint64),
        ("count", ctypes.c_uint64),
        ("payloads", ctypes.c_uint64),
    )  # fmt: skip


@dataclass(slots=True)
class Columns:
    """Rows in the order of their messages' sequences. `fixed`: by name, a row's values are equally wide. `nulls`:
    1 where the value is none. `texts`: numbers in `dictionary`. `strings`: each with its length before it. `hours`: all that occur, of
    the rows' times. `arrived`, `times`: of the first and the last [µs]. `bytes`: of the messages' payloads."""

    seqs: array[int]
    arrived: tuple[int, int]
    times: tuple[int, int]
    fixed: dict[str, bytes]
    nulls: dict[str, bytes]
    texts: dict[str, array[int]]
    strings: dict[str, bytes]
    dictionary: Sequence[bytes] | Texts
    hours: frozenset[int]
    bytes: int

    def __len__(self) -> int:
        return len(self.seqs)

    def exchanges(self) -> Counter[str]:
        """How many rows of each."""
        of = Counter(self.texts["exchange"])
        return Counter({self.dictionary[number].decode(): count for number, count in of.items()})


Columnar = Callable[[Messages], tuple[Columns | None, Sequence[int]]]
"""The rows of messages, and the indexes of those that are left to `decode`."""


class TradeReader:
    """By the kernel (`trades.zig`)."""

    def __init__(self, library: ctypes.CDLL) -> None:
        self._read: Any = library.marketprism_trades
        self._read.restype = None
        pointer, size = ctypes.c_void_p, ctypes.c_size_t
        self._read.argtypes = [
            ctypes.c_char_p, size, pointer, pointer, pointer, size, ctypes.c_int64, pointer, pointer
        ]  # fmt: skip
        self._texts = Texts()

    def __call__(self, messages: Messages) -> tuple[Columns | None, Sequence[int]]:
        if self._texts.full:
            self._texts = Texts()
        count = len(messages)
        widths = {"timestamp": 8, "trade_time": 8, "collected_at": 8, "price": WIDTH, "quantity": WIDTH, "is_maker": 1}
        fixed = {name: bytearray(width * count) for name, width in widths.items()}
        nulls = {"collected_at": bytearray(count), "is_maker": bytearray(count)}
        texts = {name: bytearray(2 * count) for name in _TEXTS}
        seqs, hours, others = bytearray(8 * count), bytearray(8 * PARTITIONS), bytearray(4 * count)
        ids = bytearray(messages.payload_bytes)  # an id is shorter than its message
        out = _Columns(
            *map(kernel.address, (
                seqs, fixed["timestamp"], fixed["trade_time"], fixed["collected_at"], nulls["collected_at"], fixed["price"],
                fixed["quantity"], fixed["is_maker"], nulls["is_maker"], *texts.values(),
            )),
            kernel.address(ids) if ids else 0, len(ids), 0, kernel.address(hours), 0, kernel.address(others), 0, 0, 0,
        )  # fmt: skip
        self._read(
            messages.data,
            len(messages.data),
            messages.where.buffer_info()[0],
            messages.seqs.buffer_info()[0],
            messages.arrived.buffer_info()[0],
            count,
            ARRIVAL_SLACK,
            ctypes.addressof(self._texts.state),
            ctypes.addressof(out),
        )
        left = array("I", others[: 4 * out.others_count])
        rows = out.count
        if not rows:
            return None, left
        kept = array("Q", seqs[: 8 * rows])
        times = memoryview(fixed["timestamp"]).cast("q")
        columns = Columns(
            kept,
            (messages.arrival(kept[0]), messages.arrival(kept[-1])),
            (times[0], times[rows - 1]),
            {name: bytes(values[: widths[name] * rows]) for name, values in fixed.items()},
            {name: bytes(values[:rows]) for name, values in nulls.items()},
            {name: array("H", values[: 2 * rows]) for name, values in texts.items()},
            {"trade_id": bytes(ids[: out.ids_length])},
            self._texts,
            frozenset(array("q", hours[: 8 * out.hours_count])),
            out.payloads,
        )
        return columns, left


def columnar(declaration: Declaration) -> Columnar | None:
    """None where the kernel does not know the type, or is not there."""
    known = declaration.name == "trade" and as_built_in(declaration)
    return TradeReader(kernel.library) if kernel.library and known else None


# --- what was decoded one by one --------------------------------------------------------------------------------------


def of_rows(table: Table, rows: Sequence[Row], seqs: Sequence[int]) -> Columns:
    """The same of rows. Knows the types that a columnar table has."""
    found = Columns(array("Q", seqs), (0, 0), (rows[0][0], rows[-1][0]), {}, {}, {}, {}, [], frozenset(), 0)
    numbers: dict[bytes, int] = {}
    for index, column in enumerate(table.inserted):
        values: list[Any] = [row[index] for row in rows]
        plain = column.type
        if plain.startswith("Nullable("):
            plain = plain.removeprefix("Nullable(").removesuffix(")")
            found.nulls[column.name] = bytes(value is None for value in values)
        if plain == TEXT:
            texts = [value.encode() for value in values]
            found.texts[column.name] = array("H", [numbers.setdefault(text, len(numbers)) for text in texts])
        elif plain == "String":
            found.strings[column.name] = b"".join(map(string, values))
        else:
            found.fixed[column.name] = _FIXED[plain](values)
    found.dictionary = list(numbers)
    return found


_FIXED: Mapping[str, Callable[[list[Any]], bytes]] = {
    TIME: lambda values: array("q", [value or 0 for value in values]).tobytes(),
    DECIMAL: lambda values: packed(value or "0" for value in values),
    "Bool": lambda values: bytes(bool(value) for value in values),
}


# --- the Native format ------------------------------------------------------------------------------------------------


def native(table: Table, parts: Sequence[Columns], stream: str) -> Iterator[bytes]:
    """The columns of a block with the rows of all parts, each of the identity (`stream`, its sequence), in the order of
    `table.inserted`, `_stream`, `_seq`. ClickHouse: SerializationLowCardinality.cpp, NativeWriter.cpp."""
    rows = sum(map(len, parts))
    for column in table.inserted:
        yield string(column.name) + string(column.type)
        if column.type == TEXT:
            yield from _texts(column.name, parts)
            continue
        if column.type.startswith("Nullable("):
            yield from (part.nulls[column.name] for part in parts)
        yield from (part.strings[column.name] if column.type == "String" else part.fixed[column.name] for part in parts)
    yield string("_stream") + string(TEXT)
    yield from _low_cardinality([stream.encode()], array("H", bytes(2 * rows)))
    yield string("_seq") + string("UInt64")
    yield from (part.seqs.tobytes() for part in parts)


def _texts(name: str, parts: Sequence[Columns]) -> Iterator[bytes]:
    keys: dict[bytes, int] = {}
    indexes = array("I")
    for _, of_one in groupby(parts, lambda part: id(part.dictionary)):
        same = list(of_one)
        numbers = array("H", b"".join(part.texts[name].tobytes() for part in same))
        used = _compact(numbers)
        places = [keys.setdefault(same[0].dictionary[number], len(keys)) for number in used]
        if len(same) == len(parts):
            yield from _low_cardinality(keys, numbers)
            return
        indexes.extend(map(places.__getitem__, numbers))
    yield from _low_cardinality(keys, array("H", indexes) if len(keys) <= 1 << 16 else indexes)


def _compact(numbers: array[int]) -> array[int]:
    """Changes them to 0, 1, 2, … in the order in which they first come. Returns what each was."""
    assert kernel.library
    used, scratch = array("H", bytes(2 * _SLOTS)), bytearray(4 * _SLOTS)
    count = kernel.library.marketprism_compact(
        ctypes.c_void_p(numbers.buffer_info()[0]),
        ctypes.c_size_t(len(numbers)),
        ctypes.c_void_p(kernel.address(scratch)),
        ctypes.c_void_p(used.buffer_info()[0]),
    )
    return used[:count]


def _low_cardinality(keys: Iterable[bytes], indexes: array[int]) -> Iterator[bytes]:
    texts = list(keys)
    width = {2: 1, 4: 2}[indexes.itemsize]
    yield struct.pack("<QQQ", 1, 0x600 | width, len(texts)) + b"".join(varint(len(text)) + text for text in texts)
    yield struct.pack("<Q", len(indexes))
    yield indexes.tobytes()


def string(text: str) -> bytes:
    raw = text.encode()
    return varint(len(raw)) + raw


def varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)
