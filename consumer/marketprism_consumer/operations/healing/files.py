"""What a file has and the tables lack of one series, into hot. First all of it is looked through; then what is missing is stored, in
pieces that are always the same lines, each looked up anew. Old rows in hot are tiering's to move, like all that come late."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from hashlib import md5
from itertools import count, groupby
from typing import Any

from marketprism_api.data_types import Declaration
from marketprism_api.messages import MessageLimits
from marketprism_consumer.clickhouse import incidents as noted
from marketprism_consumer.clickhouse.store import ClickHouseStore
from marketprism_consumer.errors import Fault, HealError, MessageError, StoreError
from marketprism_consumer.faultpoints import faultpoint
from marketprism_consumer.ingest.decode import decoder_of
from marketprism_consumer.operations.healing.archives import Archive, ArchiveLine, as_stored, payload
from marketprism_consumer.operations.healing.claim import HealingClaim
from marketprism_consumer.operations.healing.plan import (
    ID,
    FilePlan,
    HealLine,
    LinesPlan,
    TradeThere,
    plan_identities,
    plan_trades,
)
from marketprism_consumer.operations.questions import ONE_SERIES, TIME_SPAN
from marketprism_consumer.operations.restore import Restorable, Restore
from marketprism_consumer.schema.incidents import FILE, Incident
from marketprism_consumer.schema.tables import Table, table_of
from marketprism_consumer.tiering.two_tiers import BY_HAND

LINES = 5_000  # looked up, and inserted, at once
ATTEMPTS = 3  # at a piece whose insert came too late
AROUND = 600_000_000  # by how much the time of a trade that is there may differ from the file's [µs]
GENERATION = "~"  # before the number of an identity's generation (`ingest/identity.py`)
KEPT_ANYWAY = (FILE, BY_HAND)  # identities that are no stream's: there is one of each in the world

SeriesName = tuple[str, str, str]
"""Exchange, market type, symbol."""
IN_TIME = TIME_SPAN.format("timestamp")


@dataclass(frozen=True, slots=True)
class HealRequest:
    """Times of events, from `since` on and before `until` [µs]. What happened from `horizon` on may still be ingest's to store."""

    series: SeriesName
    since: int
    until: int
    horizon: int
    why: str


@dataclass(slots=True)
class HealedFile:
    """`stored_before`: by the same file, in a run that was killed. `refused`: what ClickHouse said of each row that it did not take."""

    path: str
    stream: str
    series: SeriesName
    plan: FilePlan
    stored: int = 0
    stored_before: int = 0
    refused: list[str] = field(default_factory=list)


class FileHealing:
    """`progress` is called with lines done, of how many, and rows stored."""

    def __init__(
        self,
        tiers: Sequence[ClickHouseStore],
        declaration: Declaration,
        limits: MessageLimits,
        archive: Archive,
        request: HealRequest,
        progress: Callable[[int, int, int], None] = lambda *_: None,
    ) -> None:
        self._tiers, self._archive, self._request, self._progress = tiers, archive, request, progress
        self._table = table_of(declaration)
        self._decode = decoder_of(as_stored(declaration), limits)
        self._by_id = declaration.name == "trade"
        self._known: dict[str, bool] = {}
        self._pieces: set[int] = set()
        """Those in which something is missing."""

    async def plan(self) -> FilePlan:
        """Raises HealError, StoreError."""
        found = FilePlan()
        self._pieces.clear()
        for number, lines in self._cut():
            plan = await self._compare(self._wanted(lines, found))
            found.add(plan)
            if plan.missing:
                self._pieces.add(number)
            self._progress(found.read, 0, 0)
        if self._by_id and found.first:
            found.in_time = await self._count(found.first, found.last + 1)
        return found

    async def heal(self, claim: HealingClaim, plan: FilePlan) -> HealedFile:
        """Raises HealRunsError, BrokerError, StoreError."""
        done = HealedFile(str(self._archive.path), self._archive.stream, self._request.series, plan)
        incident = await self._begin(plan)
        faultpoint("heal_after_note")
        restore: Restore[int] = Restore(self._tiers)
        for number, lines in self._cut():
            if number not in self._pieces:
                continue
            await self._store(claim, restore, list(lines), done)
            self._progress(number * LINES, plan.read, done.stored)
        faultpoint("heal_before_end")
        if incident:
            await self._note(replace(incident, healed=incident.healed + done.stored, ended=True))
        return done

    async def _store(
        self, claim: HealingClaim, restore: Restore[int], lines: Sequence[ArchiveLine], done: HealedFile
    ) -> None:
        """What is missing of one piece. What comes too late was not taken, and its moment is over: then all of it begins again."""
        for attempt in count(1):
            until = await claim.renew()
            for tier in self._tiers:
                await tier.settle(self._table)
            missing = (await self._compare(self._wanted(lines, FilePlan()))).missing
            faultpoint("heal_after_look_up")
            try:
                for stream, entries in self._placed(missing).items():
                    claim.sending()
                    states = await restore.store(self._table, stream, entries, until)
                    done.stored += sum(state == "stored" for _, state, _ in states)
                    done.stored_before += sum(state == "stored before" for _, state, _ in states)
                    refused = [why for _, _, why in states if why]
                    done.refused += refused
                    if not refused:
                        claim.answered()
                    faultpoint("heal_after_insert")
            except StoreError as late:
                if late.fault is not Fault.LATE or attempt == ATTEMPTS:
                    raise
            else:
                return

    # --- the file -----------------------------------------------------------------------------------------------------

    def _cut(self) -> Iterator[tuple[int, Iterator[ArchiveLine]]]:
        """Always the same lines together, whatever is asked for, and whatever is there."""
        return groupby(self._archive.lines(), lambda line: line.number // LINES)

    def _wanted(self, lines: Iterable[ArchiveLine], found: FilePlan) -> list[HealLine]:
        """Those that can be rows, and were asked for."""
        request, now = self._request, int(time.time() * 1e6)
        exchange, market_type, symbol = request.series
        own = {"exchange": exchange, "market_type": market_type, "symbol": symbol}
        wanted = []
        for line in lines:
            found.read += 1
            try:
                row = self._decode("", payload({**line.message, **own}), now)
            except MessageError as refused:
                found.refuse(str(refused.reason), f"line {line.number}: {refused}")
                continue
            at = row[0]
            if not request.since <= at < request.until:
                found.outside += 1
            elif at >= request.horizon:
                found.in_hand += 1
            else:
                found.first, found.last = min(found.first or at, at), max(found.last, at)
                wanted.append(HealLine(line.number, row, line.identity))
        return wanted

    # --- the tables ---------------------------------------------------------------------------------------------------

    async def _compare(self, lines: Sequence[HealLine]) -> LinesPlan:
        if not lines:
            return LinesPlan()
        named = [await self._named(line) for line in lines]
        return await self._compare_ids(named) if self._by_id else await self._compare_identities(named)

    async def _named(self, line: HealLine) -> HealLine:
        """Without its identity where the tables know nothing of that stream: it is somebody else's."""
        if line.identity and not line.identity[0].startswith(KEPT_ANYWAY):
            stream = line.identity[0].partition(GENERATION)[0]
            if stream not in self._known:
                self._known[stream] = await self._has(stream)
            if not self._known[stream]:
                return replace(line, identity=None)
        return line

    async def _has(self, stream: str) -> bool:
        for tier in self._tiers:
            sql = f"SELECT count() FROM (SELECT 1 FROM {tier.table(self._table)} WHERE _stream = {{stream:String}} LIMIT 1)"
            if await tier.clickhouse.value(sql, {"stream": stream}):
                return True
        return False

    async def _compare_ids(self, lines: Sequence[HealLine]) -> LinesPlan:
        # A text of the file in a statement would be one of its SQL; a number made of it is none.
        digests = {int.from_bytes(md5(line.row[ID].encode(), usedforsecurity=False).digest()[:8]) for line in lines}
        times = [line.row[0] for line in lines]
        found: defaultdict[str, list[TradeThere]] = defaultdict(list)
        where = f"{ONE_SERIES} AND {IN_TIME} AND halfMD5(trade_id) IN ({', '.join(map(str, sorted(digests)))})"
        for tier in self._tiers:
            rows = await tier.rows(
                self._table,
                ("trade_id", "price", "quantity", "toString(side)"),
                where,
                self._given(min(times) - AROUND, max(times) + AROUND),
            )
            for id_, *trade in rows:
                found[id_].append(TradeThere(*trade))
        return plan_trades(lines, found)

    async def _compare_identities(self, lines: Sequence[HealLine]) -> LinesPlan:
        of_stream: defaultdict[str, list[int]] = defaultdict(list)
        for line in lines:
            if line.identity:
                of_stream[line.identity[0]].append(line.identity[1])
        there: set[tuple[str, int]] = set()
        for tier in self._tiers:
            for stream, seqs in of_stream.items():
                there |= {(stream, seq) for seq in await tier.present(self._table, stream, seqs)}
        return plan_identities(lines, frozenset(there))

    def _placed(self, lines: Sequence[HealLine]) -> Mapping[str, list[Restorable[int]]]:
        """By the stream under which they are stored: their own, or the file."""
        placed: defaultdict[str, list[Restorable[int]]] = defaultdict(list)
        for line in lines:
            stream, seq = line.identity or (self._archive.stream, line.number)
            placed[stream.partition(GENERATION)[0]].append((line.number, seq, line.row))
        return placed

    async def _count(self, since: int, until: int) -> int:
        """Trades of the series, of the tier that has more of them: a row may be in both."""
        given = self._given(since, until)
        counts = [
            int(
                await tier.clickhouse.value(
                    f"SELECT count() FROM {tier.table(self._table)} WHERE {ONE_SERIES} AND {IN_TIME}", given
                )
            )
            for tier in self._tiers
        ]
        return max(counts)

    def _given(self, since: int, until: int) -> dict[str, Any]:
        exchange, market_type, symbol = self._request.series
        return {
            "exchange": exchange,
            "market_type": market_type,
            "symbol": symbol,
            "since": since,
            "until": until,
        }

    # --- what is noted ------------------------------------------------------------------------------------------------

    async def _begin(self, plan: FilePlan) -> Incident | None:
        """Noted before anything is stored; None where nothing is missing, and no run that was killed left its entry open."""
        exchange, market_type, symbol = self._request.series
        incident = Incident(
            self._table.data_type, exchange, market_type, symbol, plan.first_missing, plan.last_missing,
            plan.missing, 0, plan.disagreeing, "file", self._archive.stream, self._archive.path.name, self._request.why, False,
        )  # fmt: skip
        hot = self._tiers[0]
        entries = await noted.incidents(hot.clickhouse, hot.database, 0, 1 << 62, self._table.data_type)
        before = next((entry for entry in entries if entry.id == incident.id), None)
        if not plan.missing and (before is None or before.ended):
            return None
        if before:
            healed = before.healed if before.ended else max(before.healed, before.missing - plan.missing)
            incident = replace(
                incident,
                missing=healed + plan.missing,
                healed=healed,
                since=min(before.since, plan.first_missing or before.since),
                until=max(before.until, plan.last_missing),
            )
        await self._note(incident)
        return incident

    async def _note(self, incident: Incident) -> None:
        hot = self._tiers[0]
        await noted.note(hot.clickhouse, hot.database, incident)


async def series_of(
    tiers: Sequence[ClickHouseStore], table: Table, archive: Archive, exchange: str, market_type: str, symbol: str
) -> SeriesName:
    """Of which series the file is: as it was asked for, as the file says, and as the tables know it. Raises HealError, StoreError."""
    said = _said(archive)
    if archive.form == "parquet":
        wrong = [
            f"{name} is {there}"
            for name, given, there in zip(("exchange", "market type", "symbol"), (exchange, market_type, symbol), said, strict=True)
            if given and given != there
        ]  # fmt: skip
        if wrong:
            raise HealError(f"{archive.path}: its {', its '.join(wrong)}")
        return said
    exchange, symbol = exchange or said[0], symbol or said[2]
    if not exchange or not symbol:
        raise HealError(
            f"{archive.path} does not say of what it is: give --exchange and --symbol, as the tables have them"
        )
    if not market_type:
        there = await market_types(tiers, table, exchange, symbol)
        if len(there) != 1:
            what = f"of {' and '.join(sorted(there))}" if there else "no row"
            raise HealError(f"the tables have {what} of {exchange} {symbol}: give --market-type")
        (market_type,) = there
    return exchange, market_type, symbol


async def market_types(tiers: Sequence[ClickHouseStore], table: Table, exchange: str, symbol: str) -> set[str]:
    """Those that the tiers have rows of. Raises StoreError."""
    found: set[str] = set()
    for tier in tiers:
        sql = (
            f"SELECT groupUniqArray(toString(market_type)) FROM {tier.table(table)}"
            " WHERE exchange = {exchange:String} AND symbol = {symbol:String}"
        )
        found |= set(await tier.clickhouse.value(sql, {"exchange": exchange, "symbol": symbol}))
    return found


def _said(archive: Archive) -> SeriesName:
    """As the file says; empty where it says nothing. Raises HealError where it has several series."""
    said: set[SeriesName] = set()
    for line in archive.lines():
        message = line.message
        said.add((message.get("exchange", ""), message.get("market_type", ""), message.get("symbol", "")))
        if archive.form == "binance":
            break
        if len(said) > 1:
            raise HealError(f"{archive.path}: it has several series: {sorted(said)}: give one file for each")
    return next(iter(said), ("", "", ""))
