"""The usual questions about the market, each as a SELECT over both tiers, with what a person would plot.

Candles, books and gaps are asked as their views ask (`schema/views.py`): a view with parameters is planned twice, and old versions
(seen: 23.10, 24.5) take no expression for one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from marketprism_consumer.schema import views
from marketprism_consumer.schema.views import SERIES

TIME_SPAN = (
    "{0} >= fromUnixTimestamp64Micro({{since:Int64}}, 'UTC') AND {0} < fromUnixTimestamp64Micro({{until:Int64}}, 'UTC')"
)
NAMED = {
    "exchange": "exchange = {exchange:String}",
    "market_type": "market_type = {market_type:String}",
    "symbol": "symbol = {symbol:String}",
}
ONE_SERIES = " AND ".join(NAMED.values())
UNTIL = "fromUnixTimestamp64Micro({until:Int64}, 'UTC')"
MINUTE = 60_000_000  # [µs]


@dataclass(frozen=True, slots=True)
class Question:
    """`sql` without FORMAT. `x` and `ys`: the columns that are plotted. `unit`: what it is about begins at multiples of it [µs]."""

    sql: str
    x: str = ""
    ys: Sequence[str] = ()
    unit: int = 1

    def span(self, since: int, until: int) -> dict[str, int]:
        """The parameters for what begins from `since` on and before `until` [µs since 1970]."""
        return {"since": -(-since // self.unit) * self.unit, "until": -(-until // self.unit) * self.unit}


def named_series(exchange: str, symbol: str, market_type: str) -> dict[str, str]:
    """Parameters of what is named; an empty text names nothing."""
    given = {"exchange": exchange, "market_type": market_type, "symbol": symbol}
    return {name: value for name, value in given.items() if value}


def _where(named: Sequence[str], time: str = "") -> str:
    parts = [NAMED[name] for name in named] + ([TIME_SPAN.format(time)] if time else [])
    return f" WHERE {' AND '.join(parts)}" if parts else ""


def candles(hot: str, cold: str, named: Sequence[str]) -> Question:
    """Of `{seconds}`, a multiple of a minute; of those minutes that begin in the span, which are whole."""
    where = " AND ".join([*(NAMED[name] for name in named), TIME_SPAN.format("timestamp")])
    time = "toStartOfInterval(timestamp, toIntervalSecond({seconds:UInt32}), 'UTC') AS time"
    asked = views.candles(hot, cold, time, where, UNTIL, named)
    return Question(f"{asked}\nORDER BY {SERIES}, time", "time", ("high", "close", "low"), MINUTE)


def vwap(hot: str, cold: str, named: Sequence[str]) -> Question:
    """Turnover over volume, cut after 18 digits."""
    inner = candles(hot, cold, named).sql
    return Question(
        f"SELECT {SERIES}, time, vwap, volume, trades FROM ({inner}) ORDER BY {SERIES}, time",
        "time",
        ("vwap",),
        MINUTE,
    )


def book(hot: str, cold: str, _: Sequence[str]) -> Question:
    return Question(
        f"SELECT * FROM ({views.book(hot, cold, UNTIL)}) WHERE level <= {{levels:UInt32}} ORDER BY side DESC, level",
        "price",
        ("quantity",),
    )


def funding(hot: str, _: str, named: Sequence[str]) -> Question:
    return Question(
        f"SELECT {SERIES}, timestamp AS time, funding_rate, estimated_funding_rate, next_funding_time, funding_interval, mark_price,"
        f" index_price FROM `{hot}`.all_funding_rates{_where(named, 'timestamp')} ORDER BY {SERIES}, time, _stream, _seq",
        "time",
        ("funding_rate",),
    )


def gaps(hot: str, _: str, named: Sequence[str]) -> Question:
    """Of trades and books by the venue's numbers, and silences."""
    where, within = _where(named), TIME_SPAN.format("timestamp")
    return Question(
        f"SELECT * FROM (SELECT 'trades missing' AS what, {SERIES}, last_time AS since, next_time AS until, toString(missing) || ' after '"
        f" || toString(last_id) AS detail FROM ({views.trade_gaps(hot, within)}){where}"
        f" UNION ALL SELECT 'books missing', {SERIES}, assumeNotNull(last_time), next_time, 'follows ' || toString(follows_id)"
        f" || ', and not ' || toString(last_id) FROM ({views.book_gaps(hot, within)}){where}"
        f" UNION ALL SELECT toString(data_type) || ' silent', {SERIES}, last_time, next_time, toString(seconds) || ' s'"
        f" FROM ({views.silences(hot, within)}){where}) ORDER BY since, what, {SERIES}",
    )


QUESTIONS = {"candles": candles, "vwap": vwap, "book": book, "funding": funding, "gaps": gaps}
