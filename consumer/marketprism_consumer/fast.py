"""The forms in which nearly all trades and order books come, decoded sooner: the same row as `decode` gives, or None.

None is no judgement: whatever is not exactly a form known here goes to `decode`, the one rule, which also finds the reason
for a refusal. A test holds both against each other.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from itertools import chain

import msgspec
from marketprism_api import reasons

from marketprism_consumer.decode import MAX_LEVELS, SIDES, Row, book_values, check_arrival
from marketprism_consumer.values import EARLIEST, LATEST, PLAIN_POSITIVE, Refusal, micros

_quantity = re.compile(r"\d{1,19}(?:\.\d{1,18})?", re.ASCII).fullmatch
_MILLIS = (EARLIEST // 1000, LATEST // 1000)


class _Common(msgspec.Struct, gc=False):
    exchange: str
    market_type: str
    symbol: str
    data_type: str
    data_source: str | None = None
    timestamp: str | None = None
    ts_ms: int | None = None
    collected_at: str | None = None
    collected_ts_ms: int | None = None


class _Trade(_Common, gc=False, kw_only=True):
    price: str
    quantity: str
    side: str
    trade_id: str
    is_maker: bool | None = None
    trade_time: str | None = None
    trade_ts_ms: int | None = None


class _Level(msgspec.Struct, gc=False):
    price: str
    quantity: str


class _Book(_Common, gc=False, kw_only=True):
    last_update_id: int | None = None
    first_update_id: int | None = None
    prev_update_id: int | None = None
    update_type: str | None = None
    depth_levels: int | None = None
    standardized_at: str | None = None


class _BookOfObjects(_Book, gc=False, kw_only=True):
    bids: list[_Level]
    asks: list[_Level]


class _BookOfPairs(_Book, gc=False, kw_only=True):
    bids: list[tuple[str, str]]
    asks: list[tuple[str, str]]


_decode_trade = msgspec.json.Decoder(_Trade).decode
_decode_objects = msgspec.json.Decoder(_BookOfObjects).decode
_decode_pairs = msgspec.json.Decoder(_BookOfPairs).decode


def trade(payload: bytes, arrived: int) -> Row | None:
    if not payload.isascii():  # `decode` looks at every name for bytes that are not UTF-8
        return None
    try:
        m = _decode_trade(payload)
        if (
            m.data_type != "trade"
            or m.side not in SIDES
            or not 0 < len(m.trade_id) <= 256
            or not PLAIN_POSITIVE(m.price)
            or not _quantity(m.quantity)
            or not _named(m)
        ):
            return None
        event = _time(m.trade_ts_ms, m.timestamp, m.ts_ms)
        traded = _time(m.trade_ts_ms, m.trade_time, None)
        if event is None or traded is None:
            return None
        check_arrival(event, arrived)
        return (
            event, m.exchange, m.market_type, m.symbol, m.trade_id, m.price, m.quantity, m.side, m.is_maker, traded,
            m.data_source or "", _time(None, m.collected_at, m.collected_ts_ms),
        )  # fmt: skip
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError, Refusal):
        return None


def orderbook(payload: bytes, arrived: int) -> Row | None:
    if not payload.isascii():
        return None
    try:
        try:
            m: _BookOfObjects | _BookOfPairs = _decode_objects(payload)
            bid_prices = [level.price for level in m.bids]  # type: ignore[union-attr]
            bid_quantities = [level.quantity for level in m.bids]  # type: ignore[union-attr]
            ask_prices = [level.price for level in m.asks]  # type: ignore[union-attr]
            ask_quantities = [level.quantity for level in m.asks]  # type: ignore[union-attr]
        except msgspec.ValidationError:
            m = _decode_pairs(payload)
            bid_prices, bid_quantities = _columns(m.bids)
            ask_prices, ask_quantities = _columns(m.asks)
        if m.data_type != "orderbook" or not _named(m) or max(len(bid_prices), len(ask_prices)) > MAX_LEVELS:
            return None
        book = _levels(bid_prices, bid_quantities, ask_prices, ask_quantities)
        event = _time(None, m.timestamp, m.ts_ms)
        ids = (m.last_update_id, m.first_update_id, m.prev_update_id)
        if (
            book is None
            or event is None
            or not all(i is None or 0 <= i < 1 << 64 for i in ids)
            or not 0 <= (m.depth_levels or 0) < 1 << 32
            or len(m.update_type or "") > 256
        ):
            return None
        check_arrival(event, arrived)
        return (
            event, m.exchange, m.market_type, m.symbol, *ids, m.update_type, m.depth_levels, *book,
            _time(None, m.standardized_at, None), m.data_source or "", _time(None, m.collected_at, m.collected_ts_ms),
        )  # fmt: skip
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError, Refusal):
        return None


DECODERS: dict[str, Callable[[bytes, int], Row | None]] = {"trade": trade, "orderbook": orderbook}


def _named(m: _Common) -> bool:
    return (
        0 < len(m.exchange) <= 128
        and 0 < len(m.market_type) <= 128
        and 0 < len(m.symbol) <= 128
        and (m.data_source is None or len(m.data_source) <= 256)
    )


def _time(first_ms: int | None, text: str | None, last_ms: int | None) -> int | None:
    """The first of the three that is there, in µs. Milliseconds outside 2009 to 2100 are left to `decode`."""
    ms = first_ms if first_ms is not None else None if text is not None else last_ms
    if ms is not None:
        if not _MILLIS[0] <= ms < _MILLIS[1] or ms < 10**11:
            raise Refusal(reasons.TIME_OUT_OF_RANGE)
        return ms * 1000
    return None if text is None else micros(text, "")


def _columns(levels: list[tuple[str, str]]) -> tuple[list[str], list[str]]:
    if not levels:
        return [], []
    prices, quantities = zip(*levels, strict=True)
    return list(prices), list(quantities)


def _levels(bp: list[str], bq: list[str], ap: list[str], aq: list[str]) -> tuple[object, ...] | None:
    """The book's values where every level is of plain digits, prices above zero, best first; None where any is not."""
    text = ",".join(("", *bp, *bq, *ap, *aq, ""))
    if not text.isascii() or text.encode().translate(None, b"0123456789.,") or ",." in text or ".," in text:
        return None
    # Only digits, and dots between them, are left, so `float` takes exactly the plain decimals, and 19 characters fit the
    # column. It tells prices of up to 15 characters apart, so that the order it sees is the true one.
    try:
        longest_price, longest_size = max(map(len, chain(bp, ap)), default=0), max(map(len, chain(bq, aq)), default=0)
        bids, asks = list(map(float, bp)), list(map(float, ap))
        bid_sizes, ask_sizes = list(map(float, bq)), list(map(float, aq))
    except ValueError:
        return None
    if max(longest_price, longest_size) > 19 or 0.0 in bids or 0.0 in asks:
        return None
    if longest_price > 15 or not (_best_first(bids, bid_sizes, max) and _best_first(asks, ask_sizes, min)):
        return book_values(bp, bq, ap, aq)
    return (
        len(bp), len(ap),
        bp[0] if bp else None, bq[0] if bq else None, ap[0] if ap else None, aq[0] if aq else None,
        bp, bq, ap, aq,
    )  # fmt: skip


def _best_first(prices: list[float], sizes: list[float], choose: Callable[[list[float]], float]) -> bool:
    return not prices or (prices[0] == choose(prices) and sizes[0] > 0)
