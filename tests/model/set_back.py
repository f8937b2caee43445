"""What a process does about a record or a stream that is not what it was.

Noticed at the start, after every reconnect and by each read of the record. Then everything that anybody may have sent
inserts for without the record knowing becomes a claim in doubt: begun after the longest `until`, by look-ups.
"""

from __future__ import annotations

from collections.abc import Iterator

from tests.model.blocks import same_content
from tests.model.record import claim_of
from tests.model.state import (
    Claim,
    Process,
    Record,
    Scope,
    Step,
    World,
    end_of,
    held,
    position,
    spent,
    stored,
    with_process,
)


def read_record(scope: Scope, world: World, who: int) -> Iterator[Step]:
    """Reads the record, and looks whether it and the stream are what they were. After a reconnect nothing stays in hand."""
    process = world.processes[who]
    record = world.record
    if stream_in_doubt(scope, world):
        yield recover(scope, world, who, "the stream is not what it was", everything=True)
    elif why := record_in_doubt(scope, world, process):
        yield recover(scope, world, who, why)
    elif record is None:
        record = Record(first_revision(scope, world), 0, None, ())
        world = world._replace(record=record)
        yield Step(f"P{who} begins an empty record", with_process(world, who, Process(record, record.revision)))
    else:
        job = None if process.shaken else process.job
        if job and not (claim_of(scope, record, who, job) and same_content(scope, world, job.cut)):
            job = None  # what is in hand is not what the record and the stream say any more: begin again from there
        text = f"P{who} reads the record"
        yield Step(text, with_process(world, who, Process(record, record.revision, job)))


def record_in_doubt(scope: Scope, world: World, process: Process) -> str:
    """The table tells only of what the stream holds: rows from before a set-back of the stream are none of the record's."""
    rules, record = scope.rules, world.record
    there = stored(world)
    rows = [message[0] for message in held(scope, world, 0, len(world.stream)) if message in there]
    if record is None:
        return "there is no record" if (rules.notice_missing and not process.maker) or rows else ""
    if rules.notice_boot and world.rebooted:
        return "the server was started anew"
    if rules.notice_revision and record.revision < process.known:
        return f"revision {record.revision} is below {process.known}"
    for sequence in rows if rules.notice_table else ():
        if untouched(record, sequence):
            return f"the table has {sequence}, and the record no cut of it"
    return ""


def untouched(record: Record, sequence: int) -> bool:
    """Is it certain by this record that nobody has sent anything of it? A claim may end far beyond what is cut of it."""
    for claim in record.claims:
        if claim.start < sequence and (claim.end is None or sequence <= claim.end):
            return sequence > position(claim) and claim.after is None
    return sequence > record.done


def stream_in_doubt(scope: Scope, world: World) -> bool:
    """Content is compared where it was seen furthest; all before it is older, and a stream loses its end only."""
    rules, record, stream = scope.rules, world.record, world.stream
    if record is None:
        return False
    seen = [position(claim) for claim in record.claims if position(claim) > claim.start]
    if rules.notice_shorter_stream and len(stream) < max(record.done, record.mark[0] if record.mark else 0, *seen):
        return True
    if not rules.mark_at_done or record.mark is None or record.mark[0] > len(stream):
        return False
    arrived = stream[record.mark[0] - 1]
    return arrived is not None and arrived != record.mark[1]


def first_revision(scope: Scope, world: World) -> int:
    """The first sequence of a bucket can be set; a clock is above all revisions that ever were."""
    return 1 + 100 * world.buckets if scope.rules.new_bucket_above else 1


def recover(scope: Scope, world: World, who: int, why: str, *, everything: bool = False) -> Step:
    """What is in doubt: from the record's end, or the stream's start, to the stream's end. The rest waits as long."""
    found = world.record or Record(first_revision(scope, world), 0, None, ())
    base = found._replace(done=0, mark=None, claims=()) if everything else found
    after = latest(scope, world) if scope.rules.recover_waits else -1
    record = recovered(scope, world, base, after)
    world = world._replace(record=record, rebooted=False)
    text = f"P{who} recovers all after {end_of(base)}, in doubt until {after}: {why}"
    return Step(text, with_process(world, who, Process(record, record.revision)))


def reset(scope: Scope, world: World) -> Iterator[Step]:
    """Somebody has all after `to` looked up, and stored where it is not. The mark stays: it still tells of the stream."""
    rules, record = scope.rules, world.record
    if not world.left.resets or record is None:
        return
    after = latest(scope, world) if rules.reset_waits else None
    for to in range((record.claims[0].done if record.claims else record.done) + 1):
        base = record._replace(done=to, claims=(), mark=record.mark if rules.reset_keeps_mark else None)
        changed = recovered(scope, world, base, after)
        yield Step(
            f"the lane is reset to {to}, in doubt until {after}", spent(world, "resets")._replace(record=changed)
        )


def latest(scope: Scope, world: World) -> int:
    """When everything is over that anybody has sent before now. Which server's clock that goes by matters."""
    return world.now + scope.valid - (0 if scope.rules.fastest_clock else scope.lag)


def recovered(scope: Scope, world: World, base: Record, after: int | None) -> Record:
    last = len(world.stream)
    if not scope.rules.recover_to_stream_end:
        last = max((sequence for sequence, _ in stored(world)), default=0)
    start = end_of(base)
    claims = [in_doubt(scope, each, after) for each in base.claims]
    if last > start:
        claims.append(Claim(start, last, start, None, None, after))
    return base._replace(revision=base.revision + 1, claims=tuple(claims))


def in_doubt(scope: Scope, claim: Claim, after: int | None) -> Claim:
    """A claim that the record still knows: nobody's, closed, and its cut in a later epoch, whatever it was in."""
    rules = scope.rules
    end = claim.end
    if end is None and rules.close_open_tails:
        end = claim.cut.end if claim.cut else claim.done
    claim = claim._replace(end=end, owner=None)
    if not rules.recover_old_claims:
        return claim
    cut = claim.cut
    if cut and after is not None:
        cut = cut._replace(epoch=cut.epoch + 1, until=max(cut.until, after))
    return claim._replace(cut=cut, after=after)
