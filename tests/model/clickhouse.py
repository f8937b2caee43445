"""What ClickHouse promises, and what not.

It takes a block of a token once per partition, as long as it remembers the token (its window must hold every partition of
every block that is inserted until `until` has passed; modelled is only a block that is too much by itself); it refuses a
block after its `until`; it stores the part of a partition whole or not at all. It does not promise that a request that
broke off is not stored, nor (a plain MergeTree) that a token in its log has a part.
"""

from __future__ import annotations

from tests.model.blocks import names
from tests.model.state import Request, Row, Scope, World, stored


def settled(world: World, until: int) -> bool:
    """Are the inserts done that were let in until then?"""
    return not any(request.running and request.until <= until for request in world.requests)


def store(scope: Scope, world: World, request: Request, partitions: list[str]) -> tuple[World, list[Row]]:
    """Stores the rows of these partitions that are not there under this token, and tells which."""
    token = request.piece.token
    new = [row for row in request.piece.rows if row[2] in partitions and (token, row[2]) not in world.tokens]
    tokens = world.tokens | {(token, partition) for partition in partitions[-scope.window :]}
    there = stored(world)
    twice = tuple(row for row in new if row[:2] in there)
    inserted = world.inserted
    if scope.faults.drops:
        times = dict(inserted) | {row[2]: world.now for row in new}
        inserted = tuple(sorted(times.items()))
    harm = f"doubled: message {names(twice)}" if twice else world.harm
    return world._replace(tokens=tokens, hot=world.hot | set(new), inserted=inserted, harm=harm), new


def tear(world: World, request: Request, partitions: list[str]) -> World:
    """Killed after the token is logged and before its part is there."""
    return world._replace(tokens=world.tokens | {(request.piece.token, partition) for partition in partitions})


def move_to_cold(world: World, partition: str) -> World:
    """Tiering copies a partition and drops it: its tokens are free again."""
    moved = {row for row in world.hot if row[2] == partition}
    tokens = frozenset(each for each in world.tokens if each[1] != partition)
    return world._replace(hot=world.hot - moved, cold=world.cold | moved, tokens=tokens)
