"""The page: choose a market; its panes, which a drag pans and a wheel zooms; and the book at the time under the cursor."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, date, datetime
from typing import Any
from urllib.parse import urlencode

from nicegui import ui
from nicegui.events import GenericEventArguments, ValueChangeEventArguments

from marketprism_console.coverage.cells import DAY, HOUR, MINUTE, SECOND, MarketKey
from marketprism_console.coverage.chart import name
from marketprism_console.frame import at_first, frame
from marketprism_console.market.chart import height, market_chart, panes
from marketprism_console.market.depth import depth_chart, said
from marketprism_console.market.first_paint import still
from marketprism_console.market.queries import MarketPicture, MarketRows
from marketprism_console.market.steps import TimeColumns, TimeWindow, fitting, step_of
from marketprism_consumer import times
from marketprism_consumer.errors import StoreError

WIDTHS: dict[int, str] = {
    HOUR: "an hour",
    6 * HOUR: "six hours",
    DAY: "a day",
    7 * DAY: "a week",
    31 * DAY: "a month",
    366 * DAY: "a year",
    5 * 366 * DAY: "five years",
}
AT_ONCE = 1.0  # for so long the page waits for its candles; after that they come when they are there [s]
SETTLED = 0.2  # for so long nothing moves before rows are asked for [s]
OFTEN = 0.1  # how often the browser tells what moves [s]
BEFORE = 1.0  # of the width in sight is there beyond either edge, to be panned into
NEAR = 0.5  # of it: when an edge is so near, more is fetched
SHORTEST = 15 * MINUTE  # at first


def first_window(first: int, last: int, now: int) -> TimeWindow:
    """Of what a market has lately, at most a day."""
    until = min(last, now) // MINUTE * MINUTE + MINUTE
    return TimeWindow(min(max(first // MINUTE * MINUTE, until - DAY), until - SHORTEST), until)


def asked_window(since: str, until: str) -> TimeWindow | None:
    """As the address has it; None where it has none."""
    try:
        asked = [datetime.fromisoformat(text) for text in (since, until)]
    except ValueError:
        return None
    start, end = (int((one if one.tzinfo else one.replace(tzinfo=UTC)).timestamp()) * SECOND for one in asked)
    return fitting(TimeWindow(start, end)) if 0 <= start < end else None


class MarketPage:
    """One visitor's. What is asked later wins: an answer that comes after it is not drawn."""

    def __init__(self, rows: MarketRows) -> None:
        self._rows = rows
        self._picture: MarketPicture | None = None
        self._drawn: MarketKey | None = None
        self._turn = self._book_turn = 0
        self._asking = asyncio.Lock()
        self._names: dict[str, MarketKey] = {}

    async def show(self, market: MarketKey | None, window: TimeWindow | None) -> None:
        self._market, self._window = market, window
        asked = asyncio.create_task(self._begin())
        await asyncio.wait([asked], timeout=AT_ONCE)
        what = f"pipeline {self._rows.sources.settings.pipeline_name}, times in UTC"
        with frame("/market", what):
            with ui.element("div").classes("controls"):
                self._select = ui.select([], label="market", with_input=True, on_change=self._market_chosen)
                self._select.style("min-width: 260px")
                self._width = ui.select(WIDTHS, label="how long", on_change=self._width_chosen)
                self._date = ui.input("up to", on_change=self._date_chosen).props("type=date")
                ui.button("◀ before", on_click=lambda: self._pan(-0.5)).props("flat dense no-caps")
                ui.button("after ▶", on_click=lambda: self._pan(0.5)).props("flat dense no-caps")
                ui.button("look again", on_click=self._load).props("flat dense no-caps")
            self._said = ui.label("looking …").classes("said").mark("said")
            self._trouble = ui.label().classes("trouble")
            with ui.element("div").classes("panel"):
                self._chart = ui.echart({"series": []}).classes("w-full").style("height: 420px")
                often: dict[str, Any] = {"throttle": OFTEN, "leading_events": False}
                self._chart.on("chart:datazoom", self._zoomed, ["start", "end", "batch"], **often)
                self._chart.on("chart:highlight", self._pointed, ["batch"], **often)
            with ui.element("div").classes("panel"):
                self._book_said = ui.label("the book at the time under the cursor").classes("faint").mark("book")
                self._depth = ui.echart(depth_chart([])).classes("w-full").style("height: 220px")
        if self._picture and self._window:
            at_first("/market", what, sentence(self._picture, self._window), still(self._picture, self._window))
            self._draw()
        await ui.context.client.connected()
        try:
            await asked
        except StoreError as refused:
            self._refused(refused)
            return
        if self._market is None:
            self._said.set_text("No row of any market.")
            return
        if self._drawn is None:
            self._draw()
        self._offer([])
        await self._load()
        await self._show_book(None)
        await self._list()

    async def _begin(self) -> None:
        """What is in sight at first, and of it the candles."""
        if self._market is None or self._window is None:
            newest = await self._rows.newest()
            if newest is None:
                return
            found = await self._rows.markets(TimeWindow(newest - DAY, newest + DAY))
            chosen = next((one for one in found if self._market in (None, one.market)), None)
            if chosen is None and self._market is None:
                return
            self._market = self._market or (chosen.market if chosen else None)
            now = int(datetime.now(UTC).timestamp()) * SECOND
            default = first_window(chosen.first, chosen.last, now) if chosen else TimeWindow(newest, newest + DAY)
            self._window = self._window or default
        await self._fetch(0.0, candles_only=True)

    async def _fetch(self, beyond: float, *, candles_only: bool = False) -> MarketPicture | None:
        """None where something else was asked for meanwhile. Raises StoreError."""
        assert self._market is not None
        assert self._window is not None
        self._turn += 1
        turn = self._turn
        async with self._asking:  # one at a time: what is no longer wanted when its turn comes is not asked
            if turn != self._turn:
                return None
            columns = TimeColumns.of(self._window.wider(beyond), step_of(self._window))
            picture = await self._rows.picture(self._market, columns, candles_only=candles_only)
        if turn != self._turn:
            return None
        self._picture = picture
        return picture

    async def _load(self) -> None:
        """What is in sight first, then with what is beyond its edges."""
        if self._window is None:
            return
        columns = self._picture.columns if self._picture else None
        there = columns is not None and columns.step == step_of(self._window) and columns.window.holds(self._window)
        for beyond in (BEFORE,) if there and self._drawn == self._market else (0.0, BEFORE):
            try:
                found = await self._fetch(beyond)
            except StoreError as refused:
                self._refused(refused)
                return
            if found is None:
                return
            self._draw()

    def _refused(self, refused: StoreError) -> None:
        self._said.set_text("ClickHouse does not say what it has.")
        self._trouble.set_text(str(refused))

    def _draw(self) -> None:
        picture, window = self._picture, self._window
        assert picture is not None
        assert window is not None
        self._drawn = self._market
        self._trouble.set_text("")
        self._chart.style(f"height: {height(panes(picture))}px")
        self._chart.options.clear()
        self._chart.options.update(market_chart(picture, window))
        self._chart.update()
        self._tell(picture, window)

    def _tell(self, picture: MarketPicture, window: TimeWindow) -> None:
        """What is in sight: in words, in the controls, and in the address."""
        assert self._market is not None
        self._said.set_text(sentence(picture, window))
        self._width.set_value(window.width if window.width in WIDTHS else None)
        self._date.set_value(_last_day(window))
        exchange, kind, symbol = self._market
        asked = {"exchange": exchange, "type": kind, "symbol": symbol}
        span = {"since": times.iso(window.since)[:19], "until": times.iso(window.until)[:19]}
        ui.navigate.history.replace(f"/market?{urlencode({**asked, **span})}")

    async def _list(self) -> None:
        """The markets of about the time in sight, beside the one that is shown."""
        assert self._window is not None
        try:
            end = min(self._window.until, (await self._rows.newest() or 0) + DAY)
            found = await self._rows.markets(TimeWindow(end - 2 * DAY, end))
        except StoreError as refused:
            self._refused(refused)
            return
        self._offer([one.market for one in found])

    def _offer(self, markets: Sequence[MarketKey]) -> None:
        assert self._market is not None
        self._names = {name(market): market for market in dict.fromkeys([*markets, self._market])}
        self._select.set_options(list(self._names), value=name(self._market))

    async def _market_chosen(self, event: ValueChangeEventArguments[str | None]) -> None:
        chosen = self._names.get(event.value or "")
        if chosen and chosen != self._market:
            self._market = chosen
            await self._load()
            await self._show_book(None)

    async def _width_chosen(self, event: ValueChangeEventArguments[int | None]) -> None:
        if self._window and event.value not in (None, self._window.width):
            self._window = TimeWindow(max(0, self._window.until - event.value), self._window.until)
            await self._load()

    async def _date_chosen(self, event: ValueChangeEventArguments[str | None]) -> None:
        try:
            chosen = date.fromisoformat(event.value or "")
        except ValueError:
            return  # half typed
        if self._window and str(chosen) != _last_day(self._window):
            until = int(datetime(chosen.year, chosen.month, chosen.day, tzinfo=UTC).timestamp()) * SECOND + DAY
            self._window = TimeWindow(max(0, until - self._window.width), until)
            await self._load()
            await self._list()

    async def _pan(self, share: float) -> None:
        if self._window:
            self._window = self._window.moved(share)
            await self._load()

    async def _zoomed(self, event: GenericEventArguments) -> None:
        """Rows are asked for when it has come to rest, and only where other steps fit, or an edge is near."""
        if self._picture is None:
            return
        moved = (event.args.get("batch") or [event.args])[0]
        columns = self._picture.columns
        window = columns.seen(moved["start"], moved["end"])
        self._window, self._turn = window, self._turn + 1
        turn = self._turn
        await asyncio.sleep(SETTLED)
        if turn != self._turn:
            return
        self._tell(self._picture, window)
        if step_of(window) != columns.step or not columns.window.holds(window.wider(NEAR)):
            await self._load()

    async def _pointed(self, event: GenericEventArguments) -> None:
        batch = event.args.get("batch") or []
        if self._picture and batch and batch[0].get("dataIndex") is not None:
            columns = self._picture.columns
            await self._show_book(columns.first + columns.step * (int(batch[0]["dataIndex"]) + 1))

    async def _show_book(self, end: int | None) -> None:
        """At the end of a step [s since 1970]; None for the end of what is in sight."""
        if self._market is None or self._window is None:
            return
        self._book_turn += 1
        turn = self._book_turn
        at = self._window.until if end is None else end * SECOND
        if end is not None:
            await asyncio.sleep(SETTLED)
        if turn != self._book_turn:
            return
        try:
            levels = await self._rows.book(self._market, at)
        except StoreError as refused:
            self._book_said.set_text(str(refused))
            return
        if turn == self._book_turn:
            self._book_said.set_text(said(levels, at))
            self._depth.options.update(depth_chart(levels))
            self._depth.update()


def sentence(picture: MarketPicture, window: TimeWindow) -> str:
    """What is in sight, in words."""
    seen = [picture.candles[at] for at in picture.columns.starts if at in picture.candles and _in(at, window)]
    if not seen:
        return f"No trade from {times.shown(window.since)} to {times.shown(window.until)}."
    high, low = max(one.high for one in seen), min(one.low for one in seen)
    change = (seen[-1].close / seen[0].open - 1) * 100
    return (
        f"{sum(one.trades for one in seen):,} trades in candles of {_length(picture.columns.step)}: {seen[0].open:,.8g} → "
        f"{seen[-1].close:,.8g} ({change:+.2f} %), between {low:,.8g} and {high:,.8g}."
    )


def _last_day(window: TimeWindow) -> str:
    return times.shown(window.until - 1)[:10]


def _in(at: int, window: TimeWindow) -> bool:
    return window.since <= at * SECOND < window.until


def _length(step: int) -> str:
    units: Sequence[tuple[int, str]] = ((86_400, "d"), (3600, "h"), (60, "min"), (1, "s"))
    return next(f"{step // size} {unit}" for size, unit in units if step % size == 0)
