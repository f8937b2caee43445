"""The page: what stands still, in words; both tiers of each table; what moved when, and the slices with their checksums."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import partial

from nicegui import ui

from marketprism_console.frame import frame
from marketprism_console.sources import Sources
from marketprism_console.tiering.queries import TieringState, compared, state
from marketprism_console.tiering.standing import moved_chart, said, standstills
from marketprism_consumer.commands.migrate import history_line
from marketprism_consumer.errors import StoreError, TieringError
from marketprism_consumer.operations.dlq import printable
from marketprism_consumer.tiering.overview import TableOverview, TierOverview

SHOWN = 60  # of the last slices, in lines


class TieringPage:
    """One visitor's."""

    def __init__(self, sources: Sources) -> None:
        self._sources = sources

    async def show(self) -> None:
        with frame("/tiering", f"pipeline {self._sources.settings.pipeline_name}, times in UTC"):
            with ui.element("div").classes("controls"):
                self._said = ui.label("looking …").classes("said").mark("said")
                ui.button("look again", on_click=self._look).props("flat dense no-caps")
            self._trouble = ui.label().classes("trouble")
            self._words = ui.element("div").classes("panel")
            self._words.set_visibility(False)
            self._tables = ui.element("div").classes("w-full tiers")
            with ui.element("div").classes("panel"):
                self._chart = ui.echart(moved_chart([])).classes("w-full").style("height: 180px")
            self._ledger = ui.element("div").classes("panel")
            with ui.dialog() as self._dialog, ui.card().classes("panel").style("max-width: 860px"):
                self._found = ui.element("div").classes("w-full")
        await ui.context.client.connected()
        await self._look()

    async def _look(self) -> None:
        try:
            found = await state(self._sources)
        except StoreError as refused:
            self._said.set_text("ClickHouse does not say what it has.")
            self._trouble.set_text(str(refused))
            return
        self._trouble.set_text("")
        self._said.set_text(said(found))
        self._chart.options.update(moved_chart(found.history))
        self._chart.update()
        self._draw(found)

    def _draw(self, found: TieringState) -> None:
        standing = standstills(found, datetime.now(UTC))
        self._words.clear()
        self._words.set_visibility(bool(standing))
        with self._words:
            for one in standing[:SHOWN]:
                ui.label(printable(f"{one.table}: {one.text}")).classes("said tone-bad")
                ui.label(one.hint).classes("faint")
        self._tables.clear()
        with self._tables:
            for table, of_table in found.tables.items():
                with ui.element("div").classes("panel"):
                    self._table(table, of_table)
        self._ledger.clear()
        with self._ledger:
            shown = f"The last {min(SHOWN, len(found.history))} slices, newest first." if found.history else "No slice."
            ui.label(f"{shown} At the end of each the checksum that both tiers had of it.").classes("faint")
            for entry in found.history[:SHOWN]:
                checksum = f"  {entry.checksum:016x}" if entry.status == "done" else ""
                tone = "" if entry.status == "done" else " tone-warn"
                ui.label(printable(history_line(entry)) + checksum).classes(f"code{tone}")

    def _table(self, table: str, of_table: TableOverview) -> None:
        ui.label(table).classes("way-name")
        for name, tier in (("hot", of_table.hot), ("cold", of_table.cold)):
            ui.label(f"{name}: {tier_line(tier)}").classes("faint")
        if of_table.backlog_rows:
            ui.label(f"{of_table.backlog_rows:,} rows due")
        if not self._sources.cold_is_elsewhere and (of_table.hot.rows or of_table.cold.rows):
            with ui.element("button").classes("line").on("click", partial(self._compare, table)):
                ui.label("compare both tiers, row by row")

    async def _compare(self, table: str) -> None:
        self._found.clear()
        with self._found:
            ui.label(table).classes("text-lg")
            waiting = ui.label("comparing, a day at a time …").classes("faint")
        self._dialog.open()
        try:
            found = await compared(self._sources, table)
        except (StoreError, TieringError) as refused:
            waiting.set_text(str(refused)).classes("trouble")
            return
        with self._found:
            waiting.set_text(
                "No row is there twice." if not found.doubles else f"{found.doubles:,} rows are there twice."
            )
            ui.label(f"in both tiers, copied and not yet deleted: {found.overlap:,}").classes("faint")
            ui.label(f"doubles by identity: {found.hot.doubles:,} in hot, {found.cold.doubles:,} in cold").classes(
                "faint"
            )
            ui.label(f"rows by hand with the content of another: {found.doubles_by_hand:,}").classes("faint")
            ui.label(f"marketprism tiers --table {table}").classes("faint")


def tier_line(tier: TierOverview) -> str:
    if not tier.rows:
        return "no rows"
    return f"{tier.rows:,} rows, {tier.bytes / 1e6:,.1f} MB, {tier.parts:,} parts, {tier.first} to {tier.last}"
