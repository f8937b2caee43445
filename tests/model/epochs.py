"""The rare path for everything: nothing of an earlier epoch can be stored any more, one process wins the next, looks up
what is stored or buried, and sends the rest; in smaller pieces after a refusal, until the refused row is alone.
"""

from __future__ import annotations

from collections.abc import Iterator

from tests.model.blocks import cut_up, good_and_bad, tell
from tests.model.clickhouse import settled
from tests.model.record import claim_of, known, token, with_claim, write
from tests.model.state import Job, Scope, Step, World, messages, with_job


def new_epoch(scope: Scope, world: World, who: int, job: Job) -> Iterator[Step]:
    """Wait until the earlier one is over, let its inserts settle, then win by compare-and-set. Only then look up."""
    if not may_begin(scope, world, job.cut.until):
        return
    record = known(scope, world, who)
    if record is None:
        return
    cut = job.cut
    mine = claim_of(scope, record, who, job)
    if mine is None and scope.rules.one_winner:
        yield Step(f"P{who} finds its cut gone or another's", with_job(world, who, None))
        return
    epoch = cut.epoch + 1
    new = cut._replace(
        until=world.now + scope.valid,
        epoch=epoch,
        version=scope.versions[who],
        token=token(scope, world, job.start, cut.end, epoch),
    )
    job = job._replace(cut=new, stage="look up", pieces=(), doubt=False, held=False)
    text = f"P{who} begins epoch {epoch} of ({job.start}, {cut.end}] until {new.until}"
    if mine is None or not scope.rules.one_winner:
        yield Step(text, with_job(world, who, job))
    else:
        yield write(scope, world, who, text, with_claim(record, mine, mine._replace(cut=new)), job)


def look_up(scope: Scope, world: World, who: int, job: Job) -> Iterator[Step]:
    """What the stream holds of the range and is neither stored nor buried.

    The stream is read here: after a reconnect only when the record was, else it may be read for a claim that is no more.
    """
    rules = scope.rules
    if rules.read_after_reconnect and known(scope, world, who) is None:
        return
    hot, cold = messages(world.hot), messages(world.cold)
    if not rules.look_up_in_cold:
        cold = set()
    if scope.faults.drops and job.stage == "look up":
        first, found = ("hot", hot) if rules.hot_before_cold else ("cold", cold)
        job = job._replace(stage="look on", found=frozenset(found))
        yield Step(f"P{who} looks up in {first}", with_job(world, who, job))
        return
    there = hot | cold
    if job.stage == "look on":
        there = set(job.found) | (cold if rules.hot_before_cold else hot)
    good, bad = good_and_bad(scope, world, who, job.start, job.cut.end)
    if not rules.look_up_by_arrival:
        sequences = {sequence for sequence, _ in there}
        there |= {row[:2] for row in good if row[0] in sequences}
    if not rules.epoch_looks_up:
        there = set()
    there |= world.letters
    rows = [row for row in good if row[:2] not in there]
    pieces = cut_up(scope, rows, job.cut.token, job.finer)
    bad = [message for message in bad if message not in there]
    job = job._replace(stage="store", pieces=pieces, bad=tuple(bad), found=frozenset())
    yield Step(f"P{who} looks up and misses {tell(pieces)}", with_job(world, who, job))


def may_begin(scope: Scope, world: World, until: int) -> bool:
    """Can nothing be stored any more that was allowed until then?"""
    slowest = world.now - scope.lag if scope.rules.slowest_clock else world.now
    if scope.rules.epoch_waits and slowest <= until:
        return False
    return not scope.rules.epoch_settles or settled(world, until)
