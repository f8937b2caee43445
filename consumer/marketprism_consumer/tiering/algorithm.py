"""How rows go from hot to cold, so that none is lost and none doubled, whatever dies in between.

Invariants:

1. *Copy before delete.* A row leaves hot only after it was found in cold with every value equal. So a reader that looks
   into hot first and into cold second sees every row at any moment.
2. *What is deleted is what was verified*, physically. A part of a MergeTree never changes: it is there or it is gone.
   The survey reads hot part by part; what is deleted afterwards is those parts (DROP PART, which costs nothing and can't
   take a row that came later), or within those parts the slice's rows. If a merge has replaced a part meanwhile, nothing
   is deleted, and the slice is done again. A late row is in another part: the next pass takes it.
3. *A copy takes what cold lacks by identity* (`_stream`, `_seq`), so every step may be repeated from the start; there is
   no state but the two tables. Lease and ledger are conveniences: without them this still holds.
4. *A row without an identity gets one in hot, before it moves* (`_stream` = `manual:<run>`, a random `_seq`). From then on
   it is a row like any other: equal rows stay two, a killed run knows which were copied.
5. *A double in cold is seen before anything is deleted.* Two runs at once may both find that cold lacks a row. Of equal
   copies the physically first (part's lowest block, then offset) is never deleted, and exactly the others are. A part that
   comes later has a higher block, so whatever the order of two repairs, the first copy stays.
6. *No token is freed too soon.* ClickHouse forgets with a part which blocks it had. As long as a block may still be sent
   again (`VALID` after it was cut), its part is not dropped: its rows are deleted, which keeps the token.
7. *Cold's copy outlives its server.* On a cluster nothing is deleted before a majority of cold's replicas have all that cold
   has. All of a run is asked of one replica: parts are its own.
8. *Not equal means not deleted.* Anything unexpected ends the table's run with a cause; hot keeps the rows.

Step by step, oldest first; a slice is whole hours (partitions of hot), or a piece of one hour:
name → survey → copy → verify, for each slice; then delete, for all pieces of an hour at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from marketprism_api import reasons
from marketprism_consumer.errors import TieringError
from marketprism_consumer.faultpoints import faultpoint
from marketprism_consumer.tiering.slices import STEPS, Bucket, Filter, Slice, finer, pack

PASSES = 4  # over a slice whose parts are replaced by merges, or that late rows change, while it is worked on
_MASK = (1 << 128) - 1


class Totals(NamedTuple):
    """Count, XOR and sum (mod 2^128) of the hashes of whole rows: equal sets have equal totals, in any order."""

    rows: int = 0
    xor: int = 0
    sum: int = 0

    def __add__(self, other: tuple[object, ...]) -> Totals:
        assert isinstance(other, Totals)
        return Totals(self.rows + other.rows, self.xor ^ other.xor, (self.sum + other.sum) & _MASK)


@dataclass(frozen=True, slots=True)
class Survey:
    """What hot holds of a slice, part by part. `unnamed` rows have no identity yet."""

    parts: Mapping[str, Totals]
    unnamed: int

    @property
    def totals(self) -> Totals:
        found = Totals()
        for of_part in self.parts.values():
            found += of_part
        return found


@dataclass(frozen=True, slots=True)
class Proof:
    """These parts' rows of the slice are in cold, each once and equal."""

    slice: Slice
    parts: Mapping[str, int]


@dataclass(slots=True)
class Moved:
    """What was done to slices."""

    copied: int = 0
    verified: int = 0
    deleted: int = 0
    checksum: int = 0
    proofs: list[Proof] = field(default_factory=list)


class Tiers(Protocol):
    """One table in both tiers. Everything raises StoreError or TieringError."""

    async def buckets(self, start: int, end: int, step: int, filter_: Filter) -> list[Bucket]:
        """Rows of hot by time, oldest first."""

    async def name(self, slice_: Slice) -> None:
        """Give the slice's rows without an identity one, in hot. Returns when it is done."""

    async def survey(self, slice_: Slice) -> Survey: ...

    async def copy(self, slice_: Slice, token: str) -> None:
        """Insert into cold what it lacks of the slice, each identity once. Returns when no insert is under way."""

    async def cold_totals(self, slice_: Slice) -> Totals: ...

    async def lacking(self, slice_: Slice, parts: Sequence[str]) -> int:
        """Rows of these parts whose identity cold does not have with the same values (`created_at` aside: a message that
        ingest stored again after it was moved has a new one)."""

    async def conflicts(self, slice_: Slice, parts: Sequence[str]) -> int:
        """Rows of these parts whose identity cold has with other values."""

    async def doubles(self, slice_: Slice) -> int:
        """Rows of cold beyond the first of their identity and time: with another time it is another row."""

    async def repair(self, slice_: Slice) -> None:
        """Delete the doubles of cold exactly. Raises TieringError where the server is too old for that."""

    async def kept(self) -> None:
        """Returns when what cold has does not die with one replica."""

    async def part_rows(self, parts: Sequence[str]) -> Mapping[str, int]:
        """All rows of these parts of hot, for those that are still there."""

    async def fresh(self, parts: Sequence[str]) -> set[str]:
        """Those of these parts of hot that have rows of blocks that may still be sent again."""

    async def drop_part(self, part: str) -> bool:
        """False where it is not there any more. The tokens of its blocks are free then: not for a fresh part."""

    async def delete(self, proofs: Sequence[Proof]) -> int:
        """Delete from hot each proof's rows of its slice in its parts. Returns how many there were."""


async def plan(tiers: Tiers, start: int, end: int, limit: int, filter_: Filter) -> list[Slice]:
    """Slices from `start` to `end`, oldest first, none above `limit` rows where time can tell them apart."""
    todo = [(start, end, STEPS[0])]
    planned: list[Slice] = []
    while todo:
        begin, until, step = todo.pop()
        for slice_ in pack(await tiers.buckets(begin, until, step, filter_), limit, until, filter_):
            smaller = finer(slice_, limit)
            if smaller is None or smaller >= step:
                planned.append(slice_)
            else:
                todo.append((slice_.start, slice_.end, smaller))
    return sorted(planned, key=lambda slice_: slice_.start)


async def settle_slice(tiers: Tiers, slice_: Slice, run: str, moved: Moved) -> Proof:
    """Bring cold to hold the slice; prove it."""
    for attempt in range(PASSES):
        survey = await tiers.survey(slice_)
        if survey.unnamed:
            await tiers.name(slice_)
            faultpoint("migrate_after_name")
            continue
        parts, totals = list(survey.parts), survey.totals
        cold = await tiers.cold_totals(slice_)
        if cold != totals:
            if missing := await tiers.lacking(slice_, parts) if cold.rows else totals.rows:
                await tiers.copy(slice_, f"{run}/{slice_.start}/{slice_.end}/{attempt}/{totals.rows}/{totals.sum}")
                moved.copied += missing
            faultpoint("migrate_after_copy")
            cold = await tiers.cold_totals(slice_)
        # At best cold has exactly the slice, bit for bit. It may also hold more, rows of earlier runs: then every row of hot
        # must be among them. Either way none may be there twice.
        if await tiers.doubles(slice_):
            await tiers.repair(slice_)
            continue
        if cold != totals and await tiers.lacking(slice_, parts):
            continue
        moved.verified += totals.rows
        moved.checksum ^= totals.xor
        faultpoint("migrate_after_verify")
        return Proof(slice_, {part: found.rows for part, found in survey.parts.items()})
    raise await _why_not(tiers, slice_)


async def _why_not(tiers: Tiers, slice_: Slice) -> TieringError:
    survey = await tiers.survey(slice_)
    if await tiers.doubles(slice_):
        return TieringError(
            reasons.COLD_DOUBLES, f"{slice_}: cold has rows twice; see `marketprism tiers`. Nothing was deleted"
        )
    if count := await tiers.conflicts(slice_, list(survey.parts)):
        what = f"{slice_}: {count} rows have an identity (_stream, _seq) that cold holds with other values"
        return TieringError(
            reasons.IDENTITY_CONFLICT, f"{what}. Nothing was deleted: compare them, and delete one of the two"
        )
    return TieringError(
        reasons.SLICE_UNSETTLED, f"{slice_}: it changed {PASSES} times while it was worked on. The next run tries again"
    )


async def delete_proven(tiers: Tiers, proofs: Iterable[Proof]) -> int:
    """Delete from hot what was proven. Parts that hold nothing else go as a whole. Returns the rows."""
    proofs = list(proofs)
    await tiers.kept()
    proven: dict[str, int] = {}
    for proof in proofs:
        for part, rows in proof.parts.items():
            proven[part] = proven.get(part, 0) + rows
    there = await tiers.part_rows(sorted(proven))
    fresh = await tiers.fresh(sorted(proven))
    whole = [part for part in sorted(proven) if there.get(part) == proven[part] and part not in fresh]
    deleted = 0
    for part in whole:
        deleted += proven[part] if await tiers.drop_part(part) else 0
        faultpoint("migrate_mid_delete")
    # In one statement: a mutation gives every part another name.
    rest = [
        Proof(proof.slice, parts)
        for proof in proofs
        if (parts := {part: rows for part, rows in proof.parts.items() if part not in whole and part in there})
    ]
    if rest:
        deleted += await tiers.delete(rest)
    faultpoint("migrate_after_delete")
    return deleted


async def move_slices(
    tiers: Tiers, slices: Sequence[Slice], run: str, *, delete: bool, stop: Callable[[], bool] = lambda: False
) -> Moved:
    """All the steps for slices that are deleted at once. `stop` is asked before each slice; what is proven by then is finished."""
    moved = Moved()
    for slice_ in slices:
        if stop():
            break
        moved.proofs.append(await settle_slice(tiers, slice_, run, moved))
    if delete:
        moved.deleted = await delete_proven(tiers, moved.proofs)
    return moved
