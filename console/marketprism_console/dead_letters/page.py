"""The page: reasons over time, the newest letters, and one of them opened, with its payload as text and what to do."""

from __future__ import annotations

from functools import partial

from nicegui import ui

from marketprism_api import reasons
from marketprism_console.dead_letters.chart import by_reason, called, letters_chart
from marketprism_console.dead_letters.queries import letter
from marketprism_console.frame import frame
from marketprism_console.letters import LetterHead, Letters
from marketprism_console.sources import AWAY
from marketprism_consumer import times
from marketprism_consumer.operations.dlq import as_dict, printable

SHOWN = 50  # of the newest letters


class DeadLettersPage:
    """One visitor's. `code`: only of this reason."""

    def __init__(self, letters: Letters) -> None:
        self._letters = letters
        self._heads: list[LetterHead] = []
        self._code = ""

    async def show(self) -> None:
        with frame("/dead-letters", f"pipeline {self._letters.sources.settings.pipeline_name}, times in UTC"):
            self._said = ui.label("reading …").classes("said")
            self._trouble = ui.label().classes("trouble")
            with ui.element("div").classes("panel"):
                self._chart = ui.echart({"series": []}).classes("w-full").style("height: 200px")
            self._reasons = ui.element("div").classes("panel")
            self._list = ui.element("div").classes("panel")
            with ui.dialog() as self._dialog, ui.card().classes("panel").style("max-width: 860px"):
                self._found = ui.element("div").classes("w-full")
        await ui.context.client.connected()
        try:
            self._heads = await self._letters.all()
        except AWAY as refused:
            self._said.set_text("NATS does not say what it has.")
            self._trouble.set_text(str(refused))
            return
        count = len(self._heads)
        self._said.set_text(
            f"{count:,} dead letter{'s' if count != 1 else ''}."
            if count
            else "No dead letter: every message became a row."
        )
        self._chart.options.update(letters_chart(self._heads))
        self._chart.update()
        self._draw()

    def _draw(self) -> None:
        self._reasons.clear()
        with self._reasons:
            for code, count in by_reason(self._heads):
                chosen = "" if code == self._code else code
                with ui.element("button").classes("line").on("click", partial(self._choose, chosen)):
                    ui.label(f"{'only ' if code == self._code else ''}{called(code)}: {count:,}")
                if reason := reasons.ALL.get(code):
                    ui.label(f"{reason.text}; {reason.hint}").classes("faint")
        self._list.clear()
        chosen_heads = [head for head in self._heads if self._code in ("", head.code)]
        with self._list:
            ui.label(f"The newest {min(SHOWN, len(chosen_heads))} of {len(chosen_heads):,}.").classes("faint")
            for head in reversed(chosen_heads[-SHOWN:]):
                market = " ".join(reversed(head.market)) if head.market else ""
                with ui.element("button").classes("line").on("click", partial(self._open, head.seq)):
                    ui.label(f"{times.shown(head.buried)}  {head.data_type}  {called(head.code)}  {printable(market)}")

    def _choose(self, code: str) -> None:
        self._code = code
        self._draw()

    async def _open(self, seq: int) -> None:
        self._found.clear()
        self._dialog.open()
        try:
            found = await letter(self._letters.sources, seq)
        except AWAY as refused:
            with self._found:
                ui.label(str(refused)).classes("trouble")
            return
        with self._found:
            if found is None:
                ui.label("It is gone: replayed or purged meanwhile.")
                return
            told = as_dict(found[0])
            ui.label(told["reason"]).classes("text-lg")
            ui.label(told["text"])
            ui.label(told["hint"]).classes("faint")
            for name in ("field", "detail", "subject", "stream", "streamSeq", "arrived", "buried", "clickhouseCode"):
                if told[name]:
                    ui.label(f"{name}: {printable(str(told[name]))}").classes("faint")
            ui.label(found[1]).classes("code").mark("payload")
            ui.label(f"marketprism dlq show {seq}").classes("faint")
