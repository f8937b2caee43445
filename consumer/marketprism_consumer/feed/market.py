"""Markets that look real enough to fool a chart: seeded, continuous, one per exchange, market type and symbol.

A market hands out events as plain values under their column names (decimals, integers, nanoseconds); None means that
the source leaves the field out. How an event is written on the wire is the business of `messages`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Context, Decimal
from random import Random
from typing import TypeVar, cast

T = TypeVar("T")
Values = dict[str, object]

DATA_TYPES = (
    "trade",
    "orderbook",
    "funding_rate",
    "open_interest",
    "liquidation",
    "lsr_top_position",
    "lsr_all_account",
    "volatility_index",
)

SECOND = 10**9
BUCKET = 300 * SECOND
FUNDING_INTERVAL = 8 * 3600 * SECOND

_EXACT = Context(prec=100)  # the default one would round a product of long numbers


def scaled(units: int, digits: int) -> Decimal:
    """units * 10**-digits, exact whatever the caller's decimal context is."""
    return Decimal(f"{units}e-{digits}")


@dataclass(frozen=True, slots=True)
class Asset:
    name: str
    ticks: int  # price to start from, in units of 10**-price_digits
    price_digits: int
    lot: int  # usual quantity, in units of 10**-quantity_digits
    quantity_digits: int


_KNOWN = (
    Asset("BTC", 11_234_567, 2, 150_000, 8),
    Asset("ETH", 412_345, 2, 2_500_000, 8),
    Asset("SOL", 21_512_300, 5, 4_000, 3),
    Asset("XRP", 29_012_000, 7, 3_000, 1),
    Asset("PEPE", 9_731_000, 12, 250_000_000, 1),
)

# What breaks naive storage at once: a quote in the symbol, a price near 1e-10, quantities near 1e13.
ODD = Asset("D'OGE", 61_100, 14, 10**13, 0)


def assets(count: int) -> Iterator[Asset]:
    yield from _KNOWN[:count]
    for number in range(len(_KNOWN), count):
        yield Asset(f"COIN{number}", 1_000_000 + 7_919 * number, 4, 50_000, 4)


@dataclass(frozen=True, slots=True)
class Venue:
    exchange: str
    market_type: str
    newer: bool  # the newer collectors' wire form: `*_ts_ms`, numbers
    types: tuple[str, ...]


_BOTH = ("trade", "orderbook")
_SWAP = (*_BOTH, "funding_rate", "open_interest", "liquidation")
_RATIOS = ("lsr_top_position", "lsr_all_account")

VENUES = (
    Venue("binance_spot", "spot", False, _BOTH),
    Venue("binance_derivatives", "perpetual", False, _SWAP + _RATIOS),
    Venue("okx_spot", "spot", False, _BOTH),
    Venue("okx_derivatives", "perpetual", False, _SWAP + _RATIOS),
    Venue("deribit_derivatives", "perpetual", False, _SWAP),
    Venue("deribit_derivatives", "options", False, ("volatility_index",)),
    Venue("binance", "spot", True, _BOTH),
    Venue("binance", "perpetual", True, _SWAP + _RATIOS),
    Venue("okx", "perpetual", True, _SWAP + _RATIOS),
    Venue("okx", "futures", True, _BOTH),
    Venue("deribit", "perpetual", True, _SWAP),
    Venue("deribit", "options", True, ("volatility_index",)),
)


@dataclass(frozen=True, slots=True)
class Event:
    data_type: str
    exchange: str
    market_type: str
    symbol: str
    newer: bool
    time: int  # when it happened, ns
    published: int  # when the collector sent it, ns
    identity: str  # what Nats-Msg-Id ends in
    values: Values

    @property
    def subject(self) -> str:
        return f"{self.data_type}.{self.exchange}.{self.market_type}.{self.symbol}"


class Market:
    """One instrument at one venue: a random walk, its order book and its counters."""

    def __init__(self, venue: Venue, asset: Asset, rng: Random) -> None:
        self.venue = venue
        self.asset = asset
        self._rng = rng
        self._ticks = asset.ticks
        # Random, far-apart starts: Nats-Msg-Id names no market type, so two markets must never share an id.
        self._trade_id = rng.getrandbits(40) << 8
        big = venue.exchange.startswith("deribit")  # beyond 2**53, where a float would lose digits
        self._update_id = (2**53 + 1 if big else 0) + (rng.getrandbits(42) << 8)
        self._latency = rng.randrange(5_000, 250_000) * 1_000
        self._funding = rng.randrange(-7_000, 7_000)
        self._interest = rng.randrange(10**8, 10**11)
        self._volatility = rng.randrange(2_500, 9_000)

    @property
    def _instrument_id(self) -> str:
        if self.venue.exchange.startswith("binance"):
            return f"{self.asset.name}USDT"
        return f"{self.asset.name}-PERPETUAL" if "deribit" in self.venue.exchange else f"{self.asset.name}-USDT-SWAP"

    def symbol(self, data_type: str) -> str:
        if data_type == "volatility_index":
            return self.asset.name
        swap = self.venue.exchange == "okx_derivatives" and data_type in _RATIOS
        return f"{self.asset.name}-USDT-SWAP" if swap else f"{self.asset.name}-USDT"

    def event(self, data_type: str, now: int, levels: int) -> Event:
        time, identity, values = _MAKERS[data_type](self, now, levels)
        published = cast(int, values.setdefault("collected_at", now))
        if "data_source" not in values:
            values["data_source"] = self._maybe(0.9, "marketprism")
        return Event(
            data_type,
            self.venue.exchange,
            self.venue.market_type,
            self.symbol(data_type),
            self.venue.newer,
            time,
            published,
            identity,
            values,
        )

    # What happens in the market -------------------------------------------------------------------------------

    def _maybe(self, chance: float, value: T) -> T | None:
        return value if self._rng.random() < chance else None

    def _step(self) -> int:
        """The next mid price in ticks: a random walk pulled back gently, so that it stays plausible for days."""
        home = self.asset.ticks
        self._ticks += int((self._rng.random() - 0.5) * home * 2e-4) + (home - self._ticks) // 4096
        return self._ticks

    def _price(self, ticks: int) -> Decimal:
        return scaled(ticks, self.asset.price_digits)

    def _quantity(self) -> Decimal:
        return scaled(1 + int(self.asset.lot * 2 * self._rng.random() ** 3), self.asset.quantity_digits)

    def _marks(self) -> Values:
        mark = self._step()
        index = mark - int((self._rng.random() - 0.5) * mark * 1e-4)
        return {"mark_price": self._maybe(0.8, self._price(mark)), "index_price": self._maybe(0.8, self._price(index))}

    def _trade(self, now: int, _: int) -> tuple[int, str, Values]:
        self._trade_id += 1
        time = now - self._latency
        luck = self._rng.random()
        values: Values = {
            "trade_id": str(self._trade_id),
            "price": self._price(self._step()),
            "quantity": self._quantity(),
            "side": "buy" if luck < 0.495 else "sell" if luck < 0.99 else "unknown",
            "is_maker": self._maybe(0.5, luck * 1000 % 1 < 0.5),
            "trade_time": time,
        }
        return time, str(self._trade_id), values

    def _book(self, now: int, levels: int) -> tuple[int, str, Values]:
        first, previous = self._update_id + 1, self._update_id
        self._update_id += 1 + int(self._rng.random() * 40)
        kind = _BOOK_KINDS[int(self._rng.random() * len(_BOOK_KINDS))]
        mid = self._step()
        side = self._rng.random()  # now and then a side is empty, or both are
        bids = self._side(mid, -1, 0 if side < 0.02 else levels, kind)
        asks = self._side(mid, +1, 0 if 0.01 < side < 0.03 else levels, kind)
        # OKX's older collector often knows no update id.
        last = self._maybe(0.5 if self.venue.exchange == "okx_spot" else 0.99, self._update_id)
        values: Values = {
            "last_update_id": last,
            "first_update_id": self._maybe(0.6, first),
            "prev_update_id": self._maybe(0.6, previous),
            "update_type": kind,
            "depth_levels": self._maybe(0.8, len(bids[0]) + len(asks[0])),
            "standardized_at": self._maybe(0.95, now + 128_000),
            "bid_prices": bids[0],
            "bid_quantities": bids[1],
            "ask_prices": asks[0],
            "ask_quantities": asks[1],
        }
        return now - self._latency, str(now // 1000 if last is None else last), values

    def _side(self, mid: int, direction: int, levels: int, kind: str | None) -> tuple[list[Decimal], list[Decimal]]:
        """Best first, strictly apart from each other and from the other side."""
        random = self._rng.random
        lot, price_digits, digits = 2 * self.asset.lot, self.asset.price_digits, self.asset.quantity_digits
        ticks, prices, quantities = mid, [], []
        for _ in range(levels):
            luck = random()
            ticks += direction * (1 + int(luck * luck * 3))
            # Quantity zero in an update: the level is gone.
            gone = kind == "update" and luck < 0.01
            prices.append(scaled(ticks, price_digits))
            quantities.append(scaled(0 if gone else 1 + int(lot * luck), digits))
        return prices, quantities

    def _funding_rate(self, now: int, _: int) -> tuple[int, str, Values]:
        self._funding += int((self._rng.random() - 0.5) * 200)
        following = now - now % FUNDING_INTERVAL + FUNDING_INTERVAL
        # OKX stamps some of its rates with the time at which they will be settled.
        future = self.venue.exchange.startswith("okx") and self._rng.random() < 0.5
        values: Values = {
            "funding_rate": scaled(self._funding, 8),
            "estimated_funding_rate": self._maybe(0.7, scaled(self._funding + 13, 8)),
            "next_funding_time": following,
            "funding_interval": "8h",
            **self._marks(),
            "premium_index": self._maybe(0.6, scaled(int((self._rng.random() - 0.5) * 1000), 2)),
            "instrument_id": self._instrument_id,
        }
        return following if future else now - self._latency, str(now // 1000), values

    def _open_interest(self, now: int, _: int) -> tuple[int, str, Values]:
        before, self._interest = self._interest, self._interest + int((self._rng.random() - 0.5) * 10**6)
        change = self._rng.random() < 0.5
        values: Values = {
            "open_interest_value": scaled(self._interest, 4),
            "open_interest_usd": self._maybe(0.8, scaled(self._interest * 112, 3)),
            "open_interest_unit": "contracts",
            **self._marks(),
            "change_24h": scaled(self._interest - before, 4) if change else None,
            "change_24h_percent": scaled(int((self._rng.random() - 0.5) * 10**5), 4) if change else None,
            "instrument_id": self._instrument_id,
        }
        return now - self._latency, str(now // 1000), values

    def _liquidation(self, now: int, _: int) -> tuple[int, str, Values]:
        time = now - self._latency
        price, quantity = self._price(self._step()), self._quantity()
        side = "sell" if self._rng.random() < 0.6 else "buy"
        identity = f"{self.venue.exchange}_{time // 1000}_{self._instrument_id}_{side}"
        values: Values = {
            "liquidation_id": identity,
            "side": side,
            "status": "filled",
            "price": price,
            "quantity": quantity,
            "filled_quantity": quantity,
            "notional_value": _EXACT.multiply(price, quantity),
            "average_price": self._maybe(0.7, price),
            "bankruptcy_price": self._maybe(0.5, price),
            "margin_ratio": self._maybe(0.3, scaled(1 + int(self._rng.random() * 10**4), 6)),
            "liquidation_time": time,
            "aggregation_mode": "all-symbol",
            "instrument_id": self._instrument_id,
        }
        return time, identity, values

    def _ratio(self, now: int, data_type: str, long: str, short: str) -> tuple[int, str, Values]:
        """The newest bucket is published late, and then again and again. What it says depends on nothing else (not
        even the seed): JetStream drops repeats by their id, also those of an earlier run, so they must be equal."""
        period = "5m" if self._rng.random() < 0.8 else "1h"
        bucket = (now - 120 * SECOND) // BUCKET * BUCKET
        rng = Random(f"{data_type}:{self.venue}:{self.asset.name}:{period}:{bucket}")
        digits = 28 if rng.random() < 0.5 else 4
        unit: int = 10**digits
        share = unit // 5 + (rng.getrandbits(96) * (unit * 3 // 5) >> 96)
        values: Values = {
            "long_short_ratio": scaled(share * 10**4 // (unit - share), 4),
            long: scaled(share, digits),
            short: scaled(unit - share, digits),
            "period": period,
            "instrument_id": self._instrument_id,
            "data_source": "api" if rng.random() < 0.9 else None,
        }
        if self.venue.newer:  # stamped with the time of publishing: no repeats
            return bucket, f"{now // 1000}:{period}", values
        values["collected_at"] = bucket + 100 * SECOND + rng.getrandbits(24) * 1000
        return bucket, f"{bucket // 10**6}:{period}", values

    def _top_position(self, now: int, _: int) -> tuple[int, str, Values]:
        return self._ratio(now, "lsr_top_position", "long_position_ratio", "short_position_ratio")

    def _all_account(self, now: int, _: int) -> tuple[int, str, Values]:
        return self._ratio(now, "lsr_all_account", "long_account_ratio", "short_account_ratio")

    def _volatility_index(self, now: int, _: int) -> tuple[int, str, Values]:
        self._volatility += int((self._rng.random() - 0.5) * 20)
        values: Values = {
            "currency": self.asset.name,
            "volatility_index": self._maybe(0.9, scaled(self._volatility, 2)),
        }
        return now // (60 * SECOND) * (60 * SECOND), str(now // 1000), values


_BOOK_KINDS = ("update", "update", "update", "snapshot", None)

_MAKERS: Mapping[str, Callable[[Market, int, int], tuple[int, str, Values]]] = {
    "trade": Market._trade,
    "orderbook": Market._book,
    "funding_rate": Market._funding_rate,
    "open_interest": Market._open_interest,
    "liquidation": Market._liquidation,
    "lsr_top_position": Market._top_position,
    "lsr_all_account": Market._all_account,
    "volatility_index": Market._volatility_index,
}


def markets(symbols: int, rng: Random) -> dict[str, Sequence[Market]]:
    """The markets of each data type; the last of the trades' and books' is the odd one."""
    everything = [Market(venue, asset, rng) for venue in VENUES for asset in assets(symbols)]
    found: dict[str, list[Market]] = {name: [m for m in everything if name in m.venue.types] for name in DATA_TYPES}
    odd = Market(VENUES[0], ODD, rng)
    for name in _BOTH:
        found[name].append(odd)
    return dict(found)
