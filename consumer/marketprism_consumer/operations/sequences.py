"""Sets of stream sequences as bits, a window at a time: exact, and 5,000,000 of them take 625 KB. Pure.

Bit `i` of a window that begins at `base` is the sequence `base + i`. Python's integers are the sets: `&`, `|`, `& ~`
and `bit_count` run at the speed of memory.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

WINDOW = 1 << 22
"""Sequences in one window: its set takes 512 KB, whatever the stream's or the table's size."""

_CHUNK = 1 << 16
NAMED = 1000  # ranges kept to be named; the count is always whole


class Sequences:
    """A set that is filled one by one or by words, and read by windows. Sparse: only chunks with any take memory."""

    def __init__(self, sequences: Iterable[int] = ()) -> None:
        self._chunks: dict[int, bytearray] = {}
        for seq in sequences:
            self.add(seq)

    def add(self, seq: int) -> None:
        chunk = self._chunks.get(seq >> 16)
        if chunk is None:
            chunk = self._chunks[seq >> 16] = bytearray(_CHUNK // 8)
        chunk[(seq & 0xFFFF) >> 3] |= 1 << (seq & 7)

    def add_words(self, words: Iterable[tuple[int, int]]) -> None:
        """(number, bits): the word `number` stands for the 64 sequences from `64 * number` on."""
        for number, bits in words:
            chunk = self._chunks.setdefault(number >> 10, bytearray(_CHUNK // 8))
            at = (number & 0x3FF) * 8
            word = int.from_bytes(chunk[at : at + 8], "little") | bits
            chunk[at : at + 8] = word.to_bytes(8, "little")

    def window(self, number: int) -> int:
        """The bits of the window `number`, which begins at `number * WINDOW`."""
        first = number * (WINDOW // _CHUNK)
        empty = bytes(_CHUNK // 8)
        chunks = [self._chunks.get(first + i, empty) for i in range(WINDOW // _CHUNK)]
        return int.from_bytes(b"".join(chunks), "little") if any(chunk is not empty for chunk in chunks) else 0

    def windows(self) -> set[int]:
        return {number // (WINDOW // _CHUNK) for number in self._chunks}

    def __contains__(self, seq: int) -> bool:
        chunk = self._chunks.get(seq >> 16)
        return chunk is not None and bool(chunk[(seq & 0xFFFF) >> 3] & 1 << (seq & 7))


def up_to(base: int, last: int) -> int:
    """The sequences of the window at `base` that are not above `last`."""
    return (1 << max(0, min(last - base + 1, WINDOW))) - 1


def between(base: int, first: int, last: int) -> int:
    return up_to(base, last) & ~up_to(base, first - 1)


def runs(bits: int, base: int) -> Iterator[tuple[int, int]]:
    """The set as (first, last) of each run of neighbours, in order."""
    at = base
    while bits:
        gap = (bits & -bits).bit_length() - 1
        bits >>= gap
        length = (~bits & (bits + 1)).bit_length() - 1
        bits >>= length
        yield at + gap, at + gap + length - 1
        at += gap + length


@dataclass(slots=True)
class Ranges:
    """How many sequences, and which: the first NAMED ranges of them."""

    count: int = 0
    ranges: list[tuple[int, int]] = field(default_factory=list)

    def add(self, bits: int, base: int) -> None:
        """More of them; windows come in ascending order."""
        self.count += bits.bit_count()
        if len(self.ranges) > NAMED:
            return
        for first, last in runs(bits, base):
            if self.ranges and self.ranges[-1][1] == first - 1:
                self.ranges[-1] = (self.ranges[-1][0], last)
            elif len(self.ranges) < NAMED:
                self.ranges.append((first, last))
            else:
                return

    def __str__(self) -> str:
        shown = ", ".join(f"{first}..{last}" if last > first else str(first) for first, last in self.ranges[:5])
        named = sum(last - first + 1 for first, last in self.ranges[:5])
        return shown if named == self.count else f"{shown} and {self.count - named:,} more"


# --- the account of one window ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Position:
    """What a lane's record says: what the stream held to `begin` was not wanted; of each (start, end] in `done` all is
    stored, or a dead letter."""

    begin: int = 0
    done: Sequence[tuple[int, int]] = ()

    @property
    def reached(self) -> int:
        """Nothing behind it is done."""
        return max((end for _, end in self.done), default=0)

    def bits(self, base: int) -> int:
        """What is done of the window at `base`."""
        found = 0
        for start, end in self.done:
            found |= between(base, start + 1, end)
        return found


@dataclass(frozen=True, slots=True)
class Judgement:
    """What became of one window's messages, as bits. `missing`, `pending` and `unwanted` are neither row nor dead letter."""

    rows: int
    dead_letters: int
    both: int
    missing: int
    pending: int
    unwanted: int


def judge(base: int, held: int, rows: int, dead: int, at: Position) -> Judgement:
    """Every held sequence is in exactly one of rows, dead letters, missing, pending and unwanted."""
    open_ = held & ~rows & ~dead
    wanted = open_ & ~up_to(base, at.begin)
    done = at.bits(base)
    return Judgement(
        rows=held & rows,
        dead_letters=held & dead & ~rows,
        both=rows & dead,
        missing=wanted & done,
        pending=wanted & ~done,
        unwanted=open_ & ~wanted,
    )
