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
    Process,
    Request,
    Scope,
    Step,
    World,
    end_of,
    further,
    held,
    last_held,
    position,
    spent,
    stored,
    with_job,
    with_process,
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
        yield from nothing_left(scope, world, who)
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
        yield from hold(world, who, job)
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
        if each.cut.epoch and not scope.rules.epoch_is_its_writers:
            job = Job(each.done, each.cut, "look up")
            yield Step(f"P{who} goes on with the epoch of ({each.done}, {each.cut.end}]", with_job(world, who, job))
        elif same(scope, world, who, each.cut):
            pieces, bad = block(scope, world, who, each.done, each.cut.end, each.cut.token)
            doubt = scope.rules.verify_after_take_over
            job = Job(each.done, each.cut, "store", pieces, bad, doubt=doubt)
            yield Step(f"P{who} reads ({each.done}, {each.cut.end}] again: {tell(pieces)}", with_job(world, who, job))
        else:
            job = Job(each.done, each.cut, "again")
            yield Step(f"P{who} leaves ({each.done}, {each.cut.end}] to a new epoch", with_job(world, who, job))


def nothing_left(scope: Scope, world: World, who: int) -> Iterator[Step]:
    """What the stream holds nothing of any more, to its last message. A tail may be far behind where messages are others'.

    That message becomes the mark: a stream that is set back before it has other messages of ours in these places.
    """
    record, last = known(scope, world, who), last_held(world)
    assert record is not None
    marks = scope.rules.nothing_left_marks
    for each in owned(scope, record, who):
        to = (last[0] if last else 0) if marks else len(world.stream)
        end = to if each.end is None else min(each.end, to)
        if each.cut is not None or end <= each.done or held(scope, world, each.done, end):
            continue
        if scope.copies and last and marks:
            record = record._replace(mark=further(record.mark, last))
        text = f"P{who} finds nothing left of ({each.done}, {end}]"
        yield write(scope, world, who, text, with_claim(record, each, each._replace(done=end)), None)


def cut(scope: Scope, world: World, who: int) -> Iterator[Step]:
    """A batch's end becomes a cut, at any message. A claim in doubt has to be over; then it is cut in a later epoch, which
    its writer looks up and sends at once."""
    record = known(scope, world, who)
    assert record is not None
    version = scope.versions[who]
    for each in owned(scope, record, who):
        if each.cut is not None or (each.after is not None and not epochs.may_begin(scope, world, each.after)):
            continue
        start = each.done
        messages = held(scope, world, start, len(world.stream) if each.end is None else each.end)
        for end, mark in reversed(messages):
            partitions = {scope.partition(sequence, version) for sequence, _ in messages if sequence <= end}
            if scope.rules.few_partitions and len(partitions) > scope.window:
                continue
            epoch = 0 if each.after is None else 1
            made = Cut(end, mark, world.now + scope.valid, epoch, version, token(scope, world, start, end, epoch))
            text = f"P{who} cuts ({start}, {end}] until {made.until}"
            if epoch:
                job = Job(start, made, "look up")
            else:
                pieces, bad = block(scope, world, who, start, end, made.token)
                job = Job(start, made, "store", pieces, bad)
                text += f": {tell(pieces)}"
            if not scope.rules.cut_first:
                yield Step(text, with_job(world, who, job))
                continue
            changed = each._replace(cut=made)
            yield write(scope, world, who, text, with_claim(record, each, changed), job)
            for moved in ends_elsewhere(scope, world, changed) if each == record.claims[-1] else ():
                told = f"{text}, and ends the claim at {moved.end}"
                yield write(scope, spent(world, "moves"), who, told, with_claim(record, each, moved), job)


def ends_elsewhere(scope: Scope, world: World, last: Claim) -> Iterator[Claim]:
    """With a cut the last claim's end may move: of a tail nearer, so that others find work, of a closed one further or away.
    One in doubt keeps its end: nothing else says to where doubt goes."""
    if world.left.moves and (last.after is None or not scope.rules.doubt_keeps_its_end):
        for end in (None, *range(position(last), len(world.stream) + 2)):  # also beyond what the stream holds
            if end != last.end:
                yield last._replace(end=end)


def set_aside(scope: Scope, world: World, who: int) -> Iterator[Step]:
    """A cut that has to wait: its claim ends with it, and the lane goes on behind as another claim. What is in hand of it
    is kept, or dropped and taken up later; whoever takes up the rest may be another process, or this one at once."""
    rules, record, job = scope.rules, known(scope, world, who), world.processes[who].job
    if not world.left.asides or record is None:
        return
    for at, each in enumerate(record.claims):
        if each.owner != who or each.cut is None or each.end == each.cut.end:
            continue
        end = each.cut.end
        aside = each._replace(end=end) if rules.aside_ends else each
        rest = Claim(end, each.end, end, who, None, each.after if rules.rest_stays_in_doubt else None)
        after = record._replace(claims=(*record.claims[:at], aside, rest, *record.claims[at + 1 :]))
        text = f"P{who} sets ({each.done}, {end}] aside"
        yield write(scope, spent(world, "asides"), who, text, after, job)
        if job and job.cut == each.cut:
            yield write(scope, spent(world, "asides"), who, f"{text}, out of hand", after, None)


def release(scope: Scope, world: World, who: int) -> Iterator[Step]:
    """A process ends in order: its claims are nobody's at once, also with an insert on its way."""
    record = known(scope, world, who)
    if not world.left.releases or record is None or all(each.owner != who for each in record.claims):
        return
    claims = tuple(each._replace(owner=None) if each.owner == who else each for each in record.claims)
    text = f"P{who} ends, and releases its claims"
    step = write(scope, spent(world, "releases"), who, text, record._replace(claims=claims), None)
    yield Step(step.text, with_process(step.world, who, Process()))


# --- its block


def bury(scope: Scope, world: World, who: int, job: Job) -> Step:
    """Dead letters: what does not decode, and what ClickHouse refused alone. Burying twice is burying once."""
    version = scope.versions[who]
    good = tuple(each for each in job.bad if scope.decodes(each[0], version) and not scope.refused(each[0]))
    harm = f"buried: message {names(good)}" if good else world.harm
    world = world._replace(letters=world.letters | set(job.bad), harm=harm)
    return Step(f"P{who} buries {names(job.bad)}", with_job(world, who, job._replace(bad=())))


def hold(world: World, who: int, job: Job) -> Iterator[Step]:
    """Of a venue that sends too many bad ones: they are buried later, and not in the way of its rows."""
    if world.left.holds and not job.cut.epoch:
        held = with_job(spent(world, "holds"), who, job._replace(bad=(), held=True))
        yield Step(f"P{who} leaves {names(job.bad)} for later", held)


def held_back(claims: tuple[Claim, ...], mine: Claim, cut: Cut) -> Iterator[tuple[Claim, ...]]:
    """The cut's rows are in the table: a stretch in doubt, which may be taken into the one that was held back before it."""
    at = claims.index(mine)
    held = Claim(mine.start, cut.end, mine.done, mine.owner, None, cut.until)
    behind = mine._replace(start=cut.end, done=cut.end, cut=None)
    rest = () if behind.end == cut.end else (behind,)
    yield (*claims[:at], held, *rest, *claims[at + 1 :])
    earlier = claims[at - 1] if at else None
    if earlier and earlier.after is not None and earlier.owner == mine.owner and mine.start == mine.done:
        more = earlier._replace(end=cut.end, after=max(earlier.after, cut.until))
        yield (*claims[: at - 1], more, *rest, *claims[at + 1 :])


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
    if scope.copies and job.cut.mark is not None:
        record = record._replace(mark=further(record.mark, (job.cut.end, job.cut.mark)))
    if job.held and scope.rules.held_stays_in_doubt:
        text = f"P{who} holds ({job.start}, {job.cut.end}] back"
        for claims in held_back(record.claims, mine, job.cut):
            yield write(scope, world, who, text, record._replace(claims=claims), None)
        return
    done = mine._replace(done=job.cut.end, cut=None)
    text = f"P{who} records ({job.start}, {job.cut.end}] as done"
    yield write(scope, world, who, text, with_claim(record, mine, done), None)
