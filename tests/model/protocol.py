"""The steady path: claim → read → cut → bury the bad ones → insert → verify → record that it is done.

Each step is a generator of the worlds that it may lead to. A process takes one step at a time, and between two of them
anything may happen: that is what being paused, slow or scheduled badly means.
"""

from __future__ import annotations

from collections.abc import Iterator

from tests.model import epochs, set_back
from tests.model.answers import next_piece
from tests.model.blocks import block, names, same, tell
from tests.model.record import claim_of, known, owned, token, with_claim, write
from tests.model.state import (
    Claim,
    Cut,
    Job,
    Request,
    Scope,
    Step,
    World,
    end_of,
    held,
    stored,
    with_job,
)


def steps(scope: Scope, world: World, who: int) -> Iterator[Step]:
    """What a process may do now. What brings its work forward comes first."""
    process = world.processes[who]
    if process.job:
        yield from work(scope, world, who, process.job)
    if known(scope, world, who) is None:
        yield from set_back.read_record(scope, world, who)
        return
    if not process.job:
        yield from read(scope, world, who)
        yield from finish(scope, world, who)
        yield from cut(scope, world, who)
        yield from claim(scope, world, who)
        yield from take_over(scope, world, who, silent=False)
    if scope.copies and process.copy != world.record:
        yield from set_back.read_record(scope, world, who)


def work(scope: Scope, world: World, who: int, job: Job) -> Iterator[Step]:
    """What may be done with the cut in hand."""
    if job.stage == "verify":
        yield verify(scope, world, who, job)
    elif job.stage in ("look up", "look on"):
        yield from epochs.look_up(scope, world, who, job)
    elif job.stage == "again":
        yield from epochs.new_epoch(scope, world, who, job)
    elif job.bad:
        yield bury(scope, world, who, job)
    elif job.pieces and not job.waits:
        yield from insert(scope, world, who, job)
    if job.stage == "store" and not job.bad:
        sent = not job.pieces if scope.rules.done_when_answered else len(job.pieces) <= job.waits
        if sent:
            yield from record_done(scope, world, who, job)


# --- a range


def claim(scope: Scope, world: World, who: int) -> Iterator[Step]:
    """The next stretch: closed where the stream is more than a chunk ahead, so that others find work as well, else the tail."""
    record = known(scope, world, who)
    assert record is not None
    if record.claims and record.claims[-1].end is None:
        return
    start, last = end_of(record), len(world.stream)
    if last <= start:
        return
    end = start + scope.chunk if last - start > scope.chunk else None
    new = Claim(start, end, start, who, None, None)
    text = f"P{who} claims the tail from {start}" if end is None else f"P{who} claims ({start}, {end}]"
    yield write(scope, world, who, text, record._replace(claims=(*record.claims, new)), None)


def take_over(scope: Scope, world: World, who: int, *, silent: bool) -> Iterator[Step]:
    """An unfinished claim that is nobody's, or whose owner was not heard: that may be wrong at any time."""
    record = known(scope, world, who)
    if record is None or world.processes[who].job or not scope.rules.owner_writes:
        return
    for each in record.claims:
        if each.owner == who or (each.owner is not None) != silent:
            continue
        if each.cut or each.done < (len(world.stream) if each.end is None else each.end):
            text = f"P{who} takes over the claim from {each.start}"
            yield write(scope, world, who, text, with_claim(record, each, each._replace(owner=who)), None)


def read(scope: Scope, world: World, who: int) -> Iterator[Step]:
    """The messages of a cut that somebody left: the same block again, if it can be the same."""
    record = known(scope, world, who)
    assert record is not None
    for each in owned(scope, record, who):
        if each.cut is None:
            continue
        if same(scope, world, who, each.cut):
            pieces, bad = block(scope, world, who, each.done, each.cut.end, each.cut.token)
            doubt = scope.rules.verify_after_take_over
            job = Job(each.done, each.cut, "store", pieces, bad, doubt=doubt)
            yield Step(f"P{who} reads ({each.done}, {each.cut.end}] again: {tell(pieces)}", with_job(world, who, job))
        else:
            job = Job(each.done, each.cut, "again")
            yield Step(f"P{who} leaves ({each.done}, {each.cut.end}] to a new epoch", with_job(world, who, job))


def finish(scope: Scope, world: World, who: int) -> Iterator[Step]:
    """The rest of a closed claim of which the stream holds nothing any more."""
    record = known(scope, world, who)
    assert record is not None
    for each in owned(scope, record, who):
        if each.cut is not None or each.end is None or each.done >= each.end:
            continue
        if not held(world, each.done, each.end):
            text = f"P{who} finds nothing left of ({each.done}, {each.end}]"
            yield write(scope, world, who, text, with_claim(record, each, each._replace(done=each.end)), None)


def cut(scope: Scope, world: World, who: int) -> Iterator[Step]:
    """A batch's end becomes a cut, at any message. In a claim that is in doubt it is born in a later epoch."""
    record = known(scope, world, who)
    assert record is not None
    version = scope.versions[who]
    for each in owned(scope, record, who):
        if each.cut is not None:
            continue
        start = each.done
        messages = held(world, start, len(world.stream) if each.end is None else each.end)
        for end, mark in reversed(messages):
            partitions = {scope.partition(sequence, version) for sequence, _ in messages if sequence <= end}
            if scope.rules.few_partitions and len(partitions) > scope.window:
                continue
            new = token(scope, world, start, end, 0)
            if each.after is None:
                made = Cut(end, mark, world.now + scope.valid, 0, version, new)
                pieces, bad = block(scope, world, who, start, end, new)
                job = Job(start, made, "store", pieces, bad)
                text = f"P{who} cuts ({start}, {end}] until {made.until}: {tell(pieces)}"
            else:
                made = Cut(end, mark, each.after, 1, version, new)
                job = Job(start, made, "again")
                text = f"P{who} cuts ({start}, {end}], in doubt until {each.after}"
            if scope.rules.cut_first:
                yield write(scope, world, who, text, with_claim(record, each, each._replace(cut=made)), job)
            else:
                yield Step(text, with_job(world, who, job))


# --- its block


def bury(scope: Scope, world: World, who: int, job: Job) -> Step:
    """Dead letters: what does not decode, and what ClickHouse refused alone. Burying twice is burying once."""
    version = scope.versions[who]
    good = tuple(each for each in job.bad if scope.decodes(each[0], version) and not scope.refused(each[0]))
    harm = f"buried: message {names(good)}" if good else world.harm
    world = world._replace(letters=world.letters | set(job.bad), harm=harm)
    return Step(f"P{who} buries {names(job.bad)}", with_job(world, who, job._replace(bad=())))


def insert(scope: Scope, world: World, who: int, job: Job) -> Iterator[Step]:
    """Sends the next piece, as often as needed, until it is too late for this epoch."""
    piece = job.pieces[0]
    until = job.cut.until if scope.rules.fixed_until else world.now + scope.valid
    if world.now > until:
        yield Step(f"P{who} is too late for {job.cut.until}", with_job(world, who, job._replace(stage="again")))
    elif len(world.requests) < scope.requests:
        request = Request(piece, until, scope.repeats, who, False)
        requests = tuple(sorted((*world.requests, request)))
        text = f"P{who} inserts {tell((piece,))} until {until}"
        yield Step(text, with_job(world._replace(requests=requests), who, job._replace(waits=True)))


def verify(scope: Scope, world: World, who: int, job: Job) -> Step:
    """ClickHouse has answered for the block; are its rows there? Fewer: its token was stored without its part."""
    rows = job.pieces[0].rows
    there = stored(world)
    if scope.rules.verify_what_was_sent:
        complete = all(row[:2] in there for row in rows)
    else:
        complete = sum(job.start < sequence <= job.cut.end for sequence, _ in there) >= len(rows)
    if complete:
        return Step(f"P{who} finds its rows", with_job(world, who, next_piece(job)))
    return Step(f"P{who} misses rows of its block", with_job(world, who, job._replace(stage="again")))


def record_done(scope: Scope, world: World, who: int, job: Job) -> Iterator[Step]:
    """The next write of the record says that the cut is done. (In the code, the next cut or a heartbeat.)"""
    record = known(scope, world, who)
    if record is None:
        return
    mine = claim_of(scope, record, who, job)
    if mine is None:
        yield Step(f"P{who} finds its cut gone or another's", with_job(world, who, None))
        return
    mark = record.mark
    if scope.copies and job.cut.mark is not None and (mark is None or mark[0] < job.cut.end):
        record = record._replace(mark=(job.cut.end, job.cut.mark))
    done = mine._replace(done=job.cut.end, cut=None)
    text = f"P{who} records ({job.start}, {job.cut.end}] as done"
    yield write(scope, world, who, text, with_claim(record, mine, done), None)
