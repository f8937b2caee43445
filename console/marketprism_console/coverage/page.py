"""The page: choose what to look at; the map; in words what is not whole; and behind each cell what a validation finds there."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, date, datetime
from functools import partial

from nicegui import ui
from nicegui.events import EChartPointClickEventArguments, ValueChangeEventArguments

from marketprism_console.coverage import chart
from marketprism_console.coverage.cells import DAY, LENGTH, SECOND, CellUnit, Judged, State, judged, totals, worst
from marketprism_console.coverage.chart import Shade, coverage_chart
from marketprism_console.coverage.healed import healed
from marketprism_console.coverage.queries import Coverage, findings
from marketprism_console.frame import frame
from marketprism_console.letters import Letters
from marketprism_console.sources import AWAY, Sources
from marketprism_consumer.clickhouse.incidents import incidents
from marketprism_consumer.errors import StoreError
from marketprism_consumer.schema.incidents import Incident, of_series
from marketprism_consumer.schema.tables import table_of
from marketprism_consumer.validation import report as reports

SPANS: dict[int, str] = {1: "a day", 7: "a week", 31: "a month", 92: "three months", 366: "a year"}
SHADES: dict[Shade, str] = {"state": "what is wrong", "rows": "rows", "tier": "tier"}
BY_HOUR_UP_TO = 7  # days
SHOWN = 12  # of what is not whole, in words


def unit_of(days: int) -> CellUnit:
    return "hour" if days <= BY_HOUR_UP_TO else "day"


def window(last: date, days: int) -> tuple[int, int]:
    """So many days, `last` among them [µs since 1970]."""
    end = int(datetime(last.year, last.month, last.day, tzinfo=UTC).timestamp()) * SECOND + DAY
    return end - days * DAY, end


def said(judgements: Sequence[Judged], unit: CellUnit) -> str:
    """The answer, in a sentence."""
    if not judgements:
        return "No row."
    found = totals(judgements)
    markets, rows = len({one.market for one in judgements}), sum(one.rows for one in judgements)
    wrong = [
        f"{n:,} with {chart.WORDS[state]}" for state, n in reversed(found.items()) if n and state is not State.WHOLE
    ]
    head = f"{rows:,} rows of {_several(markets, 'market')}. Of {_several(len(judgements), unit)} "
    return head + (", ".join(wrong) if wrong else "each is whole") + "."


def _several(count: int, what: str) -> str:
    return f"{count:,} {what}{'s' if count != 1 else ''}"


class CoveragePage:
    """One visitor's. `last`: the last day to be shown; None for the newest one that has a row."""

    def __init__(self, sources: Sources, coverage: Coverage, letters: Letters) -> None:
        self._sources, self._coverage, self._letters = sources, coverage, letters
        self._shade: Shade = "state"
        self._judged: list[Judged] = []
        self._incidents: list[Incident] = []

    @property
    def _unit(self) -> CellUnit:
        return unit_of(self._days)

    @property
    def _window(self) -> tuple[int, int]:
        return window(self._last or datetime.now(UTC).date(), self._days)

    async def show(self, data_type: str, days: int, last: date | None) -> None:
        """Draw the page, then fill it."""
        self._type, self._days, self._last = data_type, days, last
        settings = self._sources.settings
        with frame("/", f"pipeline {settings.pipeline_name}, times in UTC"):
            with ui.element("div").classes("controls"):
                types = list(settings.data_types)
                ui.select(types, value=data_type, label="data type", on_change=self._type_chosen)
                ui.select(SPANS, value=days, label="how long", on_change=self._days_chosen)
                self._date = ui.input("up to", value=str(last or ""), on_change=self._last_chosen).props("type=date")
                ui.select(SHADES, value=self._shade, label="colour by", on_change=self._shade_chosen)
                ui.button("look again", on_click=self._look).props("flat dense no-caps")
            self._said = ui.label("counting …").classes("said").mark("said")
            self._trouble = ui.label().classes("trouble")
            with ui.element("div").classes("panel"):
                self._legend = ui.element("div").classes("legend")
                self._chart = ui.echart({"series": []}, on_point_click=self._clicked).classes("w-full")
            self._wrong = ui.element("div").classes("panel")
            self._wrong.set_visibility(False)
            self._healed = ui.element("div").classes("panel")
            self._healed.set_visibility(False)
            with ui.dialog() as self._dialog, ui.card().classes("panel").style("max-width: 860px"):
                self._found = ui.element("div").classes("w-full")
        await ui.context.client.connected()
        await self._look()

    async def _type_chosen(self, event: ValueChangeEventArguments[str]) -> None:
        self._type = event.value
        await self._look()

    async def _days_chosen(self, event: ValueChangeEventArguments[int]) -> None:
        self._days = event.value
        await self._look()

    async def _last_chosen(self, event: ValueChangeEventArguments[str | None]) -> None:
        try:
            chosen = date.fromisoformat(event.value or "")
        except ValueError:
            return  # half typed
        if chosen != self._last:
            self._last = chosen
            await self._look()

    def _shade_chosen(self, event: ValueChangeEventArguments[Shade]) -> None:
        self._shade = event.value
        self._draw()

    async def _look(self) -> None:
        """What ClickHouse says first: NATS may be away, and knows of dead letters only."""
        table = table_of(self._sources.settings.data_types[self._type].declaration)
        self._trouble.set_text("")
        try:
            if self._last is None:
                newest = await self._coverage.newest(table)
                if newest is not None:
                    self._last = min(datetime.fromtimestamp(newest // SECOND, UTC).date(), datetime.now(UTC).date())
                    self._date.set_value(str(self._last))
            since, until = self._window
            cells = await self._coverage.cells(table, self._unit, since, until)
            hot = self._sources.hot
            self._incidents = await incidents(hot.clickhouse, hot.database, since, until, self._type)
        except StoreError as refused:
            self._said.set_text("ClickHouse does not say what it has.")
            self._trouble.set_text(str(refused))
            return
        limits = self._sources.settings.limits[self._type]
        self._judged = judged(cells, self._unit, limits.max_silence, {})
        self._draw()
        try:
            letters = await self._letters.all()
        except AWAY as refused:
            self._trouble.set_text(f"Dead letters are not shown: {refused}")
            return
        length = LENGTH[self._unit]
        buried = Counter(
            (letter.market, letter.arrived // length * length)
            for letter in letters
            if letter.data_type == self._type and letter.market and since <= letter.arrived < until
        )
        if buried:
            self._judged = judged(cells, self._unit, limits.max_silence, buried)
            self._draw()

    def _draw(self) -> None:
        since, until = self._window
        self._said.set_text(said(self._judged, self._unit))
        self._chart.style(f"height: {chart.height(self._judged)}px")
        self._chart.options.clear()
        self._chart.options.update(coverage_chart(self._judged, self._unit, self._shade, since, until))
        self._chart.update()
        self._legend.clear()
        with self._legend:
            for colour, word in chart.legend(self._shade, self._judged):
                with ui.element("span"):
                    ui.element("i").style(f"background: {colour}")
                    ui.label(word)
        self._wrong.clear()
        bad = worst(self._judged, SHOWN)
        self._wrong.set_visibility(bool(bad))
        with self._wrong:
            ui.label("What is not whole, worst first. Open one to have it validated.").classes("faint")
            for one in bad:
                with ui.element("button").classes("line").on("click", partial(self._open, one)):
                    ui.label(", ".join(chart.text(one, self._unit).split("\n")))

        self._healed.clear()
        self._healed.set_visibility(bool(self._incidents))
        with self._healed:
            ui.label("What was healed, newest first.").classes("faint")
            for incident in self._incidents[: -SHOWN - 1 : -1]:
                ui.label(healed(incident)).classes("text-sm")

    async def _clicked(self, event: EChartPointClickEventArguments) -> None:
        since, _ = self._window
        assert isinstance(event.value, list)  # as `coverage_chart` made it
        column, row = event.value[:2]
        markets = sorted({one.market for one in self._judged}, reverse=True)
        start = since + int(column) * LENGTH[self._unit]
        for one in self._judged:
            if (one.market, one.start) == (markets[int(row)], start):
                await self._open(one)

    async def _open(self, one: Judged) -> None:
        """Validate what a cell stands for."""
        self._found.clear()
        with self._found:
            for number, line in enumerate(chart.text(one, self._unit).split("\n")):
                ui.label(line).classes("text-lg" if not number else "")
            for incident in of_series(self._incidents, one.market, one.start, one.start + LENGTH[self._unit]):
                ui.label(f"healed: {healed(incident)}")
            waiting = ui.label(f"validating it, and the {self._unit}s before and after …").classes("faint")
        self._dialog.open()
        length = LENGTH[self._unit]
        try:
            # With its neighbours: a hole at its edge is between two rows, of which the cell has but one.
            report = await findings(self._sources, self._type, one.market, one.start - length, one.start + 2 * length)
        except StoreError as refused:
            waiting.set_text(str(refused)).classes("trouble")
            return
        with self._found:
            waiting.set_text(reports.verdict(report)).mark("verdict")
            for of_type in report.types:
                for finding in of_type.findings:
                    ui.label(f"{finding.reason}: {finding.reason.text} ({finding.count:,})").classes("q-mt-md")
                    for example in finding.examples:
                        ui.label(f"{reports.place(example)}: {example.text}").classes("faint")
                    if query := reports.query(report, of_type, finding):
                        ui.label(query).classes("code")
                    ui.label(finding.reason.hint).classes("faint")
