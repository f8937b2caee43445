"""What JetStream says instead of a message, in answer to a pull request (nats-server's consumer.go). Pure."""

from __future__ import annotations

import re
from typing import NamedTuple

_FEWER = re.compile(r"Exceeded MaxRequestBatch of (\d+)")  # a limit in the server's configuration
_FULL = "Message Size Exceeds MaxBytes"


class PullStatus(NamedTuple):
    code: int
    text: str

    @property
    def idle(self) -> bool:
        """It lives; nothing has come for a while."""
        return self.code == 100

    @property
    def at_most(self) -> int | None:
        """Messages that may be asked for at once, where it were too many."""
        found = _FEWER.match(self.text)
        return max(1, int(found[1])) if found else None

    @property
    def full(self) -> bool:
        """The next message would be more than the bytes that were asked for."""
        return self.text.startswith(_FULL)

    @property
    def over(self) -> bool:
        """How requests end. All else is news of the consumer."""
        return self.code in (404, 408) or self.full or self.text.startswith("Batch Completed")


def pull_status(headers: bytes) -> PullStatus:
    """Of a line such as `NATS/1.0 409 Consumer Deleted`."""
    line = headers.partition(b"\r\n")[0].removeprefix(b"NATS/1.0").strip().decode(errors="replace")
    code, _, text = line.partition(" ")
    return PullStatus(int(code) if code.isdigit() else 0, text)
