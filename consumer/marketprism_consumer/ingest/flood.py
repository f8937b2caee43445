"""Notices which venues send too many bad messages. Pure: the caller says what time it is."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass, field


def exchange_of(subject: str, token: int) -> str:
    """What can't be a row names its venue in its subject alone, in the token with this number: 2 in `trade.<exchange>.…`."""
    tokens = subject.split(".")
    return tokens[token - 1] if token <= len(tokens) else ""


@dataclass(slots=True)
class Flood:
    """A venue floods while, of at least `min_messages` of its own within `window` seconds, more than `max_ratio` are bad."""

    max_ratio: float
    min_messages: int
    window: float
    _seen: deque[tuple[float, Counter[str], Counter[str]]] = field(default_factory=deque)
    _messages: Counter[str] = field(default_factory=Counter)
    _bad: Counter[str] = field(default_factory=Counter)

    def record(self, now: float, messages: Mapping[str, int], bad: Mapping[str, int]) -> None:
        """How many there were of each exchange, and how many of them bad."""
        seen = now, Counter(messages), Counter(bad)
        self._seen.append(seen)
        self._messages.update(seen[1])
        self._bad.update(seen[2])

    def of(self, now: float) -> frozenset[str]:
        """The exchanges that flood."""
        while self._seen and self._seen[0][0] < now - self.window:
            _, messages, bad = self._seen.popleft()
            self._messages -= messages  # and forgets what is at zero
            self._bad -= bad
        return frozenset(
            exchange
            for exchange, bad in self._bad.items()
            if self._messages[exchange] >= self.min_messages and bad > self.max_ratio * self._messages[exchange]
        )
