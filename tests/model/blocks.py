"""What a process makes of the messages of a range: one block, or the pieces of a later epoch."""

from __future__ import annotations

from functools import cache

from tests.model.state import Cut, Message, Piece, Row, Scope, Token, World, held


def good_and_bad(scope: Scope, world: World, who: int, start: int, end: int) -> tuple[list[Row], list[Message]]:
    """What this process's decoding rules make of the messages of (start, end]."""
    version = scope.versions[who]
    good: list[Row] = []
    bad: list[Message] = []
    for sequence, arrived in held(scope, world, start, end):
        if scope.decodes(sequence, version):
            good.append((sequence, arrived, scope.partition(sequence, version)))
        else:
            bad.append((sequence, arrived))
    return good, bad


def block(
    scope: Scope, world: World, who: int, start: int, end: int, of: Token
) -> tuple[tuple[Piece, ...], tuple[Message, ...]]:
    """One block of all that is good. Without that rule: blocks of so many rows, numbered."""
    good, bad = good_and_bad(scope, world, who, start, end)
    rows = (len(good) or 1) if scope.rules.one_block_per_cut else scope.block_rows
    parts = [good[index : index + rows] for index in range(0, len(good), rows)]
    return tuple(Piece((*of, number), tuple(part)) for number, part in enumerate(parts)), tuple(bad)


def cut_up(scope: Scope, rows: list[Row], of: Token, finer: int) -> tuple[Piece, ...]:
    """One piece, smaller ones, or row by row; none with more partitions than the window remembers."""
    size = (len(rows), (len(rows) + 1) // 2, 1)[finer]
    parts: list[list[Row]] = []
    for row in rows:
        partitions = {each[2] for each in parts[-1]} | {row[2]} if parts else set()
        if parts and len(parts[-1]) < size and (len(partitions) <= scope.window or not scope.rules.few_partitions):
            parts[-1].append(row)
        else:
            parts.append([row])
    return tuple(Piece((*of, number), tuple(part)) for number, part in enumerate(parts))


@cache
def names(messages: tuple[Message, ...] | tuple[Row, ...]) -> str:
    """A message is named by its sequence; one in its second life, after a set-back of the stream, has a prime."""
    return ", ".join(f"{message[0]}{chr(39) * message[1]}" for message in messages) or "nothing"


@cache
def tell(pieces: tuple[Piece, ...]) -> str:
    return " | ".join(f"{names(piece.rows)} [token {'.'.join(map(str, piece.token))}]" for piece in pieces) or "nothing"


def same(scope: Scope, world: World, who: int, cut: Cut) -> bool:
    """Can the block be made again as it was cut, and be in time?"""
    rules = scope.rules
    if cut.epoch > 0 or (rules.fixed_until and world.now > cut.until):
        return False
    if rules.version_in_cut and cut.version != scope.versions[who]:
        return False
    return same_content(scope, world, cut)


def same_content(scope: Scope, world: World, cut: Cut) -> bool:
    """Is the last message the one that was cut? A stream loses its end only, so it tells of all before it."""
    return not scope.rules.mark_in_cut or cut.mark == arrival(world, cut.end)


def arrival(world: World, sequence: int) -> int | None:
    return world.stream[sequence - 1] if 0 < sequence <= len(world.stream) else None
