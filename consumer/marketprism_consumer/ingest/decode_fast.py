"""The forms in which nearly all trades and order books come, decoded sooner: the same row as `decode` gives, or None.

None is no judgement: whatever is not exactly a form known here goes to `decode`, the one rule, which also finds the reason
for a refusal. A test holds both against each other.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from typing import Any

import msgspec

from marketprism_api import reasons
from marketprism_api.data_types import BUILT_IN, Declaration
from marketprism_api.messages import MessageLimits
from marketprism_consumer.errors import MessageError
from marketprism_consumer.ingest import kernel
from marketprism_consumer.ingest.decode import BOOK_TYPES, SIDES, Row, book_values, check_arrival
from marketprism_consumer.ingest.levels import MAX_LEVELS, read_side
from marketprism_consumer.ingest.values import EARLIEST, LATEST, micros

_plain = re.compile(r"\d{1,19}(?:\.\d{1,18})?", re.ASCII).fullmatch
_decode_numbers = msgspec.json.Decoder(list[float]).decode
_IN_A_LIST = b"0123456789.,[]"
_ANY_DIGIT = bytes.maketrans(b"123456789", b"000000000")
_TOO_LONG = b"0" * 19  # digits on one side of the point: more than 18 may not fit the column
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


class _BookOfRaws(_Book, gc=False, kw_only=True):
    bids: msgspec.Raw
    asks: msgspec.Raw


class _BookOfObjects(_Book, gc=False, kw_only=True):
    bids: list[_Level]
    asks: list[_Level]


class _BookOfPairs(_Book, gc=False, kw_only=True):
    bids: list[tuple[str, str]]
    asks: list[tuple[str, str]]


_decode_trade = msgspec.json.Decoder(_Trade).decode
_decode_raws = msgspec.json.Decoder(_BookOfRaws).decode
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
            or not _plain(m.price)
            or not m.price.strip("0.")
            or not _plain(m.quantity)
            or not _named(m)
        ):
            return None
        event = _time(m.trade_ts_ms, m.timestamp, m.ts_ms)
        # Nearly always one time, written twice.
        once = m.trade_ts_ms is not None or (m.trade_time is not None and m.trade_time == m.timestamp)
        traded = event if once else _time(None, m.trade_time, None)
        if event is None or traded is None:
            return None
        check_arrival(event, arrived)
        return (
            event, m.exchange, m.market_type, m.symbol, m.trade_id, m.price, m.quantity, m.side, m.is_maker, traded,
            m.data_source or "", _time(None, m.collected_at, m.collected_ts_ms),
        )  # fmt: skip
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError, MessageError):
        return None


def orderbook(payload: bytes, arrived: int, most: int = MAX_LEVELS) -> Row | None:
    if not payload.isascii():
        return None
    try:
        found = _by_kernel(payload) if kernel.library else None
        m, book = found or _by_python(payload)
        event = _time(None, m.timestamp, m.ts_ms)
        ids = (m.last_update_id, m.first_update_id, m.prev_update_id)
        kind = BOOK_TYPES.get(m.update_type) if m.update_type else None
        if (
            book is None
            or max(book[0], book[1]) > most
            or event is None
            or m.data_type != "orderbook"
            or not _named(m)
            or not all(i is None or 0 <= i < 1 << 64 for i in ids)
            or not 0 <= (m.depth_levels or 0) < 1 << 32
            or (m.update_type and not kind)
        ):
            return None
        check_arrival(event, arrived)
        return (
            event, m.exchange, m.market_type, m.symbol, *ids, kind, m.depth_levels, *book,
            _time(None, m.standardized_at, None), m.data_source or "", _time(None, m.collected_at, m.collected_ts_ms),
        )  # fmt: skip
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError, MessageError):
        return None


def _by_kernel(payload: bytes) -> tuple[_Book, tuple[Any, ...]] | None:
    m = _decode_raws(payload)
    bids = read_side(bytes(m.bids), highest=True)
    asks = read_side(bytes(m.asks), highest=False)
    if bids is None or asks is None:
        return None
    return m, (
        bids.levels, asks.levels, bids.best_price, bids.best_quantity, asks.best_price, asks.best_quantity,
        bids.prices, bids.quantities, asks.prices, asks.quantities,
    )  # fmt: skip


def _by_python(payload: bytes) -> tuple[_Book, tuple[Any, ...] | None]:
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
    if max(len(bid_prices), len(ask_prices)) > MAX_LEVELS:
        return m, None
    return m, _levels(bid_prices, bid_quantities, ask_prices, ask_quantities)


FastDecoder = Callable[[bytes, int], Row | None]
DECODERS: dict[str, FastDecoder] = {"trade": trade, "orderbook": orderbook}


def fast_decoder(declaration: Declaration, limits: MessageLimits) -> FastDecoder | None:
    """None where the data type has none: one of the user's own, or one whose fields stand elsewhere."""
    if not as_built_in(declaration):
        return None
    return (
        partial(orderbook, most=limits.max_levels)
        if declaration.name == "orderbook"
        else DECODERS.get(declaration.name)
    )


def as_built_in(declaration: Declaration) -> bool:
    built_in = BUILT_IN.get(declaration.name)
    return built_in is not None and built_in.decoding == declaration.decoding


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
            raise MessageError(reasons.TIME_OUT_OF_RANGE)
        return ms * 1000
    return None if text is None else micros(text, "")


def _columns(levels: list[tuple[str, str]]) -> tuple[list[str], list[str]]:
    if not levels:
        return [], []
    prices, quantities = zip(*levels, strict=True)
    return list(prices), list(quantities)


def _levels(bp: list[str], bq: list[str], ap: list[str], aq: list[str]) -> tuple[Any, ...] | None:
    """The book's values where every level is of plain digits, prices above zero, best first; None where any is not."""
    texts = [*bp, *bq, *ap, *aq]
    text = f"[{','.join(texts)}]".encode()
    if text.translate(None, _IN_A_LIST) or _TOO_LONG in text.translate(_ANY_DIGIT):
        return None
    numbers = _decode_numbers(text)  # only plain decimals are left: JSON's grammar takes no `1.`, `.5` or `007`
    bids, asks = numbers[: len(bp)], numbers[2 * len(bp) : 2 * len(bp) + len(ap)]
    if len(numbers) != len(texts) or 0.0 in bids or 0.0 in asks:
        return None
    # Rounding to float keeps order or makes two equal, so what is strictly the best float is the best price.
    bids_led = len(bids) < 2 or max(bids[1:]) < bids[0]
    asks_led = len(asks) < 2 or min(asks[1:]) > asks[0]
    sizes = [*numbers[len(bp) : len(bp) + 1], *numbers[len(numbers) - len(aq) :][:1]]
    if not (bids_led and asks_led) or 0.0 in sizes:
        return book_values(bp, bq, ap, aq)
    return (
        len(bp), len(ap),
        bp[0] if bp else None, bq[0] if bq else None, ap[0] if ap else None, aq[0] if aq else None,
        bp, bq, ap, aq,
    )  # fmt: skip
