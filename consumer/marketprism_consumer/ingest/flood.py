"""Notices when too many of the last messages are bad. Pure: the caller says what time it is."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field


@dataclass(slots=True)
class Flood:
    """Trips when, of at least `min_messages` within `window` seconds, more than `max_ratio` were bad. Once it has, a tenth
    of the messages is enough to trip it again, until a window is good."""

    max_ratio: float
    min_messages: int
    window: float
    looks: bool = False
    """After a pause, until a look is good: what comes is looked at with suspicion."""
    _wary: bool = False
    _seen: deque[tuple[float, int, int]] = field(default_factory=deque)

    def record(self, now: float, total: int, bad: int) -> bool:
        self._seen.append((now, total, bad))
        while self._seen[0][0] < now - self.window:
            self._seen.popleft()
        messages = sum(seen[1] for seen in self._seen)
        refused = sum(seen[2] for seen in self._seen)
        if messages < (self.min_messages // 10 if self._wary else self.min_messages):
            return False
        self._wary = refused > self.max_ratio * messages
        return self._wary

    def reset(self) -> None:
        self._seen.clear()
