"""Where a validation found something missing: numbers, buckets, silences, each as a stretch of time of one series."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from marketprism_api.data_types import ValidationLimits
from marketprism_consumer.clickhouse.client import SPILL, ClickHouse
from marketprism_consumer.operations.questions import NAMED, ONE_SERIES, TIME_SPAN
from marketprism_consumer.schema.tables import TRADES
from marketprism_consumer.schema.views import everything
from marketprism_consumer.validation.run import SECOND, Report, Series, SeriesKey, TypeReport, period_seconds, silences

EDGES = 2_000  # numbers that are looked for at once


@dataclass(frozen=True, slots=True)
class Hole:
    """Of one series: from the row before it to the row after it [µs]. `missing`: how many numbers of the venue; 0 where it does not
    number."""

    data_type: str
    exchange: str
    market_type: str
    symbol: str
    since: int
    until: int
    missing: int
    text: str

    @property
    def series(self) -> tuple[str, str, str]:
        return self.exchange, self.market_type, self.symbol


async def find_holes(clickhouse: ClickHouse, report: Report, limits: Mapping[str, ValidationLimits]) -> list[Hole]:
    """In the order of series and time. Raises StoreError."""
    found: list[Hole] = []
    for of_type in report.types:
        for key, seen in sorted(of_type.series.items()):
            holes: list[Hole] = []
            if of_type.data_type == "trade" and seen.numbers.sequential and not seen.countless:
                holes = await _of_numbers(clickhouse, report, key, list(seen.numbers.holes()))
            numbered = {(hole.since, hole.until) for hole in holes}  # a silence of these is the same hole
            holes += [
                hole
                for hole in _of_times(of_type.data_type, key, seen, limits[of_type.data_type])
                if (hole.since, hole.until) not in numbered
            ]
            found += sorted(holes, key=lambda hole: (hole.since, hole.until))
        found += _dead(report, of_type)
    return found


def _of_times(data_type: str, key: SeriesKey, seen: Series, limits: ValidationLimits) -> Iterable[Hole]:
    for start, end in silences(limits, seen):
        yield Hole(data_type, *key[:3], start, end, 0, f"nothing for {(end - start) / SECOND:,.0f} s")
    if key[3] and period_seconds(key[3]) > 1:  # numbers are buckets
        length = period_seconds(key[3]) * SECOND
        for first, last in seen.numbers.holes():
            count = last - first + 1
            yield Hole(
                data_type, *key[:3], first * length, (last + 1) * length, count, f"{count:,} of {key[3]} without a row"
            )


def _dead(report: Report, of_type: TypeReport) -> list[Hole]:
    """Series that ended within the window, or before it."""
    return [
        Hole(of_type.data_type, *example.series[:3], example.at, example.until, 0, example.text)
        for finding in of_type.findings
        if finding.reason.name == "SymbolDead"
        for example in finding.examples
    ]


async def _of_numbers(
    clickhouse: ClickHouse, report: Report, key: SeriesKey, holes: Sequence[tuple[int, int]]
) -> list[Hole]:
    """With the times of the trades around each."""
    edges = sorted({edge for first, last in holes for edge in (first - 1, last + 1)})
    times: dict[int, tuple[int, int]] = {}
    request = report.request
    for at in range(0, len(edges), EDGES):
        numbers = ", ".join(map(str, edges[at : at + EDGES]))
        where = f"{ONE_SERIES} AND {TIME_SPAN.format('timestamp')} AND toUInt64OrZero(trade_id) IN ({numbers})"
        given = {
            **dict(zip(NAMED, key, strict=False)),
            "since": request.since,
            "until": request.until,
        }
        rows = await clickhouse.query(
            "SELECT toUInt64OrZero(trade_id) AS number, toUnixTimestamp64Micro(min(timestamp)),"
            f" toUnixTimestamp64Micro(max(timestamp)) FROM ({everything(report.hot, report.cold, TRADES, where)}) GROUP BY number",
            given,
            settings=SPILL,
        )
        times |= {number: (first, last) for number, first, last in rows}
    found = []
    for first, last in holes:
        if first - 1 in times and last + 1 in times:
            since, until = sorted((times[first - 1][0], times[last + 1][1]))
            text = f"trade_id {first}" + (f" to {last}" if last > first else "")
            found.append(Hole("trade", *key[:3], since, until, last - first + 1, text))
    return found
