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


def lane(*ends: int) -> Lane:
    """`ends`: of the stream, each time when it is looked at."""
    looks = iter(ends)

    async def stream(name: str) -> StreamState:
        end = next(looks)
        return StreamState("2026-01-01T00:00:00Z", 1, end, end)

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
    ("ends", "expected"),
    [
        pytest.param((12,), (0, 12), id="it has them"),
        pytest.param((10, 12), (0, 12), id="it has them by now, or others in their places: to there all is in doubt"),
        pytest.param((10, 10), (1, 10), id="it never had them"),
        pytest.param((10, 11), (1, 11), id="it never had the last of them"),
    ],
)
async def test_rows_beyond_where_the_stream_ended_a_moment_ago(
    ends: tuple[int, ...], expected: tuple[int, int]
) -> None:
    assert await _generation(lane(*ends), 0) == expected
