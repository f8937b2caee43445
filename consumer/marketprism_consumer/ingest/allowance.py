"""What all readers of a connection may have on their way together: nats-server closes one with more than max_pending, 64 MiB, for it."""

from __future__ import annotations

PULL_BYTES = 48 << 20
TAIL_BYTES = 40 << 20
"""Of these what lanes share for what comes; the rest is for look-ups, and for messages that are larger than a share."""


class Allowance:
    """Bytes. Who gets none asks again; the first who has to has room kept for it, as what others have asked for comes or expires."""

    def __init__(self, most: int = PULL_BYTES) -> None:
        self.most, self.taken = most, 0
        self._waits: tuple[object, int] | None = None

    def take(self, who: object, size: int) -> bool:
        """What is more than all of it is had alone: a message may be so large."""
        kept = self._waits[1] if self._waits and self._waits[0] is not who else 0
        if (self.taken or kept) and self.taken + kept + size > self.most:
            self._waits = self._waits or (who, size)
            return False
        self.taken += size
        self.wait_no_more(who)
        return True

    def give_back(self, size: int) -> None:
        self.taken -= size

    def wait_no_more(self, who: object) -> None:
        if self._waits and self._waits[0] is who:
            self._waits = None
