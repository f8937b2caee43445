"""Named points at which a test can make this process fail. Off unless MARKETPRISM_FAULTPOINT names one.

`MARKETPRISM_FAULTPOINT=after_insert:kill:3` kills the process (SIGKILL) the third time it gets there;
`:stop` freezes it (SIGSTOP) instead.
"""

from __future__ import annotations

import os
import signal

INGEST = ("after_cut", "before_insert", "after_insert", "after_record", "after_epoch", "after_look_up")
MIGRATE = (
    "migrate_after_name",
    "migrate_after_copy",
    "migrate_after_verify",
    "migrate_mid_delete",
    "migrate_after_delete",
)
HEAL = ("heal_after_claim", "heal_after_note", "heal_after_look_up", "heal_after_insert", "heal_before_end")
POINTS = (*INGEST, *MIGRATE, *HEAL)
VARIABLE = "MARKETPRISM_FAULTPOINT"

_name, _, _rest = os.environ.get(VARIABLE, "").partition(":")
_action, _, _count = _rest.partition(":")
_left = int(_count or 1)
_signals = {"kill": signal.SIGKILL, "stop": signal.SIGSTOP}

if _name and (_name not in POINTS or _action not in _signals):
    raise SystemExit(f"{VARIABLE}: {_name}:{_action} is not one of {', '.join(POINTS)} with :kill or :stop")


def faultpoint(name: str) -> None:
    global _left
    if name == _name:
        _left -= 1
        if _left == 0:
            os.kill(os.getpid(), _signals[_action])
