"""The record of a lane, as values, and everything that is ever written into it. Pure.

A lane is one stream into one table. Its record is one key of a NATS bucket, changed by compare-and-set. It says to where all
is stored, and who works on which stretch of the rest. `tests/model` explores the same steps under the same names.
"""

from __future__ import annotations

import os
from hashlib import blake2b

import msgspec
from msgspec.structs import replace

VERSION = 1  # of this format
VALID = int(os.environ.get("MARKETPRISM_TEST_VALID", "60"))
"""How long ClickHouse takes a block after it was cut [s]. All processes and tiering count on the same; a shorter one is for
tests alone."""

NOT_LOOKED_INTO = "?"
"""Instead of a server's start: whoever reads this record has to look into it before it works by it."""


class Cut(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """From the claim's `done` to `end`, as one block. Written once; only a new epoch changes it.

    `mark`: arrival of the message at `end` [µs]. `until`: ClickHouse refuses the block after this moment of its clock [s].
    `epoch` 0 is the block as it was cut; later ones go by look-ups. `rules`: version of the decoding. `token` is random.
    """

    end: int
    mark: int
    until: int
    epoch: int
    rules: int
    token: str


class Claim(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """(start, end] is one process's to store; without an end it is the tail, which only the last claim is.

    `done`: to where it is stored. `beat`: raised by its owner while it lives. `cut`: the one that is not done yet.
    `after`: in doubt; begun only after this moment of ClickHouse's clock [s], and by look-ups.
    """

    id: str
    start: int
    end: int | None
    done: int
    owner: str = ""
    beat: int = 0
    cut: Cut | None = None
    after: int | None = None

    @property
    def position(self) -> int:
        """To where it is cut."""
        return self.cut.end if self.cut else self.done

    @property
    def waits(self) -> bool:
        """In doubt, or its cut is in a later epoch: it goes by look-ups, and the lane goes on behind it."""
        return self.end is not None and (self.after is not None or (self.cut is not None and self.cut.epoch > 0))

    @property
    def finished(self) -> bool:
        return self.end is not None and self.done >= self.end and self.cut is None


class Record(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All to `done` is stored, and of each claim all to its own.

    `begin`: what the stream held to there was not wanted. `mark`: (sequence, arrival [µs]) of the furthest message that the
    stream was seen to hold when something was done; a stream loses its end only, so it tells of all before it.
    `generation`: how often the stream was set back.
    `boot`: the server that keeps the bucket, where it is one alone. `write`: random, so that a write of unknown outcome is
    known by reading. `stream`, `created`, `subject`, `table`: for people.
    """

    stream: str
    created: str
    subject: str
    table: str
    begin: int = 0
    done: int = 0
    mark: tuple[int, int] | None = None
    generation: int = 0
    boot: str = ""
    write: str = ""
    claims: tuple[Claim, ...] = ()
    version: int = VERSION

    @property
    def end(self) -> int:
        """To where everything is somebody's."""
        if not self.claims:
            return self.done
        last = self.claims[-1]
        return last.position if last.end is None else last.end

    @property
    def seen(self) -> int:
        """To where the stream is known to have been. One that ends before was set back; a claim may begin and end further."""
        mark = self.mark[0] if self.mark else 0
        return max(self.done, mark, *(claim.position for claim in self.claims if claim.position > claim.start))

    @property
    def untouched(self) -> tuple[tuple[int, int | None], ...]:
        """Stretches (start, end] of which nobody has sent anything. Rows there: the record was set back."""
        ends = [(claim.position, claim.end) for claim in self.claims if claim.after is None]
        if not self.has_tail:
            ends.append((self.end, None))
        return tuple((start, end) for start, end in ends if end is None or start < end)

    def is_done(self, seq: int) -> bool:
        if seq <= self.done:
            return True
        return any(claim.start < seq <= claim.done for claim in self.claims)

    @property
    def has_tail(self) -> bool:
        return bool(self.claims) and self.claims[-1].end is None

    def claim(self, id: str) -> Claim | None:
        return next((claim for claim in self.claims if claim.id == id), None)


def lane_key(data_type: str, stream: str, created: str, subject: str, table: str) -> str:
    """The record's key in the bucket. `table` is what ClickHouse knows this very table by: a dropped one has another."""
    identity = "\0".join((stream, created, subject, table))
    return f"{data_type}.{blake2b(identity.encode(), digest_size=12).hexdigest()}"


def dump(record: Record) -> bytes:
    return msgspec.json.encode(record)


def load(value: bytes) -> Record:
    """Raises ValueError where it is no record, or one of another version."""
    try:
        record = msgspec.json.decode(value, type=Record)
    except (msgspec.DecodeError, msgspec.ValidationError) as error:
        raise ValueError(f"not a lane's record: {error}") from None
    if record.version != VERSION:
        raise ValueError(f"a lane's record of version {record.version}; this is {VERSION}")
    return record


# --- the steps: each gives the record after it, or None where it can't be taken --------------------------------------


def with_claim(record: Record, *claims: Claim) -> Record:
    """With these claims instead of those of the same id. `done` moves over finished claims."""
    changed = {claim.id: claim for claim in claims}
    found = [changed.get(claim.id, claim) for claim in record.claims]
    done = record.done
    while found and found[0].finished:
        done = found.pop(0).end or done
    return replace(record, done=done, claims=tuple(found))


def marked(record: Record, mark: tuple[int, int]) -> Record:
    return replace(record, mark=mark) if record.mark is None or record.mark[0] < mark[0] else record


def claimed(record: Record, id: str, owner: str, end: int | None) -> Record | None:
    """The next stretch; only where nobody has the tail."""
    start = record.end
    if record.has_tail or (end is not None and end <= start):
        return None
    return replace(record, claims=(*record.claims, Claim(id, start, end, start, owner)))


def taken_over(record: Record, seen: Claim, owner: str) -> Record | None:
    """A claim that is nobody's, or whose owner was not heard since it was seen so."""
    claim = record.claim(seen.id)
    if claim is None or (claim.owner, claim.beat) != (seen.owner, seen.beat):
        return None
    return with_claim(record, replace(claim, owner=owner, beat=claim.beat + 1))


def own(record: Record, id: str, owner: str) -> Claim | None:
    """The claim, if it still is this owner's."""
    claim = record.claim(id)
    return claim if claim is not None and claim.owner == owner else None


def cut_next(record: Record, id: str, owner: str, start: int, cut: Cut, *, end: int | None) -> Record | None:
    """A batch's end becomes a cut. `end`: where the claim is to end from now on, if nobody has claimed what follows it.

    A claim in doubt keeps its end: what is claimed behind it would be cut as if nobody had sent anything of it.
    """
    claim = own(record, id, owner)
    if claim is None or claim.cut is not None or claim.done != start or cut.end <= start:
        return None
    if claim.end is not None and cut.end > claim.end:
        return None
    if record.claims[-1] is claim and claim.after is None and (end is None or end >= cut.end):
        claim = replace(claim, end=end)
    return with_claim(record, replace(claim, cut=cut, beat=claim.beat + 1))


def record_done(record: Record, id: str, owner: str, cut: Cut) -> Record | None:
    """The cut is a block in the table, and what could not be a row is buried."""
    claim = own(record, id, owner)
    if claim is None or claim.cut != cut:
        return None
    record = marked(record, (cut.end, cut.mark))
    return with_claim(record, replace(claim, done=cut.end, cut=None, beat=claim.beat + 1))


def nothing_left(record: Record, id: str, owner: str, start: int, mark: tuple[int, int]) -> Record | None:
    """To `mark`, a message that the stream holds, whosever it is, nothing after `start` is ours. Read the mark first, then
    look. An empty stream has none: nothing is lost by leaving `done` where it is, and all by moving it, if the stream is
    set back and has other messages in these places."""
    claim = own(record, id, owner)
    if claim is None or claim.cut is not None or claim.done != start or mark[0] < start:
        return None
    end = mark[0] if claim.end is None else min(mark[0], claim.end)
    return with_claim(marked(record, mark), replace(claim, done=end, beat=claim.beat + 1))


def new_epoch(
    record: Record, id: str, owner: str, cut: Cut, *, mark: int, until: int, rules: int, token: str
) -> Record | None:
    """Nobody sends anything of the earlier one any more: whoever writes this may look up and send the rest."""
    claim = own(record, id, owner)
    if claim is None or claim.cut != cut:
        return None
    new = replace(cut, mark=mark, until=until, epoch=cut.epoch + 1, rules=rules, token=token)
    return with_claim(record, replace(claim, cut=new, beat=claim.beat + 1))


def set_aside(record: Record, id: str, owner: str, rest: str) -> Record | None:
    """What has to wait becomes a claim of its own, which ends with its cut; the lane goes on behind it, as `rest`."""
    claim = own(record, id, owner)
    if claim is None or claim.cut is None:
        return None
    end = claim.cut.end
    if claim.end is not None and claim.end <= end:
        return with_claim(record, replace(claim, beat=claim.beat + 1))
    aside = replace(claim, end=end, beat=claim.beat + 1)
    behind = Claim(rest, end, claim.end, end, owner, after=claim.after)
    at = record.claims.index(claim)
    return replace(record, claims=(*record.claims[:at], aside, behind, *record.claims[at + 1 :]))


def held_back(record: Record, id: str, owner: str, cut: Cut, earlier: str, new: str) -> Record | None:
    """The cut's rows are in the table, and what of it is bad is not buried yet: a stretch `new` is put in doubt for that, to be
    looked up like any other once the cut's moment is over. The stretch `earlier` takes it in, if it ends where the cut begins."""
    claim = own(record, id, owner)
    if claim is None or claim.cut != cut or claim.after is not None:
        return None
    at = record.claims.index(claim)
    behind = replace(claim, start=cut.end, done=cut.end, cut=None, beat=claim.beat + 1)
    held = record.claims[at - 1] if at else None
    if held is not None and held.id == earlier and held.owner == owner and claim.start == claim.done:
        more = replace(held, end=cut.end, after=max(held.after or 0, cut.until))
        stretches = (*record.claims[: at - 1], more, behind)
    else:
        stretches = (*record.claims[:at], Claim(new, claim.start, cut.end, claim.done, owner, after=cut.until), behind)
    return marked(replace(record, claims=(*stretches, *record.claims[at + 1 :])), (cut.end, cut.mark))


def heard(record: Record, owner: str) -> Record:
    """The owner lives."""
    claims = (replace(claim, beat=claim.beat + 1) if claim.owner == owner else claim for claim in record.claims)
    return replace(record, claims=tuple(claims))


def released(record: Record, owner: str, id: str = "") -> Record:
    """The owner goes, or gives up one claim: others need not wait for its silence."""
    theirs = (claim for claim in record.claims if claim.owner == owner and id in ("", claim.id))
    return with_claim(record, *(replace(claim, owner="") for claim in theirs))


def recovered(record: Record, after: int, last: int, id: str, *, everything: bool) -> Record:
    """What anybody may have sent inserts for without this record knowing: to the stream's end `last`, from the record's end,
    or from the stream's start where the stream itself was set back. And what the record still knows may have been in a
    later epoch. `after`: no `until` that anybody has written is later; so it is counted from the fastest clock. It and
    `last` are read after the record. `id`: for the new claim."""
    if everything:
        record = replace(record, done=0, mark=None, claims=(), generation=record.generation + 1)
    claims = []
    for claim in record.claims:
        # Nobody goes on in an open tail beyond which others may have cut.
        end = claim.position if claim.end is None else claim.end
        cut = claim.cut and replace(claim.cut, epoch=claim.cut.epoch + 1, until=max(claim.cut.until, after))
        claims.append(replace(claim, end=end, owner="", cut=cut, after=max(after, claim.after or 0)))
    start = record.end
    if last > start:
        claims.append(Claim(id, start, last, start, after=after))
    record = replace(record, claims=tuple(claims))
    return with_claim(record)


def reset(record: Record, to: int, after: int, last: int, id: str) -> Record:
    """By hand: all after `to` is looked up, and stored where it is not; what came before is as it is. The mark stays: it still
    tells whether the stream is what it was. Nothing is behind the stream's end; it would look set back."""
    to = min(to, last)
    begin = to if to > record.end else min(record.begin, to)
    return recovered(replace(record, begin=begin, done=to, claims=()), after, last, id, everything=False)
