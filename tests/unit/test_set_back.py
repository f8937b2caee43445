"""Whether a stream was set back is told by what it never had, not by what came while somebody looked."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest

from marketprism_consumer.ingest.broker import StreamState
from marketprism_consumer.ingest.identity import generation
from marketprism_consumer.ingest.lane import Lane
from marketprism_consumer.ingest.set_back import _generation

STREAM = "S@2026-01-01T00:00:00Z"


class Tier:
    """Has rows up to 12 of what the stream was first."""

    async def highest(self, table: object, stream: str, above: int, to: int | None = None) -> int:
        return 12 if stream == generation(STREAM, 0) and above < 12 else 0


def lane(ends_at: int) -> Lane:
    async def stream(name: str) -> StreamState:
        return StreamState("2026-01-01T00:00:00Z", 1, ends_at, ends_at)

    async def patiently(ask: Callable[[], Awaitable[Any]]) -> Any:
        return await ask()

    made = SimpleNamespace(
        stream=STREAM,
        tiers=[Tier(), Tier()],
        table=None,
        patiently=patiently,
        broker=SimpleNamespace(stream=stream),
        id=SimpleNamespace(stream="S"),
    )
    return cast(Lane, made)


@pytest.mark.parametrize(
    ("ends_at", "expected"),
    [pytest.param(12, 0, id="it has them by now"), pytest.param(10, 1, id="it never had them")],
)
async def test_rows_beyond_where_the_stream_ended_a_moment_ago(ends_at: int, expected: int) -> None:
    assert await _generation(lane(ends_at), 0, 10) == expected
