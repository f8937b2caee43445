# ruff: noqa: E501 - a form is one line
"""Messages as venues really send them, in the collector's fields: the exact row, or the letter's reason.

Each form goes the quick way and the one rule; where the quick way gives a row, it is the same.
"""

from __future__ import annotations

import json
from typing import Any

import pytest

from marketprism_api import reasons
from marketprism_api.data_types import BUILT_IN
from marketprism_api.reasons import Reason
from marketprism_consumer.errors import MessageError
from marketprism_consumer.ingest.decode import decode, values_by_column
from marketprism_consumer.ingest.decode_fast import DECODERS
from marketprism_consumer.ingest.levels import packed
from marketprism_consumer.schema.tables import BY_DATA_TYPE

AT = 1_758_700_551_123_000  # 2025-09-24 07:55:51.123 UTC [µs]
ARRIVED = AT + 300_000
MS = AT // 1000
Form = dict[str, Any]
Outcome = dict[str, Any] | Reason

TRADE: Form = {
    "exchange": "binance", "market_type": "spot", "symbol": "BTC-USDT", "data_type": "trade", "trade_id": "1",
    "price": "112345.67", "quantity": "0.0015", "side": "buy", "ts_ms": MS + 90, "trade_ts_ms": MS,
}  # fmt: skip
TRADE_ROW: Form = {
    "timestamp": AT, "exchange": "binance", "market_type": "spot", "symbol": "BTC-USDT", "trade_id": "1", "price": "112345.67",
    "quantity": "0.0015", "side": "buy", "is_maker": None, "trade_time": AT, "data_source": "", "collected_at": None,
}  # fmt: skip


def older(time: Any) -> Form:
    return {"ts_ms": None, "trade_ts_ms": None, "timestamp": time, "trade_time": time}


TRADES: list[tuple[str, Form, Outcome]] = [
    # ids
    ("Binance: a number as text", {"trade_id": "5012345678"}, {"trade_id": "5012345678"}),
    ("Binance: a number", {"trade_id": 5012345678}, {"trade_id": "5012345678"}),
    ("Bybit: a UUID", {"trade_id": "20f43950-d8dd-5b31-9112-a178eb6023af"}, {"trade_id": "20f43950-d8dd-5b31-9112-a178eb6023af"}),
    ("Deribit: with a prefix", {"trade_id": "ETH-210838695"}, {"trade_id": "ETH-210838695"}),
    ("Hyperliquid: beyond 2^53", {"trade_id": 118906512037719}, {"trade_id": "118906512037719"}),
    ("beyond 2^64", {"trade_id": 2**70}, {"trade_id": str(2**70)}),
    ("a hash", {"trade_id": "0x" + "ab" * 32}, {"trade_id": "0x" + "ab" * 32}),
    ("no id", {"trade_id": None}, reasons.MISSING_FIELD),
    ("an empty id", {"trade_id": ""}, reasons.BAD_TEXT),
    # sides
    ("Bybit: Buy", {"side": "Buy"}, {"side": "buy"}),
    ("Gate: SELL", {"side": "SELL"}, {"side": "sell"}),
    ("a block trade without a side", {"side": "unknown"}, {"side": "unknown"}),
    ("Kraken: b", {"side": "b"}, reasons.BAD_SIDE),
    ("Upbit: BID", {"side": "BID"}, reasons.BAD_SIDE),
    ("Bitfinex: a signed quantity", {"quantity": "-0.0015"}, reasons.NEGATIVE_OR_ZERO),
    ("no side", {"side": None}, reasons.MISSING_FIELD),
    ("the buyer is the maker", {"is_maker": True}, {"is_maker": True}),
    ("is_maker as text", {"is_maker": "true"}, reasons.WRONG_TYPE),
    # values
    ("numbers", {"price": 112345.67, "quantity": 1}, {"price": "112345.67", "quantity": "1"}),
    ("PEPE: a small number", {"price": 6.11e-06}, {"price": "0.00000611"}),
    ("SHIB: a small text", {"price": "0.00001234", "quantity": "123456789012"}, {"price": "0.00001234", "quantity": "123456789012"}),
    ("zeros at the end", {"price": "112345.67000000"}, {"price": "112345.67000000"}),
    ("18 decimals", {"quantity": "0.000000000000000001"}, {"quantity": "0.000000000000000001"}),
    ("19 decimals", {"quantity": "0.0000000000000000001"}, reasons.DECIMAL_OUT_OF_RANGE),
    ("no digit before the point", {"price": ".5"}, {"price": "0.5"}),
    ("a comma", {"price": "112,345.67"}, reasons.BAD_DECIMAL),
    ("a quantity of zero", {"quantity": "0"}, {"quantity": "0"}),
    ("a price of zero, spot", {"price": "0"}, reasons.NEGATIVE_OR_ZERO),
    ("a price below zero, perpetual", {"price": "-1", "market_type": "perpetual"}, reasons.NEGATIVE_OR_ZERO),
    ("a price below zero, options", {"price": "-0.0005", "market_type": "options"}, reasons.NEGATIVE_OR_ZERO),
    ("WTI, April 2020", {"price": "-37.63", "market_type": "futures"}, {"price": "-37.63", "market_type": "futures"}),
    ("OKX: a spread at zero", {"price": "0", "market_type": "spread"}, {"price": "0", "market_type": "spread"}),
    ("Deribit: a combo below zero", {"price": "-0.0015", "market_type": "combo"}, {"price": "-0.0015", "market_type": "combo"}),
    ("power", {"price": -500, "market_type": "power"}, {"price": "-500", "market_type": "power"}),
    # times
    ("ms", {"trade_ts_ms": MS}, {}),
    ("Coinbase: RFC 3339, µs", older("2025-09-24T07:55:51.123456Z"), {"timestamp": AT + 456, "trade_time": AT + 456}),
    ("Kraken: RFC 3339, ns", older("2025-09-24T07:55:51.123456789Z"), {"timestamp": AT + 456, "trade_time": AT + 456}),
    ("+00:00Z", older("2025-09-24T07:55:51.123+00:00Z"), {}),
    ("Upbit: +09:00", older("2025-09-24T16:55:51.123+09:00"), {}),
    ("without an offset", older("2025-09-24 07:55:51.123"), {}),
    ("Gate: seconds with a fraction", older(1758700551.123), {}),
    ("ns as text", older("1758700551123456789"), {"timestamp": AT + 456, "trade_time": AT + 456}),
    ("0", older(0), reasons.TIME_OUT_OF_RANGE),
    ("empty", older(""), reasons.BAD_TIME),
    ("two days ahead", {"trade_ts_ms": MS + 2 * 86_400_000}, reasons.TIME_OUT_OF_RANGE),
    # names
    ("1000PEPE", {"symbol": "1000PEPE-USDT"}, {"symbol": "1000PEPE-USDT"}),
    ("Binance: a symbol that is not ASCII", {"symbol": "币安人生-USDT"}, {"symbol": "币安人生-USDT"}),
    ("a quote", {"symbol": "O'BRIEN-USDT"}, {"symbol": "O'BRIEN-USDT"}),
    ("no symbol", {"symbol": ""}, reasons.BAD_TEXT),
    ("a subscription's answer", {"price": None, "quantity": None, "side": None, "result": "ok"}, reasons.MISSING_FIELD),
]  # fmt: skip

BOOK: Form = {
    "exchange": "okx", "market_type": "perpetual", "symbol": "BTC-USDT", "data_type": "orderbook", "ts_ms": MS,
    "last_update_id": 900, "bids": [["100.5", "2"], ["100", "0"]], "asks": [["101", "3"]],
}  # fmt: skip
BOOK_ROW: Form = {
    "timestamp": AT, "exchange": "okx", "market_type": "perpetual", "symbol": "BTC-USDT", "last_update_id": 900,
    "first_update_id": None, "prev_update_id": None, "update_type": None, "depth_levels": None, "bids_count": 2, "asks_count": 1,
    "best_bid_price": "100.5", "best_bid_quantity": "2", "best_ask_price": "101", "best_ask_quantity": "3",
    "bid_prices": ["100.5", "100"], "bid_quantities": ["2", "0"], "ask_prices": ["101"], "ask_quantities": ["3"],
    "standardized_at": None, "data_source": "", "collected_at": None,
}  # fmt: skip

BOOKS: list[tuple[str, Form, Outcome]] = [
    ("Binance: REST", {"update_type": "snapshot"}, {"update_type": "snapshot"}),
    ("Binance: depthUpdate, futures", {"update_type": "depthUpdate", "first_update_id": 890, "prev_update_id": 889}, {"update_type": "update", "first_update_id": 890, "prev_update_id": 889}),
    ("OKX: snapshot", {"update_type": "snapshot", "prev_update_id": -1}, {"update_type": "snapshot"}),
    ("OKX: update", {"update_type": "update", "prev_update_id": 899}, {"update_type": "update", "prev_update_id": 899}),
    ("OKX: nothing new", {"update_type": "update", "prev_update_id": 900, "bids": [], "asks": []}, {"update_type": "update", "prev_update_id": 900, "bids_count": 0, "asks_count": 0, "best_bid_price": None, "best_bid_quantity": None, "best_ask_price": None, "best_ask_quantity": None, "bid_prices": [], "bid_quantities": [], "ask_prices": [], "ask_quantities": []}),
    ("Bybit: snapshot", {"update_type": "snapshot", "last_update_id": 1}, {"update_type": "snapshot", "last_update_id": 1}),
    ("Bybit: delta", {"update_type": "delta"}, {"update_type": "update"}),
    ("Deribit: snapshot", {"update_type": "snapshot"}, {"update_type": "snapshot"}),
    ("Deribit: change", {"update_type": "change", "prev_update_id": 899}, {"update_type": "update", "prev_update_id": 899}),
    ("Coinbase: snapshot", {"update_type": "snapshot", "last_update_id": None}, {"update_type": "snapshot", "last_update_id": None}),
    ("Coinbase: l2update", {"update_type": "l2update", "last_update_id": None}, {"update_type": "update", "last_update_id": None}),
    ("Kraken: UPDATE", {"update_type": "UPDATE"}, {"update_type": "update"}),
    ("BitMEX: partial", {"update_type": "partial"}, {"update_type": "snapshot"}),
    ("BitMEX: delete", {"update_type": "delete"}, reasons.BAD_BOOK_TYPE),
    ("Bitget: snapshot", {"update_type": "snapshot", "last_update_id": "900"}, {"update_type": "snapshot"}),
    ("Gate: full", {"update_type": "full"}, {"update_type": "snapshot"}),
    ("KuCoin: incremental", {"update_type": "incremental", "first_update_id": 899}, {"update_type": "update", "first_update_id": 899}),
    ("Hyperliquid: says nothing", {}, {}),
    ("Hyperliquid: an empty word", {"update_type": ""}, {}),
    ("Upbit: REALTIME", {"update_type": "REALTIME"}, reasons.BAD_BOOK_TYPE),
    ("a word with a blank", {"update_type": "update "}, reasons.BAD_BOOK_TYPE),
    ("levels as objects", {"bids": [{"price": "100.5", "quantity": "2"}, {"price": "100", "quantity": "0"}], "asks": [{"price": "101", "quantity": "3"}]}, {}),
    ("OKX: levels of four", {"bids": [["100.5", "2", "0", "4"]]}, reasons.BAD_LEVELS),
    ("levels as numbers", {"bids": [[100.5, 2], [100, 0]]}, {}),
    ("a spread around zero", {"market_type": "spread", "bids": [["-0.5", "1"]], "asks": [["0", "3"]]}, {"market_type": "spread", "bids_count": 1, "best_bid_price": "-0.5", "best_bid_quantity": "1", "best_ask_price": "0", "bid_prices": ["-0.5"], "bid_quantities": ["1"], "ask_prices": ["0"]}),
    ("a perpetual below zero", {"bids": [["-0.5", "1"]]}, reasons.NEGATIVE_OR_ZERO),
    ("an id of -1", {"last_update_id": -1}, reasons.BAD_INTEGER),
    ("one side only", {"update_type": "delta", "asks": []}, {"update_type": "update", "asks_count": 0, "best_ask_price": None, "best_ask_quantity": None, "ask_prices": [], "ask_quantities": []}),
    ("a side is missing", {"asks": None}, reasons.MISSING_FIELD),
]  # fmt: skip

FORMS = [
    *((f"trade, {name}", {**TRADE, **form}, TRADE_ROW, outcome) for name, form, outcome in TRADES),
    *((f"book, {name}", {**BOOK, **form}, BOOK_ROW, outcome) for name, form, outcome in BOOKS),
]


@pytest.mark.parametrize(("message", "usual", "outcome"), [each[1:] for each in FORMS], ids=[each[0] for each in FORMS])
def test_a_form_is_exactly_its_row_or_a_letter_with_its_reason(message: Form, usual: Form, outcome: Outcome) -> None:
    data_type = message["data_type"]
    subject = f"{data_type}.{message['exchange']}.{message['market_type']}.x"
    payload = json.dumps(message).encode()
    quick = DECODERS[data_type](payload, ARRIVED)
    if isinstance(outcome, Reason):
        with pytest.raises(MessageError) as refused:
            decode(BUILT_IN[data_type], subject, payload, ARRIVED)
        assert (refused.value.reason, quick) == (outcome, None)
        return
    row = decode(BUILT_IN[data_type], subject, payload, ARRIVED)
    assert values_by_column(BY_DATA_TYPE[data_type], row) == {**usual, **outcome}
    assert quick is None or as_bytes(quick) == as_bytes(row)


def as_bytes(row: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(packed(value) if isinstance(value, list) else value for value in row)
