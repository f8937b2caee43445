"""A validation's report as one page of HTML that needs nothing else: what is wrong, and a line of time for each series. Pure.

Everything that comes from the data is escaped, and the page has no script.
"""

from __future__ import annotations

from collections.abc import Iterator
from html import escape

from marketprism_consumer import times
from marketprism_consumer.validation.report import place, query, subject, verdict
from marketprism_consumer.validation.run import Report, Series, SeriesKey, TypeReport

WIDTH, HEIGHT = 1000, 14  # of a line of time, in units of its drawing
LEAST = 1.5  # that can be seen
_STYLE = """
:root { color-scheme: light dark; --ink: #1f2328; --faint: #636c76; --panel: #f6f8fa; --edge: #d1d9e0; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6edf3; --faint: #9198a1; --panel: #171c23; --edge: #2f3742; }
  body { background: #0f1318; } }
body { font: 14px/1.5 system-ui, sans-serif; color: var(--ink); max-width: 1080px; margin: 24px auto; padding: 0 16px; }
h1 { font-size: 20px; } h2 { font-size: 16px; margin: 24px 0 4px; } .faint { color: var(--faint); font-size: 12px; }
pre { white-space: pre-wrap; overflow-wrap: anywhere; background: var(--panel); border: 1px solid var(--edge); border-radius: 4px;
  padding: 8px; }
li, p { overflow-wrap: anywhere; } .line { margin: 8px 0; } svg { display: block; width: 100%; height: 14px; background: var(--panel); }
.rows { fill: #2da44e; } .pause { fill: #d4a72c; } .wrong { fill: #e5534b; }
.key { display: inline-block; width: 12px; height: 12px; border-radius: 2px; margin: 0 4px 0 12px; vertical-align: -1px; }
"""


def page(report: Report) -> str:
    return "\n".join(_lines(report)) + "\n"


def _lines(report: Report) -> Iterator[str]:
    yield "<!doctype html>"
    yield '<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
    yield f"<title>MarketPrism validation</title><style>{_STYLE}</style></head><body>"
    yield f"<h1>{escape(verdict(report))}</h1>"
    for type_report in report.types:
        for finding in type_report.findings:
            yield f"<h2>{escape(subject(finding))}</h2><ul>"
            for example in finding.examples:
                yield f"<li>{escape(place(example))}: {escape(example.text)}</li>"
            yield "</ul>"
            if sql := query(report, type_report, finding):
                yield f"<pre>{escape(sql)}</pre>"
            yield f"<p><b>What to do:</b> {escape(finding.reason.hint)}.</p>"
    yield "<h2>Coverage</h2>"
    yield f'<p class="faint">{times.shown(report.request.since)} to {times.shown(report.request.until)} UTC'
    for colour, what in (("#2da44e", "rows"), ("#d4a72c", "a silence"), ("#e5534b", "an example of what is wrong")):
        yield f'<span class="key" style="background: {colour}"></span>{what}'
    yield "</p>"
    for type_report in report.types:
        yield f"<h2>{escape(type_report.data_type)}</h2>"
        if not type_report.series:
            yield '<p class="faint">no rows</p>'
        for key, series in sorted(type_report.series.items()):
            yield f'<div class="line">{escape(" ".join(filter(None, key)))}'
            yield f'<span class="faint"> {series.rows:,} rows, {times.exact(series.first)} to {times.exact(series.last)}</span>'
            yield _line_of_time(report, type_report, key, series)
            yield "</div>"
    yield "</body></html>"


def _line_of_time(report: Report, type_report: TypeReport, key: SeriesKey, series: Series) -> str:
    wrong = [
        (example.at, example.until)
        for finding in type_report.findings
        for example in finding.examples
        if example.series[:3] == key[:3]
    ]
    spans = (("rows", [(series.first, series.last)]), ("pause", sorted(series.pauses)), ("wrong", sorted(wrong)))
    drawn = "".join(_rectangle(report, css, *span) for css, of_kind in spans for span in of_kind)
    return f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" preserveAspectRatio="none" role="img">{drawn}</svg>'


def _rectangle(report: Report, css: str, start: int, end: int) -> str:
    """From `start` to `end` [µs since 1970], within the window, wide enough to be seen."""
    since, until = report.request.since, report.request.until
    left, right = (WIDTH * (min(max(at, since), until) - since) / (until - since) for at in (start, end))
    left = min(left, WIDTH - LEAST)
    return f'<rect class="{css}" x="{left:.1f}" y="0" width="{max(right - left, LEAST):.1f}" height="{HEIGHT}"/>'
