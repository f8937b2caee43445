"""The words of the protocol, as immutable values: what is in the record, in a process, on its way and in ClickHouse.

Modelled is one lane: one stream into one table. Lanes share nothing. Not modelled:

- how a stream is read: a read gives what the stream holds at that moment, in order and without a gap
- heartbeats: anybody may take over any claim at any time
- clocks of processes: the protocol asks only ClickHouse's, which never goes back
- a write of the record whose outcome is unknown: part of each is random, so that reading tells it
- time between a look and the write that follows from it: the code reads the record first, and compare-and-set tells
- several cuts in hand at once: a process that works on them is like several
- a dead-letter stream that refuses: burying is tried until it is done
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, NamedTuple, TypeAlias

from tests.model.rules import Rules

Token: TypeAlias = tuple[int, ...]
Message: TypeAlias = tuple[int, int]  # sequence, arrival time: who is who, also in a stream that was set back
Row: TypeAlias = tuple[int, int, str]  # sequence, arrival time, partition
Kind: TypeAlias = Literal["good", "bad", "newer", "moved", "refused", "other"]  # other: of a subject that is not ours
Stage: TypeAlias = Literal["store", "verify", "again", "look up", "look on"]


class Cut(NamedTuple):
    """The stretch from the claim's `done` to `end`. Written once; only a new epoch changes `until` and `token`."""

    end: int
    mark: int | None  # arrival time of the message at `end`
    until: int  # ClickHouse refuses the block after this moment of its clock
    epoch: int  # 0: the block as it was cut; later ones go by look-ups
    version: int  # of the decoding rules
    token: Token


class Claim(NamedTuple):
    """A stretch of the lane that one process works on: (start, end], or open, the tail; at most the last is."""

    start: int
    end: int | None
    done: int
    owner: int | None
    cut: Cut | None  # at most one is unfinished
    after: int | None  # in doubt: begun only after this moment, and by look-ups


class Record(NamedTuple):
    """One key of a bucket, changed by compare-and-set on its revision. All to `done` is stored, and of each claim to its."""

    revision: int
    done: int
    mark: Message | None  # the furthest message that was held when all before it was done, or nothing of it left
    claims: tuple[Claim, ...]


class Piece(NamedTuple):
    """What one insert sends: a whole block, or in a later epoch a part of it."""

    token: Token
    rows: tuple[Row, ...]


class Job(NamedTuple):
    """What a process has in hand of one cut."""

    start: int
    cut: Cut
    stage: Stage
    pieces: tuple[Piece, ...] = ()  # the first is being sent, the last ones are still to come
    bad: tuple[Message, ...] = ()  # to be buried before anything is sent
    waits: bool = False  # for an answer
    doubt: bool = False  # an attempt with an unknown outcome, or by somebody else, went before
    finer: int = 0  # how often something was refused: 1 sends pieces in the next epoch, 2 rows alone
    found: frozenset[Message] = frozenset()  # by the first look-up of two
    held: bool = False  # what is bad of it is not buried with it


class Process(NamedTuple):
    """Paused it is whenever others take steps. Killed, it is a new one."""

    copy: Record | None = None  # as it was read; None: to be read
    known: int = 0  # the highest revision that it has seen
    job: Job | None = None
    shaken: bool = False  # it has lost its connection: what it has in hand is dropped when it reads the record
    maker: bool = False  # it has just made the table, and not begun the record yet


class Request(NamedTuple):
    """An insert on its way. Its sender may have given up on it long ago."""

    piece: Piece
    until: int
    left: int  # how often it may still arrive
    sender: int
    running: bool  # ClickHouse let it in, and may store it at any later time


class Faults(NamedTuple):
    """How often what may happen; the last ones are no faults, but have to be bounded as well."""

    kills: int = 0
    expiries: int = 0
    odd_codes: int = 0  # ClickHouse answers with a code that nobody knows
    torn: int = 0  # a plain MergeTree is killed between token and part
    drops: int = 0  # tiering moves a partition and drops it
    set_backs: int = 0  # the record is an older one
    deletions: int = 0  # the record or its bucket is gone
    stream_set_backs: int = 0  # a power cut: the stream's end is lost, and its sequences come again
    resets: int = 0  # somebody has the lane looked up again, by hand
    releases: int = 0  # a process ends in order
    asides: int = 0  # a cut that has to wait is split off
    moves: int = 0  # the last claim ends elsewhere
    holds: int = 0  # what is bad of a cut is held back


NO_FAULTS = Faults()


class World(NamedTuple):
    """Everything at one moment. Two histories that lead to equal worlds are one from there."""

    now: int
    stream: tuple[int | None, ...]  # arrival time per sequence; None: expired
    record: Record | None
    backup: Record | None  # what a set-back leads to
    rebooted: bool  # the bucket's server was started anew, and nobody has noted it in the record
    buckets: int  # that were made anew
    processes: tuple[Process, ...]
    requests: tuple[Request, ...]
    tokens: frozenset[tuple[Token, str]]  # ClickHouse deduplicates per partition
    hot: frozenset[Row]
    cold: frozenset[Row]
    inserted: tuple[tuple[str, int], ...]  # when rows came into a partition last
    letters: frozenset[Message]
    left: Faults
    harm: str = ""  # what must not be: doubled, buried


class Step(NamedTuple):
    """Something that happens, told in a line."""

    text: str
    world: World


@dataclass(frozen=True, slots=True)
class Scope:
    """How much of the world is explored."""

    name: str
    messages: tuple[tuple[str, Kind], ...]  # partition and kind per sequence
    faults: Faults = NO_FAULTS
    rules: Rules = field(default_factory=Rules)
    versions: tuple[int, ...] = (0, 0)  # of the decoding rules, per process
    clock: int = 0  # the explorer stops the clock here; what is on its way then is let come to rest
    valid: int = 1  # a block is taken for so long [ticks]
    requests: int = 2  # on their way at once
    repeats: int = 1  # how often one request may arrive
    replicated: bool = False  # the table: a token and its part are stored at once, and nothing is verified
    partial: bool = False  # a request may be stored for some partitions only
    lag: int = 0  # one of ClickHouse's servers has a clock so far behind [ticks]
    slow: bool = False  # time may pass between letting an insert in and storing it
    chunk: int = 99  # claims are closed stretches of so many messages where the stream is further ahead
    window: int = 99  # partitions of a block that ClickHouse remembers
    block_rows: int = 2  # without `one_block_per_cut`: rows of a block
    silent: bool = False  # the record is set back, and nobody loses a connection
    at_rest: bool = False  # kills and set-backs happen only while no request is on its way
    later: int = 0  # so many of the messages are still to be published
    begun: bool = True  # the world begins with a record; else with a table that P0 has just made
    expires_again: bool = False  # also messages expire that came after the stream was set back

    @property
    def copies(self) -> bool:
        """Does it matter what a process remembers of the record? Else a write is told as reading and writing at once."""
        faults = self.faults
        return bool(faults.set_backs or faults.deletions or faults.stream_set_backs or not self.begun)

    @property
    def revisions_once(self) -> bool:
        """Does a revision that a process has read never come again with another content?"""
        return self.rules.new_bucket_above and self.rules.read_after_reconnect and not self.silent

    def partition(self, sequence: int, version: int) -> str:
        partition, kind = self.messages[sequence - 1]
        return partition + "'" if kind == "moved" and version else partition

    def decodes(self, sequence: int, version: int) -> bool:
        kind = self.messages[sequence - 1][1]
        return kind != "bad" and (kind != "newer" or version > 0)

    def ours(self, sequence: int) -> bool:
        return self.messages[sequence - 1][1] != "other"

    def refused(self, sequence: int) -> bool:
        return self.messages[sequence - 1][1] == "refused"


def first(scope: Scope) -> World:
    """A stream with its messages, an empty table, a record of nothing or none."""
    maker, *others = (Process(),) * len(scope.versions)
    return World(
        now=0,
        stream=(0,) * (len(scope.messages) - scope.later),
        record=Record(1, 0, None, ()) if scope.begun else None,
        backup=None,
        rebooted=False,
        buckets=0,
        processes=(maker._replace(maker=not scope.begun), *others),
        requests=(),
        tokens=frozenset(),
        hot=frozenset(),
        cold=frozenset(),
        inserted=(),
        letters=frozenset(),
        left=scope.faults,
    )


def held(scope: Scope, world: World, start: int, end: int) -> list[Message]:
    """The messages of (start, end] that the stream holds and that are ours."""
    stream = world.stream
    found = []
    for sequence in range(start + 1, min(end, len(stream)) + 1):
        arrived = stream[sequence - 1]
        if arrived is not None and scope.ours(sequence):
            found.append((sequence, arrived))
    return found


def last_held(world: World) -> Message | None:
    """Of whatever subject."""
    for sequence in range(len(world.stream), 0, -1):
        arrived = world.stream[sequence - 1]
        if arrived is not None:
            return sequence, arrived
    return None


def messages(rows: frozenset[Row]) -> set[Message]:
    return {(sequence, arrived) for sequence, arrived, _ in rows}


def stored(world: World) -> set[Message]:
    return messages(world.hot) | messages(world.cold)


def position(claim: Claim) -> int:
    return claim.cut.end if claim.cut else claim.done


def end_of(record: Record) -> int:
    """To where everything is somebody's."""
    if not record.claims:
        return record.done
    last = record.claims[-1]
    return position(last) if last.end is None else last.end


def further(mark: Message | None, other: Message) -> Message:
    return other if mark is None or mark[0] < other[0] else mark


def spent(world: World, what: str) -> World:
    left: Faults = world.left
    return world._replace(left=left._replace(**{what: getattr(left, what) - 1}))


def with_process(world: World, who: int, process: Process) -> World:
    return world._replace(processes=(*world.processes[:who], process, *world.processes[who + 1 :]))


def with_job(world: World, who: int, job: Job | None) -> World:
    return with_process(world, who, world.processes[who]._replace(job=job))
