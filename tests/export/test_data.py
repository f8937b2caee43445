"""`marketprism.data`, as a notebook uses it: every value is the one that was stored."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import nbformat
import polars
import pytest
from nbclient import NotebookClient

from marketprism import data
from marketprism_consumer import times
from marketprism_consumer.errors import StoreError
from tests.commands.command import NO_URLS
from tests.export.conftest import Warehouse
from tests.waiting import PATIENCE

ROOT = Path(__file__).parents[2]
SERIES = ("binance_spot", "BTC-USDT")


@pytest.fixture(autouse=True)
def environment(house: Warehouse, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {**NO_URLS, **house.environ}.items():
        monkeypatch.setenv(name, value)


def test_trades_are_exact_in_arrow_polars_and_pandas(house: Warehouse) -> None:
    asked = data.trades(*SERIES, *house.span)
    stored = [row for row in house.stored["trades"] if (row["exchange"], row["symbol"]) == SERIES]
    prices = [Decimal(row["price"]) for row in stored]
    assert asked.arrow()["price"].to_pylist() == prices
    assert list(asked.pandas()["price"]) == prices
    frame = asked.polars()
    assert isinstance(frame.schema["price"], polars.Decimal)
    assert frame["price"].to_list() == prices
    assert frame["timestamp"].to_list() == [times.moment(row["timestamp"]) for row in stored]
    assert sum(batch.num_rows for batch in asked.batches()) == len(stored)


def test_books_candles_and_the_book_at_a_time(house: Warehouse) -> None:
    assert data.books(*SERIES, *house.span).arrow().num_rows == len(
        [row for row in house.stored["orderbooks"] if (row["exchange"], row["symbol"]) == SERIES]
    )
    assert set(data.book_at(*SERIES, house.span[1], levels=2).arrow()["level"].to_pylist()) == {1, 2}
    trades = data.candles(*SERIES, *house.span, minutes=5).arrow()["trades"].to_pylist()
    assert sum(trades) == data.trades(*SERIES, *house.span).arrow().num_rows


def test_nothing_is_asked_before_rows_are_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLICKHOUSE_HTTP_URL", "http://127.0.0.1:9")
    asked = data.trades(*SERIES, "2025-09-24", "2025-09-25")
    with pytest.raises(StoreError, match="ClickHouseUnreachable"):
        asked.arrow()


def test_a_time_that_is_none_is_said() -> None:
    with pytest.raises(ValueError, match="yesterday"):
        data.trades(*SERIES, "yesterday", "2025-09-25")


def test_the_notebook_of_the_examples_runs(house: Warehouse, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOTEBOOK_FROM", house.span[0])
    monkeypatch.setenv("NOTEBOOK_TO", house.span[1])
    book = nbformat.read(ROOT / "examples" / "market_data.ipynb", as_version=4)
    NotebookClient(book, timeout=PATIENCE, kernel_name="python3").execute()
    said = "".join(output.get("text", "") for cell in book.cells for output in cell.get("outputs", ()))
    traded = [row for row in house.stored["trades"] if (row["exchange"], row["symbol"]) == SERIES]
    assert f"{len(traded)} trades, volume {sum(Decimal(row['quantity']) for row in traded).normalize()}" in said
