"""The quick way and the one rule agree: where `fast` gives a row, `decode` gives the same; what is refused, it leaves alone."""

from __future__ import annotations

import json
from itertools import islice
from typing import Any
from unittest import mock

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from marketprism_api.data_types import BUILT_IN
from marketprism_api.messages import MessageLimits
from marketprism_consumer.errors import MessageError
from marketprism_consumer.feed import messages
from marketprism_consumer.ingest import kernel
from marketprism_consumer.ingest.decode import ARRIVAL_SLACK, Row, decode
from marketprism_consumer.ingest.decode_fast import DECODERS, fast_decoder
from marketprism_consumer.ingest.levels import MAX_LEVELS, packed

ARRIVED = 1_758_700_600_000_000
TRADE: dict[str, Any] = {
    "symbol": "BTC-USDT", "price": "112345.67000000", "quantity": "0.00150000", "timestamp": "2025-09-24 07:55:51.123",
    "trade_time": "2025-09-24 07:55:51.123", "collected_at": "2025-09-24 07:55:51.310", "side": "sell",
    "trade_id": "5012345678", "exchange": "binance_spot", "market_type": "spot", "data_source": "marketprism",
    "data_type": "trade",
}  # fmt: skip
BOOK: dict[str, Any] = {
    "exchange": "okx_spot", "symbol": "ETH-USDT", "market_type": "spot", "data_type": "orderbook", "last_update_id": 7,
    "bids": [["4123.45", "1.25"], ["4123.44", "0"]], "asks": [["4123.46", "0.5"]], "depth_levels": 3,
    "timestamp": "2025-09-24 07:55:51.123", "collected_at": "2025-09-24 07:55:51.140", "update_type": "update",
    "standardized_at": "2025-09-24T07:55:51.140260+00:00", "data_source": "marketprism",
}  # fmt: skip
MESSAGES = {"trade": TRADE, "orderbook": BOOK}


def both(data_type: str, payload: bytes, arrived: int = ARRIVED) -> tuple[Row | None, Row | None]:
    """What fast gives (None: it leaves the message to decode), and what decode gives (None: refused)."""
    quick = as_bytes(DECODERS[data_type](payload, arrived))
    try:
        return quick, as_bytes(decode(BUILT_IN[data_type], f"{data_type}.x", payload, arrived))
    except MessageError:
        return quick, None


def without_kernel(data_type: str, payload: bytes, arrived: int) -> Row | None:
    with mock.patch.object(kernel, "library", None):
        return as_bytes(DECODERS[data_type](payload, arrived))


def as_bytes(row: Row | None) -> Row | None:
    """With the levels as a column has them."""
    return row and tuple(packed(value) if isinstance(value, list) else value for value in row)


def assert_agree(data_type: str, payload: bytes, arrived: int = ARRIVED) -> bool:
    """Whether fast gave the row."""
    quick, row = both(data_type, payload, arrived)
    assert quick is None or quick == row, payload[:1000]
    if data_type == "orderbook":
        assert without_kernel(data_type, payload, arrived) in (None, row), payload[:1000]
    return quick is not None


@pytest.mark.parametrize(
    ("seed", "options"),
    [
        (1, {"bad_ratio": 0.3, "book_levels": 5, "symbols": 5}),
        (2, {"bad_ratio": 0.0, "book_levels": 20}),
        (3, {"bad_ratio": 0.1, "book_levels": 2, "rate": 0.5}),
    ],
)
def test_they_agree_on_what_a_collector_publishes_and_most_of_it_is_quick(seed: int, options: dict[str, Any]) -> None:
    good = quick = 0
    for message in islice(messages(seed, types=["trade", "orderbook"], **options), 10_000):
        fast = assert_agree(message.data_type, message.payload, 1 << 60)
        good += message.truth is not None
        quick += fast
        assert not (fast and message.truth is None), message
    assert quick > 0.6 * good


@pytest.mark.parametrize("body", MESSAGES.values(), ids=MESSAGES)
def test_the_usual_message_is_decoded_quickly(body: dict[str, Any]) -> None:
    assert assert_agree(body["data_type"], json.dumps(body).encode())


# --- near misses --------------------------------------------------------------------------------------------------------

NUMBERS = [
    *("1.", ".5", ".", "", "0", "00", "0.0", "00.5", "007", "-0", "-1", "+1", "1e3", "6.11e-05", "1e400", "1_0", "1,0"),
    *(" 1", "1 ", "1\n", "\t1", "1\x00", "１２", "²", "NaN", "nan", "inf", "Infinity", "0x1", "1.2.3", "1..2", "1.,2"),
    *("9" * 19, "9" * 20, "9" * 21, "9" * 40, "1." + "0" * 17 + "1", "1." + "0" * 18 + "1", "0." + "0" * 17 + "1"),
    *("9007199254740993.1", "9007199254740992.9", "123456789012345.6", "1.0000000000000001", "0." + "0" * 30 + "1"),
    *(1, 1.5, 0, -1, 6.11e-05, True, None, [], ["1"], {}, {"price": "1"}),
]
TEXTS = [
    "",
    "A",
    "A" * 128,
    "A" * 129,
    "A" * 256,
    "A" * 257,
    "\x00",
    "é",
    "\U0001f600",
    "\u2028",
    '"',
    "\\",
    5,
    None,
    True,
    [],
]
TIMES = [
    *("2025-09-24 07:55:51.123", "2025-09-24T07:55:51.123456+00:00", "2025-09-24T07:55:51.123456+00:00Z"),
    *(
        "2025-09-24T15:55:51.123456+08:00",
        "2025-09-24 07:55:51.12Z",
        "2025-09-24 07:55:51,123",
        "2025-09-24 07:55:60.123",
    ),
    *("2025-02-30 07:55:51.123", "2025-09-24 24:00:00.000", "1969-12-31 23:59:59.000", "2299-01-01 00:00:00.000"),
    *("2025-09-24 07:55:51.1２3", "2025-09-24", "", "now", "1758700551", "1758700551123", "1758700551123456789", "0"),
    *(1758700551, 1758700551123, 1758700551123456, 1758700551123456789, 1230767999999, 1230768000000, 4102444799999),
    *(4102444800000, 99999999999, 100000000000, 0, -1, 2**64, 10**30, 1758700551123.0, 1758700551123.5, True, None, []),
]
WHOLE = [0, 1, -1, 2**32 - 1, 2**32, 2**53 + 1, 2**63, 2**64 - 1, 2**64, 10**30, 1.0, 1.5, "7", "", "x", True, None, []]
SIDES = ["buy", "sell", "unknown", "BUY", "Sell", "", "long", "buy ", 1, None, True]
BOOK_TYPES = ["snapshot", "update", "delta", "UPDATE", "depthUpdate", "delete", "snapshot ", "u" * 257, 0, False]
FLAGS = [True, False, None, 0, 1, "true", "", []]
LEVELS = [
    [], [[]], [["1", "2"]], [["1"]], [["1", "2", "3"]], [{"price": "1", "quantity": "2"}], [{"price": "1"}], [{}],
    [["1", "2"], {"price": "1", "quantity": "2"}], [{"price": "1", "quantity": "2"}, ["1", "2"]], [None], ["12"], [12],
    [{"price": "1", "quantity": "2", "orders": 3}], [{"quantity": "2", "price": "1"}], {}, None, "[]", 1,
    [["1", "1"], ["3", "2"], ["2", "3"]], [["3", "0"], ["2", "1"]], [["3", "0"]], [["5", "1"], ["5", "2"]],
    [["1.0000000000000001", "1"], ["1.0000000000000002", "1"]], [["9007199254740993", "1"], ["9007199254740994", "0"]],
    [["1", "1"]] * MAX_LEVELS, [["1", "1"]] * (MAX_LEVELS + 1), [["10", "1"], ["9", "1"]], [["9", "1"], ["10", "1"]],
    [["1.", "2"]], [["1", ".5"]], [[".1", "2"]], [["1", "2."]], [["1", "."]], [["1,2", "3"]], [["1", "2"], ["", "3"]],
]  # fmt: skip

NEAR: list[tuple[str, str, list[Any]]] = [
    *(("trade", name, NUMBERS) for name in ("price", "quantity")),
    *(("trade", name, TEXTS) for name in ("trade_id", "symbol", "exchange", "market_type", "data_source", "data_type")),
    *(("trade", name, TIMES) for name in ("timestamp", "ts_ms", "trade_time", "trade_ts_ms", "collected_at", "collected_ts_ms")),
    ("trade", "side", SIDES),
    ("trade", "is_maker", FLAGS),
    *(("orderbook", name, TEXTS) for name in ("symbol", "exchange", "market_type", "data_source", "update_type", "data_type")),
    *(("orderbook", name, TIMES) for name in ("timestamp", "ts_ms", "standardized_at", "collected_at", "collected_ts_ms")),
    *(("orderbook", name, WHOLE) for name in ("last_update_id", "first_update_id", "prev_update_id", "depth_levels")),
    ("orderbook", "update_type", BOOK_TYPES),
    *(("orderbook", name, LEVELS) for name in ("bids", "asks")),
]  # fmt: skip


@pytest.mark.parametrize(("data_type", "name", "values"), NEAR, ids=[f"{case[0]}.{case[1]}" for case in NEAR])
def test_they_agree_on_near_misses(data_type: str, name: str, values: list[Any]) -> None:
    body = MESSAGES[data_type]
    assert_agree(data_type, json.dumps({key: value for key, value in body.items() if key != name}).encode())
    for value in values:
        for others in ({}, {"timestamp": None, "trade_time": None, "collected_at": None}, {"ts_ms": 1758700551999}):
            for ascii_only in (True, False):
                changed = {**body, **others, name: value}
                assert_agree(data_type, json.dumps(changed, ensure_ascii=ascii_only).encode())


@pytest.mark.parametrize("value", NUMBERS, ids=lambda value: ascii(value)[:30])
def test_they_agree_on_near_misses_in_a_level(value: Any) -> None:
    for level in ([value, "1"], ["1", value], {"price": value, "quantity": "1"}, {"price": "1", "quantity": value}):
        for side in ("bids", "asks"):
            shape = (lambda p, q: {"price": p, "quantity": q}) if isinstance(level, dict) else (lambda p, q: [p, q])
            levels = [shape("2", "1"), level, shape("0.5", "3")]
            for order in (levels, levels[::-1], levels[1:]):
                body = {**BOOK, "bids": [shape("2", "1")], "asks": [shape("3", "1")], side: order}
                assert_agree("orderbook", json.dumps(body).encode())


WRITTEN = [
    ("blanks and line ends", lambda text: text.replace(b",", b" ,\r\n\t")),
    ("escaped name", lambda text: text.replace(b'"symbol"', b'"symb\\u006fl"')),
    ("escaped value", lambda text: text.replace(b"USDT", b"\\u0055SDT")),
    ("a name twice, the last right", lambda text: text.replace(b"{", b'{"symbol":5,', 1)),
    ("a name twice, the last wrong", lambda text: text[:-1] + b',"symbol":5}'),
    ("unknown fields", lambda text: text.replace(b"{", b'{"a":[1,{"b":null}],"c":1e400,', 1)),
    ("broken unknown field", lambda text: text.replace(b"{", b'{"a":[1,},', 1)),
    ("deep unknown field", lambda text: text.replace(b"{", b'{"a":' + b"[" * 5000 + b"]" * 5000 + b",", 1)),
    ("bytes that are no UTF-8 in an unknown name", lambda text: text.replace(b"{", b'{"\xff":1,', 1)),
    ("bytes that are no UTF-8 in an unknown value", lambda text: text.replace(b"{", b'{"a":"\xff",', 1)),
    ("bytes that are no UTF-8 in a known value", lambda text: text.replace(b"USDT", b"\xc3\x28")),
    ("lone surrogate in an unknown name", lambda text: text.replace(b"{", b'{"\\ud800":1,', 1)),
    ("lone surrogate in an unknown value", lambda text: text.replace(b"{", b'{"a":"\\ud800",', 1)),
    ("surrogate pair", lambda text: text.replace(b"USDT", b"\\ud83d\\ude00")),
    ("control character", lambda text: text.replace(b"USDT", b"\x01")),
    ("bare NaN", lambda text: text.replace(b"{", b'{"a":NaN,', 1)),
    ("leading zero", lambda text: text.replace(b"{", b'{"a":01,', 1)),
    ("comment", lambda text: b"/* */" + text),
    ("something after it", lambda text: text + b"x"),
    ("blanks after it", lambda text: text + b" \n"),
    ("twice", lambda text: text + text),
    ("byte order mark", lambda text: b"\xef\xbb\xbf" + text),
    ("in an array", lambda text: b"[" + text + b"]"),
    ("upper-case names", lambda text: text.replace(b'"symbol"', b'"Symbol"')),
    ("empty", lambda text: b""),
]


@pytest.mark.parametrize("body", MESSAGES.values(), ids=MESSAGES)
@pytest.mark.parametrize("write", [case[1] for case in WRITTEN], ids=[case[0] for case in WRITTEN])
def test_they_agree_on_ways_of_writing_json(body: dict[str, Any], write: Any) -> None:
    assert_agree(body["data_type"], write(msgspec.json.encode(body)))


@pytest.mark.parametrize("compiled", [True, False], ids=["kernel", "python"])
def test_both_refuse_a_book_with_more_levels_than_the_pipeline_takes(compiled: bool) -> None:
    payload = json.dumps(BOOK).encode()
    with mock.patch.object(kernel, "library", kernel.library if compiled else None):
        for most, taken in ((1, False), (2, True), (MAX_LEVELS + 1, True)):
            fast = fast_decoder(BUILT_IN["orderbook"], MessageLimits(max_levels=most))
            assert fast is not None
            assert (fast(payload, ARRIVED) is not None) is taken


def test_they_agree_on_prices_around_zero() -> None:
    for market_type in ("spot", "perpetual", "options", "futures", "spread"):
        for price in ("-1", "0", "-0", "0.0", "1"):
            assert_agree("trade", json.dumps({**TRADE, "market_type": market_type, "price": price}).encode())
            book = {**BOOK, "market_type": market_type, "bids": [[price, "1"]], "asks": [["2", "1"]]}
            assert_agree("orderbook", json.dumps(book).encode())


def test_they_agree_on_what_is_dated_after_its_arrival() -> None:
    event = 1_758_700_551_123_000
    for data_type, body in MESSAGES.items():
        payload = json.dumps(body).encode()
        assert both(data_type, payload, event - ARRIVAL_SLACK - 1) == (None, None)
        assert both(data_type, payload, event - ARRIVAL_SLACK)[0] is not None


# --- changed at random --------------------------------------------------------------------------------------------------

SOURCE = list(islice(messages(5, types=["trade", "orderbook"], bad_ratio=0.05, book_levels=3), 400))


@given(st.sampled_from(SOURCE), st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 255)), max_size=4), st.data())
def test_they_agree_on_changed_bytes(message: Any, changes: list[tuple[int, int]], data: st.DataObject) -> None:
    payload = bytearray(message.payload)
    for at, byte in changes:
        if payload:
            payload[at % len(payload)] = byte
    if data.draw(st.booleans()) and len(payload) > 2:
        start = data.draw(st.integers(0, len(payload) - 1))
        del payload[start : start + data.draw(st.integers(1, 5))]
    assert_agree(message.data_type, bytes(payload), 1 << 60)


@given(st.sampled_from(list(MESSAGES)), st.data())
def test_they_agree_on_changed_fields(data_type: str, data: st.DataObject) -> None:
    body = dict(MESSAGES[data_type])
    anything = st.sampled_from([*NUMBERS, *TEXTS, *TIMES, *WHOLE, *SIDES, *FLAGS]) | st.text(max_size=5) | st.integers()
    names = [name for kind, name, _ in NEAR if kind == data_type]
    for name in data.draw(st.lists(st.sampled_from(names), min_size=1, max_size=3)):
        body[name] = data.draw(anything)
    assert_agree(data_type, json.dumps(body).encode())


plain = st.decimals(0, 10**12, places=8).map(lambda value: f"{value:f}") | st.from_regex(
    r"[0-9]{0,3}\.?[0-9]{0,3}", fullmatch=True
)


@given(st.lists(st.tuples(plain, plain), max_size=5), st.lists(st.tuples(plain, plain), max_size=5), st.booleans())
def test_they_agree_on_books(bids: list[tuple[str, str]], asks: list[tuple[str, str]], objects: bool) -> None:
    def levels(side: list[tuple[str, str]]) -> list[Any]:
        return [{"price": p, "quantity": q} if objects else [p, q] for p, q in side]

    assert_agree("orderbook", json.dumps({**BOOK, "bids": levels(bids), "asks": levels(asks)}).encode())
