"""What several folders of tests share: one embedded ClickHouse and one event loop for the whole run."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
from hypothesis import settings

from marketprism_embedded.process import EmbeddedServer, start

# The same examples in every run. To look for new ones: pytest tests/unit --hypothesis-profile=search
settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.register_profile("search", max_examples=3000, deadline=None)
settings.load_profile("repeatable")


@pytest.fixture(scope="session")
def clickhouse_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedServer]:
    with start("clickhouse", tmp_path_factory.mktemp("shared-clickhouse")) as running:
        yield running


@pytest.fixture(scope="session")
def loop() -> Iterator[asyncio.Runner]:
    """For plain tests, and for properties: its connections outlive a single test."""
    with asyncio.Runner() as runner:
        yield runner
