"""One validation: every table in slices of bounded size, then what the slices say together."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from marketprism_api import reasons
from marketprism_api.data_types import Declaration, ValidationLimits
from marketprism_api.reasons import Reason
from marketprism_consumer.clickhouse.client import SPILL, ClickHouse
from marketprism_consumer.schema.views import everything
from marketprism_consumer.validation.checks import (
    EXAMPLES,
    MAX_RUNS,
    SeriesLine,
    Shape,
    parameters,
    parity,
    shape_of,
    statement,
)
from marketprism_consumer.validation.numbers import Numbers

SLICE_ROWS = 2_000_000
SECOND = 1_000_000
HOUR = 3600 * SECOND
USUAL_PAUSES = 20  # a silence is at least this many times the usual pause, whatever the limit
FEWEST = 50  # rows of a series before a share of them says anything
SHOWN = 5  # examples of a finding

SeriesKey = tuple[str, str, str, str]
"""Exchange, market type, symbol, period."""


@dataclass(frozen=True, slots=True)
class ValidationRequest:
    """`since` and `until` in µs since 1970. Empty lists: all."""

    since: int
    until: int
    data_types: Sequence[str]
    exchanges: Sequence[str] = ()
    symbols: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Example:
    """A place where it is wrong. Times in µs since 1970."""

    series: SeriesKey
    at: int
    until: int
    text: str


@dataclass(slots=True)
class ValidationFinding:
    reason: Reason
    data_type: str
    count: int = 0
    series: int = 0
    examples: list[Example] = field(default_factory=list)

    def add(self, count: int, examples: Sequence[Example]) -> None:
        self.count += count
        self.series += 1
        self.examples += examples[: SHOWN - len(self.examples)]


@dataclass(slots=True)
class Series:
    """What the slices said of one series."""

    rows: int = 0
    first: int = 0
    last: int = 0
    pauses: list[tuple[int, int]] = field(default_factory=list)
    doubles: int = 0
    numbers: Numbers = field(default_factory=Numbers)
    countless: bool = False
    """Its numbers are in too many runs to be a sequence."""
    repeated: list[int] = field(default_factory=list)
    linked: int | None = None
    checks: list[tuple[int, int, list[tuple[int, list[str]]]]] = field(default_factory=list)

    def usual_pause(self) -> float:
        """Without the longest, which may be the silence in question."""
        longest = max((end - start for start, end in self.pauses), default=0)
        return (self.last - self.first - longest) / max(1, self.rows - 1)

    def add(self, shape: Shape, line: SeriesLine, found: Sequence[Any], longest_pause: float) -> None:
        checks = [list(found[3 * n : 3 * n + 3]) for n in range(len(shape.checks))]
        if self.rows:
            if line.first - self.last > longest_pause:
                self.pauses.append((self.last, line.first))
            self._join(shape, line, checks)
        self.first = min(self.first, line.first) if self.rows else line.first
        self.last = max(self.last, line.last)
        self.rows += line.rows
        self.pauses += [(start, end) for start, end in line.silences]
        self.doubles += line.doubles
        if line.last_linked is not None:
            self.linked = line.last_linked
        if line.runs > MAX_RUNS:
            self.countless = True
        elif line.runs:
            self.numbers.add(line.lowest, line.highest, list(line.starts), list(line.ends))
        self.numbers.repeats += line.repeats
        self.repeated += line.repeated
        before = self.checks or [(0, 0, []) for _ in checks]
        self.checks = [
            (have[0] + wrong, have[1] + among, [*have[2], *examples][:SHOWN])
            for have, (wrong, among, examples) in zip(before, checks, strict=True)
        ]

    def _join(self, shape: Shape, line: SeriesLine, checks: list[list[Any]]) -> None:
        """The link between two slices, which neither has seen."""
        for number, check in enumerate(shape.checks):
            link, linked = line.first_link, self.linked
            if check.reason is reasons.BOOK_CHAIN_BROKEN and link is not None and linked is not None:
                checks[number][1] += 1
                if link > linked:
                    checks[number][0] += 1
                    checks[number][2] = [(line.first, [str(link), str(linked)]), *checks[number][2]]


@dataclass(slots=True)
class TypeReport:
    data_type: str
    table: str
    rows: int = 0
    in_both: int = 0
    series: dict[SeriesKey, Series] = field(default_factory=dict)
    findings: list[ValidationFinding] = field(default_factory=list)
    sample: dict[str, Any] | None = None
    seconds: float = 0.0


@dataclass(slots=True)
class Report:
    hot: str
    cold: str
    request: ValidationRequest
    types: list[TypeReport] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def findings(self) -> list[ValidationFinding]:
        return [finding for type_report in self.types for finding in type_report.findings]

    @property
    def rows(self) -> int:
        return sum(type_report.rows for type_report in self.types)

    @property
    def fine(self) -> bool:
        return not self.findings


# --- the slices -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class TimeSlice:
    since: int
    until: int
    both: bool
    """Both tiers have rows in it."""


def slices(hours: Mapping[int, tuple[int, int]], since: int, until: int, limit: int = SLICE_ROWS) -> list[TimeSlice]:
    """`hours`: start → rows in hot and in cold. Neighbours together up to `limit` rows; an hour with more is cut evenly."""
    made: list[TimeSlice] = []
    rows = 0
    for hour in sorted(hours):
        start, end = max(hour, since), min(hour + HOUR, until)
        hot, cold = hours[hour]
        both = bool(hot and cold)
        if made and rows + hot + cold <= limit:
            made[-1] = TimeSlice(made[-1].since, end, made[-1].both or both)
            rows += hot + cold
            continue
        parts = -(-(hot + cold) // limit)
        cuts = [start + (end - start) * part // parts for part in range(parts + 1)]
        made += [TimeSlice(cut, following, both) for cut, following in pairwise(cuts) if cut < following]
        rows = hot + cold if parts == 1 else limit
    return made


# --- asking -----------------------------------------------------------------------------------------------------------


class Validation:
    """`progress` is called with a table's name, rows done and rows in all."""

    def __init__(
        self,
        clickhouse: ClickHouse,
        hot: str,
        cold: str,
        declarations: Mapping[str, Declaration],
        limits: Mapping[str, ValidationLimits],
        progress: Callable[[str, int, int], None] = lambda *_: None,
        slice_rows: int = SLICE_ROWS,
    ) -> None:
        self._clickhouse, self._hot, self._cold = clickhouse, hot, cold
        self._declarations = declarations
        self._limits, self._progress, self._slice_rows = limits, progress, slice_rows

    async def run(self, request: ValidationRequest) -> Report:
        """Raises StoreError where ClickHouse does not answer, or not with rows."""
        report = Report(self._hot, self._cold, request)
        begun = time.monotonic()
        for data_type in request.data_types:
            report.types.append(await self._type(request, data_type))
        report.seconds = time.monotonic() - begun
        return report

    async def _type(self, request: ValidationRequest, data_type: str) -> TypeReport:
        shape, limits = shape_of(self._declarations[data_type]), self._limits[data_type]
        found = TypeReport(data_type, shape.table.name)
        begun = time.monotonic()
        tiers_differ = ValidationFinding(reasons.TIERS_DIFFER, found.data_type)
        hours = await self._hours(shape, request)
        total = sum(hot + cold for hot, cold in hours.values())
        sql = statement(shape, self._hot, self._cold, _where(request))
        for time_slice in slices(hours, request.since, request.until, self._slice_rows):
            given = _parameters(request, time_slice.since, time_slice.until)
            for row in await self._clickhouse.query(sql, {**given, **parameters(limits)}, settings=SPILL):
                line, answers = SeriesLine(*row[: len(SeriesLine._fields)]), row[len(SeriesLine._fields) :]
                key = (line.exchange, line.market_type, line.symbol, line.period)
                series = found.series.setdefault(key, Series())
                series.add(shape, line, answers, limits.max_silence * SECOND or float("inf"))
                found.rows += line.rows
            if time_slice.both:
                await self._compare(shape, request, given, found, tiers_differ)
            self._progress(shape.table.name, found.rows, total)
        earlier = await self._earlier(shape, request)
        found.findings = judge(shape, limits, request, found.series, earlier)
        if tiers_differ.count:
            found.findings.append(tiers_differ)
        for finding in found.findings:
            if finding.reason in (reasons.TRADES_MISSING, reasons.TRADE_REPEATED):
                finding.examples = [await self._located(shape, request, example) for example in finding.examples]
        found.sample = await self._sample(shape, found)
        found.seconds = time.monotonic() - begun
        return found

    async def _hours(self, shape: Shape, request: ValidationRequest) -> dict[int, tuple[int, int]]:
        """Start of the hour → rows in hot and in cold."""
        hours: dict[int, tuple[int, int]] = {}
        for tier, database in enumerate((self._hot, self._cold)):
            sql = (
                "SELECT toUnixTimestamp(toStartOfHour(timestamp)) AS hour, count()"
                f" FROM `{database}`.`{shape.table.name}` WHERE {_where(request)} GROUP BY hour"
            )
            for hour, rows in await self._clickhouse.query(sql, _parameters(request, request.since, request.until)):
                hot, cold = hours.get(hour * SECOND, (0, 0))
                hours[hour * SECOND] = (hot + rows, cold) if tier == 0 else (hot, cold + rows)
        return hours

    async def _earlier(self, shape: Shape, request: ValidationRequest) -> set[tuple[str, str, str]]:
        """The series that had rows in the window before."""
        found: set[tuple[str, str, str]] = set()
        for database in (self._hot, self._cold):
            rows = await self._clickhouse.query(
                f"SELECT DISTINCT exchange, market_type, symbol FROM `{database}`.`{shape.table.name}`"
                f" WHERE {_where(request)}",
                _parameters(request, 2 * request.since - request.until, request.since),
            )
            found |= {(exchange, market_type, symbol) for exchange, market_type, symbol in rows}
        return found

    async def _compare(
        self,
        shape: Shape,
        request: ValidationRequest,
        given: Mapping[str, Any],
        found: TypeReport,
        finding: ValidationFinding,
    ) -> None:
        sql = parity(shape.table, self._hot, self._cold, _where(request))
        ((both, differ, examples),) = await self._clickhouse.query(sql, given, settings=SPILL)
        found.in_both += both
        if differ:
            finding.add(differ, [
                Example((*place, ""), at, at, f"_stream {stream}, _seq {seq}") for *place, at, stream, seq in examples
            ])  # fmt: skip

    async def _located(self, shape: Shape, request: ValidationRequest, example: Example) -> Example:
        """When the trades came whose numbers the example has (in place of its times)."""
        exchange, market_type, symbol, _ = example.series
        where = (
            f"{_where(request)} AND exchange = {{exchange:String}} AND market_type = {{market:String}} AND symbol = {{symbol:String}}"
            " AND toUInt64OrZero(trade_id) IN ({first:UInt64}, {last:UInt64})"
        )
        rows = await self._clickhouse.query(
            "SELECT toUnixTimestamp64Micro(min(timestamp)), toUnixTimestamp64Micro(max(timestamp))"
            f" FROM ({everything(self._hot, self._cold, shape.table, where)})",
            {
                **_parameters(request, request.since, request.until),
                **{
                    "exchange": exchange,
                    "market": market_type,
                    "symbol": symbol,
                    "first": example.at,
                    "last": example.until,
                },
            },
        )
        return Example(example.series, rows[0][0], rows[0][1], example.text)

    async def _sample(self, shape: Shape, found: TypeReport) -> dict[str, Any] | None:
        """The last row, whole."""
        if not found.series:
            return None
        key, last = max(found.series.items(), key=lambda item: item[1].last)
        names = [column.name for column in shape.table.stored]
        where = (
            "exchange = {exchange:String} AND market_type = {market:String} AND symbol = {symbol:String}"
            f" AND toUnixTimestamp64Micro({shape.time}) = {{at:Int64}}"
        )
        rows = await self._clickhouse.query(
            f"SELECT {', '.join(f'toString({name})' for name in names)}"
            f" FROM ({everything(self._hot, self._cold, shape.table, where)}) LIMIT 1",
            {"exchange": key[0], "market": key[1], "symbol": key[2], "at": last.last},
        )
        return dict(zip(names, rows[0], strict=True)) if rows else None


def _where(request: ValidationRequest) -> str:
    parts = [
        "timestamp >= fromUnixTimestamp64Micro({since:Int64}, 'UTC')",
        "timestamp < fromUnixTimestamp64Micro({until:Int64}, 'UTC')",
    ]
    if request.exchanges:
        parts.append("exchange IN {exchanges:Array(String)}")
    if request.symbols:
        parts.append("symbol IN {symbols:Array(String)}")
    return " AND ".join(parts)


def _parameters(request: ValidationRequest, since: int, until: int) -> dict[str, Any]:
    return {
        "since": since,
        "until": until,
        "exchanges": list(request.exchanges),
        "symbols": list(request.symbols),
    }


# --- judging: pure ----------------------------------------------------------------------------------------------------


def judge(
    shape: Shape,
    limits: ValidationLimits,
    request: ValidationRequest,
    series: Mapping[SeriesKey, Series],
    earlier: set[tuple[str, str, str]],
) -> list[ValidationFinding]:
    """What is wrong with what the slices said."""
    findings: dict[str, ValidationFinding] = {}

    def add(reason: Reason, count: int, *examples: Example) -> None:
        findings.setdefault(reason.code, ValidationFinding(reason, shape.table.data_type)).add(count, examples)

    if limits.max_silence and not series and not (request.exchanges or request.symbols):
        add(reasons.NO_ROWS, 1)
    for key, seen in sorted(series.items()):
        if seen.doubles:
            add(reasons.ROW_DOUBLED, seen.doubles, Example(key, seen.first, seen.last, f"{seen.doubles} rows too many"))
        _judge_pauses(limits, request, key, seen, add)
        _judge_numbers(shape, key, seen, add)
        for check, (wrong, among, examples) in zip(shape.checks, seen.checks, strict=True):
            above = limits.max_unknown_sides if check.reason is reasons.SIDE_UNKNOWN else check.above
            if check.reason is reasons.SIDE_UNKNOWN and among < FEWEST:
                continue
            if wrong and above * among < wrong <= check.up_to * among:
                add(check.reason, wrong, *(
                    Example(key, at, at, ", ".join(f"{name} {text}" for name, text in zip(check.shows, texts, strict=True)))
                    for at, texts in examples
                ))  # fmt: skip
    if limits.max_silence:
        here = {key[:3] for key in series}
        for gone in sorted(earlier - here):
            text = "none in the whole window, though there were in the one before"
            add(reasons.SYMBOL_DEAD, 1, Example((*gone, ""), request.since, request.until, text))
    return [finding for _, finding in sorted(findings.items())]


def _judge_pauses(
    limits: ValidationLimits, request: ValidationRequest, key: SeriesKey, seen: Series, add: Callable[..., None]
) -> None:
    if not limits.max_silence:
        return
    if found := silences(limits, seen):
        usual = f"usual is one every {seen.usual_pause() / SECOND:.1f} s"
        add(reasons.SILENCE, len(found), *(
            Example(key, start, end, f"nothing for {(end - start) / SECOND:,.0f} s; {usual}") for start, end in found[:SHOWN]
        ))  # fmt: skip
    if request.until - seen.last > longest_pause(limits, seen):
        text = f"nothing since, for {(request.until - seen.last) / SECOND:,.0f} s"
        add(reasons.SYMBOL_DEAD, 1, Example(key, seen.last, request.until, text))


def longest_pause(limits: ValidationLimits, seen: Series) -> float:
    """That is no silence [µs]."""
    return max(limits.max_silence * SECOND, USUAL_PAUSES * seen.usual_pause())


def silences(limits: ValidationLimits, seen: Series) -> list[tuple[int, int]]:
    """Each from the last row before it to the first after it [µs]; none without a limit."""
    if not limits.max_silence:
        return []
    longest = longest_pause(limits, seen)
    return sorted((start, end) for start, end in seen.pauses if end - start > longest)


def _judge_numbers(shape: Shape, key: SeriesKey, seen: Series, add: Callable[..., None]) -> None:
    holes = list(seen.numbers.holes())
    if shape.distinct:
        length = period_seconds(key[3]) * SECOND
        if holes:
            add(reasons.CADENCE_MISSED, sum(last - first + 1 for first, last in holes), *(
                Example(key, first * length, (last + 1) * length, f"{last - first + 1} without a row, one is due every {key[3]}")
                for first, last in holes[:SHOWN]
            ))  # fmt: skip
        return
    if seen.countless or not seen.numbers.sequential:
        return
    if holes:
        # For now with the numbers around the hole in place of times: where they are is looked up for the examples only.
        add(reasons.TRADES_MISSING, sum(last - first + 1 for first, last in holes), *(
            Example(key, first - 1, last + 1, f"trade_id {first}" + (f" to {last}" if last > first else "") + " missing")
            for first, last in holes[:EXAMPLES]
        ))  # fmt: skip
    if seen.numbers.repeats:
        shown = sorted(set(seen.repeated))[:EXAMPLES]
        add(reasons.TRADE_REPEATED, seen.numbers.repeats, *(
            Example(key, number, number, f"trade_id {number} more than once") for number in shown
        ))  # fmt: skip


def period_seconds(period: str) -> int:
    """As `views.bucket_seconds` has it: `5m`, `1H`, `1d`; 1 for what is no period."""
    number, unit = period[:-1], period[-1:].lower()
    factor = {"s": 1, "m": 60, "h": 3600, "d": 86_400}.get(unit, 0)
    return max(1, int(number) * factor) if number.isdecimal() else 1
