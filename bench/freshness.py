"""From publishing a message to its row being visible, while messages come at an even rate."""

from __future__ import annotations

import asyncio
import bisect
import time
from collections.abc import Awaitable, Callable, Sequence

LOOK_EVERY = 0.01  # how exact it is [s]
STEP = 0.01  # messages are published in bursts of so long a time [s]


def quantile(values: Sequence[float], at: float) -> float:
    """The smallest of the values that so large a part of them doesn't exceed."""
    ordered = sorted(values)
    return ordered[max(0, -int(-at * len(ordered) // 1) - 1)]


def delays(sent: Sequence[float], seen: Sequence[tuple[float, int]]) -> list[float]:
    """`sent`: when each message was published, in order; `seen`: (when, how many of them were visible), both rising. Seconds, of
    each message that was seen."""
    counts = [count for _, count in seen]
    found = []
    for index, at in enumerate(sent):
        look = bisect.bisect_right(counts, index)
        if look < len(seen):
            found.append(seen[look][0] - at)
    return found


async def watch(
    publish: Callable[[int], Awaitable[None]], visible: Callable[[], Awaitable[int]], rate: float, seconds: float
) -> tuple[list[float], float]:
    """`publish(n)` sends message n; `visible()` counts rows. Returns each message's delay [s], and the rate that was reached."""
    before = await visible()
    sent: list[float] = []
    seen: list[tuple[float, int]] = []

    async def look() -> None:
        while not seen or seen[-1][1] < len(sent) or len(sent) < total:
            seen.append((time.monotonic(), await visible() - before))
            await asyncio.sleep(LOOK_EVERY)

    total = max(1, int(rate * seconds))
    began = time.monotonic()
    looking = asyncio.create_task(look())
    while len(sent) < total:
        due = min(total, int((time.monotonic() - began) * rate) + 1)
        for number in range(len(sent), due):
            await publish(number)
            sent.append(time.monotonic())
        await asyncio.sleep(STEP)
    reached = total / (time.monotonic() - began)
    await asyncio.wait_for(looking, 60)
    return delays(sent, seen), reached
