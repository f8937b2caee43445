"""What a process makes of the answer to an insert, and of none."""

from __future__ import annotations

from tests.model.blocks import cut_up
from tests.model.state import Job, Piece, Scope, World, stored, with_job


def hear(scope: Scope, world: World, who: int, piece: Piece, answer: str) -> World | None:
    """The sender takes an answer to its insert in, unless it waits for none."""
    job = world.processes[who].job
    if job is None or not job.waits or job.pieces[0] != piece:
        return None
    return with_job(world, who, answered(scope, world, job, answer))


def answered(scope: Scope, world: World, job: Job, answer: str) -> Job:
    if answer == "stored":
        return job._replace(waits=False, stage="verify") if job.doubt and not scope.replicated else next_piece(job)
    if answer == "none":
        return job._replace(waits=False, doubt=job.doubt or scope.rules.verify_after_unknown)
    if answer == "late":
        return job._replace(waits=False, stage="again")
    assert answer in ("row refused", "odd code")
    return refused(scope, world, job._replace(waits=False), blamed=answer == "row refused")


def next_piece(job: Job) -> Job:
    return job._replace(stage="store", pieces=job.pieces[1:], waits=False, doubt=False)


def refused(scope: Scope, world: World, job: Job, *, blamed: bool) -> Job:
    """ClickHouse will not take this piece. Alone and blamed, its row is buried; else smaller pieces, in a new epoch; and
    for ever so, where nobody knows the code."""
    rules = scope.rules
    rows = job.pieces[0].rows
    alone = len(rows) == 1 or not rules.bury_alone
    if (job.cut.epoch > 0 or not rules.bury_alone) and alone and (blamed or not rules.bury_for_the_row):
        return next_piece(job)._replace(bad=tuple(row[:2] for row in rows))
    if not rules.isolation_is_an_epoch and len(rows) > 1:
        missing = [row for row in rows if row[:2] not in stored(world)]
        return job._replace(pieces=cut_up(scope, missing, job.pieces[0].token, finer=2), doubt=False)
    return job._replace(stage="again", finer=min(job.finer + 1, 2))
