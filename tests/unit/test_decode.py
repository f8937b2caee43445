# ruff: noqa: E501 - a message is one line, and so is a case
"""From a message's bytes to its row, or to the reason why it can't be one. An absent value is never a zero, nor now."""

from __future__ import annotations

import gzip
import json
from dataclasses import replace
from decimal import Decimal
from itertools import islice
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from marketprism_api import reasons
from marketprism_api.data_types import BUILT_IN
from marketprism_api.messages import MessageLimits
from marketprism_api.reasons import Reason
from marketprism_consumer.errors import MessageError
from marketprism_consumer.feed import messages
from marketprism_consumer.ingest.decode import ARRIVAL_SLACK, decode, values_by_column
from marketprism_consumer.ingest.lane import rules_version
from marketprism_consumer.ingest.levels import MAX_LEVELS
from marketprism_consumer.schema.tables import BY_DATA_TYPE, TABLES

SECOND = 1_758_700_551_000_000  # 2025-09-24 07:55:51 UTC [µs]
MINUTE = 1_758_700_500_000_000  # 2025-09-24 07:55:00
ARRIVED = SECOND + 5_000_000
BAD_JSON, MISSING, WRONG_TYPE = reasons.BAD_JSON, reasons.MISSING_FIELD, reasons.WRONG_TYPE


def columns(data_type: str, payload: bytes, arrived: int = ARRIVED) -> dict[str, Any]:
    return values_by_column(BY_DATA_TYPE[data_type], decode(BUILT_IN[data_type], f"{data_type}.x", payload, arrived))


def refusal(data_type: str, payload: bytes, arrived: int = ARRIVED) -> MessageError:
    with pytest.raises(MessageError) as caught:
        decode(BUILT_IN[data_type], f"{data_type}.x", payload, arrived)
    return caught.value


# --- the samples of the wire --------------------------------------------------------------------------------------------

HEAD = {"timestamp": SECOND + 123_000, "market_type": "perpetual", "symbol": "BTC-USDT", "data_source": ""}
SAMPLES: list[tuple[str, str, dict[str, Any]]] = [
    (
        "trade, older",
        '{"symbol":"BTC-USDT","price":"112345.67000000","quantity":"0.00150000","timestamp":"2025-09-24 07:55:51.123","trade_time":"2025-09-24 07:55:51.123","collected_at":"2025-09-24 07:55:51.310","side":"sell","trade_id":"5012345678","exchange":"binance_spot","market_type":"spot","data_source":"marketprism","normalized_symbol":"BTC-USDT","data_type":"trade","publisher":"unified-collector"}',
        {
            **HEAD, "exchange": "binance_spot", "market_type": "spot", "data_source": "marketprism",
            "trade_id": "5012345678", "price": "112345.67000000", "quantity": "0.00150000", "side": "sell",
            "is_maker": None, "trade_time": SECOND + 123_000, "collected_at": SECOND + 310_000,
        },
    ),
    (
        "trade, newer",
        '{"symbol":"BTC-USDT","price":"112345.6","quantity":"3","side":"buy","trade_id":"1802334455","exchange":"okx","market_type":"perpetual","data_source":"marketprism","normalized_symbol":"BTC-USDT","data_type":"trade","ts_ms":1758700551402,"trade_ts_ms":1758700551123,"publisher":"unified-collector","collected_ts_ms":1758700551402}',
        {
            **HEAD, "exchange": "okx", "data_source": "marketprism", "trade_id": "1802334455", "price": "112345.6",
            "quantity": "3", "side": "buy", "is_maker": None, "trade_time": SECOND + 123_000,
            "collected_at": SECOND + 402_000,
        },
    ),
    (
        "orderbook, levels as objects",
        '{"exchange":"binance_derivatives","market_type":"perpetual","symbol":"BTC-USDT","last_update_id":8812345678901,"bids":[{"price":"112345.60","quantity":"1.25000000"},{"price":"112345.50","quantity":"0.008"}],"asks":[{"price":"112345.70","quantity":"0.5"}],"timestamp":"2025-09-24 07:55:51.123","update_type":"update","depth_levels":3,"data_source":"marketprism","collected_at":"2025-09-24 07:55:51.130","normalized_symbol":"BTC-USDT","standardized_at":"2025-09-24T07:55:51.130128+00:00","standardization_version":"2.0","data_type":"orderbook","publisher":"unified-collector"}',
        {
            **HEAD, "exchange": "binance_derivatives", "data_source": "marketprism", "last_update_id": 8812345678901,
            "first_update_id": None, "prev_update_id": None, "update_type": "update", "depth_levels": 3,
            "bids_count": 2, "asks_count": 1, "best_bid_price": "112345.60", "best_bid_quantity": "1.25000000",
            "best_ask_price": "112345.70", "best_ask_quantity": "0.5",
            "bid_prices": ["112345.60", "112345.50"], "bid_quantities": ["1.25000000", "0.008"],
            "ask_prices": ["112345.70"], "ask_quantities": ["0.5"],
            "standardized_at": SECOND + 130_128, "collected_at": SECOND + 130_000,
        },
    ),
    (
        "orderbook, levels as pairs, one taken away",
        '{"exchange":"okx_spot","symbol":"ETH-USDT","bids":[["4123.45","1.25"],["4123.44","0"]],"asks":[["4123.46","0.5"]],"timestamp":"2025-09-24 07:55:51.123","collected_at":"2025-09-24 07:55:51.140","last_update_id":null,"data_source":"marketprism","normalized_symbol":"ETH-USDT","standardized_at":"2025-09-24T07:55:51.140260+00:00","standardization_version":"2.0","data_type":"orderbook","market_type":"spot","publisher":"unified-collector"}',
        {
            **HEAD, "exchange": "okx_spot", "market_type": "spot", "symbol": "ETH-USDT", "data_source": "marketprism",
            "last_update_id": None, "first_update_id": None, "prev_update_id": None, "update_type": None,
            "depth_levels": None, "bids_count": 2, "asks_count": 1, "best_bid_price": "4123.45",
            "best_bid_quantity": "1.25", "best_ask_price": "4123.46", "best_ask_quantity": "0.5",
            "bid_prices": ["4123.45", "4123.44"], "bid_quantities": ["1.25", "0"], "ask_prices": ["4123.46"],
            "ask_quantities": ["0.5"], "standardized_at": SECOND + 140_260, "collected_at": SECOND + 140_000,
        },
    ),
    (
        "funding_rate",
        '{"exchange":"binance_derivatives","market_type":"perpetual","symbol":"BTC-USDT","instrument_id":"BTCUSDT","current_funding_rate":"-0.00003750","estimated_funding_rate":"0.00010000","next_funding_time":"2025-09-24 16:00:00.000","funding_interval":"8h","mark_price":"112340.10","index_price":"112338.02","premium_index":"2.08","timestamp":"2025-09-24 07:55:51.123","collected_at":"2025-09-24 07:55:51.455","data_type":"funding_rate","publisher":"unified-collector"}',
        {
            **HEAD, "exchange": "binance_derivatives", "funding_rate": "-0.00003750",
            "estimated_funding_rate": "0.00010000", "next_funding_time": 1_758_729_600_000_000,
            "funding_interval": "8h", "mark_price": "112340.10", "index_price": "112338.02", "premium_index": "2.08",
            "instrument_id": "BTCUSDT", "collected_at": SECOND + 455_000,
        },
    ),
    (
        "open_interest",
        '{"exchange":"okx_derivatives","market_type":"perpetual","symbol":"BTC-USDT","instrument_id":"BTC-USDT-SWAP","open_interest_value":"2841234.5","open_interest_usd":"28412.345","open_interest_unit":"contracts","mark_price":null,"index_price":null,"change_24h":null,"change_24h_percent":null,"timestamp":"2025-09-24 07:55:51.123","collected_at":"2025-09-24 07:55:52.000","data_type":"open_interest","publisher":"unified-collector"}',
        {
            **HEAD, "exchange": "okx_derivatives", "open_interest_value": "2841234.5", "open_interest_usd": "28412.345",
            "open_interest_unit": "contracts", "mark_price": None, "index_price": None, "change_24h": None,
            "change_24h_percent": None, "instrument_id": "BTC-USDT-SWAP", "collected_at": SECOND + 1_000_000,
        },
    ),
    (
        "liquidation",
        '{"exchange":"binance_derivatives","market_type":"perpetual","symbol":"BTC-USDT","instrument_id":"BTCUSDT","liquidation_id":"binance_1758700551120_BTCUSDT_sell","side":"sell","status":"filled","price":"112010.5","quantity":"0.014","filled_quantity":"0.014","notional_value":"1568.1470","liquidation_time":"2025-09-24 07:55:51.120000+00:00","timestamp":"2025-09-24 07:55:51.120","collected_at":"2025-09-24 07:55:51.475","data_type":"liquidation","aggregation_mode":"all-symbol","average_price":"112010.5","bankruptcy_price":"112010.5","publisher":"unified-collector"}',
        {
            **HEAD, "timestamp": SECOND + 120_000, "exchange": "binance_derivatives", "side": "sell",
            "liquidation_id": "binance_1758700551120_BTCUSDT_sell", "status": "filled", "price": "112010.5",
            "quantity": "0.014", "filled_quantity": "0.014", "notional_value": "1568.1470",
            "average_price": "112010.5", "bankruptcy_price": "112010.5", "margin_ratio": None,
            "liquidation_time": SECOND + 120_000, "aggregation_mode": "all-symbol", "instrument_id": "BTCUSDT",
            "collected_at": SECOND + 475_000,
        },
    ),
    (
        "lsr_top_position, 28 digits",
        '{"exchange":"okx_derivatives","market_type":"perpetual","symbol":"BTC-USDT-SWAP","instrument_id":"BTC-USDT-SWAP","timestamp":"2025-09-24 07:55:00.000","collected_at":"2025-09-24 07:57:16.483","long_short_ratio":"1.1739","period":"5m","data_source":"api","data_type":"lsr_top_position","long_position_ratio":"0.5399972399834399006394038364","short_position_ratio":"0.4600027600165600993605961636","publisher":"unified-collector"}',
        {
            **HEAD, "timestamp": MINUTE, "exchange": "okx_derivatives", "symbol": "BTC-USDT-SWAP", "data_source": "api",
            "long_short_ratio": "1.1739", "long_position_ratio": "0.5399972399834399006394038364",
            "short_position_ratio": "0.4600027600165600993605961636", "period": "5m",
            "instrument_id": "BTC-USDT-SWAP", "collected_at": MINUTE + 136_483_000,
        },
    ),
    (
        "lsr_all_account",
        '{"exchange":"binance_derivatives","market_type":"perpetual","symbol":"BTC-USDT","instrument_id":"BTCUSDT","timestamp":"2025-09-24 07:55:00.000","collected_at":"2025-09-24 07:57:45.222","long_short_ratio":"1.4342","period":"5m","data_source":"api","data_type":"lsr_all_account","long_account_ratio":"0.5891","short_account_ratio":"0.4108","publisher":"unified-collector"}',
        {
            **HEAD, "timestamp": MINUTE, "exchange": "binance_derivatives", "data_source": "api",
            "long_short_ratio": "1.4342", "long_account_ratio": "0.5891", "short_account_ratio": "0.4108",
            "period": "5m", "instrument_id": "BTCUSDT", "collected_at": MINUTE + 165_222_000,
        },
    ),
    (
        "volatility_index",
        '{"exchange":"deribit_derivatives","symbol":"BTC","currency":"BTC","vol_index":"31.87","volatility_index":"31.87","timestamp":"2025-09-24 07:55:00.000","collected_at":"2025-09-24 07:55:58.495","market_type":"options","data_source":"marketprism","data_type":"volatility_index","publisher":"unified-collector"}',
        {
            **HEAD, "timestamp": MINUTE, "exchange": "deribit_derivatives", "market_type": "options", "symbol": "BTC",
            "data_source": "marketprism", "currency": "BTC", "volatility_index": "31.87",
            "collected_at": MINUTE + 58_495_000,
        },
    ),
    (
        "volatility_index, both null",
        '{"exchange":"deribit","symbol":"ETH","currency":"ETH","vol_index":null,"volatility_index":null,"market_type":"options","data_source":"marketprism","data_type":"volatility_index","ts_ms":1758700551275,"publisher":"unified-collector","collected_ts_ms":1758700551274}',
        {
            **HEAD, "timestamp": SECOND + 275_000, "exchange": "deribit", "market_type": "options", "symbol": "ETH",
            "data_source": "marketprism", "currency": "ETH", "volatility_index": None, "collected_at": SECOND + 274_000,
        },
    ),
]  # fmt: skip


@pytest.mark.parametrize(("payload", "expected"), [s[1:] for s in SAMPLES], ids=[s[0] for s in SAMPLES])
def test_a_sample_of_the_wire_is_a_row(payload: str, expected: dict[str, Any]) -> None:
    assert columns(json.loads(payload)["data_type"], payload.encode()) == expected


def test_every_type_has_a_sample() -> None:
    assert {json.loads(sample[1])["data_type"] for sample in SAMPLES} == set(BUILT_IN)


# --- one table of everything else ---------------------------------------------------------------------------------------

TRADE = SAMPLES[1][1].encode()
OLD_TRADE = SAMPLES[0][1].encode()
BOOK = SAMPLES[2][1].encode()
PAIRS = SAMPLES[3][1].encode()
FUNDING, INTEREST, LIQUIDATION, TOP, ALL, VOLATILITY = (SAMPLES[i][1].encode() for i in (4, 5, 6, 7, 8, 9))
COMMON = (
    b'{"exchange":"okx","market_type":"perpetual","symbol":"BTC-USDT","data_type":"%s","publisher":"unified-collector",'
    b'"ts_ms":1758700551123,"collected_ts_ms":1758700551123}'
)
DEEP = b"[" * 10_000 + b"]" * 10_000


def put(payload: bytes, **changes: Any) -> bytes:
    """The message with other values: JSON text as bytes, anything else as itself, ... to leave the field out."""
    body = msgspec.json.decode(payload, type=dict[str, msgspec.Raw])
    for name, value in changes.items():
        if value is ...:
            body.pop(name, None)
        else:
            body[name] = msgspec.Raw(value if isinstance(value, bytes) else json.dumps(value).encode())
    return b"{" + b",".join(b'"%s":%s' % (name.encode(), bytes(raw)) for name, raw in body.items()) + b"}"


def price(value: Any) -> bytes:
    return put(TRADE, price=value)


def when(value: Any) -> bytes:
    return put(TRADE, trade_ts_ms=..., ts_ms=..., trade_time=value, timestamp=value)


def levels(bids: Any, asks: Any = ()) -> bytes:
    return put(PAIRS, bids=bids, asks=list(asks) if isinstance(asks, tuple) else asks)


BAD: list[tuple[str, str, bytes, Reason]] = [
    # the whole
    ("empty body", "trade", b"", reasons.EMPTY_PAYLOAD),
    ("one brace", "trade", b"{", BAD_JSON),
    ("blanks only", "trade", b"   ", BAD_JSON),
    ("8 MiB of spaces", "trade", b" " * (8 << 20), BAD_JSON),
    ("5 MB that is not JSON", "orderbook", b"x" * 5_000_000, BAD_JSON),
    ("truncated", "trade", TRADE[:-20], BAD_JSON),
    ("truncated in the last byte", "trade", TRADE[:-1], BAD_JSON),
    ("no colon", "trade", TRADE.replace(b'":', b'"', 1), BAD_JSON),
    ("comma at the end", "trade", TRADE[:-1] + b",}", BAD_JSON),
    ("two objects", "trade", TRADE + TRADE, BAD_JSON),
    ("single quotes", "trade", TRADE.replace(b'"', b"'"), BAD_JSON),
    ("Python's repr", "trade", b"{'price': None}", BAD_JSON),
    ("bare NaN", "trade", price(b"NaN"), BAD_JSON),
    ("bare Infinity", "trade", price(b"-Infinity"), BAD_JSON),
    ("leading zeros", "trade", price(b"007"), BAD_JSON),
    ("control character in a text", "trade", TRADE.replace(b"BTC-USDT", b"BTC\x01USDT"), BAD_JSON),
    ("not UTF-8", "trade", TRADE.replace(b'"symbol":"', b'"symbol":"\xff\xfe'), WRONG_TYPE),
    ("not UTF-8 in a name", "trade", TRADE.replace(b'"publisher"', b'"\xff\xfe"'), BAD_JSON),
    ("lone surrogate", "trade", TRADE.replace(b"BTC-USDT", b"\\ud800"), BAD_JSON),
    ("byte order mark", "trade", b"\xef\xbb\xbf" + TRADE, BAD_JSON),
    ("UTF-16", "trade", TRADE.decode().encode("utf-16"), BAD_JSON),
    ("gzip", "trade", gzip.compress(TRADE, mtime=0), BAD_JSON),
    ("msgpack", "trade", msgspec.msgpack.encode({"price": "1"}), BAD_JSON),
    ("status frame", "trade", b"NATS/1.0 503\r\n\r\n", BAD_JSON),
    ("array", "trade", b"[" + TRADE + b"]", reasons.NOT_AN_OBJECT),
    ("text", "trade", b'"price"', reasons.NOT_AN_OBJECT),
    ("null", "trade", b"null", reasons.NOT_AN_OBJECT),
    ("number", "trade", b"42", reasons.NOT_AN_OBJECT),
    ("true", "trade", b"true", reasons.NOT_AN_OBJECT),
    ("empty array", "trade", b"[]", reasons.NOT_AN_OBJECT),
    ("depth 10,000", "trade", price(DEEP), BAD_JSON),
    ("depth 10,000 in an unknown field", "trade", put(TRADE, extra=DEEP), BAD_JSON),
    ("nothing but depth", "trade", DEEP, reasons.NOT_AN_OBJECT),
    ("empty object", "trade", b"{}", MISSING),
    ("another type's message", "trade", BOOK, reasons.SUBJECT_MISMATCH),
    ("data_type of another case", "trade", put(TRADE, data_type="Trade"), reasons.SUBJECT_MISMATCH),
    ("data_type a number", "trade", put(TRADE, data_type=1), WRONG_TYPE),
    # only the common fields: their values are absent, not zero
    *(
        (f"only the common fields, {t}", t, COMMON % t.encode(), MISSING)
        for t in BUILT_IN
        if t != "volatility_index"
    ),
    # decimals
    ("price missing", "trade", price(...), MISSING),
    ("price null", "trade", price(None), MISSING),
    ("price empty", "trade", price(""), reasons.BAD_DECIMAL),
    ("price NaN", "trade", price("NaN"), reasons.BAD_DECIMAL),
    ("price Infinity", "trade", price("Infinity"), reasons.BAD_DECIMAL),
    ("price with a separator", "trade", price("1,234.5"), reasons.BAD_DECIMAL),
    ("price with an underscore", "trade", price("1_000"), reasons.BAD_DECIMAL),
    ("price in full-width digits", "trade", price("１２"), reasons.BAD_DECIMAL),
    ("price with blanks", "trade", price(" 1.5 "), reasons.BAD_DECIMAL),
    ("price with a unit", "trade", price("1.5 USDT"), reasons.BAD_DECIMAL),
    ("price hexadecimal", "trade", price("0x1F"), reasons.BAD_DECIMAL),
    ("price 1e400", "trade", price(b"1e400"), reasons.DECIMAL_OUT_OF_RANGE),
    ("price '1e400'", "trade", price("1e400"), reasons.DECIMAL_OUT_OF_RANGE),
    ("price of 40 digits", "trade", price("1234567890" * 4), reasons.DECIMAL_OUT_OF_RANGE),
    ("price of 40 digits, number", "trade", price(b"1234567890" * 4), reasons.DECIMAL_OUT_OF_RANGE),
    ("price of 19 decimals", "trade", price("1.0000000000000000001"), reasons.DECIMAL_OUT_OF_RANGE),
    ("price zero", "trade", price("0"), reasons.NEGATIVE_OR_ZERO),
    ("price -0", "trade", price("-0"), reasons.NEGATIVE_OR_ZERO),
    ("price negative", "trade", price("-1.5"), reasons.NEGATIVE_OR_ZERO),
    ("price negative, number", "trade", price(-1.5), reasons.NEGATIVE_OR_ZERO),
    ("price true", "trade", price(True), WRONG_TYPE),
    ("price an object", "trade", price({"amount": "1"}), WRONG_TYPE),
    ("price an array", "trade", price(["1"]), WRONG_TYPE),
    ("quantity missing", "trade", put(TRADE, quantity=...), MISSING),
    ("quantity null", "trade", put(TRADE, quantity=None), MISSING),
    ("quantity empty", "trade", put(TRADE, quantity=""), reasons.BAD_DECIMAL),
    ("quantity negative", "trade", put(TRADE, quantity="-0.1"), reasons.NEGATIVE_OR_ZERO),
    ("quantity NaN", "trade", put(TRADE, quantity="NaN"), reasons.BAD_DECIMAL),
    ("funding rate null", "funding_rate", put(FUNDING, current_funding_rate=None), MISSING),
    ("funding rate empty", "funding_rate", put(FUNDING, current_funding_rate=""), reasons.BAD_DECIMAL),
    ("mark price NaN", "funding_rate", put(FUNDING, mark_price="NaN"), reasons.BAD_DECIMAL),
    ("mark price empty", "funding_rate", put(FUNDING, mark_price=""), reasons.BAD_DECIMAL),
    ("open interest negative", "open_interest", put(INTEREST, open_interest_value="-1"), reasons.NEGATIVE_OR_ZERO),
    ("open interest null", "open_interest", put(INTEREST, open_interest_value=None), MISSING),
    ("liquidation price null", "liquidation", put(LIQUIDATION, price=None), MISSING),
    ("liquidation quantity negative", "liquidation", put(LIQUIDATION, quantity="-1"), reasons.NEGATIVE_OR_ZERO),
    ("ratio of 29 decimals", "lsr_top_position", put(TOP, long_position_ratio="0." + "1" * 29), reasons.DECIMAL_OUT_OF_RANGE),
    ("ratio null", "lsr_all_account", put(ALL, long_short_ratio=None), MISSING),
    ("volatility NaN", "volatility_index", put(VOLATILITY, vol_index="NaN"), reasons.BAD_DECIMAL),
    # sides and texts
    ("side missing", "trade", put(TRADE, side=...), MISSING),
    ("side null", "trade", put(TRADE, side=None), MISSING),
    ("side empty", "trade", put(TRADE, side=""), reasons.BAD_TEXT),
    ("side unheard of", "trade", put(TRADE, side="sideways"), reasons.BAD_SIDE),
    ("side with a blank", "trade", put(TRADE, side="buy "), reasons.BAD_SIDE),
    ("side a number", "trade", put(TRADE, side=1), WRONG_TYPE),
    ("liquidation side unheard of", "liquidation", put(LIQUIDATION, side="long"), reasons.BAD_SIDE),
    ("symbol missing", "trade", put(TRADE, symbol=...), MISSING),
    ("symbol null", "trade", put(TRADE, symbol=None), MISSING),
    ("symbol empty", "trade", put(TRADE, symbol=""), reasons.BAD_TEXT),
    ("symbol of 10 kB", "trade", put(TRADE, symbol="A" * 10_000), reasons.BAD_TEXT),
    ("symbol of 129 characters", "trade", put(TRADE, symbol="A" * 129), reasons.BAD_TEXT),
    ("symbol a number", "trade", put(TRADE, symbol=5), WRONG_TYPE),
    ("exchange missing", "trade", put(TRADE, exchange=...), MISSING),
    ("market type empty", "orderbook", put(BOOK, market_type=""), reasons.BAD_TEXT),
    ("trade id missing", "trade", put(TRADE, trade_id=...), MISSING),
    ("trade id null", "trade", put(TRADE, trade_id=None), MISSING),
    ("trade id empty", "trade", put(TRADE, trade_id=""), reasons.BAD_TEXT),
    ("trade id of 257 characters", "trade", put(TRADE, trade_id="1" * 257), reasons.BAD_TEXT),
    ("trade id true", "trade", put(TRADE, trade_id=True), WRONG_TYPE),
    ("is_maker a text", "trade", put(TRADE, is_maker="true"), WRONG_TYPE),
    ("is_maker a number", "trade", put(TRADE, is_maker=1), WRONG_TYPE),
    # times
    ("time missing", "trade", when(...), MISSING),
    ("time null in all fields", "trade", when(None), MISSING),
    ("time empty", "trade", when(""), reasons.BAD_TIME),
    ("time 'now'", "trade", when("now"), reasons.BAD_TIME),
    ("February 30", "trade", when("2025-02-30 12:00:00.000"), reasons.BAD_TIME),
    ("24:00", "trade", when("2025-09-24 24:00:00.000"), reasons.BAD_TIME),
    ("second 60", "trade", when("2025-09-24 07:55:60.000"), reasons.BAD_TIME),
    ("1969", "trade", when("1969-12-31 23:59:59.000"), reasons.TIME_OUT_OF_RANGE),
    ("2299", "trade", when("2299-01-01 00:00:00.000"), reasons.TIME_OUT_OF_RANGE),
    ("year 1", "trade", when("0001-01-01 00:00:00.000"), reasons.TIME_OUT_OF_RANGE),
    ("epoch 0", "trade", when(0), reasons.TIME_OUT_OF_RANGE),
    ("epoch -1", "trade", when(-1), reasons.BAD_TIME),
    ("epoch 1.7e9", "trade", when(b"1.7587e9"), reasons.BAD_TIME),
    ("time true", "trade", when(True), WRONG_TYPE),
    ("time an object", "trade", when({"$date": 1}), WRONG_TYPE),
    ("two days after its arrival", "trade", when("2025-09-26 08:00:00.000"), reasons.TIME_OUT_OF_RANGE),
    ("trade time absent", "trade", put(OLD_TRADE, trade_time=...), MISSING),
    ("collected 1969", "trade", put(OLD_TRADE, collected_at="1969-12-31 23:59:59"), reasons.TIME_OUT_OF_RANGE),
    ("next funding 'soon'", "funding_rate", put(FUNDING, next_funding_time="soon"), reasons.BAD_TIME),
    # order books
    ("bids absent", "orderbook", put(BOOK, bids=...), MISSING),
    ("bids null", "orderbook", put(BOOK, bids=None), MISSING),
    ("bids a text", "orderbook", put(BOOK, bids="[]"), reasons.BAD_LEVELS),
    ("bids an object", "orderbook", put(BOOK, bids={}), reasons.BAD_LEVELS),
    ("level of 1", "orderbook", levels([["1"]]), reasons.BAD_LEVELS),
    ("level of 3", "orderbook", levels([["1", "2", "3"]]), reasons.BAD_LEVELS),
    ("level empty", "orderbook", levels([[]]), reasons.BAD_LEVELS),
    ("level null", "orderbook", levels([None]), reasons.BAD_LEVELS),
    ("level a text", "orderbook", levels(["12"]), reasons.BAD_LEVELS),
    ("level without quantity", "orderbook", levels([{"price": "1"}]), reasons.BAD_LEVELS),
    ("level price null", "orderbook", levels([[None, "1"]]), WRONG_TYPE),
    ("level price empty", "orderbook", levels([["", "1"]]), reasons.BAD_DECIMAL),
    ("level price zero", "orderbook", levels([["0", "1"]]), reasons.NEGATIVE_OR_ZERO),
    ("level price NaN", "orderbook", levels([["NaN", "1"]]), reasons.BAD_DECIMAL),
    ("level price with an underscore", "orderbook", levels([["1_0", "1"]]), reasons.BAD_DECIMAL),
    ("level price with a blank", "orderbook", levels([["1.5 ", "1"]]), reasons.BAD_DECIMAL),
    ("level price a point", "orderbook", levels([[".", "1"]]), reasons.BAD_DECIMAL),
    ("level quantity negative", "orderbook", levels([["1", "-1"]]), reasons.NEGATIVE_OR_ZERO),
    ("level quantity null", "orderbook", levels([["1", None]]), WRONG_TYPE),
    ("last level bad", "orderbook", levels([["2", "1"], ["1", "x"]]), reasons.BAD_DECIMAL),
    ("too many levels", "orderbook", levels([["1", "1"]] * (MAX_LEVELS + 1)), reasons.TOO_MANY_LEVELS),
    ("400,000 levels", "orderbook", put(PAIRS, asks=b"[" + b",".join([b'["1","1"]'] * 400_000) + b"]"), reasons.TOO_MANY_LEVELS),
    ("update id 2^64", "orderbook", put(BOOK, last_update_id=2**64), reasons.BAD_INTEGER),
    ("update id 1.5", "orderbook", put(BOOK, last_update_id=1.5), reasons.BAD_INTEGER),
    ("update id -1", "orderbook", put(BOOK, last_update_id=-1), reasons.BAD_INTEGER),
    ("update id 1e3", "orderbook", put(BOOK, last_update_id=b"1e3"), reasons.BAD_INTEGER),
    ("update id a word", "orderbook", put(BOOK, last_update_id="last"), reasons.BAD_INTEGER),
    *((f"update_type {word!r}", "orderbook", put(BOOK, update_type=word), reasons.BAD_BOOK_TYPE) for word in ("delete", "insert", "snapshot ", "trade", "updates", "шаг", "u" * 256)),
    ("update_type of 257 characters", "orderbook", put(BOOK, update_type="u" * 257), reasons.BAD_TEXT),
    ("update_type a number", "orderbook", put(BOOK, update_type=1), WRONG_TYPE),
    ("update_type false", "orderbook", put(BOOK, update_type=False), WRONG_TYPE),
    ("the one before is -2", "orderbook", put(BOOK, prev_update_id=-2), reasons.BAD_INTEGER),
    ("the first is -1", "orderbook", put(BOOK, first_update_id=-1), reasons.BAD_INTEGER),
    ("funding interval 0", "funding_rate", put(FUNDING, funding_interval=0), reasons.NEGATIVE_OR_ZERO),
    ("funding interval -8", "funding_rate", put(FUNDING, funding_interval=-8), reasons.NEGATIVE_OR_ZERO),
    ("funding interval of a third of a minute", "funding_rate", put(FUNDING, funding_interval=b"0.01"), reasons.BAD_INTEGER),
    ("funding interval in ms", "funding_rate", put(FUNDING, funding_interval=28_800_000), reasons.BAD_INTEGER),
    ("funding interval true", "funding_rate", put(FUNDING, funding_interval=True), WRONG_TYPE),
    ("liquidation without id and time", "liquidation", put(LIQUIDATION, liquidation_id=None, liquidation_time=...), MISSING),
    ("liquidation without id and price", "liquidation", put(LIQUIDATION, liquidation_id=None, price=None), MISSING),
    ("liquidation id true", "liquidation", put(LIQUIDATION, liquidation_id=True), WRONG_TYPE),
    *((f"price negative, {m}", "trade", put(TRADE, price="-37.63", market_type=m), reasons.NEGATIVE_OR_ZERO) for m in ("spot", "perpetual", "options")),
    ("price -0.5 in a book of a perpetual", "orderbook", put(PAIRS, market_type="perpetual", bids=[["-0.5", "1"]]), reasons.NEGATIVE_OR_ZERO),
    ("quantity negative, spread", "trade", put(TRADE, quantity="-1", market_type="spread"), reasons.NEGATIVE_OR_ZERO),
    ("price NaN, spread", "trade", put(TRADE, price="NaN", market_type="spread"), reasons.BAD_DECIMAL),
    ("depth 2^32", "orderbook", put(BOOK, depth_levels=2**32), reasons.BAD_INTEGER),
]  # fmt: skip

GOOD: list[tuple[str, str, bytes, dict[str, Any]]] = [
    ("price as number", "trade", price(b"112345.67"), {"price": "112345.67"}),
    ("6.11e-05 as number", "trade", price(b"6.11e-05"), {"price": "0.0000611"}),
    ("6.11e-05 as text", "trade", price("6.11e-05"), {"price": "0.0000611"}),
    ("price of 38 digits", "trade", price("9" * 20 + "." + "9" * 18), {"price": "9" * 20 + "." + "9" * 18}),
    ("price beyond a float", "trade", price(b"12345678901234567.123456789012345678"), {"price": "12345678901234567.123456789012345678"}),
    ("price 1e-10", "trade", price(b"1e-10"), {"price": "0.0000000001"}),
    ("quantity 1e13", "trade", put(TRADE, quantity=b"1e13"), {"quantity": "10000000000000"}),
    ("quantity zero", "trade", put(TRADE, quantity="0"), {"quantity": "0"}),
    ("price twice: the last", "trade", TRADE[:-1] + b',"price":"9.5"}', {"price": "9.5"}),
    ("side BUY", "trade", put(TRADE, side="BUY"), {"side": "buy"}),
    ("side Sell", "trade", put(TRADE, side="Sell"), {"side": "sell"}),
    ("side unknown", "trade", put(TRADE, side="unknown"), {"side": "unknown"}),
    ("maker", "trade", put(TRADE, is_maker=True), {"is_maker": True}),
    ("taker", "trade", put(TRADE, is_maker=False), {"is_maker": False}),
    ("trade id a number", "trade", put(TRADE, trade_id=5012345678), {"trade_id": "5012345678"}),
    ("quotes in a symbol", "trade", put(TRADE, symbol="BTC'; DROP TABLE trades;--"), {"symbol": "BTC'; DROP TABLE trades;--"}),
    ("NUL in a symbol", "trade", put(TRADE, symbol="BTC\x00USDT"), {"symbol": "BTC\x00USDT"}),
    ("emoji in a symbol", "trade", put(TRADE, symbol="\U0001f680-USDT"), {"symbol": "\U0001f680-USDT"}),
    ("emoji as bytes", "trade", TRADE.replace(b"BTC-USDT", "\U0001f680".encode()), {"symbol": "\U0001f680"}),
    ("dot, blank, RTL mark in a symbol", "trade", put(TRADE, symbol="B.T C\u200f"), {"symbol": "B.T C\u200f"}),
    ("symbol of 128 characters", "trade", put(TRADE, symbol="A" * 128), {"symbol": "A" * 128}),
    ("unknown exchange", "trade", put(TRADE, exchange="mtgox"), {"exchange": "mtgox"}),
    ("unknown fields", "trade", put(TRADE, extra={"a": [1]}, more=1e5), {"price": "112345.6"}),
    ("5 MB of an unknown field", "trade", put(TRADE, note="x" * 5_000_000), {"price": "112345.6"}),
    ("no data_type", "trade", put(TRADE, data_type=...), {"price": "112345.6"}),
    ("no data_source", "trade", put(TRADE, data_source=...), {"data_source": ""}),
    ("no collected_at", "trade", put(TRADE, collected_ts_ms=...), {"collected_at": None}),
    ("event time before publishing time", "trade", TRADE, {"timestamp": SECOND + 123_000, "collected_at": SECOND + 402_000}),
    ("time in s", "trade", when(1758700551), {"timestamp": SECOND}),
    ("time in ms", "trade", when(1758700551123), {"timestamp": SECOND + 123_000}),
    ("time in µs", "trade", when(1758700551123456), {"timestamp": SECOND + 123_456}),
    ("time in ns", "trade", when(1758700551123456789), {"timestamp": SECOND + 123_456}),
    ("time in digits", "trade", when("1758700551123"), {"timestamp": SECOND + 123_000}),
    ("time in ns digits", "trade", when("1758700551123456789"), {"timestamp": SECOND + 123_456}),
    ("+00:00", "trade", when("2025-09-24T07:55:51.123456+00:00"), {"timestamp": SECOND + 123_456}),
    ("+00:00Z", "trade", when("2025-09-24T07:55:51.123456+00:00Z"), {"timestamp": SECOND + 123_456}),
    ("+08:00", "trade", when("2025-09-24T15:55:51.123456+08:00"), {"timestamp": SECOND + 123_456, "trade_time": SECOND + 123_456}),
    ("no zone means UTC", "trade", when("2025-09-24 07:55:51.123"), {"timestamp": SECOND + 123_000}),
    ("half a day after its arrival", "trade", when("2025-09-24 20:00:00.000"), {"timestamp": SECOND + 43_449_000_000}),
    ("years old", "trade", when("2017-01-01 00:00:00.000"), {"timestamp": 1_483_228_800_000_000}),
    ("next funding in the far future", "funding_rate", put(FUNDING, next_funding_time="2026-09-24 16:00:00.000"), {"next_funding_time": 1_790_265_600_000_000}),
    ("newer funding", "funding_rate", put(FUNDING, next_funding_time=..., next_funding_ts_ms=1758729600000), {"next_funding_time": 1_758_729_600_000_000}),
    ("funding without the rest", "funding_rate", put(FUNDING, **dict.fromkeys(("estimated_funding_rate", "mark_price", "index_price", "premium_index", "next_funding_time"), ...)), {"estimated_funding_rate": None, "mark_price": None, "index_price": None, "premium_index": None, "next_funding_time": None}),
    ("funding rate negative number", "funding_rate", put(FUNDING, current_funding_rate=b"-3.75e-05"), {"funding_rate": "-0.0000375"}),
    ("newer liquidation", "liquidation", put(LIQUIDATION, liquidation_time=..., liquidation_ts_ms=1758700551120, timestamp=..., ts_ms=1758700551900), {"timestamp": SECOND + 120_000, "liquidation_time": SECOND + 120_000}),
    ("only the older volatility name", "volatility_index", put(VOLATILITY, vol_index=...), {"volatility_index": "31.87"}),
    ("only the common fields, volatility", "volatility_index", COMMON % b"volatility_index", {"volatility_index": None, "currency": None}),
    ("no bids", "orderbook", put(BOOK, bids=[]), {"bids_count": 0, "best_bid_price": None, "best_bid_quantity": None, "bid_prices": []}),
    ("both sides empty", "orderbook", levels([]), {"bids_count": 0, "asks_count": 0, "best_ask_price": None}),
    ("unsorted: the best is found", "orderbook", levels([["1", "1"], ["3", "5"], ["2", "1"]], [["9", "1"], ["4", "2"]]), {"best_bid_price": "3", "best_bid_quantity": "5", "best_ask_price": "4", "bid_prices": ["1", "3", "2"]}),
    ("the best is taken away: the next is best", "orderbook", levels([["3", "0"], ["2", "1"]]), {"best_bid_price": "2", "bids_count": 2}),
    ("all taken away", "orderbook", levels([["3", "0"], ["2", "0.000"]]), {"best_bid_price": None, "best_bid_quantity": None, "bids_count": 2}),
    ("crossed", "orderbook", levels([["5", "1"]], [["4", "1"]]), {"best_bid_price": "5", "best_ask_price": "4"}),
    ("the same price twice", "orderbook", levels([["5", "1"], ["5", "2"]]), {"best_bid_quantity": "1", "bids_count": 2}),
    ("best told beyond a float", "orderbook", levels([["1.0000000000000001", "1"], ["1.0000000000000002", "2"]]), {"best_bid_price": "1.0000000000000002"}),
    ("mixed shapes", "orderbook", levels([["2", "1"], {"price": "1", "quantity": "3"}]), {"bid_prices": ["2", "1"], "bid_quantities": ["1", "3"]}),
    ("levels as numbers", "orderbook", levels([[2.5, 1], [1e-05, 3]]), {"bid_prices": ["2.5", "0.00001"], "bid_quantities": ["1", "3"]}),
    ("level with more fields", "orderbook", levels([{"price": "1", "quantity": "3", "orders": 2}]), {"bid_prices": ["1"]}),
    ("as many levels as there may be", "orderbook", levels([["1", "1"]] * MAX_LEVELS), {"bids_count": MAX_LEVELS}),
    ("update id 2^63", "orderbook", put(BOOK, last_update_id=2**63), {"last_update_id": 2**63}),
    ("update id 2^64 - 1 in digits", "orderbook", put(BOOK, last_update_id=str(2**64 - 1)), {"last_update_id": 2**64 - 1}),
    *(
        (f"update_type {word!r}", "orderbook", put(BOOK, update_type=word), {"update_type": kind})
        for kind, words in {
            "snapshot": ("snapshot", "SNAPSHOT", "Snapshot", "partial", "full"),
            "update": ("update", "UPDATE", "delta", "change", "diff", "incremental", "l2update", "depthUpdate"),
            None: ("", None, ...),
        }.items()
        for word in words
    ),
    ("OKX's snapshot follows none", "orderbook", put(BOOK, update_type="snapshot", prev_update_id=-1), {"prev_update_id": None, "last_update_id": 8812345678901}),
    ("OKX's snapshot follows none, in digits", "orderbook", put(BOOK, update_type="snapshot", prev_update_id="-1"), {"prev_update_id": None}),
    ("funding interval in hours", "funding_rate", put(FUNDING, funding_interval=8), {"funding_interval": "8h"}),
    ("funding interval in hours, a float", "funding_rate", put(FUNDING, funding_interval=8.0), {"funding_interval": "8h"}),
    ("funding interval of half an hour", "funding_rate", put(FUNDING, funding_interval=0.5), {"funding_interval": "30m"}),
    ("funding interval null", "funding_rate", put(FUNDING, funding_interval=None), {"funding_interval": None}),
    *(
        (f"liquidation id {value!r}", "liquidation", put(LIQUIDATION, liquidation_id=value), {"liquidation_id": f"derived:{SECOND + 120_000}:sell:112010.5:0.014"})
        for value in (..., None, "")
    ),
    ("liquidation id a number", "liquidation", put(LIQUIDATION, liquidation_id=7), {"liquidation_id": "7"}),
    ("liquidation of a spread, without id", "liquidation", put(LIQUIDATION, liquidation_id=None, market_type="spread", price="-1.5", side="BUY"), {"liquidation_id": f"derived:{SECOND + 120_000}:buy:-1.5:0.014"}),
    *((f"price {value}, {m}", "trade", put(TRADE, price=value, market_type=m), {"price": value}) for m in ("futures", "spread", "combo", "power") for value in ("-37.63", "0", "-0.5")),
    ("price -3.763e1", "trade", put(TRADE, price=b"-3.763e1", market_type="futures"), {"price": "-37.63"}),
    ("a book around zero", "orderbook", put(PAIRS, market_type="spread", bids=[["-0.5", "1"], ["-1", "2"]], asks=[["0", "3"], ["0.5", "1"]]), {"best_bid_price": "-0.5", "best_ask_price": "0", "bid_prices": ["-0.5", "-1"]}),
    ("chained ids", "orderbook", put(BOOK, first_update_id=7, prev_update_id=6), {"first_update_id": 7, "prev_update_id": 6}),
]  # fmt: skip


@pytest.mark.parametrize(("data_type", "payload", "reason"), [case[1:] for case in BAD], ids=[case[0] for case in BAD])
def test_a_message_that_cannot_be_a_row_is_refused_with_its_reason(
    data_type: str, payload: bytes, reason: Reason
) -> None:
    refused = refusal(data_type, payload)
    assert refused.reason is reason
    assert str(refused).isprintable()
    assert len(str(refused)) < 500, "the whole payload has no place in a header"


@pytest.mark.parametrize(("data_type", "payload", "expected"), [c[1:] for c in GOOD], ids=[c[0] for c in GOOD])
def test_a_message_that_is_odd_but_right_is_a_row(data_type: str, payload: bytes, expected: dict[str, Any]) -> None:
    found = columns(data_type, payload)
    assert {name: found[name] for name in expected} == expected


def test_a_pipelines_limits_decide_on_levels_and_prices() -> None:
    def row(data_type: str, payload: bytes, limits: MessageLimits) -> dict[str, Any]:
        return values_by_column(BY_DATA_TYPE[data_type], decode(BUILT_IN[data_type], "", payload, ARRIVED, limits))

    deep = levels([["1", "1"]] * (MAX_LEVELS + 1))
    assert row("orderbook", deep, MessageLimits(max_levels=MAX_LEVELS + 1))["bids_count"] == MAX_LEVELS + 1
    with pytest.raises(MessageError, match="MP2211"):
        row("orderbook", PAIRS, MessageLimits(max_levels=1))
    assert row("trade", price("-1"), MessageLimits(positive_prices=frozenset()))["price"] == "-1"
    with pytest.raises(MessageError, match="MP2205"):
        row(
            "trade",
            put(TRADE, market_type="futures", price="-1"),
            MessageLimits(positive_prices=frozenset({"futures"})),
        )


def test_other_limits_are_other_rules() -> None:
    """A block that was cut by them is not sent again as if it were the same."""
    kinds = [MessageLimits(), MessageLimits(max_levels=5), MessageLimits(positive_prices=frozenset({"spot"}))]
    trade = BUILT_IN["trade"]
    assert len({rules_version(trade, limits) for limits in kinds}) == 3
    described = replace(trade, tail=tuple(replace(field, description="", codec="") for field in trade.tail))
    assert rules_version(described, kinds[0]) == rules_version(trade, kinds[0])
    elsewhere = replace(trade, time=replace(trade.time, places=("T",)))
    assert rules_version(elsewhere, kinds[0]) != rules_version(trade, kinds[0])
    assert rules_version(trade, MessageLimits()) == rules_version(
        trade, MessageLimits(10_000, frozenset(("spot", "options", "perpetual")))
    )


def test_an_event_may_be_dated_one_day_after_its_arrival_and_no_more() -> None:
    at = SECOND + 123_000
    assert columns("trade", TRADE, arrived=at - ARRIVAL_SLACK)["timestamp"] == at
    assert refusal("trade", TRADE, arrived=at - ARRIVAL_SLACK - 1).reason is reasons.TIME_OUT_OF_RANGE


def test_a_refusal_names_the_field() -> None:
    assert refusal("trade", price("x")).field == "price"
    assert refusal("orderbook", levels([["1", "1"], ["1", "x"]])).field == "bids[1].quantity"
    assert refusal("funding_rate", put(FUNDING, current_funding_rate=None)).field == "current_funding_rate"


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
def test_a_row_has_one_value_for_each_inserted_column(table: Any) -> None:
    sample = next(s for s in SAMPLES if json.loads(s[1])["data_type"] == table.data_type)
    assert len(decode(BUILT_IN[table.data_type], "", sample[1].encode(), ARRIVED)) == len(table.inserted)


# --- the feed knows the truth -------------------------------------------------------------------------------------------


def test_every_message_of_the_feed_is_its_truth_or_refused() -> None:
    for message in islice(messages(seed=11, bad_ratio=0.2, book_levels=5, symbols=4), 20_000):
        if message.truth is None:
            with pytest.raises(MessageError):
                decode(BUILT_IN[message.data_type], message.subject, message.payload, 1 << 60)
            continue
        found = values_by_column(
            BY_DATA_TYPE[message.data_type],
            decode(BUILT_IN[message.data_type], message.subject, message.payload, 1 << 60),
        )
        for name, truth in message.truth.items():
            if name in found:
                assert same(found[name], truth), (message.payload, name)


def same(found: Any, truth: Any) -> bool:
    if isinstance(truth, Decimal):
        return found is not None and Decimal(found) == truth
    if isinstance(truth, int) and isinstance(found, int) and not isinstance(truth, bool) and truth > 10**17:
        return found == truth // 1000  # nanoseconds
    if isinstance(truth, list | tuple):
        return len(found) == len(truth) and all(same(f, t) for f, t in zip(found, truth, strict=True))
    if truth is None:
        return found is None or found == ""
    return bool(found == truth)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@given(st.sampled_from(SAMPLES), st.data())
def test_whatever_stands_in_a_field_is_a_row_or_a_refusal(sample: tuple[str, str, Any], data: st.DataObject) -> None:
    body = json.loads(sample[1])
    body[data.draw(st.sampled_from(sorted(body)))] = data.draw(json_values)
    data_type = json.loads(sample[1])["data_type"]
    try:
        row = decode(BUILT_IN[data_type], "", json.dumps(body).encode(), ARRIVED)
    except MessageError:
        return
    assert len(row) == len(BY_DATA_TYPE[data_type].inserted)


@given(st.binary(max_size=60), st.sampled_from(sorted(BUILT_IN)))
def test_any_bytes_are_a_refusal(payload: bytes, data_type: str) -> None:
    refusal(data_type, payload)
