"""What tests with real processes share: waiting for a condition, and a port that nobody has."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar

from marketprism_consumer.ingest.broker import BrokerRefused
from marketprism_consumer.ingest.store import InsertRefused

T = TypeVar("T")


def wait_for(condition: Callable[[], T], what: str | Callable[[], str], seconds: float = 30.0) -> T:
    """The condition's value as soon as it is true. What can't be asked just now is asked again."""
    deadline = time.monotonic() + seconds
    while True:
        found: Any = None
        with suppress(OSError, BrokerRefused, InsertRefused):
            found = condition()
        if found:
            return found
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds:.0f} s: {what if isinstance(what, str) else what()}")
        time.sleep(0.05)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
