"""What a pipeline says of its data types becomes a declaration, and by it a message a row."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest
import yaml

from marketprism_api import reasons
from marketprism_api.data_types import BUILT_IN, Declaration
from marketprism_api.load import parse
from marketprism_api.pipeline import StoragePipeline
from marketprism_api.problems import ResourceError
from marketprism_api.settings import effective
from marketprism_consumer.errors import MessageError
from marketprism_consumer.ingest.columns import columnar
from marketprism_consumer.ingest.decode import USUAL, decode, values_by_column
from marketprism_consumer.ingest.decode_fast import fast_decoder
from marketprism_consumer.schema.ddl import Target, create_table, plan
from marketprism_consumer.schema.tables import table_of

ARRIVED = 1_732_000_100_000_000
KLINE = """
kline:
  timestamp: {from: [k.t], unit: ms}
  fields:
    exchange: {subjectToken: 2}
    market_type: {value: spot}
    symbol: {from: [s]}
    interval: {type: LowCardinality(String), from: [k.i], oneOf: [1m, 5m, 1h]}
    open: {type: "Decimal(38, 18)", from: [k.o], check: positive}
    close: {type: "Decimal(20, 8)", from: [k.c, close]}
    volume: {type: "Decimal(38, 18)", from: [k.v], check: notNegative}
    trades: {type: UInt32, from: [k.n]}
    closed: {type: Bool, from: [k.x]}
    close_time: {type: DateTime64(3), from: [k.T], unit: ms}
    taker_volume: {type: "Nullable(Decimal(38, 18))", from: [k.V]}
  orderBy: [exchange, symbol, interval, timestamp]
  partition: day
"""
MESSAGE: dict[str, Any] = {
    "e": "kline", "E": 1732000060123, "s": "BTCUSDT",
    "k": {
        "t": 1732000000000, "T": 1732000059999, "i": "1m", "o": "91000.10", "c": "91010.00000001", "v": "12.5", "n": 345, "x": True,
    },
}  # fmt: skip


def pipeline(data_types: str) -> StoragePipeline:
    head = {"apiVersion": "storage.marketprism.io/v1alpha1", "kind": "StoragePipeline", "metadata": {"name": "main"}}
    (found,) = parse(yaml.safe_dump({**head, "spec": {"dataTypes": yaml.safe_load(data_types)}}))
    assert isinstance(found, StoragePipeline)
    return found


def declared(data_types: str) -> Declaration:
    (found,) = pipeline(data_types).spec.declarations.values()
    return found


def row(declaration: Declaration, message: dict[str, Any], subject: str = "kline.binance.x") -> dict[str, Any]:
    payload = json.dumps(message).encode()
    return values_by_column(table_of(declaration), decode(declaration, subject, payload, ARRIVED))


def refusal(declaration: Declaration, message: dict[str, Any], subject: str = "kline.binance.x") -> MessageError:
    with pytest.raises(MessageError) as caught:
        row(declaration, message, subject)
    return caught.value


def changed(**of_k: Any) -> dict[str, Any]:
    return MESSAGE | {"k": {**MESSAGE["k"], **of_k}}


def without(name: str) -> dict[str, Any]:
    return MESSAGE | {"k": {key: value for key, value in MESSAGE["k"].items() if key != name}}


def test_a_type_of_the_users_own_becomes_rows() -> None:
    assert row(declared(KLINE), MESSAGE) == {
        "timestamp": 1732000000000000, "exchange": "binance", "market_type": "spot", "symbol": "BTCUSDT",
        "interval": "1m", "open": "91000.10", "close": "91010.00000001", "volume": "12.5", "trades": 345, "closed": True,
        "close_time": 1732000059999, "taker_volume": None, "data_source": "", "collected_at": None,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("message", "reason", "field"),
    [
        (without("o"), reasons.MISSING_FIELD, "k.o"),
        (without("t"), reasons.MISSING_FIELD, "k.t"),
        (changed(o="0"), reasons.NEGATIVE_OR_ZERO, "k.o"),
        (changed(v="-1"), reasons.NEGATIVE_OR_ZERO, "k.v"),
        (changed(c="1.000000001"), reasons.DECIMAL_OUT_OF_RANGE, "k.c"),
        (changed(c="1e13"), reasons.DECIMAL_OUT_OF_RANGE, "k.c"),
        (changed(i="7m"), reasons.NOT_ONE_OF, "k.i"),
        (changed(n=-1), reasons.BAD_INTEGER, "k.n"),
        (changed(n=1 << 32), reasons.BAD_INTEGER, "k.n"),
        (changed(n=1.5), reasons.BAD_INTEGER, "k.n"),
        (changed(x="true"), reasons.WRONG_TYPE, "k.x"),
        (changed(T="soon"), reasons.BAD_TIME, "k.T"),
        (MESSAGE | {"k": 7}, reasons.MISSING_FIELD, "k.t"),
        (MESSAGE | {"s": ""}, reasons.BAD_TEXT, "s"),
    ],
)
def test_what_can_not_be_its_row_is_a_dead_letter(message: dict[str, Any], reason: Any, field: str) -> None:
    refused = refusal(declared(KLINE), message)
    assert (refused.reason, refused.field) == (reason, field)


def test_a_subject_without_the_token_lacks_the_field() -> None:
    assert refusal(declared(KLINE), MESSAGE, "kline").reason is reasons.MISSING_FIELD


VALUES = [
    ("Int8", -128, -128),
    ("UInt8", "255", 255),
    ("Int256", str(-(2**255)), -(2**255)),
    ("UInt256", 2**256 - 1, 2**256 - 1),
    ("Float64", "1e-3", 0.001),
    ("Float64", 2, 2.0),
    ("String", 12345, "12345"),
    ("LowCardinality(String)", "PERP", "PERP"),
    ("LowCardinality(Nullable(String))", None, None),
    ("Bool", False, False),
    ("UUID", "123E4567-E89B-12D3-A456-426614174000", "123e4567-e89b-12d3-a456-426614174000"),
    ("Decimal(76, 38)", "1234567890123456789012345678901234567.5", "1234567890123456789012345678901234567.5"),
    ("DateTime64(3)", "2024-11-19 07:06:40.123456", 1732000000123),
    ("DateTime64(6)", 1732000000.5, 1732000000500000),
    ("DateTime64(9)", "2024-11-19T07:06:40.123456789Z", 1732000000123456789),
    ("DateTime64(9)", 1732000000123456789, 1732000000123456789),
    ("Array(Decimal(38, 18))", ["1.5", 2], ["1.5", "2"]),
    ("Array(UInt64)", [], []),
    ("Nullable(UInt64)", None, None),
]


@pytest.mark.parametrize(("type_", "said", "stored"), VALUES)
def test_every_type_has_its_values(type_: str, said: Any, stored: Any) -> None:
    declaration = declared(f"own: {{fields: {{x: {{type: '{type_}'}}}}}}")
    message = {"ts_ms": 1732000000000, "exchange": "e", "market_type": "m", "symbol": "s", "x": said}
    assert row(declaration, message)["x"] == stored


@pytest.mark.parametrize(
    ("type_", "said", "reason"),
    [
        ("Int8", 128, reasons.BAD_INTEGER),
        ("Float64", "NaN", reasons.BAD_DECIMAL),
        ("Float64", "1e999", reasons.DECIMAL_OUT_OF_RANGE),
        ("UUID", "123", reasons.BAD_TEXT),
        ("Array(UInt8)", [1, 256], reasons.BAD_INTEGER),
        ("Array(UInt8)", 1, reasons.WRONG_TYPE),
        ("Array(UInt8)", None, reasons.MISSING_FIELD),
        ("DateTime64(9)", "1999-01-01 00:00:00", reasons.TIME_OUT_OF_RANGE),
    ],
)
def test_what_a_type_does_not_hold_is_refused(type_: str, said: Any, reason: Any) -> None:
    declaration = declared(f"own: {{fields: {{x: {{type: '{type_}'}}}}}}")
    message = {"ts_ms": 1732000000000, "exchange": "e", "market_type": "m", "symbol": "s", "x": said}
    assert refusal(declaration, message).reason is reason


def test_its_tables_are_made_as_it_says() -> None:
    target = Target("hot", "cold")
    table = table_of(declared(KLINE))
    hot, cold = (create_table(target, tier, table) for tier in ("hot", "cold"))
    assert "`close_time` DateTime64(3, 'UTC') CODEC(ZSTD(1))" in hot
    assert "PARTITION BY toYYYYMMDD(timestamp)\nORDER BY (exchange, symbol, interval, timestamp)" in hot
    assert "CODEC(ZSTD(3))" in cold
    assert [change.sql for change in plan(target, {}, ["hot", "cold"], [table]).changes if "`all_kline`" in change.sql]


# --- built-in types, as other collectors publish them -------------------------------------------------------------------

FOREIGN = """
trade:
  subject: md.*.trades
  timestamp: {from: [E, T], unit: ms}
  fields:
    exchange: {subjectToken: 2}
    market_type: {value: spot}
    symbol: {from: [data.*.s]}
    trade_id: {from: [data.*.t]}
    price: {from: [p, data.*.p]}
    quantity: {from: [data.*.q]}
    side: {from: [data.*.m], values: {"true": sell, "false": buy}}
    is_maker: {value: "false"}
    trade_time: {from: [E]}
"""


def test_a_built_in_type_is_found_where_another_collector_puts_it() -> None:
    declaration = declared(FOREIGN)
    assert declaration.subject == "md.*.trades"
    one = {"s": "BTCUSDT", "t": 17, "p": "1.5", "q": 2, "m": True}
    found = row(declaration, {"E": 1732000000000, "data": [one], "data_type": "something else"}, "md.okx.trades")
    assert {name: found[name] for name in ("exchange", "symbol", "trade_id", "price", "quantity", "side", "is_maker")} == {
        "exchange": "okx", "symbol": "BTCUSDT", "trade_id": "17", "price": "1.5", "quantity": "2", "side": "sell",
        "is_maker": False,
    }  # fmt: skip
    refused = refusal(declaration, {"E": 1732000000000, "data": [one, one]}, "md.okx.trades")
    assert (refused.reason, refused.field) == (reasons.SEVERAL_EVENTS, "data")
    assert (fast_decoder(declaration, USUAL), columnar(declaration)) == (None, None)
    assert table_of(declaration) == table_of(BUILT_IN["trade"])


def test_a_name_with_a_dot_is_looked_for_as_it_is_first() -> None:
    declaration = declared("own: {fields: {x: {type: UInt8, from: [a.b]}}}")
    message = {"ts_ms": 1732000000000, "exchange": "e", "market_type": "m", "symbol": "s", "a": {"b": 1}}
    assert row(declaration, message)["x"] == 1
    assert row(declaration, {**message, "a.b": 2})["x"] == 2


def test_levels_are_found_in_other_forms() -> None:
    declaration = declared(
        "orderbook: {timestamp: {from: [ts]}, fields: {bids: {from: [b], level: ['1', '2']}, asks: {from: [a], level: ['1', '2']},"
        " update_type: {from: [type], values: {new: snapshot}}}}"
    )
    book = {"ts": 1732000000000, "exchange": "e", "market_type": "spot", "symbol": "s", "type": "new"}
    found = row(declaration, {**book, "b": [["new", 5.5, 30]], "a": [["new", "6", "1"], ["new", 7, 2]]})
    assert (found["bid_prices"], found["bid_quantities"], found["asks_count"]) == (["5.5"], ["30"], 2)
    assert (found["update_type"], found["best_ask_price"]) == ("snapshot", "6")
    by_name = declared(
        "orderbook: {timestamp: {from: [ts]}, fields: {bids: {level: [p, amount]}, asks: {level: [p, amount]}}}"
    )
    found = row(by_name, {**book, "type": None, "bids": [{"p": 1, "amount": 2}], "asks": []})
    assert (Decimal(found["best_bid_price"]), found["asks_count"]) == (1, 0)


def test_a_type_that_is_as_built_in_keeps_its_fast_paths() -> None:
    declaration = declared("trade: {subject: 'md.trades.>', batch: {maxRows: 5}}")
    assert fast_decoder(declaration, USUAL)
    assert effective(pipeline("trade: {}"), {}).data_types["trade"].declaration is BUILT_IN["trade"]


# --- what is refused ----------------------------------------------------------------------------------------------------

OWN = "fields: {x: {type: UInt8}}"


@pytest.mark.parametrize(
    ("data_types", "path", "said"),
    [
        ("kline: {}", "kline.fields", "is required"),
        (f"Kline: {{{OWN}}}", "Kline", "lower case"),
        (f"default: {{{OWN}}}", "default", "taken for something else"),
        ("kline: {fields: {x: {}}}", "kline.fields.x.type", "Decimal(38, 18)"),
        ("kline: {fields: {x: {type: Decimal}}}", "kline.fields.x.type", "write Decimal(38, 18)"),
        ("kline: {fields: {x: {type: 'Decimal(77, 2)'}}}", "kline.fields.x.type", "76 digits"),
        ("kline: {fields: {x: {type: 'Decimal(10, 12)'}}}", "kline.fields.x.type", "76 digits"),
        ("kline: {fields: {x: {type: Enum8}}}", "kline.fields.x.type", "oneOf"),
        ("kline: {fields: {x: {type: 'Nullable(LowCardinality(String))'}}}", "kline.fields.x.type", "write LowCardinality(Nullable"),
        ("kline: {fields: {created_at: {type: UInt8}}}", "kline.fields.created_at", "set by us"),
        ("kline: {fields: {_seq: {type: UInt8}}}", "kline.fields._seq", "lower case"),
        ("kline: {fields: {from: {type: UInt8}}}", "kline.fields.from", "a word of SQL"),
        ("kline: {fields: {timestamp: {type: UInt8}}}", "kline.fields.timestamp", "write it in timestamp"),
        ("kline: {fields: {symbol: {type: String}, x: {type: UInt8}}}", "kline.fields.symbol.type", "every data type has it"),
        ("kline: {fields: {x: {type: UInt8, unit: ms}}}", "kline.fields.x.unit", "time only"),
        ("kline: {fields: {x: {type: UInt8, oneOf: [a]}}}", "kline.fields.x.oneOf", "text only"),
        ("kline: {fields: {x: {type: String, check: positive}}}", "kline.fields.x.check", "Decimal"),
        ("kline: {fields: {x: {type: UInt8, value: '1', from: [y]}}}", "kline.fields.x.value", "one of them"),
        (f"kline: {{{OWN}, orderBy: [y]}}", "kline.orderBy", "y is no column"),
        ("kline: {fields: {x: {type: Nullable(UInt8)}}, orderBy: [x]}", "kline.orderBy", "x is no column"),
        (f"kline: {{{OWN}, table: trades}}", "kline.table", "the table of trade"),
        (f"a: {{{OWN}, table: t}}\nb: {{{OWN}, table: t}}", "b.table", "the table of a"),
        (f"a: {{{OWN}, subject: 'md.>'}}\nb: {{{OWN}, subject: 'md.*.x'}}", "b.subject", "md.*.x in common"),
        (f"a: {{{OWN}, subject: 'md. >'}}", "a.subject", "kline.>"),
        ("trade: {table: deals}", "trade.table", "built-in"),
        ("trade: {orderBy: [symbol]}", "trade.orderBy", "built-in"),
        ("trade: {fields: {prize: {from: [p]}}}", "trade.fields.prize", "trade has no such field"),
        ("trade: {fields: {price: {type: String}}}", "trade.fields.price.type", "built-in"),
        ("trade: {fields: {price: {level: [a, b]}}}", "trade.fields.price.level", "bids and asks"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named(data_types: str, path: str, said: str) -> None:
    with pytest.raises(ResourceError) as caught:
        pipeline(data_types)
    assert [problem.path for problem in caught.value.problems] == [f"spec.dataTypes.{path}"], str(caught.value)
    assert said in str(caught.value)
