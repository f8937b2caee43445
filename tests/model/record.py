"""Reading and writing the record: compare-and-set on its revision, and what each write keeps true."""

from __future__ import annotations

from collections.abc import Iterator

from tests.model.state import Claim, Cut, Job, Process, Record, Scope, Step, Token, World, with_process


def known(scope: Scope, world: World, who: int) -> Record | None:
    """The record as this process knows it."""
    return world.processes[who].copy if scope.copies else world.record


def write(scope: Scope, world: World, who: int, text: str, record: Record, job: Job | None) -> Step:
    """Compare-and-set. Refused, a process reads anew. (An unknown outcome is told by reading: each write is random in part.)"""
    if not scope.copies:
        return Step(text, with_process(world._replace(record=record), who, Process(job=job)))
    process = world.processes[who]
    if world.record is None or process.copy is None or world.record.revision != process.copy.revision:
        return Step(
            f"{text}: refused, the record is not what it has read",
            with_process(world, who, process._replace(copy=None)),
        )
    record = record._replace(revision=record.revision + 1)
    return Step(text, with_process(world._replace(record=record), who, Process(record, record.revision, job)))


def with_claim(record: Record, claim: Claim, changed: Claim) -> Record:
    """The record with this claim changed. `done` moves over finished claims."""
    claims = [changed if each == claim else each for each in record.claims]
    done = record.done
    while claims and claims[0].end is not None and claims[0].done >= claims[0].end:
        done = claims.pop(0).end or done
    return record._replace(done=done, claims=tuple(claims))


def owned(scope: Scope, record: Record, who: int) -> Iterator[Claim]:
    for claim in record.claims:
        if claim.owner == who or not scope.rules.owner_writes:
            yield claim


def claim_of(scope: Scope, record: Record, who: int, job: Job) -> Claim | None:
    """The claim of the cut in hand, if the record still has it as this process knows it."""
    for claim in owned(scope, record, who):
        same = claim.cut == job.cut or (claim.cut is None and not scope.rules.cut_first)
        if same and claim.start <= job.start and claim.done == job.start:
            return claim
    return None


def cuts(world: World) -> Iterator[Cut]:
    """Every cut that anybody may still read, or has in hand."""
    records = [world.record, world.backup]
    for process in world.processes:
        records.append(process.copy)
        if process.job:
            yield process.job.cut
    for record in records:
        for claim in record.claims if record else ():
            if claim.cut:
                yield claim.cut


def numbers(world: World) -> set[int]:
    """The random numbers of tokens that somebody may still send."""
    found = {cut.token[0] for cut in cuts(world)}
    for request in world.requests:
        found.add(request.piece.token[0])
    for process in world.processes:
        if process.job and process.job.pieces:
            found.add(process.job.pieces[0].token[0])
    return found


def token(scope: Scope, world: World, start: int, end: int, epoch: int) -> Token:
    """Random: the first number that nothing refers to stands for it. Without the rule: range and epoch."""
    if not scope.rules.fresh_tokens:
        return (start, end, epoch)
    used = numbers(world) | {each[0] for each, _ in world.tokens}
    number = 0
    while number in used:
        number += 1
    return (number,)


def forget(scope: Scope, world: World) -> World:
    """Drops what can make no difference any more, so that worlds that differ in it only are one."""
    if world.tokens and scope.rules.fresh_tokens:
        world = forget_tokens(world)
    return forget_revisions(world) if scope.copies and scope.revisions_once else world


def forget_tokens(world: World) -> World:
    """The tokens that nobody can send any more."""
    live = numbers(world)
    for each, _ in world.tokens:
        if each[0] not in live:
            return world._replace(tokens=frozenset(each for each in world.tokens if each[0][0] in live))
    return world


def forget_revisions(world: World) -> World:
    """Where no revision comes again, all that counts is whether a process has the present record in hand."""
    record = world.record._replace(revision=1) if world.record else None
    revision = world.record.revision if world.record else -1
    processes = tuple(
        each._replace(
            copy=record if each.copy and each.copy.revision == revision else None,
            known=0,
            shaken=each.shaken and each.job is not None,
        )
        for each in world.processes
    )
    backup = world.backup._replace(revision=1) if world.backup else None
    return world._replace(record=record, backup=backup, processes=processes)
