"""What tests with real processes share: waiting for a condition, and a port that nobody has.

A deadline only says when to give up: it is generous, since it costs nothing where the condition comes true. How soon it should
is a promise, which a test prints, and doesn't judge: the machine may be starved by others.
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from random import SystemRandom
from typing import Any, NoReturn, TypeVar

from marketprism_consumer.errors import BrokerError, StoreError

T = TypeVar("T")
What = str | Callable[[], str]

PATIENCE = 120.0  # [s]
_PASSES = (OSError, BrokerError, StoreError)  # what can't be asked just now is asked again


def wait_for(
    condition: Callable[[], T],
    what: What,
    seconds: float = PATIENCE,
    *,
    every: float = 0.05,
    passes: tuple[type[Exception], ...] = _PASSES,
) -> T:
    """The condition's value as soon as it is true."""
    deadline = time.monotonic() + seconds
    while True:
        last: Any = None
        try:
            if last := condition():
                return last
        except passes as error:
            last = error
        if time.monotonic() > deadline:
            _give_up(what, seconds, last)
        time.sleep(every)


async def until(condition: Callable[[], Awaitable[T]], what: What, seconds: float = PATIENCE) -> T:
    """The same for what has to be awaited."""
    deadline = time.monotonic() + seconds
    while True:
        last: Any = None
        try:
            if last := await condition():
                return last
        except _PASSES as error:
            last = error
        if time.monotonic() > deadline:
            _give_up(what, seconds, last)
        await asyncio.sleep(0.05)


def _give_up(what: What, seconds: float, last: object) -> NoReturn:
    raise AssertionError(
        f"not within {seconds:.0f} s: {what if isinstance(what, str) else what()}; last seen: {last!r}"
    )


def free_port() -> int:
    """Below those that the kernel gives to outgoing connections: while a server is down, nobody takes its port by chance."""
    while True:
        port = SystemRandom().randrange(20_000, 32_000)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
