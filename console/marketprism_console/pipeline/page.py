"""The page: what is not well in words, then the way of each data type, box by box, looked at again every few seconds."""

from __future__ import annotations

from nicegui import ui

from marketprism_console.frame import frame
from marketprism_console.pipeline.picture import boxes, rates, troubles
from marketprism_console.pipeline.queries import EVERY, Watch
from marketprism_console.sources import AWAY
from marketprism_consumer.commands.migrate import history_line
from marketprism_consumer.commands.status import validation_line
from marketprism_consumer.errors import StoreError
from marketprism_consumer.operations.status import Status


class PipelinePage:
    """One visitor's."""

    def __init__(self, watch: Watch) -> None:
        self._watch = watch
        self._shown: Status | None = None

    async def show(self) -> None:
        with frame("/pipeline", f"pipeline {self._watch.sources.settings.pipeline_name}, times in UTC"):
            self._trouble = ui.label().classes("trouble")
            self._words = ui.element("div").classes("panel")
            self._words.set_visibility(False)
            self._picture = ui.element("div").classes("w-full ways")
            with ui.element("div").classes("panel"):
                self._rates = ui.echart(rates([])).classes("w-full").style("height: 150px")
            self._last = ui.element("div").classes("faint")
        await ui.context.client.connected()
        await self._look()
        ui.timer(EVERY, self._look)
        try:
            versions = await self._watch.versions()
        except (StoreError, *AWAY):
            return
        with self._last:
            ui.label(versions)

    async def _look(self) -> None:
        try:
            found = await self._watch.status()
        except (StoreError, *AWAY) as refused:
            self._trouble.set_text(str(refused))
            return
        self._trouble.set_text("")
        self._rates.options.update(rates(list(self._watch.history)))
        self._rates.update()
        if found != self._shown:
            self._shown = found
            self._draw(found)

    def _draw(self, found: Status) -> None:
        said = troubles(found)
        self._words.clear()
        self._words.set_visibility(True)
        with self._words:
            if not said:
                ui.label("All is well: every data type is read, nothing waits for long, no dead letters.").classes(
                    "said"
                )
            for trouble in said:
                ui.label(f"{trouble.data_type}: {trouble.text}".removeprefix(": ")).classes(f"said tone-{trouble.tone}")
                ui.label(trouble.hint).classes("faint")
            last = f"last migration: {history_line(found.migration)}" if found.migration else "no migration yet"
            ui.label(last).classes("faint")
            ui.label(str(validation_line(found.validation))).classes("faint")
        self._picture.clear()
        with self._picture:
            for of_type in found.types:
                ui.label(of_type.data_type).classes("way-name")
                with ui.element("div").classes("way"):
                    for box in boxes(of_type):
                        with ui.element("div").classes(f"box tone-{box.tone}"):
                            ui.label(box.name).classes("faint")
                            for number, line in enumerate(box.says):
                                ui.label(line).classes("faint" if number else "")
