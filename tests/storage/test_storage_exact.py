"""Bit-exact: what a message says, in whatever form, is what a query gives back."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from decimal import ROUND_DOWN, Context, Decimal, localcontext
from random import Random
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from marketprism_api.data_types import BUILT_IN
from marketprism_consumer.ingest.decode import Row, decode
from marketprism_consumer.ingest.decode_fast import DECODERS
from marketprism_consumer.schema.tables import DECIMAL, RATIO, TABLES, TIME, TRADES, Column, Table, nullable
from tests.blocks import block_of
from tests.stored_rows import comparable, select

STREAM = "S@1"
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
EXACT = Context(prec=100)


# --- values, each with the forms in which it may be written ---------------------------------------------------------------


def decimals(scale: int, least: int) -> st.SearchStrategy[Decimal]:
    """Every value of a Decimal(38, scale) from `least` units of its last digit on; edges and usual sizes more often."""
    top = 10**38 - 1
    units = st.one_of(
        st.integers(least, top),
        st.integers(least, 10 ** (scale + 6)),
        st.sampled_from([max(least, 0), max(least, 1), 10**scale, top, 10 ** (scale - 8)]),
    )
    return units.map(lambda n: Decimal(n).scaleb(-scale, EXACT))


def spelled(value: Decimal, rng: Random) -> Any:
    """The decimal as a collector may write it: text or number, plain or with an exponent, with or without zeros."""
    plain = f"{value:f}"
    stripped = plain.rstrip("0").rstrip(".") if "." in plain else plain
    text = rng.choice([plain, stripped, f"{value:e}", f"{stripped}e0" if stripped else plain])
    return text if rng.random() < 0.6 else Number(text)


class Number(str):
    """Text that stands in the JSON without quotes."""


moments = st.datetimes(datetime(2010, 1, 1), datetime(2026, 1, 1)).map(lambda moment: moment.replace(tzinfo=UTC))


def micros(moment: datetime) -> int:
    return (moment - EPOCH) // timedelta(microseconds=1)


def timed(moment: datetime, rng: Random) -> Any:
    us = micros(moment)
    elsewhere = moment.astimezone(timezone(timedelta(minutes=rng.randrange(-840, 841))))
    utc = moment.replace(tzinfo=None)
    return rng.choice(
        [
            utc.isoformat(" ", "microseconds"),
            utc.isoformat("T", "microseconds") + "Z",
            utc.isoformat("T", "microseconds") + "+00:00Z",
            elsewhere.isoformat("T", "microseconds"),
            elsewhere.isoformat(" ", "microseconds"),
            Number(str(us)),
            str(us),
            Number(f"{us}{rng.randrange(1000):03}"),
            f"{us}{rng.randrange(1000):03}",
            f"{us // 10**6}.{us % 10**6:06}",
        ]
    )


def written(body: dict[str, Any]) -> bytes:
    def value(item: Any) -> str:
        if isinstance(item, Number):
            return str(item)
        if isinstance(item, list):
            return f"[{','.join(map(value, item))}]"
        return json.dumps(item)

    return ("{" + ",".join(f"{json.dumps(name)}:{value(item)}" for name, item in body.items()) + "}").encode()


# --- messages of any type from the table's columns ------------------------------------------------------------------------

WIRE = {"funding_rate": "current_funding_rate"}
ABOVE_ZERO = {"price"}
NOT_BELOW = {"quantity", "open_interest_value"}
texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12)


def column_values(column: Column) -> st.SearchStrategy[Any]:
    values: st.SearchStrategy[Any]
    if column.type in (DECIMAL, nullable(DECIMAL), RATIO):
        scale = 28 if column.type == RATIO else 18
        least = 1 if column.name in ABOVE_ZERO else 0 if column.name in NOT_BELOW else -(10**38) + 1
        values = decimals(scale, least)
    elif column.type in (TIME, nullable(TIME)):
        values = moments
    elif "UInt64" in column.type:
        values = st.integers(0, 2**64 - 1)
    elif "UInt32" in column.type:
        values = st.integers(0, 2**32 - 1)
    elif "Bool" in column.type:
        values = st.booleans()
    elif column.name == "side":
        values = st.sampled_from(["buy", "sell", "unknown"])
    elif column.name == "update_type":
        values = st.sampled_from(["snapshot", "update"])
    else:
        values = texts
    return st.none() | values if "Nullable" in column.type else values


BOOK = ("bids_count", "asks_count", "best_", "bid_", "ask_")
levels = st.lists(st.tuples(decimals(18, 1), decimals(18, 0)), max_size=4)


@st.composite
def messages(draw: Any, table: Table) -> tuple[bytes, dict[str, Any]]:
    """A message, and what its row must be."""
    rng = Random(draw(st.integers(0, 2**32)))
    truth: dict[str, Any] = {}
    body: dict[str, Any] = {"data_type": table.data_type}
    for column in table.inserted:
        if not column.name.startswith(BOOK):
            truth[column.name] = draw(column_values(column))
    for event in ("trade_time", "liquidation_time"):
        if event in truth and rng.random() < 0.5:  # the newer form has the event's own time only there
            truth["timestamp"] = truth[event]
    for name, value in truth.items():
        wire = WIRE.get(name, name)
        if isinstance(value, Decimal):
            body[wire] = spelled(value, rng)
        elif isinstance(value, datetime):
            body[wire] = timed(value, rng)
        else:
            body[wire] = value
    if table.data_type == "orderbook":
        objects = rng.random() < 0.5
        for side, name in (("bid", "bids"), ("ask", "asks")):
            book = draw(levels)
            truth[f"{side}_prices"], truth[f"{side}_quantities"] = [p for p, _ in book], [q for _, q in book]
            pairs = [[spelled(p, rng), spelled(q, rng)] for p, q in book]
            body[name] = [
                Number(written({"price": p, "quantity": q}).decode()) if objects else [p, q] for p, q in pairs
            ]
            there = [(p, q) for p, q in book if q]
            best = (max if side == "bid" else min)(there, key=lambda level: level[0], default=(None, None))
            truth |= {f"{name}_count": len(book), f"best_{side}_price": best[0], f"best_{side}_quantity": best[1]}
    return written(body), {
        name: micros(value) if isinstance(value, datetime) else value for name, value in truth.items()
    }


def row_of(table: Table, payload: bytes) -> Row:
    quick = DECODERS.get(table.data_type)
    row = quick(payload, 1 << 60) if quick else None
    return row if row is not None else decode(BUILT_IN[table.data_type], "", payload, 1 << 60)


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
def test_every_value_comes_back_as_it_was_sent(table: Table, make_place: Callable[..., Any]) -> None:
    place = make_place(table)
    sent = 0

    @settings(max_examples=6, deadline=None, suppress_health_check=[*HealthCheck], derandomize=True)
    @given(st.lists(messages(table), min_size=5, max_size=25))
    def store_and_read(batch: list[tuple[bytes, dict[str, Any]]]) -> None:
        nonlocal sent
        first = sent + 1
        sent += len(batch)
        rows = [row_of(table, payload) for payload, _ in batch]
        place.insert(block_of(table, rows, range(first, first + len(rows)), [STREAM] * len(rows)))
        found = place.query(
            select(table, place.store.table(table)).replace("ORDER BY", f"WHERE _seq >= {first} ORDER BY")
        )
        names = [column.name for column in table.inserted]
        for number, (got, (payload, truth)) in enumerate(zip(found, batch, strict=True), first):
            assert got[-2:] == (STREAM, str(number))
            assert dict(zip(names, comparable(table, got[:-2]), strict=True)) == truth, payload

    store_and_read()


# --- price times quantity -------------------------------------------------------------------------------------------------

PRODUCTS = [
    ("112345.67", "0.5"),  # 26.24 with ClickHouse's own multiplication
    ("0.0000000001", "10000000000000"),
    ("99999999999999999999.999999999999999999", "99999999999999999999.999999999999999999"),
    ("0.000000000000000001", "0.000000000000000001"),
    ("0.000000001", "0.000000001"),
    ("1", "0"),
    ("0.1", "0.2"),
    ("3.333333333333333333", "3.333333333333333333"),
]


def some_decimal(rng: Random) -> Decimal:
    return Decimal(rng.randrange(1, 10 ** rng.randrange(1, 39))).scaleb(-18, EXACT)


def test_notional_is_price_times_quantity_as_exact_as_its_column(make_place: Callable[..., Any]) -> None:
    rng = Random(5)
    pairs = [(Decimal(price), Decimal(quantity)) for price, quantity in PRODUCTS]
    pairs += [(some_decimal(rng), some_decimal(rng)) for _ in range(500)]
    place = make_place(TRADES)
    at = 1_758_700_551_000_000
    rows = [(at, "e", "m", "s", "1", f"{p:f}", f"{q:f}", "buy", None, at, "", None) for p, q in pairs]
    place.insert(block_of(TRADES, rows, range(len(rows)), [STREAM] * len(rows)))
    found = place.query(f"SELECT toString(notional) FROM {place.store.table(TRADES)} ORDER BY _seq")
    with localcontext(prec=200):
        exact = [(p * q).quantize(Decimal("1e-18"), ROUND_DOWN) for p, q in pairs]
    assert [Decimal(text) for (text,) in found] == exact
    assert Decimal(found[0][0]) == Decimal("56172.835")
