"""Native blocks as clients of a newer protocol want them (clickhouse-go, so Grafana: `client_protocol_version`).

The engine writes Native of revision 0. From 54454 on a block begins with its info, and every column has a byte that
says whether its serialization is a special one. To put it there one must know where a column ends.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator

from marketprism_embedded.clickhouse_http import ClickHouseError

_BLOCK_INFO = b"\x01\x00\x02\xff\xff\xff\xff\x00"  # no overflow row, no bucket
_PLAIN = b"\x00"

_WIDTHS = {
    **dict.fromkeys(("UInt8", "Int8", "Bool", "Enum8", "Nothing"), 1),
    **dict.fromkeys(("UInt16", "Int16", "Enum16", "Date", "BFloat16"), 2),
    **dict.fromkeys(("UInt32", "Int32", "Float32", "Date32", "DateTime", "Time", "IPv4", "Decimal32"), 4),
    **dict.fromkeys(("UInt64", "Int64", "Float64", "DateTime64", "Time64", "Decimal64"), 8),
    **dict.fromkeys(("UInt128", "Int128", "UUID", "IPv6", "Decimal128"), 16),
    **dict.fromkeys(("UInt256", "Int256", "Decimal256"), 32),
}
_ELEMENT_NAME = re.compile(r"(?:`[^`]*`|\w+) (?=[A-Z])")
_ARGUMENT = re.compile(r"""'(?:[^'\\]|\\.)*' | `[^`]*` | [(),] | [^'`(),]+""", re.VERBOSE)


def with_revision(data: bytes) -> bytes:
    """Whole blocks of revision 0 in, the same of revision 54454 out. Raises NOT_IMPLEMENTED for types whose length we
    don't know (JSON, Variant, states of aggregate functions)."""
    return b"".join(_revised(data))


def _revised(data: bytes) -> Iterator[bytes]:
    at = 0
    while (start := at) < len(data):
        columns, at = _varint(data, at)
        rows, at = _varint(data, at)
        yield _BLOCK_INFO + data[start:at]
        for _ in range(columns):
            start = at
            length, kind_start = _varint(data, _after_string(data, at))
            at = kind_start + length
            kind = data[kind_start:at].decode()
            yield data[start:at] + _PLAIN
            start = at
            if rows:
                at = _after_values(data, at + _prefix(kind), kind, rows)
            yield data[start:at]


def _prefix(kind: str) -> int:
    """Bytes before a column's values: the version of each dictionary in it."""
    return 8 * kind.count("LowCardinality(")


def _after_values(data: bytes, at: int, kind: str, rows: int) -> int:
    """Where `rows` values of this type, which begin at `at`, end."""
    name, arguments = _taken_apart(kind)
    if name in _WIDTHS:
        return at + rows * _WIDTHS[name]
    if name == "String":
        for _ in range(rows):
            at = _after_string(data, at)
        return at
    if name == "FixedString":
        return at + rows * int(arguments)
    if name == "Decimal":
        precision = int(arguments.partition(",")[0])
        return at + rows * next(width for limit, width in ((9, 4), (18, 8), (38, 16), (76, 32)) if precision <= limit)
    if name == "Nullable":
        return _after_values(data, at + rows, arguments, rows)
    if name == "SimpleAggregateFunction":
        return _after_values(data, at, _split(arguments)[1], rows)
    if name == "Tuple":
        for element in _split(arguments):
            at = _after_values(data, at, _ELEMENT_NAME.sub("", element, count=1), rows)
        return at
    if name in ("Array", "Map"):
        values = struct.unpack_from("<Q", data, at + 8 * (rows - 1))[0] if rows else 0
        return _after_values(data, at + 8 * rows, arguments if name == "Array" else f"Tuple({arguments})", values)
    if name == "LowCardinality":
        if not rows:
            return at
        flags: int
        keys: int
        flags, keys = struct.unpack_from("<QQ", data, at)
        key, inner = _taken_apart(arguments)
        at = _after_values(data, at + 16, inner if key == "Nullable" else arguments, keys)
        return at + 8 + (rows << (flags & 0xFF))
    raise ClickHouseError(48, "NOT_IMPLEMENTED", f"This client can't be given the type {kind} by the embedded server.")


def _taken_apart(kind: str) -> tuple[str, str]:
    """`Array(Map(a, b))` -> `Array`, `Map(a, b)`"""
    name, _, rest = kind.partition("(")
    return name, rest[:-1]


def _split(arguments: str) -> list[str]:
    """`a(b, c), d` -> [`a(b, c)`, `d`]"""
    parts, depth = [""], 0
    for piece in _ARGUMENT.findall(arguments):
        depth += (piece == "(") - (piece == ")")
        if piece == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += piece
    return [part.strip() for part in parts]


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7


def _after_string(data: bytes, at: int) -> int:
    length, at = _varint(data, at)
    return at + length
