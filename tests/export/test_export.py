"""Exports of real tables: every value against what was stored, whatever is killed, and the proof that finds what was changed."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import json
import os
import signal
import subprocess
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np
import polars
import pytest
from pyarrow import csv as arrow_csv
from pyarrow import ipc, parquet

from marketprism_api.settings import effective
from marketprism_consumer import times
from marketprism_consumer.clickhouse import schema
from marketprism_consumer.clickhouse.client import ClickHouse
from marketprism_consumer.errors import StoreError
from marketprism_consumer.export.destination import destination
from marketprism_consumer.export.run import Export, Exported
from marketprism_consumer.export.source import RowSource, Wanted
from marketprism_consumer.schema.tables import TRADES
from marketprism_embedded import process
from tests.commands.command import MARKETPRISM, NO_URLS
from tests.export.conftest import Warehouse
from tests.waiting import PATIENCE, wait_for


def manifest(place: Path) -> Any:
    return json.loads((place / "manifest.json").read_text())


def export(house: Warehouse, place: Path, *more: str) -> Any:
    start, end = house.span
    return house.call("export", "write", str(place), "--from", start, "--to", end, *more)


def test_parquet_has_every_row_of_both_tiers_once_and_every_decimal_exactly(house: Warehouse, tmp_path: Path) -> None:
    done = export(house, tmp_path, "--jobs", "3")
    files = manifest(tmp_path)["files"]
    assert done["rows"] == sum(len(rows) for rows in house.stored.values()) == sum(entry["rows"] for entry in files)
    for name, stored in house.stored.items():
        found = [
            row for path in sorted((tmp_path / name).rglob("*.parquet")) for row in parquet.read_table(path).to_pylist()
        ]
        assert len(found) == len(stored)
        for row, expected in zip(sorted(found, key=lambda row: row["_seq"]), stored, strict=True):
            for column, value in expected.items():
                assert _same(row[column], value), (name, column, row[column], value)


def _same(found: Any, value: Any) -> bool:
    if isinstance(found, Decimal):
        return found == Decimal(value)
    if hasattr(found, "isoformat"):
        return bool(found == times.moment(value))
    if isinstance(found, list):
        return found == [Decimal(item) for item in value]
    return bool(found == value)


def test_a_file_is_one_series_on_one_day_and_the_manifest_says_what_is_in_it(house: Warehouse, tmp_path: Path) -> None:
    export(house, tmp_path, "--type", "trade")
    for entry in manifest(tmp_path)["files"]:
        path = tmp_path / entry["path"]
        rows = parquet.read_table(path).to_pylist()
        assert {(row["exchange"], row["market_type"], row["symbol"]) for row in rows} == {
            (entry["exchange"], entry["marketType"], entry["symbol"])
        }
        assert [row["timestamp"] for row in rows] == sorted(row["timestamp"] for row in rows)
        assert hashlib.sha256(path.read_bytes()).hexdigest() == entry["sha256"]
        assert path.stat().st_size == entry["bytes"]
        assert (times.iso(_micros(rows[0])), times.iso(_micros(rows[-1]))) == (entry["first"], entry["last"])
        (covered,) = entry["covered"]
        seqs = [row["_seq"] for row in rows]
        assert (covered["stream"], covered["firstSeq"], covered["lastSeq"], covered["rows"]) == (
            "S@1", min(seqs), max(seqs), len(rows),
        )  # fmt: skip


def _micros(row: dict[str, Any]) -> int:
    return times.micros(row["timestamp"].isoformat())


def test_csv_and_arrow_have_the_same_rows(house: Warehouse, tmp_path: Path) -> None:
    for form in ("csv", "arrow", "parquet"):
        export(house, tmp_path / form, "--type", "trade", "--format", form)
    for path in sorted((tmp_path / "parquet").rglob("*.parquet")):
        one = path.relative_to(tmp_path / "parquet")
        expected = parquet.read_table(path)
        assert (
            ipc.open_file(tmp_path / "arrow" / one.with_suffix(".arrow")).read_all().to_pylist() == expected.to_pylist()
        )
        text = arrow_csv.read_csv(
            tmp_path / "csv" / one.with_suffix(".csv"),
            convert_options=arrow_csv.ConvertOptions(column_types={"price": expected.schema.field("price").type}),
        )
        assert text["price"].to_pylist() == expected["price"].to_pylist()
        assert text["_seq"].to_pylist() == expected["_seq"].to_pylist()


def test_text_is_the_same_bytes_however_the_tables_lie_on_disk(
    make_warehouse: Callable[[int], Warehouse], tmp_path: Path
) -> None:
    house = make_warehouse(600)
    for form in ("csv", "tardis", "hftbacktest"):
        export(house, tmp_path / form / "before", "--type", "trade", "--type", "orderbook", "--format", form)
    house.change(
        "INSERT INTO {hot}.trades SELECT * FROM {cold}.trades WHERE _seq NOT IN (SELECT _seq FROM {hot}.trades)"
    )
    house.change("OPTIMIZE TABLE {hot}.trades FINAL")
    house.change("OPTIMIZE TABLE {hot}.orderbooks FINAL")
    for form in ("csv", "tardis", "hftbacktest"):
        export(house, tmp_path / form / "after", "--type", "trade", "--type", "orderbook", "--format", form)
        before, after = (
            {entry["path"]: entry["sha256"] for entry in manifest(tmp_path / form / name)["files"]}
            for name in ("before", "after")
        )
        assert before == after
        assert before


def test_killed_with_9_it_goes_on_where_it_was_and_nothing_is_half(house: Warehouse, tmp_path: Path) -> None:
    start, end = house.span
    command = [*MARKETPRISM, "export", "write", str(tmp_path), "--from", start, "--to", end, "--jobs", "1"]
    environ = {**os.environ, **NO_URLS, **house.environ}
    process = subprocess.Popen(command, env=environ)
    wait_for(lambda: len(list(tmp_path.rglob("*.parquet"))) >= 3, "three files")
    process.send_signal(signal.SIGKILL)
    process.wait(PATIENCE)
    for path in tmp_path.rglob("*.parquet"):
        parquet.read_table(path)
    export(house, tmp_path)
    assert not list(tmp_path.rglob("*.part"))
    assert sum(entry["rows"] for entry in manifest(tmp_path)["files"]) == sum(map(len, house.stored.values()))
    again = export(house, tmp_path)
    assert (again["files"], again["kept"]) == (0, len(manifest(tmp_path)["files"]))


class Restarting(ClickHouse):
    """`restart` is called when a question was asked in vain."""

    restart: Callable[[], None]

    async def stream(self, *asked: Any, **more: Any) -> AsyncIterator[bytes]:
        try:
            async for piece in super().stream(*asked, **more):
                yield piece
        except StoreError:
            self.restart()
            raise


def test_a_clickhouse_that_is_killed_and_comes_back_does_not_end_an_export(tmp_path: Path) -> None:
    place, server = tmp_path / "files", process.start("clickhouse", tmp_path / "clickhouse")
    settings = effective(None, {"CLICKHOUSE_HTTP_URL": server.url})
    failed = 0

    def restart() -> None:
        nonlocal server, failed
        failed += 1
        if failed == 1:
            server = process.start("clickhouse", tmp_path / "clickhouse", port=int(server.url.rpartition(":")[2]))

    def progress(_: str, rows: int, *__: int) -> None:
        if rows == 100:
            server.kill()

    async def export() -> Exported:
        clickhouse = Restarting([server.url])
        clickhouse.restart = restart
        await schema.apply(clickhouse, settings)
        await clickhouse.command(
            f"INSERT INTO {settings.hot_db}.trades (timestamp, exchange, market_type, symbol, trade_id, price, quantity, side,"
            " trade_time) SELECT toDateTime64('2025-09-24 00:00:00', 6, 'UTC') + toIntervalSecond(number), 'e', 'm',"
            " toString(number % 3), toString(number), 1, 1, 'buy', now64(6) FROM numbers(300)"
        )
        work = Export(
            clickhouse,
            RowSource(settings.hot_db, settings.cold_db),
            destination(str(place)),
            "csv",
            jobs=1,
            progress=progress,
        )
        since = times.micros("2025-09-24T00:00:00Z")
        try:
            return await work.run(Wanted(since, since + 3_600_000_000), [TRADES])
        finally:
            await clickhouse.close()

    try:
        done = asyncio.run(export())
    finally:
        server.stop()
    assert failed >= 1
    assert (done.files, done.rows) == (3, 300)
    files = [arrow_csv.read_csv(path).num_rows for path in place.rglob("*.csv*")]
    assert files == [100, 100, 100]


def test_a_url_that_does_not_answer_is_passed_over(house: Warehouse, tmp_path: Path) -> None:
    """By all that read: of a cluster, one replica may be away."""
    alive = house.environ["CLICKHOUSE_HTTP_URL"]
    two = replace(house, environ={**house.environ, "CLICKHOUSE_HTTP_URL": f"http://127.0.0.1:9,{alive}"})
    assert export(two, tmp_path, "--type", "trade")["rows"] == len(house.stored["trades"])
    assert two.call("export", "verify", str(tmp_path))["ok"]
    asked = ("query", "funding", "--since", house.span[0], "-o", "json")
    assert two.invoke(*asked).stdout == house.invoke(*asked).stdout


def test_verify_finds_what_was_changed_in_files_and_in_tables(
    make_warehouse: Callable[[int], Warehouse], tmp_path: Path
) -> None:
    house = make_warehouse(900)
    export(house, tmp_path, "--type", "trade")
    assert house.call("export", "verify", str(tmp_path))["ok"]
    files = sorted(tmp_path.rglob("*.parquet"))
    whole = files[0].read_bytes()
    files[0].write_bytes(whole[:-20] + b"x" + whole[-19:])
    files[1].rename(tmp_path / "elsewhere")
    found = house.call("export", "verify", str(tmp_path), "--quick")["wrong"]
    assert "the file was changed" in found[str(files[0].relative_to(tmp_path))]
    assert "not there" in found[str(files[1].relative_to(tmp_path))]
    assert len(found) == 2
    files[0].write_bytes(whole)
    (tmp_path / "elsewhere").rename(files[1])
    # A value: only who compares them all sees it.
    seq = house.stored["trades"][-1]["_seq"]
    house.change(f"ALTER TABLE {{hot}}.trades UPDATE price = price + 1 WHERE _seq = {seq}")
    assert house.call("export", "verify", str(tmp_path), "--quick")["ok"]
    (wrong,) = house.call("export", "verify", str(tmp_path))["wrong"].values()
    assert ", price: Decimal(" in wrong
    house.change(f"ALTER TABLE {{hot}}.trades DELETE WHERE _seq = {seq}")
    (wrong,) = house.call("export", "verify", str(tmp_path), "--quick")["wrong"].values()
    assert "the tables have" in wrong
    # Exporting again mends it: what differs is written anew, the rest is left.
    done = export(house, tmp_path, "--type", "trade")
    assert done["files"] == 1
    assert house.call("export", "verify", str(tmp_path))["ok"]


def test_tardis_files_say_the_same_trades_and_books(house: Warehouse, tmp_path: Path) -> None:
    export(house, tmp_path, "--type", "trade", "--type", "orderbook", "--format", "tardis")
    trades = [
        row
        for path in sorted((tmp_path / "trades").rglob("*.csv.gz"))
        for row in polars.read_csv(path, infer_schema=False).to_dicts()
    ]
    assert list(trades[0]) == ["exchange", "symbol", "timestamp", "local_timestamp", "id", "side", "price", "amount"]
    key = lambda row: (row["exchange"], row["symbol"], row["id"])  # noqa: E731
    found = {key(row): row for row in trades}
    for row in house.stored["trades"]:
        one = found[row["exchange"], row["symbol"], row["trade_id"]]
        assert int(one["timestamp"]) == row["timestamp"]
        assert int(one["local_timestamp"]) == row["collected_at"]
        assert (Decimal(one["price"]), Decimal(one["amount"])) == (Decimal(row["price"]), Decimal(row["quantity"]))
    for path in sorted((tmp_path / "incremental_book_L2").rglob("*.csv.gz")):
        with gzip.open(path, "rt") as file:
            assert (
                file.readline()
                == '"exchange","symbol","timestamp","local_timestamp","is_snapshot","side","price","amount"\n'
            )
        _replayed_as_tardis_says(polars.read_csv(path, infer_schema=False).to_dicts(), path.parent, house)


def _replayed_as_tardis_says(rows: list[dict[str, str]], series: Path, house: Warehouse) -> None:
    """After the last row the book is what the last message left: full ones replace, others change."""
    book: dict[tuple[str, Decimal], Decimal] = {}
    last_full = False
    for row in rows:
        full = row["is_snapshot"] == "true"
        if full and not last_full:
            book = {}
        last_full = full
        book[row["side"], Decimal(row["price"])] = Decimal(row["amount"])
    expected: dict[tuple[str, Decimal], Decimal] = {}
    ours = [
        row
        for row in house.stored["orderbooks"]
        if (row["exchange"], row["market_type"], row["symbol"]) == tuple(map(unquote, series.parts[-3:]))
    ]
    for row in sorted(ours, key=lambda row: (row["collected_at"] or row["timestamp"], row["_seq"])):
        if row["update_type"] == "snapshot" and row["bids_count"] + row["asks_count"]:
            expected = {}
        for side in ("bid", "ask"):
            for price, quantity in zip(
                _numbers(row[f"{side}_prices"]), _numbers(row[f"{side}_quantities"]), strict=True
            ):
                expected[side, price] = quantity
    assert {k: v for k, v in book.items() if v} == {k: v for k, v in expected.items() if v}


def _numbers(values: Any) -> list[Decimal]:
    if isinstance(values, bytes):
        whole = [int.from_bytes(values[n : n + 16], "little", signed=True) for n in range(0, len(values), 16)]
        return [Decimal(number).scaleb(-18) for number in whole]
    return [Decimal(value) for value in values]


def test_hftbacktest_reads_every_trade_and_level_in_the_order_of_both_clocks(house: Warehouse, tmp_path: Path) -> None:
    export(house, tmp_path, "--type", "trade", "--type", "orderbook", "--format", "hftbacktest")
    trades = 0
    for path in sorted(tmp_path.rglob("*.npz")):
        data = np.load(path)["data"]
        assert data.dtype.names == ("ev", "exch_ts", "local_ts", "px", "qty", "order_id", "ival", "fval")
        at_exchange, arrived = data[(data["ev"] & (1 << 31)) != 0], data[(data["ev"] & (1 << 30)) != 0]
        assert len(at_exchange) == len(arrived) == len(data) / 2
        assert (np.diff(at_exchange["exch_ts"]) >= 0).all()
        assert (np.diff(arrived["local_ts"]) >= 0).all()
        assert (data["local_ts"] >= data["exch_ts"]).all()
        assert not ((data["ev"] & (1 << 29) != 0) & (data["ev"] & (1 << 28) != 0)).any()
        trades += int(((at_exchange["ev"] & 0xFF) == 2).sum())
    assert trades == len(house.stored["trades"])


def test_a_name_can_not_lead_out_of_the_folder(make_warehouse: Callable[[int], Warehouse], tmp_path: Path) -> None:
    house = make_warehouse(60)
    house.change(
        "INSERT INTO {hot}.trades (timestamp, exchange, market_type, symbol, trade_id, price, quantity, side, trade_time)"
        " SELECT timestamp, '..', '', '../../etc', trade_id, price, quantity, side, trade_time FROM {hot}.trades LIMIT 1"
    )
    done = export(house, tmp_path / "in", "--type", "trade", "--exchange", "..")
    assert len(done["paths"]) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["in"]
    assert house.call("export", "verify", str(tmp_path / "in"))["ok"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("write", "x"), "give exactly one of --since and --from"),
        (("write", "x", "--from", "2025-09-24", "--to", "2025-09-23"), "--to 2025-09-23 is not after --from 2025-09-24"),
        (("write", "x", "--since", "1h", "--type", "liquidation", "--format", "tardis"), "--format tardis has no form for liquidation"),
        (("verify", "x"), "there is no manifest.json"),
    ],
    ids=["no time", "backwards", "no form", "no manifest"],
)  # fmt: skip
def test_what_can_not_be_done_is_said(house: Warehouse, arguments: tuple[str, ...], said: str) -> None:
    done = house.invoke("export", *arguments)
    assert done.exit_code == 2
    assert said in done.stderr
