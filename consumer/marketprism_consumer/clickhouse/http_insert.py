"""One insert as an HTTP request of our own. What goes out is the block, piece by piece and with its length, so that one whose end is
lost on the way is no block; and nothing but ClickHouse's own empty 200 counts as stored."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

import aiohttp

from marketprism_consumer.errors import Fault, StoreError
from marketprism_consumer.ingest.clickhouse_errors import refused

AT_ONCE = 256 << 10  # bytes handed over at a time
SHOWN = 300  # characters of an answer
_code = re.compile(r"\s*Code: (\d{1,5})\.").match


async def send_insert(
    session: aiohttp.ClientSession,
    url: str,
    table: str,
    columns: Sequence[str],
    pieces: Sequence[bytes],
    settings: Mapping[str, Any],
    proxy: str | None,
) -> None:
    """A Native block into `table`. Raises StoreError where it is not surely stored, and what aiohttp does."""
    names = ", ".join(f"`{name}`" for name in columns)
    params = {"query": f"INSERT INTO {table} ({names}) FORMAT Native", **{k: str(v) for k, v in settings.items()}}
    headers = {"Content-Length": str(sum(map(len, pieces))), "Content-Type": "application/octet-stream"}
    async with session.post(
        url, params=params, data=_parts(pieces), headers=headers, allow_redirects=False, proxy=proxy
    ) as answer:
        body = (await answer.content.read(64 << 10)).decode(errors="replace")
        if error := judge(answer.status, answer.headers, body):
            raise error


async def _parts(pieces: Sequence[bytes]) -> AsyncIterator[bytes | memoryview]:
    """Small ones together, large ones as views: a block is never there twice."""
    small: list[bytes] = []
    size = 0
    for piece in pieces:
        if size + len(piece) > AT_ONCE and small:
            yield b"".join(small)
            small, size = [], 0
        if len(piece) > AT_ONCE:
            view = memoryview(piece)
            for at in range(0, len(piece), AT_ONCE):
                yield view[at : at + AT_ONCE]
        else:
            small.append(piece)
            size += len(piece)
    if small:
        yield b"".join(small)


def judge(status: int, headers: Mapping[str, str], body: str) -> StoreError | None:
    """None where the answer says that the block is stored."""
    said = " ".join(body.split())[:SHOWN]
    code = headers.get("X-ClickHouse-Exception-Code", "")
    if not code.isdigit() and (found := _code(body)):
        code = found[1]  # where headers are stripped, or were sent before it went wrong
    if code.isdigit() and int(code):
        return refused(int(code), said or f"code {code}")
    if status == 413:
        return StoreError(0, f"HTTP 413: {said or 'too large'}", Fault.TOO_LARGE, status=status)
    if status != 200:
        where = f" to {headers['Location'][:100]}" if 300 <= status < 400 and "Location" in headers else ""
        return StoreError(0, f"HTTP {status}{where}: {said or 'without a word'}", Fault.PASSING, status=status)
    if body:
        return StoreError(0, f"HTTP 200 with a text where ClickHouse has none: {said}", Fault.PASSING, status=status)
    if not any(name.lower().startswith("x-clickhouse-") for name in headers):
        return StoreError(
            0, "HTTP 200, but not from ClickHouse: it has none of its headers", Fault.PASSING, status=status
        )
    return None
