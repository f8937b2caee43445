"""`examples/collectors/`: what other collectors publish, in the forms that their documentation shows, becomes these rows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from marketprism_api import reasons
from marketprism_api.load import load_pipeline
from marketprism_consumer.errors import MessageError
from marketprism_consumer.ingest.decode import decode, values_by_column
from marketprism_consumer.schema.tables import table_of

COLLECTORS = Path(__file__).parents[2] / "examples" / "collectors"
ARRIVED = 1_790_000_000_000_000

# collector, data type, message, what of its row
MESSAGES: list[tuple[str, str, str, dict[str, Any]]] = [
    (
        "cryptofeed",
        "trade",
        '{"exchange": "COINBASE", "symbol": "BTC-USD", "side": "buy", "amount": "0.5", "price": "60000.1", "id": "123",'
        ' "type": null, "timestamp": 1634861988.123456, "receipt_timestamp": 1634861988.2}',
        {"timestamp": 1634861988123456, "exchange": "COINBASE", "trade_id": "123", "quantity": "0.5", "side": "buy",
         "collected_at": 1634861988200000},
    ),
    (
        "cryptofeed",
        "orderbook",
        '{"exchange": "BINANCE", "symbol": "BTC-USDT", "book": {"bid": {"60000.1": "0.5", "59999": "1"}, "ask": {"60000.2": "2"}},'
        ' "timestamp": null, "receipt_timestamp": 1634861988.2, "sequence_number": 7}',
        {"timestamp": 1634861988200000, "bid_prices": ["60000.1", "59999"], "bid_quantities": ["0.5", "1"], "asks_count": 1,
         "update_type": "snapshot", "last_update_id": 7, "best_ask_quantity": "2"},
    ),
    (
        "ccxt",
        "trade",
        '{"info": {"a": 1}, "id": "12345-67890:09876/54321", "timestamp": 1502962946216, "datetime": "2017-08-17 12:42:48.000",'
        ' "symbol": "ETH/BTC", "order": null, "type": "limit", "side": "sell", "takerOrMaker": "taker", "price": 0.06917684,'
        ' "amount": 1.5, "cost": 0.10376526, "fee": null}',
        {"timestamp": 1502962946216000, "symbol": "ETH/BTC", "price": "0.06917684", "quantity": "1.5", "is_maker": False},
    ),
    (
        "ccxt",
        "orderbook",
        '{"bids": [[0.0691, 2], [0.069, 1.5]], "asks": [[0.0692, 1]], "symbol": "ETH/BTC", "timestamp": 1499280391811,'
        ' "datetime": "2017-07-05T18:47:14.692Z", "nonce": 1499280391811}',
        {"bids_count": 2, "best_bid_price": "0.0691", "last_update_id": 1499280391811, "update_type": "snapshot"},
    ),
    (
        "tardis-machine",
        "trade",
        '{"type": "trade", "symbol": "XBTUSD", "exchange": "bitmex", "id": "282a0445-0e3a-abeb-f403-11003204ea1b", "price": 7996,'
        ' "amount": 50, "side": "sell", "timestamp": "2019-10-23T10:32:49.669Z", "localTimestamp": "2019-10-23T10:32:49.740Z"}',
        {"exchange": "bitmex", "symbol": "XBTUSD", "price": "7996", "quantity": "50", "timestamp": 1571826769669000},
    ),
    (
        "tardis-machine",
        "orderbook",
        '{"type": "book_change", "symbol": "XBTUSD", "exchange": "bitmex", "isSnapshot": false, "bids": [], "asks": [{"price": 7985,'
        ' "amount": 283318}], "timestamp": "2019-10-23T11:29:53.469Z", "localTimestamp": "2019-10-23T11:29:53.469Z"}',
        {"update_type": "update", "bids_count": 0, "ask_prices": ["7985"], "ask_quantities": ["283318"]},
    ),
    (
        "binance",
        "trade",
        '{"e": "trade", "E": 1672515782136, "s": "BNBBTC", "t": 12345, "p": "0.001", "q": "100", "T": 1672515782135, "m": true, "M": true}',
        {"timestamp": 1672515782135000, "trade_id": "12345", "price": "0.001", "side": "sell"},
    ),
    (
        "binance",
        "trade",
        '{"stream": "bnbbtc@trade", "data": {"e": "trade", "E": 1672515782136, "s": "BNBBTC", "t": 12346, "p": "0.001", "q": "100",'
        ' "T": 1672515782135, "m": false, "M": true}}',
        {"symbol": "BNBBTC", "trade_id": "12346", "side": "buy"},
    ),
    (
        "binance",
        "orderbook",
        '{"e": "depthUpdate", "E": 123456789012, "T": 1672515782136, "s": "BTCUSDT", "U": 157, "u": 160, "pu": 149,'
        ' "b": [["0.0024", "10"]], "a": [["0.0026", "0"]]}',
        {"update_type": "update", "first_update_id": 157, "last_update_id": 160, "prev_update_id": 149, "best_ask_price": None},
    ),
    (
        "okx",
        "trade",
        '{"arg": {"channel": "trades-all", "instId": "BTC-USDT"}, "data": [{"instId": "BTC-USDT", "tradeId": "130639474",'
        ' "px": "42219.9", "sz": "0.12060306", "side": "buy", "ts": "1630048897897"}]}',
        {"symbol": "BTC-USDT", "trade_id": "130639474", "quantity": "0.12060306", "timestamp": 1630048897897000},
    ),
    (
        "okx",
        "orderbook",
        '{"arg": {"channel": "books", "instId": "BTC-USDT"}, "action": "snapshot", "data": [{"asks": [["8476.98", "415", "0", "13"]],'
        ' "bids": [["8476.97", "256", "0", "12"]], "ts": "1597026383085", "checksum": -855196043, "prevSeqId": -1, "seqId": 123456}]}',
        {"update_type": "snapshot", "prev_update_id": None, "last_update_id": 123456, "ask_prices": ["8476.98"]},
    ),
    (
        "bybit",
        "trade",
        '{"topic": "publicTrade.BTCUSDT", "type": "snapshot", "ts": 1672304486868, "data": [{"T": 1672304486865, "s": "BTCUSDT",'
        ' "S": "Buy", "v": "0.001", "p": "16578.50", "L": "PlusTick", "i": "20f43950-d8dd-5b31-9112-a178eb6023af", "BT": false}]}',
        {"symbol": "BTCUSDT", "side": "buy", "price": "16578.50", "trade_id": "20f43950-d8dd-5b31-9112-a178eb6023af"},
    ),
    (
        "bybit",
        "orderbook",
        '{"topic": "orderbook.50.BTCUSDT", "type": "delta", "ts": 1687940967466, "data": {"s": "BTCUSDT", "b": [["30247.20", "30.028"]],'
        ' "a": [["30248.70", "0"]], "u": 177400507, "seq": 66544703342}, "cts": 1687940967464}',
        {"timestamp": 1687940967464000, "update_type": "update", "last_update_id": 177400507, "asks_count": 1},
    ),
    (
        "deribit",
        "trade",
        '{"jsonrpc": "2.0", "method": "subscription", "params": {"channel": "trades.BTC-PERPETUAL.raw", "data": [{"trade_seq": 30289442,'
        ' "trade_id": "48079269", "timestamp": 1590484512188, "tick_direction": 2, "price": 8950.0, "mark_price": 8948.9,'
        ' "instrument_name": "BTC-PERPETUAL", "index_price": 8955.88, "direction": "sell", "amount": 10.0}]}}',
        {"symbol": "BTC-PERPETUAL", "price": "8950.0", "quantity": "10.0", "side": "sell", "trade_id": "48079269"},
    ),
    (
        "deribit",
        "orderbook",
        '{"jsonrpc": "2.0", "method": "subscription", "params": {"channel": "book.BTC-PERPETUAL.raw", "data": {"type": "change",'
        ' "timestamp": 1554373962454, "prev_change_id": 297217, "instrument_name": "BTC-PERPETUAL", "change_id": 297218,'
        ' "bids": [["delete", 5041.94, 0], ["new", 5042.34, 30]], "asks": []}}}',
        {"update_type": "update", "prev_update_id": 297217, "bid_prices": ["5041.94", "5042.34"], "best_bid_price": "5042.34"},
    ),
]  # fmt: skip


def row(collector: str, data_type: str, payload: str) -> dict[str, Any]:
    declaration = load_pipeline(COLLECTORS / f"{collector}.yaml", {}).spec.declarations[data_type]
    subject = f"{data_type}.the_venue.spot.the_symbol"
    return values_by_column(table_of(declaration), decode(declaration, subject, payload.encode(), ARRIVED))


@pytest.mark.parametrize(
    ("collector", "data_type", "payload", "expected"), MESSAGES, ids=[f"{one[0]} {one[1]}" for one in MESSAGES]
)
def test_a_collectors_message_becomes_a_row(
    collector: str, data_type: str, payload: str, expected: dict[str, Any]
) -> None:
    found = row(collector, data_type, payload)
    assert {name: found[name] for name in expected} == expected
    assert found["market_type"] == "spot"
    assert found["exchange"] == expected.get("exchange", json.loads(payload).get("exchange", "the_venue"))


def test_every_collector_has_messages() -> None:
    assert {one[0] for one in MESSAGES} == {path.stem for path in COLLECTORS.glob("*.yaml")}


@pytest.mark.parametrize("collector", ["okx", "bybit", "deribit"])
def test_several_trades_in_one_message_are_told_and_not_cut_to_the_first(collector: str) -> None:
    payload = json.loads(next(one[2] for one in MESSAGES if one[:2] == (collector, "trade")))
    trades = payload.get("params", payload)["data"]
    trades.append(trades[0])
    with pytest.raises(MessageError) as caught:
        row(collector, "trade", json.dumps(payload))
    assert caught.value.reason is reasons.SEVERAL_EVENTS
