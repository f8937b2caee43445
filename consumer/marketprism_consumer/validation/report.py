"""What a validation reports: as text, as Markdown, as JSON, and as metrics. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from prometheus_client import CollectorRegistry, Gauge

from marketprism_consumer import times
from marketprism_consumer.validation.run import Example, Report, Series, TypeReport, ValidationFinding

SHOWN_SERIES = 20


def place(example: Example) -> str:
    exchange, market_type, symbol, period = example.series
    name = " ".join(part for part in (exchange, market_type, symbol, period) if part)
    span = (
        times.exact(example.at)
        if example.at == example.until
        else f"{times.exact(example.at)} to {times.exact(example.until)}"
    )
    return f"{name}, {span}"


def query(report: Report, type_report: TypeReport, finding: ValidationFinding) -> str:
    """What shows the first example; '' where there is nothing to be seen."""
    if not finding.examples:
        return ""
    example = finding.examples[0]
    exchange, market_type, symbol, _ = example.series
    tables = f"`{report.hot}`.`all_{type_report.table}`"
    return (
        f"SELECT * FROM {tables} WHERE exchange = {_quoted(exchange)} AND market_type = {_quoted(market_type)}"
        f" AND symbol = {_quoted(symbol)} AND timestamp BETWEEN '{times.exact(example.at - 1_000_000)}'"
        f" AND '{times.exact(example.until + 1_000_000)}' ORDER BY timestamp, _seq LIMIT 100"
    )


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return "'" + "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in escaped) + "'"


def verdict(report: Report) -> str:
    rows, series = report.rows, sum(len(type_report.series) for type_report in report.types)
    span = f"{times.exact(report.request.since)} to {times.exact(report.request.until)}"
    looked = f"{rows:,} rows of {series:,} series, {span}, in {report.seconds:.1f} s"
    if report.fine:
        return f"FINE: nothing wrong in {looked}"
    findings = report.findings
    kinds = f"{len(findings)} kind{'s' if len(findings) > 1 else ''} of fault"
    return f"FINDINGS: {kinds} in {looked}"


def subject(finding: ValidationFinding) -> str:
    across = f" in {finding.series} series" if finding.series > 1 else ""
    return f"{finding.reason} {finding.data_type}: {finding.reason.text} ({finding.count:,}{across})"


def lines(report: Report) -> Iterator[str]:
    """The verdict first, then what is wrong and where, then what there is."""
    yield verdict(report)
    for type_report in report.types:
        for finding in type_report.findings:
            yield ""
            yield subject(finding)
            for example in finding.examples:
                yield f"  {_printable(place(example))}: {_printable(example.text)}"
            if finding.examples:
                yield f"  see: {query(report, type_report, finding)}"
            yield f"  hint: {finding.reason.hint}"
    yield ""
    yield "Coverage"
    for type_report in report.types:
        if not type_report.rows:
            yield f"  {type_report.data_type:18} no rows"
            continue
        series = type_report.series.values()
        span = f"{times.exact(min(s.first for s in series))} to {times.exact(max(s.last for s in series))}"
        both = f", {type_report.in_both:,} in both tiers" if type_report.in_both else ""
        yield f"  {type_report.data_type:18} {type_report.rows:>12,} rows  {len(series):>5,} series  {span}{both}"


def markdown(report: Report) -> Iterator[str]:
    yield f"# {verdict(report)}"
    for type_report in report.types:
        for finding in type_report.findings:
            yield f"\n## {subject(finding)}\n"
            for example in finding.examples:
                yield f"- {_escaped(place(example))}: {_escaped(example.text)}"
            if finding.examples:
                yield f"\n```sql\n{query(report, type_report, finding)}\n```"
            yield f"\n**What to do:** {finding.reason.hint}."
    yield "\n## Coverage\n\n| type | exchange | market | symbol | rows | first | last |\n|---|---|---|---|---:|---|---|"
    for type_report in report.types:
        for number, (key, series) in enumerate(sorted(type_report.series.items())):
            if number == SHOWN_SERIES:
                yield f"| {type_report.data_type} | … {len(type_report.series) - SHOWN_SERIES} more | | | | | |"
                break
            names = " | ".join(_escaped(part) for part in key[:3])
            yield f"| {type_report.data_type} | {names} | {series.rows:,} | {times.exact(series.first)} | {times.exact(series.last)} |"


def as_dict(report: Report) -> dict[str, Any]:
    return {
        "ok": report.fine,
        "verdict": verdict(report),
        "since": times.exact(report.request.since),
        "until": times.exact(report.request.until),
        "seconds": round(report.seconds, 3),
        "rows": report.rows,
        "findings": [
            _finding(report, type_report, finding) for type_report in report.types for finding in type_report.findings
        ],
        "coverage": {type_report.data_type: _coverage(type_report) for type_report in report.types},
    }


def _finding(report: Report, type_report: TypeReport, finding: ValidationFinding) -> dict[str, Any]:
    return {
        "code": finding.reason.code,
        "reason": finding.reason.name,
        "dataType": finding.data_type,
        "text": finding.reason.text,
        "hint": finding.reason.hint,
        "count": finding.count,
        "series": finding.series,
        "examples": [
            {
                **dict(zip(("exchange", "marketType", "symbol", "period"), example.series, strict=True)),
                "at": times.exact(example.at),
                "until": times.exact(example.until),
                "text": example.text,
            }
            for example in finding.examples
        ],
        "query": query(report, type_report, finding),
    }


def _coverage(type_report: TypeReport) -> dict[str, Any]:
    def series(key: tuple[str, str, str, str], found: Series) -> dict[str, Any]:
        names = dict(zip(("exchange", "marketType", "symbol", "period"), key, strict=True))
        return {**names, "rows": found.rows, "first": times.exact(found.first), "last": times.exact(found.last)}

    return {
        "rows": type_report.rows,
        "inBothTiers": type_report.in_both,
        "seconds": round(type_report.seconds, 3),
        "series": [series(key, found) for key, found in sorted(type_report.series.items())],
        "sample": type_report.sample,
    }


def summary(report: Report, limit: int) -> dict[str, Any]:
    """As short as a termination message has to be: the verdict, and by type and reason how many. `limit` in findings."""
    found = [
        {"code": f.reason.code, "reason": f.reason.name, "dataType": f.data_type, "count": f.count}
        for f in report.findings
    ]
    return {
        "ok": report.fine,
        "verdict": verdict(report),
        "rows": report.rows,
        "seconds": round(report.seconds, 1),
        "findings": found[:limit],
        "more": max(0, len(found) - limit),
    }


class ValidationMetrics:
    """What a scrape sees of the last validation."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._findings = Gauge(
            "marketprism_validation_findings",
            "Faults that the last validation found.",
            ["data_type", "reason"],
            registry=registry,
        )
        self._rows = Gauge("marketprism_validation_rows", "Rows that it looked at.", ["data_type"], registry=registry)
        self._series = Gauge(
            "marketprism_validation_series", "Series that have rows.", ["data_type"], registry=registry
        )
        self._ok = Gauge(
            "marketprism_validation_ok", "1 where it found nothing wrong, 0 where it did.", registry=registry
        )
        self._seconds = Gauge("marketprism_validation_seconds", "How long it took [s].", registry=registry)
        self._time = Gauge("marketprism_validation_last_time", "When it ended [s since 1970].", registry=registry)

    def set(self, report: Report) -> None:
        self._findings.clear()
        for type_report in report.types:
            self._rows.labels(type_report.data_type).set(type_report.rows)
            self._series.labels(type_report.data_type).set(len(type_report.series))
            for finding in type_report.findings:
                self._findings.labels(type_report.data_type, finding.reason.name).set(finding.count)
        self._ok.set(report.fine)
        self._seconds.set(report.seconds)
        self._time.set_to_current_time()


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _escaped(text: str) -> str:
    return _printable(text).replace("|", "\\|").replace("<", "&lt;")
