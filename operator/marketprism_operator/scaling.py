"""How many Pods a consumer gets, by how late its rows come. Pure: the caller says what time it is."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from marketprism_api.pipeline import AutoscaleSpec, ConsumerSpec
from marketprism_operator.conditions import Word

LOOK_EVERY = 15.0
"""Seconds between two looks at the Pods of a consumer that is scaled."""
SETTLE = 30.0
"""Seconds that new Pods get before there are more."""
CALM = 300.0
"""Seconds for which rows have to come well in time before there are fewer Pods."""
STEP = 60.0
"""Seconds between two Pods less."""


@dataclass
class Memory:
    """Of one consumer: when its number of Pods was changed, and since when rows come well in time [s]."""

    changed: float = -math.inf
    calm_since: float | None = None


def lag(spec: ConsumerSpec, words: Iterable[Word]) -> float | None:
    """How late rows come [s], as the Pods that do their work say; None where none does."""
    said = [
        float(word.data_types[data_type].get("lagSeconds") or 0.0)
        for word in words
        if word.ready
        for data_type in map(str, spec.data_types)
        if data_type in word.data_types
    ]
    return max(said, default=None)


def wanted(spec: AutoscaleSpec, present: int, late: float | None, memory: Memory, now: float) -> int:
    """The number of Pods: twice as many while rows come too late, one less a minute after they have come well in time for a while."""
    number = min(max(present, spec.min), spec.max)
    target = spec.target_lag.seconds
    if late is None or late >= target / 2:
        memory.calm_since = None
    elif memory.calm_since is None:
        memory.calm_since = now
    if number == present and late is not None:
        if late > target and now - memory.changed >= SETTLE:
            number = min(2 * present, spec.max)
        elif memory.calm_since is not None and now - max(memory.calm_since + CALM - STEP, memory.changed) >= STEP:
            number = max(present - 1, spec.min)
    if number != present:
        memory.changed = now
    return number
