"""What everybody else may do: the network, ClickHouse, NATS, tiering, and who kills processes.

`calm` is what happens by itself when nothing goes wrong, in an order that comes to rest; `faults` is the rest.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

from tests.model import protocol, set_back
from tests.model.answers import hear
from tests.model.blocks import names, tell
from tests.model.clickhouse import move_to_cold, settled, store, tear
from tests.model.state import Process, Request, Scope, Step, World, held, spent, stored, with_process


def steps(scope: Scope, world: World) -> Iterator[Step]:
    """Everything that may happen within the scope."""
    for step in calm(scope, world):
        if step.world.now <= scope.clock:
            yield step
    yield from faults(scope, world)


def calm(scope: Scope, world: World) -> Iterator[Step]:
    for request in in_order(world):
        yield from arrives(scope, world, request)
    for who in range(len(world.processes)):
        yield from gives_up_waiting(scope, world, who, sure=True)
        yield from protocol.steps(scope, world, who)
    yield Step(f"the clock of ClickHouse shows {world.now + 1}", world._replace(now=world.now + 1))


def faults(scope: Scope, world: World) -> Iterator[Step]:
    for request in in_order(world):
        yield from goes_wrong(scope, world, request)
    for who, process in enumerate(world.processes):
        yield from gives_up_waiting(scope, world, who, sure=False)
        yield from protocol.take_over(scope, world, who, silent=True)
        yield from protocol.set_aside(scope, world, who)
        yield from protocol.release(scope, world, who)
        if world.left.kills and process != Process() and not (scope.at_rest and world.requests):
            killed = with_process(spent(world, "kills"), who, Process())
            yield Step(f"P{who} is killed", killed)
    yield from messages_expire(scope, world)
    yield from tiering(scope, world)
    yield from record_changes(scope, world)
    yield from set_back.reset(scope, world)
    yield from stream_changes(scope, world)


def done(scope: Scope, world: World) -> bool:
    """Each message of ours that the stream holds is a row or a dead letter."""
    there = stored(world) | world.letters
    return all(message in there for message in held(scope, world, 0, len(world.stream)))


# --- requests


def in_order(world: World) -> Iterator[Request]:
    """Requests arrive in any order; equal ones need no telling apart."""
    requests = world.requests
    for index, request in enumerate(requests):
        if not index or requests[index - 1] != request:
            yield request


def without(world: World, request: Request) -> tuple[Request, ...]:
    """The requests after one of this has arrived; it may arrive again where it is sent twice."""
    requests = list(world.requests)
    requests.remove(request)
    if request.left > 1:
        requests.append(request._replace(left=request.left - 1))
        requests.sort()
    return tuple(requests)


@cache
def partitions_of(request: Request) -> list[str]:
    return sorted({row[2] for row in request.piece.rows})


def heard(scope: Scope, world: World, request: Request, answer: str) -> World | None:
    return hear(scope, world, request.sender, request.piece, answer)


def arrives(scope: Scope, world: World, request: Request) -> Iterator[Step]:
    """A request arrives, and its sender hears the answer if it still listens."""
    text = f"the insert of {tell((request.piece,))} by P{request.sender}"
    if world.now > request.until and not request.running:
        after = world._replace(requests=tuple(each for each in world.requests if each != request))
        yield Step(f"{text} is refused: late", heard(scope, after, request, "late") or after)
        return
    if scope.slow and not request.running:
        begun = (*without(world, request), request._replace(left=1, running=True))
        yield Step(f"{text} is let in", world._replace(requests=tuple(sorted(begun))))
        return
    after = world._replace(requests=without(world, request))
    if any(scope.refused(row[0]) for row in request.piece.rows):
        yield Step(f"{text} is refused for a row", heard(scope, after, request, "row refused") or after)
        return
    after, new = store(scope, after, request, partitions_of(request))
    outcome = names(tuple(new)) if new else "nothing new"
    listened = heard(scope, after, request, "stored")
    if listened:
        yield Step(f"{text} stores {outcome}", listened)
    else:
        yield Step(f"{text} stores {outcome}; nobody listens", after)


def goes_wrong(scope: Scope, world: World, request: Request) -> Iterator[Step]:
    """A request is stored in part or without an answer, is torn, or is answered oddly and stored perhaps."""
    text = f"the insert of {tell((request.piece,))} by P{request.sender}"
    if world.left.odd_codes:
        answered = heard(scope, spent(world, "odd_codes"), request, "odd code")
        if answered:
            yield Step(f"{text} is answered with a code that nobody knows", answered)
    if world.now - scope.lag > request.until and not request.running:
        return
    if scope.slow and not request.running:
        return
    if any(scope.refused(row[0]) for row in request.piece.rows):
        return
    rest = world._replace(requests=without(world, request))
    partitions = partitions_of(request)
    behind = " by a clock that is behind" if world.now > request.until and not request.running else ""
    if behind or heard(scope, rest, request, "stored"):
        after, new = store(scope, rest, request, partitions)
        yield Step(f"{text} stores {names(tuple(new))}{behind}; the answer is lost", after)
    parts = [partitions[:1], partitions[1:]] if len(partitions) > 1 else []
    if scope.partial:
        for part in parts:
            after, new = store(scope, rest, request, part)
            yield Step(f"{text} stores only {names(tuple(new))}", after)
    if world.left.torn:
        for part in [partitions, *parts]:
            after = spent(tear(rest, request, part), "torn")
            others = [each for each in partitions if each not in part]
            after, _ = store(scope, after, request, others) if others else (after, [])
            yield Step(f"{text}: ClickHouse is killed between token and part of {', '.join(part)}", after)


def gives_up_waiting(scope: Scope, world: World, who: int, *, sure: bool) -> Iterator[Step]:
    """A process hears no answer. `sure`: none can come any more."""
    job = world.processes[who].job
    if job is None or not job.waits:
        return
    piece = job.pieces[0]
    coming = any(request.piece == piece and request.sender == who for request in world.requests)
    if coming != sure:
        after = hear(scope, world, who, piece, "none")
        assert after is not None
        yield Step(f"P{who} hears no answer", after)


# --- NATS


def messages_expire(scope: Scope, world: World) -> Iterator[Step]:
    """In any order: by age from the front, by a limit per subject anywhere."""
    if not world.left.expiries:
        return
    for index, arrived in enumerate(world.stream):
        if arrived is not None and (arrived == 0 or scope.expires_again):
            stream = (*world.stream[:index], None, *world.stream[index + 1 :])
            yield Step(f"message {index + 1} expires", spent(world, "expiries")._replace(stream=stream))


def disconnected(scope: Scope, world: World) -> tuple[Process, ...]:
    """Every process will notice, drop what it has in hand and read the record; what it was about to send it may send."""
    if not scope.rules.read_after_reconnect:
        return world.processes
    return tuple(process._replace(copy=None, shaken=True) for process in world.processes)


def record_changes(scope: Scope, world: World) -> Iterator[Step]:
    """Somebody deletes the record or its bucket; or it is an older one after a power cut or from a backup."""
    if scope.at_rest and world.requests:
        return
    if world.left.deletions and world.record is not None:
        after = spent(world, "deletions")._replace(record=None, buckets=world.buckets + 1)
        yield Step("the bucket is deleted and made anew", after)
    if not world.left.set_backs:
        return
    if world.backup is None:
        yield Step("the record is synced to disk, or backed up", world._replace(backup=world.record))
    elif world.backup != world.record:
        after = spent(world, "set_backs")._replace(record=world.backup)
        if not scope.silent:
            after = after._replace(rebooted=True, processes=disconnected(scope, world))
        yield Step("the record is set back", after)


def stream_changes(scope: Scope, world: World) -> Iterator[Step]:
    """A power cut loses the stream's end. What is published then has the same sequences, and a later arrival."""
    stream = world.stream
    if world.left.stream_set_backs:
        for last in range(len(stream)):
            after = spent(world, "stream_set_backs")._replace(
                stream=stream[:last], processes=disconnected(scope, world)
            )
            yield Step(f"the stream is set back to {last}", after)
    if len(stream) < len(scope.messages):
        life = scope.faults.stream_set_backs - world.left.stream_set_backs
        new = (len(stream) + 1, life)
        yield Step(f"message {names((new,))} is published", world._replace(stream=(*stream, life)))


# --- tiering


def tiering(scope: Scope, world: World) -> Iterator[Step]:
    """Moves a partition to cold and drops it, when no block of its last insert can be stored any more."""
    if not world.left.drops:
        return
    last = dict(world.inserted)
    for partition in sorted({row[2] for row in world.hot}):
        over = last[partition] + scope.valid + scope.lag
        if scope.rules.drop_waits and world.now <= over:
            continue
        if scope.rules.drop_settles and not settled(world, over):
            continue
        yield Step(f"tiering moves {partition} to cold", move_to_cold(spent(world, "drops"), partition))
