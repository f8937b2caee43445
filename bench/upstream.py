"""The same day in tables as such services keep them, time first and levels as JSON text, and the same questions to them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

TRADES = "SELECT timestamp, exchange, market_type, symbol, trade_id, price, quantity, side, collected_at FROM marketprism_hot.all_trades"
BOOKS = """SELECT timestamp, exchange, market_type, symbol, last_update_id, prev_update_id, update_type, best_bid_price, best_ask_price,
    toJSONString(arrayZip(arrayMap(x -> toString(x), bid_prices), arrayMap(x -> toString(x), bid_quantities))) AS bids,
    toJSONString(arrayZip(arrayMap(x -> toString(x), ask_prices), arrayMap(x -> toString(x), ask_quantities))) AS asks
    FROM marketprism_hot.all_orderbooks"""
MIDNIGHT = "toDateTime64('2025-09-24 00:00:00', 6, 'UTC')"
ONE = "exchange = 'binance_spot' AND market_type = 'spot' AND symbol = 'BTC-USDT'"
HOUR = "timestamp >= '2025-09-24 07:00:00' AND timestamp < '2025-09-24 08:00:00'"
DAY = "timestamp >= '2025-09-24 00:00:00' AND timestamp < '2025-09-25 00:00:00'"
_CANDLES = """SELECT toStartOfMinute(timestamp) AS minute, argMin(price, (timestamp, toUInt64OrZero(trade_id))) AS open,
    max(price) AS high, min(price) AS low, argMax(price, (timestamp, toUInt64OrZero(trade_id))) AS close,
    sum(toDecimal256(quantity, 18)) AS volume, sum(toDecimal256(price, 18) * quantity) AS turnover, count() AS trades
    FROM upstream.trades WHERE {where} GROUP BY minute ORDER BY minute"""
_AT = "2025-09-24 07:56:00.000"
_LEVELS = "JSONExtract({side}, 'Array(Tuple(Decimal(38, 18), Decimal(38, 18)))')"
_LAST = f"{ONE} AND timestamp <= '{_AT}' AND timestamp > toDateTime64('{_AT}', 6, 'UTC') - toIntervalDay(1)"

QUERIES = {
    "candles": _CANDLES.format(where=f"{ONE} AND {HOUR}"),
    "candles-of-one-day": _CANDLES.format(where=f"{ONE} AND {DAY}"),
    "book-at": f"""WITH (SELECT max((timestamp, last_update_id)) FROM upstream.orderbooks WHERE {_LAST} AND update_type != 'update')
        AS snapshot
    SELECT side, price, argMax(amount, moment) AS quantity FROM
    (
        SELECT (timestamp, last_update_id) AS moment, arrayJoin(arrayConcat(
            arrayMap(l -> ('bid', l.1, l.2), {_LEVELS.format(side="bids")}),
            arrayMap(l -> ('ask', l.1, l.2), {_LEVELS.format(side="asks")}))) AS one, one.1 AS side, one.2 AS price, one.3 AS amount
        FROM upstream.orderbooks WHERE {_LAST} AND (timestamp, last_update_id) >= snapshot
    ) GROUP BY side, price HAVING quantity > 0 ORDER BY side DESC, if(side = 'bid', -price, price) LIMIT 10 BY side""",
    "spread": f"""SELECT toStartOfMinute(timestamp) AS minute, count() AS books,
        round(avg(toFloat64(best_ask_price - best_bid_price) / toFloat64(best_bid_price)) * 10000, 3) AS basis_points
    FROM upstream.orderbooks WHERE {ONE} AND {HOUR} GROUP BY minute ORDER BY minute""",
    "trade-gaps": f"""SELECT * FROM (SELECT exchange, market_type, symbol, toUInt64OrZero(trade_id) AS id, lagInFrame(id) OVER
        (PARTITION BY exchange, market_type, symbol ORDER BY id ROWS BETWEEN 1 PRECEDING AND CURRENT ROW) AS last
        FROM upstream.trades WHERE {HOUR}) WHERE last != 0 AND id > last + 1""",
    "coverage": """SELECT exchange, market_type, symbol, toStartOfHour(timestamp) AS hour, count() AS trades
    FROM upstream.trades GROUP BY exchange, market_type, symbol, hour ORDER BY exchange, market_type, symbol, hour""",
}


async def fill(command: Callable[[str], Awaitable[None]]) -> None:
    """From ours, which are full; an hour at a time."""
    await command("CREATE DATABASE upstream")
    for name, select in (("trades", TRADES), ("orderbooks", BOOKS)):
        await command(
            f"CREATE TABLE upstream.{name} ENGINE = MergeTree PARTITION BY toYYYYMMDD(timestamp)"
            f" ORDER BY (timestamp, exchange, symbol) EMPTY AS {select}"
        )
        for hour in range(24):
            between = f"timestamp >= {MIDNIGHT} + toIntervalHour({hour}) AND timestamp < {MIDNIGHT} + toIntervalHour({hour + 1})"
            await command(f"INSERT INTO upstream.{name} {select} WHERE {between}")
