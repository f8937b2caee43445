"""Native blocks as clients of a newer protocol want them (clickhouse-go, so Grafana: `client_protocol_version`).

The engine writes Native of revision 0. From 54454 on a block begins with its info, and every column has a byte that
says whether its serialization is a special one. Where a column ends is known to the client library's own decoder.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from typing import Any

from marketprism_consumer.embedded.clickhouse_http import ClickHouseError

_buffer: Any = importlib.import_module("clickhouse_connect.driver.buffer")
_query: Any = importlib.import_module("clickhouse_connect.driver.query")
_registry: Any = importlib.import_module("clickhouse_connect.datatypes.registry")

_BLOCK_INFO = b"\x01\x00\x02\xff\xff\xff\xff\x00"  # no overflow row, no bucket
_PLAIN = b"\x00"


class _Nothing:
    gen = iter(())


def with_revision(data: bytes) -> bytes:
    """Whole blocks of revision 0 in, the same of revision 54454 out. Raises NOT_IMPLEMENTED for a type that the
    decoder doesn't know."""
    try:
        return b"".join(_revised(data))
    except Exception as error:  # whatever it meets in there
        raise ClickHouseError(48, "NOT_IMPLEMENTED", f"This result can't be given to this client: {error}.") from error


def _revised(data: bytes) -> Iterator[bytes]:
    source = _buffer.ResponseBuffer(_Nothing())
    source.buffer, source.buf_sz = data, len(data)
    context = _query.QueryContext()
    while (start := source.buf_loc) < len(data):
        columns, rows = source.read_leb128(), source.read_leb128()
        yield _BLOCK_INFO + data[start : source.buf_loc]
        for _ in range(columns):
            start = source.buf_loc
            context.start_column(source.read_leb128_str())
            kind = _registry.get_from_name(source.read_leb128_str())
            yield data[start : source.buf_loc] + _PLAIN
            start = source.buf_loc
            if rows:
                kind.read_column(source, rows, context)
            yield data[start : source.buf_loc]
