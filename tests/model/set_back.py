"""What a process does about a record or a stream that is not what it was.

Noticed at the start, after every reconnect and by each read of the record. Then everything that anybody may have sent
inserts for without the record knowing becomes a claim in doubt: begun after the longest `until`, by look-ups.
"""

from __future__ import annotations

from collections.abc import Iterator

from tests.model.blocks import same_content
from tests.model.record import claim_of
from tests.model.state import Claim, Process, Record, Scope, Step, World, end_of, held, stored, with_process


def read_record(scope: Scope, world: World, who: int) -> Iterator[Step]:
    """Reads the record, and looks whether it and the stream are what they were."""
    process = world.processes[who]
    record = world.record
    if stream_in_doubt(scope, world):
        yield recover(scope, world, who, "the stream is not what it was", everything=True)
    elif why := record_in_doubt(scope, world, process):
        yield recover(scope, world, who, why)
    elif record is None:
        record = Record(first_revision(scope, world), 0, None, ())
        world = world._replace(record=record)
        yield Step(f"P{who} begins a record", with_process(world, who, Process(record, record.revision)))
    else:
        job = process.job
        if job and not (claim_of(scope, record, who, job) and same_content(scope, world, job.cut)):
            job = None  # what is in hand is not what the record and the stream say any more: begin again from there
        text = f"P{who} reads the record"
        yield Step(text, with_process(world, who, Process(record, record.revision, job)))


def record_in_doubt(scope: Scope, world: World, process: Process) -> str:
    """The table tells only of what the stream holds: rows from before a set-back of the stream are none of the record's."""
    rules, record = scope.rules, world.record
    there = stored(world)
    top = max((message[0] for message in held(world, 0, len(world.stream)) if message in there), default=0)
    if record is None:
        return "there is no record" if rules.notice_missing or top else ""
    if rules.notice_boot and world.rebooted:
        return "the server was started anew"
    if rules.notice_revision and record.revision < process.known:
        return f"revision {record.revision} is below {process.known}"
    if rules.notice_table and top > end_of(record):
        return f"the table has {top}, the record ends at {end_of(record)}"
    return ""


def stream_in_doubt(scope: Scope, world: World) -> bool:
    """Content is compared where it was last seen; all before it is older, and a stream loses its end only."""
    rules, record, stream = scope.rules, world.record, world.stream
    if record is None:
        return False
    if rules.notice_shorter_stream and len(stream) < end_of(record):
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
    rules = scope.rules
    after = world.now + scope.valid if rules.recover_waits else -1
    found = world.record or Record(first_revision(scope, world), 0, None, ())
    base = found._replace(done=0, mark=None, claims=()) if everything else found
    last = len(world.stream)
    if not rules.recover_to_stream_end:
        last = max((sequence for sequence, _ in stored(world)), default=0)
    start = end_of(base)
    claims = [in_doubt(scope, each, after) for each in base.claims]
    if last > start:
        claims.append(Claim(start, last, start, None, None, after))
    record = base._replace(revision=base.revision + 1, claims=tuple(claims))
    world = world._replace(record=record, rebooted=False)
    text = f"P{who} recovers ({start}, {last}], in doubt until {after}: {why}"
    return Step(text, with_process(world, who, Process(record, record.revision)))


def in_doubt(scope: Scope, claim: Claim, after: int) -> Claim:
    """A claim that the record still knows: nobody's, closed, and its cut in a later epoch, whatever it was in."""
    rules = scope.rules
    end = claim.end
    if end is None and rules.close_open_tails:
        end = claim.cut.end if claim.cut else claim.done
    claim = claim._replace(end=end, owner=None)
    if not rules.recover_old_claims:
        return claim
    cut = claim.cut
    if cut:
        cut = cut._replace(epoch=cut.epoch + 1, until=max(cut.until, after))
    return claim._replace(cut=cut, after=after)
