"""The page: choose what is to be proven, watch it, and keep the report."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime
from functools import partial

from nicegui import ui
from nicegui.events import ValueChangeEventArguments

from marketprism_console.coverage.cells import DAY, HOUR, SECOND
from marketprism_console.frame import frame
from marketprism_console.proof.audits import AskedAudit, Audits
from marketprism_console.sources import AWAY
from marketprism_consumer.commands.audit import lines
from marketprism_consumer.operations.dlq import printable

EVERY = 0.5  # a page looks how far an audit is [s]
ALL = "all data types"
BACK: dict[int, str] = {0: "all that is held", HOUR: "the last hour", DAY: "the last day", 7 * DAY: "the last week"}


class ProofPage:
    """One visitor's. Audits are everybody's."""

    def __init__(self, audits: Audits) -> None:
        self._audits = audits
        self._type, self._back, self._deep = ALL, 0, False
        self._shown: list[tuple[int, bool]] = []

    async def show(self) -> None:
        settings = self._audits.sources.settings
        with frame("/proof", f"pipeline {settings.pipeline_name}, times in UTC"):
            with ui.element("div").classes("controls"):
                ui.select([ALL, *settings.data_types], value=ALL, label="what", on_change=self._type_chosen)
                ui.select(BACK, value=0, label="how far back", on_change=self._back_chosen)
                ui.checkbox("compare every value", on_change=self._deep_chosen)
                self._start = ui.button("prove it", on_click=self._prove).props("outline dense no-caps")
                self._stop = ui.button("stop", on_click=self._audits.stop).props("flat dense no-caps")
            self._said = ui.label(
                "Each message that a stream holds is a row, a dead letter, or waits. Once, and nowhere else."
            ).classes("said")
            self._trouble = ui.label().classes("trouble")
            self._step = ui.label().classes("faint")
            self._bar = ui.linear_progress(0.0, show_value=False).props("instant-feedback")
            self._reports = ui.element("div").classes("w-full").style("display: grid; gap: 10px")
        await ui.context.client.connected()
        self._look()
        ui.timer(EVERY, self._look)
        try:
            await self._audits.sources.broker()
        except AWAY as refused:
            self._trouble.set_text(
                f"NATS can't be reached. An audit compares what its streams hold, so there is none without it: {refused}"
            )

    def _type_chosen(self, event: ValueChangeEventArguments[str]) -> None:
        self._type = event.value

    def _back_chosen(self, event: ValueChangeEventArguments[int]) -> None:
        self._back = event.value

    def _deep_chosen(self, event: ValueChangeEventArguments[bool | None]) -> None:
        self._deep = bool(event.value)

    def _prove(self) -> None:
        chosen = list(self._audits.sources.settings.data_types) if self._type == ALL else [self._type]
        since = int(time.time()) * SECOND - self._back if self._back else None
        self._audits.start(chosen, self._deep, since)
        self._look()

    def _look(self) -> None:
        running = self._audits.running
        self._start.set_enabled(running is None)
        self._stop.set_visibility(running is not None)
        self._bar.set_visibility(running is not None)
        step = running.step if running else None
        self._step.set_text(
            "" if running is None else f"{step.what}: {step.done:,} of {step.total:,}" if step else "beginning …"
        )
        self._bar.set_value(step.done / step.total if step and step.total else 0.0)
        state = [(id(asked), asked.ended) for asked in self._audits.asked]
        if state != self._shown:
            self._shown = state
            self._draw()

    def _draw(self) -> None:
        self._reports.clear()
        with self._reports:
            for asked in self._audits.asked:
                if asked.ended:
                    with ui.element("div").classes("panel"):
                        self._report(asked)

    def _report(self, asked: AskedAudit) -> None:
        ui.label(f"{_began(asked):%Y-%m-%d %H:%M:%S}  {', '.join(asked.data_types)}").classes("faint")
        if asked.report is None:
            ui.label(f"NOT PROVEN: {asked.refusal}").classes("trouble")
            return
        *found, verdict = lines(asked.report)
        ui.label(verdict).classes("said" if asked.report.holds else "said tone-bad")
        ui.label("\n".join(printable(line) for line in found)).classes("code")
        with ui.element("button").classes("line").on("click", partial(_download, asked)):
            ui.label("download the report")


def _began(asked: AskedAudit) -> datetime:
    return datetime.fromtimestamp(asked.began, UTC)


def _download(asked: AskedAudit) -> None:
    assert asked.report is not None
    told = {"began": f"{_began(asked):%Y-%m-%dT%H:%M:%SZ}", **asked.report.as_dict()}
    ui.download.content(json.dumps(told, indent=2), f"audit-{_began(asked):%Y%m%dT%H%M%SZ}.json", "application/json")
