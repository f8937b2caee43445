"""ClickHouse killed, unreachable, spoilt on the way, refusing, altered, and full; all under load."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from marketprism_api.reasons import ROW_REFUSED
from marketprism_consumer.ingest.dead_letters import CODE, REASON
from tests.faults import proxy as faults
from tests.faults.harness import Ingest, Server, World, tell
from tests.faults.proxy import Proxy
from tests.pipelines import trade
from tests.waiting import wait_for

BACK_WITHIN = 10.0  # the promise: from the server's answer to stored rows [s]


def _goes_on(ingest: Ingest, rows: int = 300) -> None:
    tell("stores again", ingest.until_more(rows), BACK_WITHIN)
    ingest.until_ready()


def test_clickhouse_killed_and_back_after_20_seconds(world: World) -> None:
    world.feed()
    ingest = world.ingest()
    ingest.until_more(300)
    pid = ingest.process.pid
    world.clickhouse.kill()
    killed = time.monotonic()
    wait_for(lambda: ingest.get("/readyz")[0] == 503, "unready")
    ingest.until_alarm("ClickHouseUnreachable")
    wait_for(lambda: not ingest.alive or time.monotonic() - killed > 20, "20 seconds")
    assert ingest.alive
    world.clickhouse.start()
    _goes_on(ingest)
    assert ingest.running
    assert ingest.process.pid == pid
    world.prove()


@pytest.mark.parametrize(
    "fault",
    [
        faults.answer_lost,
        faults.answer_cut,
        faults.request_cut,
        faults.slow(10),
        faults.slow_answer(7),
        faults.html_page(),
    ],
    ids=["answer lost", "answer cut", "request cut", "slow", "slow answer", "a login page"],
)
def test_spoilt_on_the_way(proxied: World, proxy: Proxy, fault: faults.Fault) -> None:
    """Whether an insert whose answer is lost was stored is not known: it is found out, not guessed."""
    proxied.feed()
    ingest = proxied.ingest()
    ingest.until_more(100)
    proxy.spoil(fault, times=6)
    wait_for(lambda: proxy.hits >= 4, "the fault a few times")
    proxy.heal()
    ingest.until_more(300)
    told = ingest.alarms("ClickHouseUnreachable") + ingest.alarms("NotClickHouse")
    assert told or "slow" in fault.__qualname__
    proxied.prove()
    assert ingest.metric("marketprism_dead_letters_total", reason="RowRefused") == 0


PASSING = {241: "MEMORY_LIMIT_EXCEEDED", 242: "TABLE_IS_READ_ONLY", 252: "TOO_MANY_PARTS", 159: "TIMEOUT_EXCEEDED"}
LASTING = {60: "UNKNOWN_TABLE", 16: "NO_SUCH_COLUMN_IN_TABLE", 497: "ACCESS_DENIED", 516: "AUTHENTICATION_FAILED"}


@pytest.mark.parametrize(
    ("codes", "reason"), [(PASSING, "InsertRetried"), (LASTING, "InsertBlocked")], ids=["passing", "lasting"]
)
def test_refusals_of_the_server_are_waited_out_and_never_blamed_on_a_row(
    proxied: World, proxy: Proxy, codes: dict[int, str], reason: str
) -> None:
    proxied.feed()
    ingest = proxied.ingest()
    ingest.until_more(100)
    for code, name in codes.items():
        proxy.spoil(faults.clickhouse_error(code, name))
        wait_for(lambda: ingest.metric("marketprism_insert_failures_total", code=str(code)) >= 1, f"refusals {code}")  # noqa: B023
        assert ingest.alive
        proxy.heal()
    assert ingest.until_alarm(reason)["clickhouse_code"] in codes
    ingest.until_more(300)
    ingest.until_ready()
    proxied.prove()
    assert ingest.metric("marketprism_dead_letters_total", reason="RowRefused") == 0


@pytest.mark.parametrize(
    ("check", "codes"),
    [
        ("price < 1000000000", {469}),
        pytest.param("price < 1000000000 OR toUInt8(symbol) = 1", {6, 27, 72}, marks=pytest.mark.slow),
        pytest.param("price < 1000000000 OR toDecimal32(price, 8) = 1", {69, 321, 407}, marks=pytest.mark.slow),
    ],
    ids=["constraint", "parsing", "overflow"],
)
def test_a_row_that_clickhouse_refuses_is_buried_alone_and_its_neighbours_are_stored(
    world: World, check: str, codes: set[int]
) -> None:
    world.change(f"ALTER TABLE {{hot}}.trades ADD CONSTRAINT sane CHECK {check}")
    world.feed()
    ingest = world.ingest()
    ingest.until_more(100)
    poison = [world.send("trade.binance_spot.spot.BTC-USDT", trade(price="2000000000")) for _ in range(3)]
    for seq in poison:
        headers = wait_for(lambda seq=seq: world.dead_letter_headers("MARKET_DATA", seq), f"the dead letter of {seq}")
        assert int(headers[CODE]) in codes
        assert headers[REASON].endswith(ROW_REFUSED.name)
    ingest.until_more(300)
    world.prove()
    assert ingest.metric("marketprism_dead_letters_total", reason="RowRefused") == len(poison)


def test_a_column_dropped_and_put_back_is_waited_for(world: World) -> None:
    world.feed(types=["orderbook"])
    ingest = world.ingest()
    ingest.until_more(100)
    world.change("ALTER TABLE {hot}.trades DROP COLUMN trade_id")
    world.feed(types=["trade"])
    assert ingest.until_alarm("InsertBlocked")["data_type"] == "trade"
    wait_for(lambda: ingest.get("/readyz")[0] == 503, "unready")
    ingest.until_more(50, "orderbook")  # the others do not wait for it
    newcomer = world.ingest()
    assert "trade_id" in str(newcomer.until_logged("SchemaDrift")["problems"])
    world.change("ALTER TABLE {hot}.trades ADD COLUMN trade_id String AFTER symbol")
    ingest.until_more(300, "trade")
    newcomer.until_ready()
    world.prove()
    assert ingest.metric("marketprism_dead_letters_total", reason="RowRefused") == 0


def test_a_full_disk_is_waited_out(make_world: Callable[..., World], tmp_path: Path) -> None:
    if os.geteuid() or subprocess.run(["unshare", "-m", "true"], check=False).returncode:
        pytest.skip("NOT TESTED: a small disk needs root and mount namespaces")
    directory = tmp_path / "disk"
    directory.mkdir()
    server = Server("clickhouse", directory, prefix=f"mount -t tmpfs -o size=96m tmpfs {directory}")
    world = make_world(clickhouse=server)
    world.feed()
    ingest = world.ingest()
    ingest.until_more(300)
    filler = Path(f"/proc/{server.child.process.pid}/root{directory}/filler")
    # Not to the last byte: the engine ends where a write fails (tests/embedded), and refuses what needs more than it may have.
    with filler.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, shutil.disk_usage(filler.parent).free - (4 << 20))
    assert ingest.until_alarm("InsertRetried")["clickhouse_code"] == 243
    assert ingest.alive
    filler.unlink()
    _goes_on(ingest)
    world.prove()
    server.kill()


def test_a_view_of_somebodys_own_that_fails_is_named_and_buries_nothing(world: World) -> None:
    world.change("CREATE TABLE {hot}.totals (symbol String, n UInt64) ENGINE = MergeTree ORDER BY symbol")
    world.change(
        "CREATE MATERIALIZED VIEW {hot}.counted TO {hot}.totals AS"
        " SELECT symbol, toUInt64(throwIf(price > 1000000000, 'no such price') + 1) AS n FROM {hot}.trades"
    )
    world.feed(types=["trade"])
    ingest = world.ingest()
    ingest.until_more(50)
    world.send("trade.binance_spot.spot.BTC-USDT", trade(price="2000000000"))
    line = ingest.until_alarm("ViewFailed")
    assert f"{world.hot}.counted" in str(line["error"])
    world.change("DROP VIEW {hot}.counted")
    ingest.until_more(100)
    world.prove()
    assert ingest.metric("marketprism_dead_letters_total", reason="RowRefused") == 0
