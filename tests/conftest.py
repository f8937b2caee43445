"""What several folders of tests share: marks by folder, one embedded ClickHouse and one event loop for the whole run."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from marketprism_embedded.process import EmbeddedServer, start

# The same examples in every run. To look for new ones: pytest tests/unit --hypothesis-profile=search
settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.register_profile("search", max_examples=3000, deadline=None)
settings.load_profile("repeatable")

# A shell without job control starts what runs in the background with SIGINT ignored, and all that it starts would ignore it, too.
signal.signal(signal.SIGINT, signal.default_int_handler)

HERE = Path(__file__).parent

# What the tests of a folder or a file need; pyproject.toml says what each mark means. What has none of them is `quick`.
MARKS: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(
        (
            "commands/test_domains.py",
            "commands/test_nats_logins.py",
            "commands/test_nats_permissions.py",
            "commands/test_streams_made.py",
            "faults/test_attacks_on_nats.py",
            "faults/test_cluster_faults.py",
            "faults/test_nats_faults.py",
            "faults/test_nats_limits.py",
            "faults/test_streams_come_and_go.py",
            "faults/test_what_stands_in_front.py",
            "faults/test_what_vanishes.py",
            "operations/test_several_streams.py",
        ),
        ("wild",),
    ),
    **dict.fromkeys(("storage/test_reader.py", "storage/test_refusals.py"), ("wild", "every_nats")),
    "audit": ("servers",),
    "chart": ("helm",),
    "console/test_beside.py": ("servers",),
    "console/test_browser.py": ("servers",),
    "console/test_queries.py": ("servers",),
    "compose/test_nats_configuration.py": ("servers", "wild"),
    "commands": ("servers",),
    "dlq": ("servers",),
    "docs/test_tutorial.py": ("servers",),
    "e2e": ("cluster",),
    "e2e/test_scaling.py": ("scaling",),
    "e2e/test_soak.py": ("soak",),
    "embedded": ("servers",),
    "engines": ("servers", "engines"),
    "faults": ("servers", "faults"),
    "export": ("servers",),
    "feed/test_publish.py": ("servers",),
    "model": ("simulation",),
    "monitoring": ("monitoring",),
    "operations": ("servers",),
    "operator/controlplane": ("control_plane",),
    "replay": ("servers",),
    "replicated": ("replicated",),
    "simulation": ("simulation",),
    "storage": ("servers",),
    "tiering": ("servers",),
    "validation": ("servers",),
}
NEEDS = {mark for marks in MARKS.values() for mark in marks}
# Only run where `-m` names them.
ON_REQUEST = {
    "engines": "NOT TESTED: it downloads ClickHouse engines; `make engines` asks for that",
    "scaling": "NOT TESTED: a quarter of an hour; `make e2e-scaling` asks for that",
    "soak": "NOT TESTED: half an hour; `make soak` asks for that",
    "slow": "NOT TESTED: many processes and many kills take minutes; `make attacks` asks for that",
    "scale": "NOT TESTED: two hundred pipelines take minutes; `make scale` asks for that",
}


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    asked_for = str(config.getoption("markexpr"))
    for item in items:
        file = item.path.relative_to(HERE)
        places = [str(file), *map(str, file.parents)]
        for name in [mark for place in places for mark in MARKS.get(place, ())]:
            item.add_marker(name)
        if not any(mark.name in NEEDS for mark in item.iter_markers()):
            item.add_marker("quick")
        for name, why in ON_REQUEST.items():
            if name not in asked_for and item.get_closest_marker(name):
                item.add_marker(pytest.mark.skip(reason=why))


@pytest.fixture(scope="session")
def clickhouse_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedServer]:
    with start("clickhouse", tmp_path_factory.mktemp("shared-clickhouse")) as running:
        yield running


@pytest.fixture(scope="session")
def loop() -> Iterator[asyncio.Runner]:
    """For plain tests, and for properties: its connections outlive a single test."""
    with asyncio.Runner() as runner:
        yield runner
