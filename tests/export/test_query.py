"""`marketprism query`, each answer against Python's Decimal over what was stored."""

from __future__ import annotations

import csv
import io
import json
from collections import defaultdict
from decimal import ROUND_DOWN, Decimal, localcontext
from typing import Any

import pytest
from pyarrow import parquet

from marketprism_consumer import times
from tests.export.conftest import Warehouse


def ask(house: Warehouse, *arguments: str, form: str = "json") -> Any:
    start, end = house.span
    span = () if arguments[0] == "book" else ("--since", start, "--to", end)
    done = house.invoke("query", *arguments, *span, "-o", form)
    assert done.exit_code == 0, done.output
    return [json.loads(line) for line in done.stdout.splitlines()] if form == "json" else done


def trades_of(house: Warehouse) -> list[dict[str, Any]]:
    return [row for row in house.stored["trades"] if (row["exchange"], row["symbol"]) == ("binance_spot", "BTC-USDT")]


def buckets(house: Warehouse, seconds: int) -> dict[int, list[dict[str, Any]]]:
    found: defaultdict[int, list[dict[str, Any]]] = defaultdict(list)
    for row in trades_of(house):
        found[row["timestamp"] // 1_000_000 // seconds * seconds].append(row)
    return found


def test_candles_of_five_minutes_are_exact(house: Warehouse) -> None:
    rows = ask(house, "candles", "binance_spot", "BTC-USDT", "--every", "5m")
    expected = buckets(house, 300)
    assert len(rows) == len(expected)
    for row in rows:
        own = expected[times.micros(row["time"].replace(" ", "T") + "Z") // 1_000_000]
        assert Decimal(row["high"]) == max(Decimal(trade["price"]) for trade in own)
        assert Decimal(row["low"]) == min(Decimal(trade["price"]) for trade in own)
        assert Decimal(row["volume"]) == sum(Decimal(trade["quantity"]) for trade in own)
        assert int(row["trades"]) == len(own)


def test_candles_are_of_whole_minutes_that_begin_in_the_span(house: Warehouse) -> None:
    """As `candles_1m` has them, wherever the span begins and ends."""
    minutes = sorted(buckets(house, 60))
    span = (minutes[1] * 1_000_000 - 1, minutes[-2] * 1_000_000 + 1)
    asked = ("query", "candles", "binance_spot", "BTC-USDT", "--since", times.iso(span[0]), "--to", times.iso(span[1]))
    done = house.invoke(*asked, "-o", "json")
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert [times.micros(row["time"].replace(" ", "T") + "Z") // 1_000_000 for row in rows] == minutes[1:-1]
    assert [int(row["trades"]) for row in rows] == [len(buckets(house, 60)[minute]) for minute in minutes[1:-1]]


def test_a_minute_asked_for_alone_is_the_same_whichever_tier_has_it(house: Warehouse) -> None:
    """Hot is left out where it begins later."""
    whole = {row["time"]: row for row in ask(house, "candles", "binance_spot", "BTC-USDT")}
    minutes = sorted(buckets(house, 60))[1:-1]
    assert len(minutes) >= 3
    for minute in minutes:
        span = ("--since", times.iso(minute * 1_000_000), "--to", times.iso((minute + 60) * 1_000_000))
        done = house.invoke("query", "candles", "binance_spot", "BTC-USDT", *span, "-o", "json")
        (row,) = [json.loads(line) for line in done.stdout.splitlines()]
        assert row == whole[row["time"]]


def test_vwap_is_turnover_over_volume_cut_after_18_digits(house: Warehouse) -> None:
    (row, *_) = ask(house, "vwap", "binance_spot", "BTC-USDT", "--every", "1h")
    own = buckets(house, 3600)[times.micros(row["time"].replace(" ", "T") + "Z") // 1_000_000]
    with localcontext(prec=100, rounding=ROUND_DOWN):
        turnover = sum(Decimal(trade["price"]) * Decimal(trade["quantity"]) for trade in own)
        volume = sum((Decimal(trade["quantity"]) for trade in own), Decimal(0))
        assert Decimal(row["vwap"]) == (turnover.quantize(Decimal("1e-18")) / volume).quantize(Decimal("1e-18"))


def test_a_book_has_its_levels_from_the_best_on(house: Warehouse) -> None:
    rows = ask(house, "book", "binance_spot", "BTC-USDT", "--at", house.span[1], "--levels", "3")
    assert [row["level"] for row in rows if row["side"] == "bid"] == [1, 2, 3]
    prices = [Decimal(row["price"]) for row in rows if row["side"] == "ask"]
    assert prices == sorted(prices)


def test_funding_and_gaps_answer_for_all_or_for_one(house: Warehouse) -> None:
    assert len(ask(house, "funding")) == len(house.stored["funding_rates"])
    gone = ask(house, "gaps", "--longer-than", "10s")
    assert {row["what"] for row in gone} >= {"trade silent", "orderbook silent"}
    assert {row["symbol"] for row in ask(house, "gaps", "--symbol", "BTC-USDT", "--longer-than", "10s")} == {"BTC-USDT"}


def test_every_form_says_the_same(house: Warehouse) -> None:
    candles = ("candles", "binance_spot", "BTC-USDT")
    rows = ask(house, *candles)
    text = list(csv.DictReader(io.StringIO(ask(house, *candles, form="csv").stdout)))
    table = parquet.read_table(io.BytesIO(ask(house, *candles, form="parquet").stdout_bytes)).to_pylist()
    assert [Decimal(row["close"]) for row in rows] == [Decimal(row["close"]) for row in text]
    assert [Decimal(row["close"]) for row in rows] == [row["close"] for row in table]
    shown = ask(house, *candles, form="table").stdout
    assert all(row["close"] in shown for row in rows)


def test_a_plot_is_drawn_in_the_terminal(house: Warehouse) -> None:
    drawn = ask(house, "candles", "binance_spot", "BTC-USDT", form="plot").stdout
    assert "close" in drawn
    assert len(drawn.splitlines()) > 10


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("candles", "e", "s", "--every", "90s"), "no multiple of 1m"),
        (("candles", "e", "s", "--since", "yesterday"), "'yesterday' is neither a time"),
        (("gaps", "-o", "plot"), "nothing to plot of gaps"),
    ],
    ids=["interval", "time", "plot"],
)
def test_what_can_not_be_asked_is_said(house: Warehouse, arguments: tuple[str, ...], said: str) -> None:
    done = house.invoke("query", *arguments)
    assert done.exit_code == 2
    assert said in done.stderr
