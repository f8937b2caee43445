"""Every history of a scope, breadth first: the first one that breaks the guarantee is a shortest one.

Doubled or buried is a message in one bad moment. Lost it is when everything comes to rest without it: from each world that
is reached the explorer lets things happen that go by themselves (`world.calm`) until nothing is left to do, as long as
that takes, and then each message that the stream holds must be a row or a dead letter.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from tests.model.blocks import names
from tests.model.record import forget
from tests.model.state import Scope, Step, World, first, held, stored
from tests.model.world import calm, done, steps

LONGEST_REST = 300  # steps; more than this is going round in a circle


@dataclass(frozen=True, slots=True)
class Violation:
    kind: str  # lost, doubled, buried
    what: str
    trace: list[str]

    def __str__(self) -> str:
        lines = [f"{self.kind}: {self.what}", *(f"{number:4} {line}" for number, line in enumerate(self.trace, 1))]
        return "\n".join(lines)


@dataclass(frozen=True, slots=True)
class Result:
    scope: Scope
    states: int
    seconds: float
    complete: bool  # every history was seen
    violation: Violation | None


@dataclass(slots=True)
class Explorer:
    scope: Scope
    before: dict[World, World | None] = field(default_factory=dict)  # how each world was reached first
    comes_to_rest: set[World] = field(default_factory=set)  # worlds from which all is well once calm

    def run(self, limit: int | None = None, progress: Callable[[int], None] | None = None) -> Result:
        began = time.perf_counter()
        scope, before = self.scope, self.before
        start = first(scope)
        before[start] = None
        frontier = [start]
        violation = None
        complete = True
        while frontier and violation is None and complete:
            following: list[World] = []
            for world in frontier:
                violation = self.judge(world)
                if violation:
                    break
                for step in steps(scope, world):
                    after = forget(scope, step.world)
                    if after not in before:
                        before[after] = world
                        following.append(after)
                        if progress:
                            progress(len(before))
                if limit and len(before) > limit:
                    complete = False
                    break
            frontier = following
        seconds = time.perf_counter() - began
        return Result(scope, len(before), seconds, complete and violation is None, violation)

    def judge(self, world: World) -> Violation | None:
        """Is a message doubled or buried, or lost when all comes to rest from here?"""
        if world.harm:
            return self.violation(world, [])
        path: list[Step] = []
        seen: set[World] = set()
        here = world
        moved = world.now  # when something other than the clock did
        patience = 2 * self.scope.valid + self.scope.lag + 2  # ticks; nothing waits for longer
        while here not in self.comes_to_rest:
            if done(self.scope, here):
                break
            if here.now - moved > patience:
                return self.violation(world, path[: -patience - 1])
            if here in seen or len(path) > LONGEST_REST:
                return self.violation(world, path)
            seen.add(here)
            step = next(calm(self.scope, here))
            if step.world.now == here.now:
                moved = here.now
            here = forget(self.scope, step.world)
            path.append(step)
            if here.harm:
                return self.violation(world, path)
        self.comes_to_rest.add(world)
        self.comes_to_rest.update(seen)
        return None

    def violation(self, world: World, rest: list[Step]) -> Violation:
        last = rest[-1].world if rest else world
        trace = self.trace(world)
        if rest:
            trace += ["and when nothing else goes wrong:", *(step.text for step in rest)]
        if last.harm:
            kind, _, what = last.harm.partition(": ")
            return Violation(kind, what, trace)
        there = stored(last) | last.letters
        missing = [message for message in held(self.scope, last, 0, len(last.stream)) if message not in there]
        return Violation("lost", f"message {names(tuple(missing))}", trace)

    def trace(self, world: World) -> list[str]:
        lines: list[str] = []
        after = world
        while (earlier := self.before[after]) is not None:
            lines.append(
                next(step.text for step in steps(self.scope, earlier) if forget(self.scope, step.world) == after)
            )
            after = earlier
        return lines[::-1]


def explore(scope: Scope, limit: int | None = None, progress: Callable[[int], None] | None = None) -> Result:
    return Explorer(scope).run(limit, progress)
