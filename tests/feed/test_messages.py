"""The generator: the same for the same arguments, every form of the wire in it, and a truth that is its own."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from functools import cache
from itertools import islice, pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from marketprism_consumer.feed import (
    BAD_KINDS,
    DATA_TYPES,
    FeedMessage,
    arguments,
    messages,
    regenerate,
)
from marketprism_consumer.feed.messages import decimal_number


@cache
def sample() -> tuple[FeedMessage, ...]:
    """Slow event time, so that many ratio buckets pass, and every type equally often where it matters."""
    rare = [name for name in DATA_TYPES if name not in ("trade", "orderbook")]
    return (
        *islice(messages(1, rate=2.0, book_levels=4, symbols=3), 12_000),
        *islice(messages(2, types=rare, rate=0.5), 6_000),
    )


def parsed(message: FeedMessage) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(message.payload, parse_float=Decimal)
    return found


@cache
def bodies() -> tuple[tuple[FeedMessage, dict[str, Any]], ...]:
    return tuple((message, parsed(message)) for message in sample())


# --- the same again -----------------------------------------------------------------------------------------------


@given(seed=st.integers(), bad=st.sampled_from([0.0, 0.2]), levels=st.integers(1, 30), symbols=st.integers(1, 8))
@settings(max_examples=15, deadline=None)
def test_same_arguments_same_bytes(seed: int, bad: float, levels: int, symbols: int) -> None:
    def run() -> list[FeedMessage]:
        return list(islice(messages(seed, bad_ratio=bad, book_levels=levels, symbols=symbols), 150))

    assert run() == run()


def test_other_seed_or_start_other_messages_and_no_shared_trade_id() -> None:
    first, second, later = (
        {m.msg_id for m in islice(messages(seed, types=["trade"], start=start), 500)}
        for seed, start in ((1, None), (2, None), (1, datetime(2026, 1, 1, tzinfo=UTC)))
    )
    assert first & second == first & later == {None}


def test_regenerated_from_the_reported_arguments() -> None:
    start = datetime(2026, 2, 3, 4, 5, 6, 789_012, tzinfo=UTC)
    reported = arguments(5, types=["trade", "orderbook"], bad_ratio=0.1, start=start, rate=77.5)
    again = regenerate(json.loads(json.dumps(reported)))
    original = messages(5, types=["trade", "orderbook"], bad_ratio=0.1, start=start, rate=77.5)
    assert list(islice(again, 300)) == list(islice(original, 300))


@pytest.mark.parametrize(
    "wrong",
    [{"types": ["quote"]}, {"types": []}, {"symbols": 0}, {"bad_ratio": 2}, {"book_levels": 401}, {"rate": 0}],
)
def test_wrong_arguments(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        next(messages(1, **wrong))


# --- the mix ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(5))
def test_every_type_within_fifty_messages(seed: int) -> None:
    assert {m.data_type for m in islice(messages(seed), 50)} == set(DATA_TYPES)


def test_trades_and_books_are_99_percent() -> None:
    found = [m.data_type for m in islice(messages(3), 50, 10_050)]
    assert 0.98 < sum(name in ("trade", "orderbook") for name in found) / len(found) < 0.999
    assert set(found) == set(DATA_TYPES)


# --- every form of the wire ---------------------------------------------------------------------------------------

Body = dict[str, Any]
Variant = Callable[[FeedMessage, Body], bool]


def time_is(pattern: str) -> Variant:
    return lambda _, body: isinstance(body.get("timestamp"), str) and bool(re.fullmatch(pattern, body["timestamp"]))


def epoch_is(digits: int, kind: type) -> Variant:
    return lambda _, body: type(body.get("timestamp")) is kind and len(str(body["timestamp"])) == digits


def field(name: str, test: Callable[[Any], bool]) -> Variant:
    return lambda _, body: name in body and test(body[name])


def equals(name: str, expected: object) -> Variant:
    return field(name, lambda value: bool(value == expected))


def of(data_type: str, variant: Variant) -> Variant:
    return lambda message, body: message.data_type == data_type and variant(message, body)


def without(name: str) -> Variant:
    return lambda _, body: name not in body


EXCHANGES = (
    *("binance_spot", "binance_derivatives", "okx_spot", "okx_derivatives", "deribit_derivatives"),
    *("binance", "okx", "deribit"),
)
DATE, CLOCK = r"\d{4}-\d\d-\d\d", r"\d\d:\d\d:\d\d"
VARIANTS: dict[str, Variant] = {
    "older": lambda _, body: "timestamp" in body and "ts_ms" not in body,
    "newer": lambda _, body: "ts_ms" in body and "timestamp" not in body,
    "space, ms": time_is(rf"{DATE} {CLOCK}\.\d{{3}}"),
    "T, µs, offset": time_is(rf"{DATE}T{CLOCK}\.\d{{6}}\+00:00"),
    "space, µs, offset": time_is(rf"{DATE} {CLOCK}\.\d{{6}}\+00:00"),
    "Z": time_is(rf"{DATE}T{CLOCK}\.\d{{3}}Z"),
    "offset and Z": time_is(rf"{DATE}T{CLOCK}\.\d{{6}}\+00:00Z"),
    "+08:00": time_is(rf"{DATE}T{CLOCK}\.\d{{6}}\+08:00"),
    **{f"epoch {digits} number": epoch_is(digits, int) for digits in (10, 13, 16, 19)},
    **{f"epoch {digits} text": epoch_is(digits, str) for digits in (10, 13, 16, 19)},
    "ts_ms as digits": field("ts_ms", lambda value: isinstance(value, str)),
    "price as text": of("trade", field("price", lambda value: isinstance(value, str))),
    "price as number": of("trade", field("price", lambda value: isinstance(value, Decimal))),
    "6.11e-05": lambda message, _: re.search(rb'":-?\d(\.\d+)?e-\d\d[,}]', message.payload) is not None,
    "28-digit ratio": field("long_position_ratio", lambda value: len(str(value)) == 30),
    "28-digit ratio as number": field("long_account_ratio", lambda v: isinstance(v, Decimal) and len(str(v)) == 30),
    "levels as objects": field("bids", lambda value: bool(value) and isinstance(value[0], dict)),
    "levels as pairs": field("asks", lambda value: bool(value) and isinstance(value[0], list)),
    "level numbers": field("bids", lambda value: bool(value) and isinstance(next(iter(value[0])), Decimal)),
    "no bids": lambda _, body: body.get("bids") == [] and bool(body["asks"]),
    "no asks": lambda _, body: body.get("asks") == [] and bool(body["bids"]),
    "neither": lambda _, body: body.get("asks") == body.get("bids") == [],
    "quantity 0": field(
        "bids", lambda value: any(Decimal(str([*level][1])) == 0 for level in value if type(level) is list)
    ),
    "update id null": field("last_update_id", lambda value: value is None),
    "update id absent": of("orderbook", without("last_update_id")),
    "update id beyond 2**53": field("last_update_id", lambda value: (value or 0) > 2**53),
    **{f"update_type {kind}": equals("update_type", kind) for kind in ("update", "snapshot", None)},
    "update_type absent": of("orderbook", without("update_type")),
    "no chain": of("orderbook", without("prev_update_id")),
    **{f"side {side}": of("trade", equals("side", side)) for side in ("buy", "sell", "unknown")},
    "is_maker": field("is_maker", lambda value: isinstance(value, bool)),
    "is_maker null": field("is_maker", lambda value: value is None),
    "is_maker absent": of("trade", without("is_maker")),
    "mark price null": field("mark_price", lambda value: value is None),
    "no margin ratio": of("liquidation", without("margin_ratio")),
    "no data source": without("data_source"),
    "quote in the symbol": lambda message, body: "'" in message.subject and "'" in body["symbol"],
    "tiny price": of("trade", field("price", lambda value: Decimal(value) < Decimal("1e-9"))),
    "huge quantity": of("trade", field("quantity", lambda value: Decimal(value) > 10**13)),
    "only the common fields": of("volatility_index", without("currency")),
    "index null": of("volatility_index", field("volatility_index", lambda value: value is None)),
    "only vol_index": of(
        "volatility_index", lambda _, b: b.get("vol_index") is not None and "volatility_index" not in b
    ),
    "only volatility_index": of("volatility_index", lambda _, b: "volatility_index" in b and "vol_index" not in b),
    "OKX funding in the future": lambda m, _: (
        m.data_type == "funding_rate" and m.truth is not None and m.truth["timestamp"] > m.truth["collected_at"]  # type: ignore[operator]
    ),
    "own funding time": field("funding_ts_ms", lambda value: isinstance(value, int)),
    "swap symbol": lambda message, _: message.subject.endswith("BTC-USDT-SWAP"),
    "1h": field("period", lambda value: value == "1h"),
    "without Nats-Msg-Id": lambda message, _: message.msg_id is None,
    **{f"market type {name}": equals("market_type", name) for name in ("spot", "perpetual", "futures", "options")},
    **{f"exchange {name}": equals("exchange", name) for name in EXCHANGES},
}


@pytest.mark.parametrize("name", VARIANTS)
def test_variant_occurs(name: str) -> None:
    assert any(VARIANTS[name](message, body) for message, body in bodies())


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("0.00006110", "6.11e-05"),
        ("-0.0000375", "-3.75e-05"),
        ("0.0001", "0.0001"),
        ("3", "3"),
        ("3.50", "3.5"),
        ("0.00", "0"),
        ("100", "100"),
    ],
)
def test_numbers_look_like_a_programs(value: str, text: str) -> None:
    assert bytes(decimal_number(Decimal(value))).decode() == text


# --- markets ------------------------------------------------------------------------------------------------------


def by_market(data_type: str) -> dict[str, list[FeedMessage]]:
    found: dict[str, list[FeedMessage]] = {}
    for message in islice(messages(4, types=[data_type], book_levels=40), 2_000):
        found.setdefault(message.subject, []).append(message)
    return found


def test_trade_ids_follow_each_other() -> None:
    for trades in by_market("trade").values():
        ids = [int(m.truth["trade_id"]) for m in trades if m.truth]  # type: ignore[call-overload]
        assert ids == list(range(ids[0], ids[0] + len(ids)))


def test_books_are_sorted_uncrossed_and_chained() -> None:
    for books in by_market("orderbook").values():
        for message in books:
            book: dict[str, Any] = message.truth or {}
            bids, asks = book["bid_prices"], book["ask_prices"]
            assert all(a > b for a, b in pairwise(bids))
            assert all(a < b for a, b in pairwise(asks))
            assert all(price > 0 for price in bids)
            assert not (bids and asks) or bids[0] < asks[0]
            assert len(bids) in (0, 40)
        for before, after in pairwise(m.truth or {} for m in books):
            if before["last_update_id"] is not None and after["prev_update_id"] is not None:
                assert after["prev_update_id"] == before["last_update_id"]


def test_an_id_names_one_content() -> None:
    """Else JetStream would drop a message that is nobody's repeat."""
    contents: dict[str, tuple[str, bytes]] = {}
    repeats = 0
    runs = [messages(seed, bad_ratio=0.1, book_levels=1, types=DATA_TYPES[2:] + DATA_TYPES[:1]) for seed in (1, 2)]
    for run in runs:
        for message in islice(run, 10_000):
            if message.msg_id is not None:
                content = (message.subject, message.payload)
                repeats += message.msg_id in contents
                assert contents.setdefault(message.msg_id, content) == content
                assert message.msg_id.startswith(f"{message.data_type}:{message.subject.split('.')[1]}:")
    assert repeats


# --- truth --------------------------------------------------------------------------------------------------------


def plain_time(text: str) -> int:
    whole, fraction = text.split(".")
    return int(datetime.strptime(whole + "+0000", "%Y-%m-%d %H:%M:%S%z").timestamp()) * 10**9 + int(fraction) * 10**6


def test_truth_is_what_a_plain_message_says() -> None:
    """By a reader of its own that knows one form only: the older, texts, `YYYY-MM-DD HH:MM:SS.mmm`."""
    read = 0
    for message, body in bodies():
        times = [body.get(name) for name in ("timestamp", "collected_at", "trade_time")]
        if message.data_type != "trade" or type(body["price"]) is not str:
            continue
        if not all(isinstance(text, str) and re.fullmatch(rf"{DATE} {CLOCK}\.\d{{3}}", text) for text in times):
            continue
        read += 1
        assert message.truth == {
            **{name: body[name] for name in ("exchange", "market_type", "symbol", "trade_id", "side")},
            **{name: plain_time(body[name]) for name in ("timestamp", "collected_at", "trade_time")},
            **{name: Decimal(body[name]) for name in ("price", "quantity")},
            **{name: body.get(name) for name in ("is_maker", "data_source")},
        }
    assert read > 1_000


def test_levels_are_the_truths() -> None:
    for message, body in bodies():
        if message.data_type == "orderbook" and message.truth:
            for side, name in (("bids", "bid"), ("asks", "ask")):
                levels = [[*level.values()] if isinstance(level, dict) else level for level in body[side]]
                assert [Decimal(price) for price, _ in levels] == message.truth[f"{name}_prices"]
                assert [Decimal(quantity) for _, quantity in levels] == message.truth[f"{name}_quantities"]


def test_exchange_and_symbol_are_the_subjects() -> None:
    for message, body in bodies():
        truth = message.truth or {}
        place = (truth["exchange"], truth["market_type"], truth["symbol"])
        assert (message.data_type, *place) == tuple(message.subject.split("."))
        assert place == (body["exchange"], body["market_type"], body["symbol"])


# --- bad messages -------------------------------------------------------------------------------------------------


@cache
def spoiled() -> tuple[FeedMessage, ...]:
    return tuple(islice(messages(6, bad_ratio=1.0, book_levels=2), 3_000))


def test_every_bad_kind_occurs() -> None:
    assert {m.bad_kind for m in spoiled()} == set(BAD_KINDS)
    assert all(m.truth is None for m in spoiled())


def test_bad_share() -> None:
    found = list(islice(messages(6, bad_ratio=0.05, book_levels=1), 8_000))
    assert all((m.truth is None) == (m.bad_kind is not None) for m in found)
    assert 0.04 < sum(m.truth is None for m in found) / len(found) < 0.06


def is_object(payload: bytes) -> bool:
    try:
        return isinstance(json.loads(payload.decode()), dict)
    except (ValueError, RecursionError):
        return False


def test_bad_bytes_are_bad_json_and_bad_values_are_not() -> None:
    broken = {"empty", "broken_json", "truncated", "not_utf8", "array", "deep_nesting"}
    for message in spoiled():
        if message.bad_kind != "deep_nesting":  # a matter of the reader's depth
            assert is_object(message.payload) == (message.bad_kind not in broken), message.bad_kind
