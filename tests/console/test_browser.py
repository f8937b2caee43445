"""The console as somebody sees it, in a real browser."""

from __future__ import annotations

import asyncio
import http.client
import json
import re
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.async_api import TimeoutError as PlaywrightTimeoutError

from marketprism_api.credentials import ClickHouseAuth
from marketprism_console.market.chart import LEFT, RIGHT, TOP
from marketprism_consumer.clickhouse.incidents import note
from marketprism_consumer.schema.incidents import Incident
from marketprism_consumer.tiering.job import job_of
from marketprism_consumer.tiering.run import Migration
from tests.console.browser import console, needs_browser, visit
from tests.console.test_queries import fill_market, insert
from tests.pipelines import Pipeline, trade
from tests.waiting import until

MEMORY = 150  # [MB]


def get(url: str, path: str, **headers: str) -> int:
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port or 80, timeout=60)
    connection.request("GET", path, headers=headers)
    return connection.getresponse().status


def resident(pid: int) -> float:
    """[MB]"""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096 / 1e6


@needs_browser
@pytest.mark.parametrize(("width", "dark"), [(1280, False), (400, True)])
async def test_coverage_and_what_is_behind_it(pipeline: Pipeline, width: int, dark: bool) -> None:
    await insert(pipeline, "cold", 0, 8640 * 2)
    await insert(pipeline, "hot", 8640 * 2 + 5, 360)
    at = 1_758_700_800_000_000  # 2025-09-24 08:00
    of_file = Incident(
        "trade", "binance_spot", "spot", "BTC-USDT", at, at, 2, 2, 0, "file", "file:1", "a.zip", "<b>down</b>", True
    )
    await note(pipeline.clickhouse, pipeline.hot, of_file)
    with console(pipeline.file) as (url, process):
        async with visit(f"{url}?type=trade&days=7&to=2025-09-26", width=width, dark=dark) as page:
            await page.get_by_text("17,640 rows of 1 market. Of 50 hours 1 with numbers missing.").wait_for()
            assert await page.evaluate("document.documentElement.scrollWidth") <= width
            assert await page.get_by_label("up to").input_value() == "2025-09-26"
            assert await page.evaluate("document.body.classList.contains('body--dark')") == dark
            healed = "2025-09-24 08:00:00: 2 rows from the file a.zip (<b>down</b>)"
            await page.get_by_text(healed).wait_for()
            await page.get_by_text("5 of the venue's numbers missing").click()
            await page.get_by_text("MP8001 TradesMissing").wait_for()
            await page.get_by_text(f"SELECT * FROM `{pipeline.hot}`.`all_trades`").first.wait_for()
            await page.get_by_text("`marketprism audit` shows whether they were published").wait_for()
        assert resident(process.pid) < MEMORY


@needs_browser
async def test_a_cell_of_the_map_opens_by_a_click(pipeline: Pipeline) -> None:
    await insert(pipeline, "cold", 0, 8640)
    with console(pipeline.file) as (url, _):
        async with visit(f"{url}?type=trade&days=1&to=2025-09-24") as page:
            await page.get_by_text("8,640 rows of 1 market. Of 24 hours each is whole.").wait_for()
            await page.wait_for_function("document.querySelector('canvas')?.height > 50")
            await page.locator(".nicegui-echart").click(position={"x": 700, "y": 16})
            await page.get_by_text("FINE: nothing wrong in 1,080 rows of 1 series").wait_for()


@needs_browser
async def test_what_is_in_a_message_is_text(pipeline: Pipeline) -> None:
    evil = "<img src=x onerror=alert(1)>"
    await insert(pipeline, "hot", 0, 400)
    await pipeline.change(
        "INSERT INTO {hot}.trades SELECT * REPLACE ('" + evil + "' AS symbol) FROM {hot}.trades WHERE trade_id != '7'"
    )
    with console(pipeline.file) as (url, _):
        async with visit(f"{url}?type=trade&days=1&to=2025-09-24") as page:
            await page.get_by_text(f"{evil} binance_spot spot").first.wait_for()
            assert await page.locator("img[src=x]").count() == 0


@needs_browser
async def test_a_clickhouse_that_is_away_is_said(pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLICKHOUSE_HTTP_URL", "http://127.0.0.1:1")
    with console(pipeline.file) as (url, _):
        async with visit(url) as page:
            await page.get_by_text("ClickHouse does not say what it has.").wait_for()
            await page.get_by_text("MP4001").wait_for()


async def test_only_its_own_names_and_on_other_addresses_a_token(pipeline: Pipeline) -> None:
    with console(pipeline.file) as (url, _):
        assert await asyncio.to_thread(get, url, "/healthz") == 200
        assert await asyncio.to_thread(get, url, "/", Host="evil.example") == 403
    with console(pipeline.file, "--host", "127.0.0.1", "--allow-host", "prism.example.org") as (url, _):
        assert await asyncio.to_thread(get, url, "/healthz", Host="prism.example.org") == 200


@needs_browser
@pytest.mark.parametrize(("width", "dark"), [(1280, True), (400, False)])
async def test_the_pipeline_as_it_runs(pipeline: Pipeline, width: int, dark: bool) -> None:
    await pipeline.send("trade.binance_spot.spot.BTC-USDT", b"{")
    await pipeline.ingest()
    with console(pipeline.file) as (url, _):
        async with visit(f"{url}pipeline", width=width, dark=dark) as page:
            await page.get_by_text("trade: 1 message could not become rows").wait_for()
            await page.get_by_text("nobody reads its stream").first.wait_for()
            await page.get_by_text("ClickHouse 2").wait_for()
            assert await page.evaluate("document.documentElement.scrollWidth") <= width
            await pipeline.send("trade.binance_spot.spot.BTC-USDT", b"[")
            await pipeline.ingest()
            await page.get_by_text("trade: 2 messages could not become rows").wait_for()


@needs_browser
@pytest.mark.parametrize(("width", "dark"), [(1280, False), (400, True)])
async def test_a_dead_letter_is_opened_as_text(pipeline: Pipeline, width: int, dark: bool) -> None:
    await pipeline.send("trade.binance_spot.spot.BTC-USDT", b'{"<img src=x onerror=alert(1)>\x1b[31m')
    await pipeline.send("trade.binance_spot.spot.BTC-USDT", b"[]")
    await pipeline.ingest()
    with console(pipeline.file) as (url, _):
        async with visit(f"{url}dead-letters", width=width, dark=dark) as page:
            await page.get_by_text("2 dead letters.").wait_for()
            assert await page.evaluate("document.documentElement.scrollWidth") <= width
            await page.get_by_text("MP2101 BadJSON: 1").click()
            await page.get_by_text("The newest 1 of 1.").wait_for()
            await page.get_by_text("MP2101 BadJSON BTC-USDT spot binance_spot").click()
            await page.get_by_text('{"<img src=x onerror=alert(1)>\\x1b[31m').wait_for()
            await page.get_by_text("look at the publisher").last.wait_for()
            assert await page.locator("img[src=x]").count() == 0


@needs_browser
@pytest.mark.parametrize(("width", "dark"), [(1280, False), (400, True)])
async def test_candles_are_seen_before_the_first_script_runs_where_the_chart_puts_them(
    pipeline: Pipeline, width: int, dark: bool
) -> None:
    await insert(pipeline, "cold", 0, 8640)
    asked = "market?exchange=binance_spot&type=spot&symbol=BTC-USDT&since=2025-09-24T00:00:00&until=2025-09-25T00:00:00"
    with console(pipeline.file) as (url, _):
        async with visit(f"{url}{asked}", width=width, dark=dark, scripts=False) as page:

            async def in_the_page() -> bool:
                """ClickHouse has a second; what takes longer comes later, by a script."""
                await page.reload()
                return await page.get_by_text("8,640 trades in candles of 5 min: 100 → 100").count() == 1

            await until(in_the_page, "the candles come with the page")
            candles = page.get_by_role("img", name="candles")
            seen = await candles.bounding_box()
            ground = await page.locator("#first").evaluate("e => getComputedStyle(e).backgroundColor")
            assert ground == ("rgb(15, 19, 24)" if dark else "rgb(255, 255, 255)")
            assert await candles.locator("path").count() == 3
            assert seen
        async with visit(f"{url}{asked}", width=width, dark=dark) as page:

            async def in_its_place() -> bool:
                chart = await page.locator(".nicegui-echart").first.bounding_box()
                return chart is not None and (seen["x"], seen["width"], round(seen["y"])) == (
                    chart["x"] + LEFT,
                    chart["width"] - LEFT - RIGHT,
                    round(chart["y"] + TOP),
                )

            await until(in_its_place, "the chart stands where its candles stood")


@needs_browser
@pytest.mark.parametrize(("width", "dark"), [(1280, False), (400, True)])
async def test_a_market_is_zoomed_into_and_its_book_follows_the_cursor(
    pipeline: Pipeline, width: int, dark: bool
) -> None:
    await fill_market(pipeline)
    await insert(pipeline, "cold", 0, 8640)
    with console(pipeline.file) as (url, process):
        async with visit(f"{url}market", width=width, dark=dark) as page:
            await page.get_by_text("8,640 trades in candles of 5 min: 100 → 100").wait_for()
            await page.get_by_text("2025-09-25 00:00:00: bid 1 at 102, ask 2 at 103").wait_for()
            await (
                page.get_by_text("BTC-USDT  binance_spot spot").or_(page.locator("input[value*=BTC]")).first.wait_for()
            )
            assert "symbol=BTC-USDT&since=2025-09-24T00%3A00%3A00&until=2025-09-25T00%3A00%3A00" in page.url
            assert await page.evaluate("document.documentElement.scrollWidth") <= width
            chart = page.locator(".nicegui-echart").first
            await page.wait_for_function("document.querySelector('canvas')?.height > 500")
            early = page.get_by_text(re.compile("^2025-09-24 0[01]:.* bid 1 at 102, ask 2 at 103"))
            for x in (69, 74) * 10:  # a chart that is drawn anew forgets the cursor
                await chart.hover(position={"x": x, "y": 150})
                with suppress(PlaywrightTimeoutError):
                    await early.wait_for(timeout=2000)
                    break
            assert await early.count()
            for _ in range(8):  # a tenth nearer each
                await page.mouse.wheel(0, -400)
            await page.get_by_text("trades in candles of 2 min").wait_for()
        assert resident(process.pid) < MEMORY


@needs_browser
@pytest.mark.parametrize(("width", "dark"), [(1280, True), (400, False)])
async def test_what_moved_and_what_stands_still(pipeline: Pipeline, width: int, dark: bool) -> None:
    await insert(pipeline, "hot", 0, 360)
    await insert(pipeline, "cold", 0, 10)
    with console(pipeline.file) as (url, _):
        async with visit(f"{url}tiering", width=width, dark=dark) as page:
            await page.get_by_text("360 rows are older than 8 h and still in hot. Nothing was moved yet.").wait_for()
            await page.get_by_text("trades: 360 rows are due, and nothing was ever moved").wait_for()
            await page.get_by_text("compare both tiers, row by row").click()
            await page.get_by_text("No row is there twice.").wait_for()
            await page.get_by_text("in both tiers, copied and not yet deleted: 10").wait_for()
            await page.keyboard.press("Escape")
            assert (await Migration(job_of(pipeline.settings, None), ClickHouseAuth).run()).ok
            await page.get_by_text("look again").click()
            await page.get_by_text(
                "No row in hot is older than 8 h. 360 rows were moved in the last 1 slice."
            ).wait_for()
            await page.get_by_text(re.compile("360 rows .* move done  [0-9a-f]{16}")).wait_for()
            assert await page.evaluate("document.documentElement.scrollWidth") <= width


@needs_browser
@pytest.mark.parametrize(("width", "dark"), [(1280, False), (400, True)])
async def test_an_audit_is_run_and_its_report_kept(pipeline: Pipeline, width: int, dark: bool) -> None:
    await pipeline.send("trade.binance_spot.spot.BTC-USDT", json.dumps(trade()).encode())
    await pipeline.ingest()
    with console(pipeline.file) as (url, process):
        async with visit(f"{url}proof", width=width, dark=dark) as page:
            await page.get_by_text("compare every value").click()
            await page.get_by_label("how far back").click()
            await page.get_by_role("option", name="the last hour").click()
            await page.get_by_text("prove it").click()
            await page.get_by_text("PROVEN (every value compared, what arrived since").wait_for()
            await page.get_by_text("held 1 = 1 rows + 0 dead letters + 0 pending").wait_for()
            assert await page.evaluate("document.documentElement.scrollWidth") <= width
            async with page.expect_download() as download:
                await page.get_by_text("download the report").click()
            report = json.loads(Path(await (await download.value).path()).read_text())
            assert (report["holds"], {each["dataType"]: each["rows"] for each in report["types"]}["trade"]) == (True, 1)
        async with visit(f"{url}proof", width=width, dark=dark) as page:  # another visitor sees it, too
            await page.get_by_text("PROVEN (every value compared").wait_for()
        assert resident(process.pid) < MEMORY


@needs_browser
async def test_without_nats_there_is_no_proof_and_the_page_says_so(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MARKETPRISM_NATS_URL", "nats://127.0.0.1:1")
    with console(pipeline.file) as (url, _):
        async with visit(f"{url}proof") as page:
            await page.get_by_text("NATS can't be reached. An audit compares what its streams hold").wait_for()
            await page.get_by_text("prove it").click()
            await page.get_by_text("NOT PROVEN: NATS can't be asked").wait_for()
