"""A process in virtual time: an event loop of its own that the world steps, and so can freeze or drop in mid-flight."""

from __future__ import annotations

import asyncio
import heapq
from asyncio import events
from collections.abc import Callable, Coroutine
from typing import Any


class _NoSelector:
    def select(self, _timeout: float | None = None) -> list[Any]:
        return []


class VirtualLoop(asyncio.BaseEventLoop):
    """asyncio's own scheduling, with the world's clock and without any I/O."""

    _ready: Any
    _scheduled: list[Any]
    _timer_cancelled_count: int

    def __init__(self, clock: Callable[[], float]) -> None:
        super().__init__()
        self._clock = clock
        self._selector = _NoSelector()
        self._clock_resolution = 1e-9

    def time(self) -> float:
        return self._clock()

    def _process_events(self, _events: Any) -> None: ...

    def _write_to_self(self) -> None: ...

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """A killed process leaves its tasks behind; that is the point of it."""

    def next_due(self) -> float:
        """When there is something to do: now, at its next timer, or never."""
        if self._ready:
            return self._clock()
        scheduled = self._scheduled
        while scheduled and scheduled[0].cancelled():
            self._timer_cancelled_count -= 1
            heapq.heappop(scheduled)._scheduled = False
        return scheduled[0].when() if scheduled else float("inf")

    def step(self) -> None:
        events._set_running_loop(self)
        self._run_once()  # type: ignore[attr-defined]


class Killed(BaseException):
    """SIGKILL at a fault point: nothing after it runs with any effect."""


class Process:
    """`alive` until killed or ended; `frozen` between SIGSTOP and SIGCONT. What is sent to it meanwhile waits."""

    def __init__(self, name: str, owner: str, clock: Callable[[], float]) -> None:
        self.name, self.owner = name, owner
        self.loop = VirtualLoop(clock)
        self.alive = True
        self.frozen = False
        self.stopping = False
        self.task: asyncio.Task[None] | None = None

    def start(self, main: Coroutine[Any, Any, None]) -> None:
        self.task = self.loop.create_task(main)

    @property
    def runs(self) -> bool:
        return self.alive and not self.frozen

    def end(self) -> None:
        """Unwind what a killed process left behind; its ports are dead, so nothing of it is seen."""
        self.alive = False
        for task in asyncio.all_tasks(self.loop):
            self.call(task.cancel)
        for _ in range(100):
            if not self.loop._ready:
                break
            self.loop.step()
        self.loop.close()

    def send(self, callback: Callable[..., Any], *arguments: Any) -> None:
        if self.alive:
            self.loop.call_soon(callback, *arguments)

    def call(self, callback: Callable[[], Any]) -> Any:
        """Run in the process's context at once, as a signal handler does."""
        events._set_running_loop(self.loop)
        try:
            return callback()
        finally:
            events._set_running_loop(None)
