"""Proves what became of every message: held = rows + dead letters + pending, by sequence, for each data type.

Sets, not counts: what the stream holds (its headers are read once), what the tables hold, what the dead letters name. All
are bits of a window of sequences (`sequences.py`), so that memory does not grow with stream or table. `deep.py` compares
values.

The order of reading makes it right while ingest, replay and tiering go on. First the lanes' records, so that whatever
counts as done was stored before anything is looked for. Then dead letters before rows, and hot before cold: a replay
inserts before it deletes, tiering copies before it deletes, so nothing slips from one to the other unseen.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from marketprism_api import reasons
from marketprism_api.data_types import Declaration
from marketprism_api.messages import MessageLimits
from marketprism_api.settings import Settings
from marketprism_consumer import times
from marketprism_consumer.camel import camel
from marketprism_consumer.clickhouse.store import ClickHouseStore
from marketprism_consumer.errors import BrokerError, MessageError
from marketprism_consumer.ingest.dead_letters import CODE, place_of, prefix_of
from marketprism_consumer.ingest.decode import decode
from marketprism_consumer.ingest.identity import stream_identity
from marketprism_consumer.jetstream.broker import NatsBroker
from marketprism_consumer.jetstream.client import PullClient
from marketprism_consumer.jetstream.stream_reader import StreamReader, parse_headers
from marketprism_consumer.jetstream.streams import choose
from marketprism_consumer.operations import lanes
from marketprism_consumer.operations.audit_values import Alteration, Misburied, compare
from marketprism_consumer.operations.lanes import FoundLane
from marketprism_consumer.operations.sequences import WINDOW, Position, Ranges, Sequences, between, judge, up_to
from marketprism_consumer.schema.incidents import FILE
from marketprism_consumer.schema.tables import Table, table_of

HEADERS_AT_ONCE = 20_000
DISORDER = 3600.0  # rows this much older than the shortest retention may have been deleted by it [s]
LOOKED_INTO = 1000  # missing messages that are decoded to see why

Tier = str


@dataclass(slots=True)
class TypeAudit:
    """One data type. Counts are of messages, but `double`: rows beyond the first of a message."""

    data_type: str
    stream: str
    identity: str = ""
    first: int = 0
    last: int = 0
    held: int = 0
    rows: int = 0
    dead_letters: int = 0
    pending: int = 0
    unwanted: int = 0
    missing: Ranges = field(default_factory=Ranges)
    purged: int = 0
    double: int = 0
    doubles: list[tuple[str, Tier, int, int]] = field(default_factory=list)
    row_and_dead_letter: Ranges = field(default_factory=Ranges)
    stray: Ranges = field(default_factory=Ranges)
    beyond: int = 0
    in_both_tiers: int = 0
    expired: int = 0
    by_hand: int = 0
    earlier_streams: dict[str, int] = field(default_factory=dict)
    """By identity; that of a file, too, from which rows were healed."""
    altered: int = 0
    alterations: list[Alteration] = field(default_factory=list)
    compared: int = 0
    misburied: list[Misburied] = field(default_factory=list)
    record_made: bool = True
    problem: str = ""

    @property
    def findings(self) -> list[str]:
        found = [self.problem] if self.problem else []
        if self.missing.count - self.purged > 0:
            found.append(f"missing {self.missing.count:,}: {self.missing}")
        if self.double:
            named = ", ".join(f"{seq} ({tier}, {rows} times)" for _, tier, seq, rows in self.doubles[:5])
            found.append(f"double {self.double:,}: {named}")
        if self.row_and_dead_letter.count:
            found.append(
                f"row and dead letter at once {self.row_and_dead_letter.count:,}: {self.row_and_dead_letter}"
                " (`marketprism dlq replay` ends that)"
            )
        if self.stray.count:
            found.append(f"rows of messages that the stream never held here {self.stray.count:,}: {self.stray}")
        if self.beyond:
            found.append(f"{reasons.STREAM_REGRESSED}: rows above the stream's last sequence, up to {self.beyond}")
        if self.altered:
            found.append(f"altered {self.altered:,} of {self.compared:,}")
            found += [str(alteration) for alteration in self.alterations]
        found += [str(letter) for letter in self.misburied]
        return found

    @property
    def notes(self) -> list[str]:
        found = []
        if not self.record_made and not self.problem:
            found.append("there is no record of its lane yet: nobody has begun, so all that is held is pending")
        if self.purged:
            found.append(f"{self.purged:,} can't be rows, and their dead letters were purged or have expired")
        if self.unwanted:
            found.append(f"{self.unwanted:,} held from before where its lane was begun by hand")
        if self.in_both_tiers:
            found.append(f"in both tiers {self.in_both_tiers:,}: copied to cold, not yet deleted from hot")
        if self.expired:
            found.append(f"rows of messages that have expired from the stream: {self.expired:,}")
        if self.by_hand:
            found.append(f"rows without a stream, inserted by hand: {self.by_hand:,}")
        found += [
            f"healed from a file, {name}: {rows:,} rows"
            if name.startswith(FILE)
            else f"of an earlier stream, {name}: {rows:,} rows"
            for name, rows in self.earlier_streams.items()
        ]
        return found

    @property
    def holds(self) -> bool:
        return not self.findings

    def __str__(self) -> str:
        deep = f", altered {self.altered:,} of {self.compared:,}" if self.compared else ""
        unwanted = f" + {self.unwanted:,} from before" if self.unwanted else ""
        purged = f" + {self.purged:,} purged dead letters" if self.purged else ""
        return (
            f"{self.stream} {self.data_type} {self.first}..{self.last}: held {self.held:,} = {self.rows:,} rows + "
            f"{self.dead_letters:,} dead letters + {self.pending:,} pending{unwanted}{purged}; "
            f"missing {self.missing.count - self.purged:,}, double {self.double:,}{deep}"
        )


@dataclass(slots=True)
class StreamAudit:
    """One stream, by all of the pipeline's types on it. `lost`: gone from the stream before it was read; None where
    other subjects share the stream, so that a gap may be theirs."""

    stream: str
    identity: str
    first: int
    last: int
    lost: Ranges | None
    deleted_unread: Ranges = field(default_factory=Ranges)

    @property
    def holds(self) -> bool:
        return self.lost is None or not self.lost.count


@dataclass(slots=True)
class AuditReport:
    types: list[TypeAudit]
    streams: list[StreamAudit]
    deep: bool
    tiers: tuple[Tier, ...]
    seconds: float = 0.0
    since: int | None = None
    """Of what arrived before nothing is said [µs since 1970]."""
    not_read: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """By data type: streams that hold it, too, and are not among those that the pipeline names."""
    copies: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """By data type: streams that hold nothing of it but what is read elsewhere, and so are not read either."""

    @property
    def holds(self) -> bool:
        return all(audited.holds for audited in self.types) and all(stream.holds for stream in self.streams)

    def __getitem__(self, data_type: str) -> TypeAudit:
        return next(audited for audited in self.types if audited.data_type == data_type)

    def as_dict(self) -> dict[str, Any]:
        """JSON: counts, ranges as [first, last], findings and notes in words."""
        return {
            "holds": self.holds,
            "deep": self.deep,
            "tiers": list(self.tiers),
            "seconds": round(self.seconds, 3),
            "since": None if self.since is None else times.iso(self.since),
            "types": [
                camel(audited) | {"holds": audited.holds, "findings": audited.findings, "notes": audited.notes}
                for audited in self.types
            ],
            "streams": [camel(stream) | {"holds": stream.holds} for stream in self.streams],
            "notRead": {data_type: list(streams) for data_type, streams in (self.not_read | self.copies).items()},
        }


@dataclass(frozen=True, slots=True)
class AuditStep:
    """Where an audit is: `done` of `total` of what it does now."""

    what: str
    done: int
    total: int


async def audit(
    settings: Settings,
    store: ClickHouseStore,
    client: PullClient,
    *,
    cold: ClickHouseStore | None = None,
    data_types: Iterable[str],
    deep: bool = False,
    both_tiers: bool = True,
    since: int | None = None,
    progress: Callable[[AuditStep], None] = lambda _: None,
) -> AuditReport:
    """`cold`: where that tier is, if not on hot's server. `since`: only of what arrived from then on [µs since 1970]. `progress` is
    told where it is. Raises BrokerError and StoreError where NATS or ClickHouse can't be asked."""
    began = time.monotonic()
    broker = NatsBroker(client)
    tiers: dict[Tier, ClickHouseStore] = {"hot": store}
    if both_tiers:
        tiers["cold"] = cold or store
    found = {data_type: await lanes.find_all(settings, broker, store, data_type) for data_type in settings.data_types}
    chosen = list(dict.fromkeys(data_types))
    report = AuditReport([], [], deep, tuple(tiers), since=since)
    for data_type in chosen:
        if not found[data_type][0].stream:
            continue  # nothing is read, and its lane says why
        streams = await choose(broker, settings, data_type)
        if streams.left:
            report.not_read[data_type] = streams.left
        if streams.copies:
            report.copies[data_type] = streams.copies
        for name in settings.data_types[data_type].named:
            if name not in streams.read:
                why = f"{reasons.STREAM_MISSING}: there is no {name}, which spec.nats.streams names"
                report.types.append(TypeAudit(data_type, name, problem=why))
    for stream in dict.fromkeys(lane.stream for data_type in chosen for lane in found[data_type]):
        on_it = {data_type: lane for data_type in found for lane in found[data_type] if lane.stream == stream}
        if not stream or any(lane.problem.startswith(str(reasons.STREAM_UNFIT)) for lane in on_it.values()):
            report.types += [_unread(settings, on_it[data_type]) for data_type in chosen if data_type in on_it]
            continue
        auditor = _StreamAuditor(settings, tiers, broker, stream, on_it, since, progress)
        report.streams.append(await auditor.run([data_type for data_type in chosen if data_type in on_it], deep))
        report.types += auditor.types.values()
    report.types.sort(key=lambda audited: chosen.index(audited.data_type))
    report.seconds = time.monotonic() - began
    return report


def _unread(settings: Settings, lane: FoundLane) -> TypeAudit:
    stream = lane.stream or settings.data_types[lane.data_type].stream
    return TypeAudit(lane.data_type, stream, problem=f"{lane.problem}, nothing can be compared")


@dataclass(slots=True)
class _Census:
    """What the tables have of one type, by identity: the windows where its rows are, how many, and the outermost."""

    windows: dict[tuple[Tier, str], dict[int, int]] = field(default_factory=dict)
    first: dict[str, int] = field(default_factory=dict)
    last: dict[str, int] = field(default_factory=dict)

    def identities(self) -> list[str]:
        return sorted(self.first)

    def rows(self, identity: str) -> int:
        return sum(sum(windows.values()) for (_, name), windows in self.windows.items() if name == identity)


class _StreamAuditor:
    """One stream and the pipeline's types on it."""

    def __init__(
        self,
        settings: Settings,
        tiers: Mapping[Tier, ClickHouseStore],
        broker: NatsBroker,
        stream: str,
        on_it: Mapping[str, FoundLane],
        since: int | None,
        progress: Callable[[AuditStep], None],
    ) -> None:
        self.types: dict[str, TypeAudit] = {}
        self._settings, self._tiers, self._broker = settings, tiers, broker
        self._stream, self._on_it, self._progress = stream, on_it, progress
        self._since, self._begin = since, 0
        self._positions = {data_type: _position(lane) for data_type, lane in on_it.items()}
        self._identity = ""
        self._census: dict[str, _Census] = {}
        self._tables = {name: table_of(each.declaration) for name, each in settings.data_types.items()}
        self._dead: dict[str, Sequences] = {}
        self._refused: dict[str, Sequences] = {}

    async def run(self, chosen: Sequence[str], deep: bool) -> StreamAudit:
        for number, data_type in enumerate(self._on_it):
            self._tell(f"counting rows of {data_type}", number, len(self._on_it))
            self._census[data_type] = await self._take_census(self._tables[data_type])
        info = await self._info()
        last = info["state"]["last_seq"]
        self._identity = stream_identity(self._stream, info["created"])
        await self._read_dead_letters()
        held = await self._read_held(chosen, info["state"]["first_seq"], last)
        after = await self._info(deleted_details=True)
        made = {info["created"], after["created"], *(lane.id.created for lane in self._on_it.values() if lane.id)}
        if len(made) > 1:
            raise BrokerError(reasons.STREAM_RECREATED, f"{self._stream}, while it was audited")
        first = after["state"]["first_seq"]
        # A stream that never held a message says that 0 is deleted.
        deleted = Sequences(seq for seq in after["state"].get("deleted") or () if seq)

        for data_type in chosen:
            census, lane = self._census[data_type], self._on_it[data_type]
            audited = TypeAudit(data_type, self._stream, self._identity, max(first, self._begin), last)
            audited.record_made, audited.problem = lane.record is not None, lane.problem
            audited.by_hand = census.rows("")
            audited.beyond = max((census.last[i] for i in self._own(census) if census.last[i] > last), default=0)
            self.types[data_type] = audited
        covered = {self._settings.data_types[data_type].subject for data_type in self._on_it}
        result = StreamAudit(
            self._stream,
            self._identity,
            first,
            last,
            Ranges() if covered.issuperset(info["config"].get("subjects") or [">"]) else None,
        )
        await self._judge(result, chosen, held, deleted)
        for data_type in chosen:
            await self._earlier_streams(data_type)
            await self._name_doubles(data_type)
            await self._look_into_missing(self.types[data_type])
            if deep:
                self._tell(f"comparing values of {data_type}", list(chosen).index(data_type), len(chosen))
                await self._compare(data_type)
        return result

    def _tell(self, what: str, done: int, total: int) -> None:
        self._progress(AuditStep(f"{self._stream}: {what}", done, total))

    # --- what NATS says -----------------------------------------------------------------------------------------------

    async def _info(self, *, deleted_details: bool = False) -> dict[str, Any]:
        return await self._broker.api(f"STREAM.INFO.{self._stream}", {"deleted_details": deleted_details})

    async def _read_dead_letters(self) -> None:
        stream = self._settings.dead_letters.stream
        prefixes = {}
        for data_type in map(str, self._on_it):
            self._dead[data_type], self._refused[data_type] = Sequences(), Sequences()
            prefixes[prefix_of(stream, data_type, self._identity)] = data_type
        try:
            async with StreamReader(
                self._broker, stream, [f"{prefix}.>" for prefix in prefixes], headers_only=True
            ) as reader:
                async for messages in reader.batches(HEADERS_AT_ONCE):
                    for message in messages:
                        data_type = prefixes[message.subject.rsplit(".", 2)[0]]
                        seq, _ = place_of(message.subject)
                        self._dead[data_type].add(seq)
                        if CODE in parse_headers(message.headers):
                            self._refused[data_type].add(seq)
        except BrokerError as refused:
            if refused.reason is not reasons.STREAM_MISSING:  # no stream: there was never a dead letter
                raise

    async def _read_held(self, chosen: Sequence[str], first: int, last: int) -> dict[str, Sequences]:
        held = {data_type: Sequences() for data_type in chosen}
        subjects = [self._settings.data_types[data_type].subject for data_type in chosen]
        type_of = cache(self._settings.type_of)  # of each message, and there are few subjects
        self._begin = 0 if self._since is None else last + 1
        async with StreamReader(
            self._broker, self._stream, subjects, first=first, since=self._since, headers_only=True
        ) as reader:
            async for messages in reader.batches(HEADERS_AT_ONCE):
                self._begin = min(self._begin, messages[0].seq)
                for message in messages:
                    if message.seq <= last:
                        data_type = type_of(message.subject)
                        if data_type in held:
                            held[data_type].add(message.seq)
                self._tell("reading what the stream holds", min(messages[-1].seq, last) - first + 1, last - first + 1)
                if messages[-1].seq >= last:
                    break
        return held

    # --- what ClickHouse says -----------------------------------------------------------------------------------------

    def _table(self, tier: Tier, table: Table) -> str:
        database = self._settings.hot_db if tier == "hot" else self._settings.cold_db
        return f"`{database}`.`{table.name}`"

    def _own(self, census: _Census) -> list[str]:
        """The stream's identity and its generations, of those in the tables."""
        return [i for i in census.identities() if i == self._identity or i.startswith(f"{self._identity}~")]

    def _identities(self, data_type: str) -> list[str]:
        """What rows of this stream are looked for under: also its own name, where the census saw no row yet."""
        return sorted({self._identity, *self._own(self._census[data_type])})

    async def _take_census(self, table: Table) -> _Census:
        census = _Census()
        for tier, store in self._tiers.items():
            if tier == "hot":
                await store.catch_up(table)
            rows = await store.clickhouse.query(
                f"SELECT _stream, intDiv(_seq, {WINDOW}) AS window, count(), min(_seq), max(_seq)"
                f" FROM {self._table(tier, table)} GROUP BY _stream, window"
            )
            for stream, window, count, first, last in rows:
                census.windows.setdefault((tier, stream), {})[window] = count
                census.first[stream] = min(first, census.first.get(stream, first))
                census.last[stream] = max(last, census.last.get(stream, last))
        return census

    async def _scan(
        self, tier: Tier, table: Table, streams: Sequence[str], window: int, last: int
    ) -> dict[str, tuple[int, int]]:
        """Identity → the sequences with a row in this window, as bits, and how many rows there are beyond those."""
        base = window * WINDOW
        begin = max(base, self._begin)
        words = await self._tiers[tier].clickhouse.query(
            "SELECT _stream, intDiv(_seq, 64) AS word, groupBitOr(bitShiftLeft(toUInt64(1), _seq % 64)), count()"
            f" FROM {self._table(tier, table)}"
            f" WHERE _seq >= {begin} AND _seq <= {min(last, base + WINDOW - 1)} AND _stream IN {{streams:Array(String)}}"
            " GROUP BY _stream, word",
            {"streams": list(streams)},
        )
        found: dict[str, Sequences] = {}
        rows: dict[str, int] = {}
        for stream, word, bits, count in words:
            found.setdefault(stream, Sequences()).add_words([(word, bits)])
            rows[stream] = rows.get(stream, 0) + count
        sets = {stream: sequences.window(window) for stream, sequences in found.items()}
        return {stream: (bits, rows[stream] - bits.bit_count()) for stream, bits in sets.items()}

    async def _rows(self, data_type: str, streams: Sequence[str], window: int, last: int) -> tuple[int, int, int]:
        """Of one window: the sequences with a row, the rows beyond one for each, and how many are in both tiers."""
        table = self._tables[data_type]
        bits = double = both = 0
        in_hot: dict[str, int] = {}
        for tier in self._tiers:
            for stream, (sequences, more) in (await self._scan(tier, table, streams, window, last)).items():
                bits |= sequences
                double += more
                both += (sequences & in_hot.get(stream, 0)).bit_count()
                in_hot[stream] = sequences
        return bits, double, both

    # --- the account --------------------------------------------------------------------------------------------------

    async def _judge(
        self,
        result: StreamAudit,
        chosen: Sequence[str],
        held: Mapping[str, Sequences],
        deleted: Sequences,
    ) -> None:
        first, last = result.first, result.last
        horizon = await self._horizon(first)
        windows = self._windows(held, deleted, horizon, first, last)
        for number, window in enumerate(windows):
            self._tell("comparing sequences", number, len(windows))
            base = window * WINDOW
            stretch = ~up_to(base, self._begin - 1)
            gone = deleted.window(window) & stretch
            accounted = 0
            for data_type in self._on_it:
                bits, double, both = await self._rows(data_type, self._identities(data_type), window, last)
                dead = self._dead[data_type].window(window) & stretch
                accounted |= bits | dead
                audited = self.types.get(data_type)
                if audited is None:
                    continue
                holds = held[data_type].window(window) & stretch
                judged = judge(base, holds, bits, dead, self._positions[data_type])
                audited.held += holds.bit_count()
                audited.rows += judged.rows.bit_count()
                audited.dead_letters += judged.dead_letters.bit_count()
                audited.pending += judged.pending.bit_count()
                audited.unwanted += judged.unwanted.bit_count()
                audited.double += double
                audited.in_both_tiers += both
                audited.expired += (bits & up_to(base, first - 1) | bits & gone).bit_count()
                audited.missing.add(judged.missing, base)
                audited.row_and_dead_letter.add(judged.both, base)
                audited.stray.add(bits & between(base, max(first, 1), last) & ~holds & ~gone, base)
            if result.lost is not None:
                result.lost.add(between(base, horizon, first - 1) & stretch & ~accounted, base)
                result.deleted_unread.add(gone & ~accounted, base)

    def _windows(
        self, held: Mapping[str, Sequences], deleted: Sequences, horizon: int, first: int, last: int
    ) -> list[int]:
        """Those with anything in them, in order."""
        found = deleted.windows()
        found.update(*(sequences.windows() for sequences in (*held.values(), *self._dead.values())))
        for census in self._census.values():
            own = set(self._own(census))
            found.update(*(windows for (_, stream), windows in census.windows.items() if stream in own))
        found.update(range(horizon // WINDOW, (first - 1) // WINDOW + 1))
        return sorted(window for window in found if self._begin < (window + 1) * WINDOW and window * WINDOW <= last)

    async def _horizon(self, first: int) -> int:
        """The sequence from which on all that is gone from the stream must have been read: the first row whose
        neighbours no retention can have taken, else the first that no lane has done."""
        recorded = [self._positions[data_type] for data_type, lane in self._on_it.items() if lane.record]
        reached = max((position.reached for position in recorded), default=first - 1) + 1
        unwanted = min((position.begin for position in self._positions.values()), default=0)
        limits = [s for s in (self._settings.hot_retention, self._settings.dead_letters.max_age) if s]
        cutoff = int(time.time() - min(limits) + DISORDER) if limits else 0
        oldest: list[int] = []
        for data_type, census in self._census.items():
            if not (own := self._own(census)):
                continue
            for tier, store in self._tiers.items():
                rows = await store.clickhouse.query(
                    f"SELECT count(), min(_seq) FROM {self._table(tier, self._tables[data_type])}"
                    f" WHERE _stream IN {{streams:Array(String)}} AND timestamp >= toDateTime({cutoff}, 'UTC')",
                    {"streams": own},
                )
                if rows[0][0]:
                    oldest.append(rows[0][1])
        return max(min([first, reached, *oldest]), min(first, unwanted + 1))

    # --- after the sets -----------------------------------------------------------------------------------------------

    async def _earlier_streams(self, data_type: str) -> None:
        """Their messages exist nowhere else, so they are only looked through for doubles."""
        if self._since is not None:
            return
        audited, census = self.types[data_type], self._census[data_type]
        own = {"", *self._own(census)}
        for identity in census.identities():
            if identity in own:
                continue
            audited.earlier_streams[identity] = census.rows(identity)
            windows = set().union(*(w for (_, stream), w in census.windows.items() if stream == identity))
            for window in sorted(windows):
                _, double, both = await self._rows(data_type, [identity], window, census.last[identity])
                audited.double += double
                audited.in_both_tiers += both

    async def _name_doubles(self, data_type: str) -> None:
        audited = self.types[data_type]
        if not audited.double:
            return
        for tier, store in self._tiers.items():
            rows = await store.clickhouse.query(
                f"SELECT _stream, _seq, count() FROM {self._table(tier, self._tables[data_type])} WHERE _stream != ''"
                f" AND _seq >= {self._begin} GROUP BY _stream, _seq HAVING count() > 1 ORDER BY _stream, _seq LIMIT 1000"
            )
            audited.doubles += [(stream, tier, seq, count) for stream, seq, count in rows]

    async def _look_into_missing(self, audited: TypeAudit) -> None:
        """A dead letter that was purged or has expired leaves its message with neither: told apart from a loss by
        decoding the message, and by the dead-letter stream having let go of as many."""
        if not 0 < audited.missing.count <= LOOKED_INTO:
            return
        try:
            state = (await self._broker.api(f"STREAM.INFO.{self._settings.dead_letters.stream}", None))["state"]
        except BrokerError:
            return
        gone = state["last_seq"] - state["messages"]
        wanted = {seq for first, last in audited.missing.ranges for seq in range(first, last + 1)} if gone else set()
        undecodable = 0
        if wanted:
            declaration = self._settings.data_types[audited.data_type].declaration
            async with StreamReader(self._broker, self._stream, [declaration.subject], first=min(wanted)) as reader:
                async for messages in reader.batches(1000):
                    undecodable += sum(
                        _refused(declaration, m.subject, m.payload, m.arrived, self._settings.messages)
                        for m in messages
                        if m.seq in wanted
                    )
                    if messages[-1].seq >= max(wanted):
                        break
        audited.purged = min(undecodable, gone)

    async def _compare(self, data_type: str) -> None:
        await compare(
            self.types[data_type],
            self._broker,
            self._settings.data_types[data_type].declaration,
            tiers={tier: (server, self._table(tier, self._tables[data_type])) for tier, server in self._tiers.items()},
            streams=self._identities(data_type),
            dead=self._dead[data_type],
            refused=self._refused[data_type],
            limits=self._settings.messages,
        )


def _position(lane: FoundLane) -> Position:
    """Without a record nothing is done."""
    record = lane.record
    if record is None:
        return Position()
    return Position(record.begin, ((0, record.done), *((claim.start, claim.done) for claim in record.claims)))


def _refused(declaration: Declaration, subject: str, payload: bytes, arrived: int, limits: MessageLimits) -> bool:
    try:
        decode(declaration, subject, payload, arrived, limits)
    except MessageError:
        return True
    return False
