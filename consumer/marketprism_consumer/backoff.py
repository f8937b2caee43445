"""How long to wait before the next try: exponential, jittered, capped. And a breaker that lets one try through at a time."""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random


@dataclass(slots=True)
class Backoff:
    """Full jitter (AWS Architecture Blog, "Exponential Backoff And Jitter") with a floor: a wait is never zero.

    The cap is short: what waits here is already durable in JetStream, and users see how soon we are back [s].
    """

    first: float = 0.2
    cap: float = 5.0
    random: Random = field(default_factory=Random)
    tries: int = 0

    def next(self) -> float:
        ceiling = min(self.cap, self.first * 2.0**self.tries)
        self.tries += 1
        return ceiling * (0.5 + self.random.random() / 2)


@dataclass(slots=True)
class Breaker:
    """Open after `threshold` failures in a row; then one probe every `pause` seconds until one succeeds."""

    threshold: int = 5
    pause: float = 2.0
    failures: int = 0
    probe_at: float = 0.0

    @property
    def open(self) -> bool:
        return self.failures >= self.threshold

    def wait(self, now: float) -> float:
        """Seconds until a try is allowed: 0 where it is, and then the next one has to wait."""
        if not self.open or now >= self.probe_at:
            if self.open:
                self.probe_at = now + self.pause
            return 0.0
        return self.probe_at - now

    def succeeded(self) -> None:
        self.failures = 0

    def failed(self, now: float) -> None:
        self.failures += 1
        self.probe_at = now + self.pause
