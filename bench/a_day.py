"""A day of market data made inside ClickHouse: numbered trades, chained books, 30 series, both tiers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from marketprism_consumer.schema.tables import TABLES

DAY = "2025-09-24 00:00:00"
HOT_FROM_HOUR = 16

_SERIES = (
    "['binance_spot', 'okx_spot', 'binance_derivatives'][1 + series % 3] AS exchange,"
    " ['spot', 'spot', 'perpetual'][1 + series % 3] AS market_type,"
    " ['BTC-USDT', 'ETH-USDT', 'SOL-USDT', 'XRP-USDT', 'ADA-USDT', 'DOGE-USDT', 'BNB-USDT', 'LTC-USDT', 'DOT-USDT', 'PEPE-USDT']"
    "[1 + intDiv(series, 3)] AS symbol"
)


def _head(rows: int) -> str:
    """`number` is the row's number in the day; 30 series in turn, each counting on its own."""
    return (
        f"WITH number % 30 AS series, intDiv(number, 30) AS own, toDateTime64('{DAY}', 6, 'UTC') AS midnight,"
        f" midnight + toIntervalMicrosecond(toInt64(number * {86_400_000_000 / rows:.6f})) AS time, {_SERIES},"
        " toDecimal128(10 + series * 10, 18) AS base, toDecimal128(round(sin(own / 3000) * 0.05 * toFloat64(base), 4), 18) AS drift"
    )


def trades(rows: int) -> str:
    return (
        f"{_head(rows)} SELECT time AS timestamp, exchange, market_type, symbol, toString(1000000000 * (series + 1) + own) AS trade_id,"
        " base + drift + toDecimal128((cityHash64(number) % 100) / 10000., 18) AS price,"
        " toDecimal128((1 + cityHash64(number, 1) % 1000000) / 100000., 18) AS quantity,"
        " if(cityHash64(number, 2) % 2 = 0, 'buy', 'sell') AS side, NULL AS is_maker, time AS trade_time,"
        " 'marketprism' AS data_source, time + toIntervalMicrosecond(50000 + cityHash64(number, 3) % 100000) AS collected_at,"
        " now64(3) AS created_at, 'MARKET_DATA@2025-09-24T00:00:00.000000000Z' AS _stream, number + 1 AS _seq"
    )


def books(rows: int, levels: int = 20) -> str:
    def side(sign: str, name: str) -> str:
        steps = f"range(1, {levels + 1})"
        return (
            f" arrayMap(n -> base + drift {sign} toDecimal128(n / 100., 18), {steps}) AS {name}_prices,"
            f" arrayMap(n -> toDecimal128((1 + cityHash64(number, n) % 100000) / 1000., 18), {steps}) AS {name}_quantities,"
        )

    return (
        f"{_head(rows)} SELECT time AS timestamp, exchange, market_type, symbol, 10 * own + 10 AS last_update_id,"
        " 10 * own + 1 AS first_update_id, 10 * own AS prev_update_id, if(own % 100 = 0, 'snapshot', 'update') AS update_type,"
        f" {levels} AS depth_levels, {levels} AS bids_count, {levels} AS asks_count,"
        " bid_prices[1] AS best_bid_price, bid_quantities[1] AS best_bid_quantity,"
        " ask_prices[1] AS best_ask_price, ask_quantities[1] AS best_ask_quantity,"
        f"{side('-', 'bid')}{side('+', 'ask')}"
        " NULL AS standardized_at, 'marketprism' AS data_source, time + toIntervalMillisecond(60) AS collected_at,"
        " now64(3) AS created_at, 'ORDERBOOK_SNAP@2025-09-24T00:00:00.000000000Z' AS _stream, number + 1 AS _seq"
    )


def ratios(rows: int) -> str:
    """Each bucket of five minutes published again and again."""
    return (
        f"{_head(rows)} SELECT toDateTime64(toStartOfFiveMinutes(time), 6, 'UTC') AS timestamp, exchange, market_type, symbol,"
        " toDecimal128('1.5', 28) AS long_short_ratio, toDecimal128('0.6', 28) AS long_position_ratio,"
        " toDecimal128('0.4', 28) AS short_position_ratio, '5m' AS period, NULL AS instrument_id,"
        " 'api' AS data_source, time + toIntervalSecond(1) AS collected_at, now64(3) AS created_at,"
        " 'MARKET_DATA@2025-09-24T00:00:00.000000000Z' AS _stream, 100000000 + number AS _seq"
    )


def rates(rows: int) -> str:
    return (
        f"{_head(rows)} SELECT time AS timestamp, exchange, market_type, symbol, toDecimal128('0.0001', 18) AS funding_rate,"
        " NULL AS estimated_funding_rate, toDateTime64(toStartOfInterval(time, INTERVAL 8 HOUR), 6, 'UTC') + toIntervalHour(8)"
        " AS next_funding_time, '8h' AS funding_interval, base AS mark_price, base AS index_price, NULL AS premium_index,"
        " NULL AS instrument_id, 'marketprism' AS data_source, time + toIntervalMillisecond(80) AS collected_at, now64(3) AS created_at,"
        " 'MARKET_DATA@2025-09-24T00:00:00.000000000Z' AS _stream, 200000000 + number AS _seq"
    )


def interests(rows: int) -> str:
    return (
        f"{_head(rows)} SELECT time AS timestamp, exchange, market_type, symbol, base * 1000 AS open_interest_value,"
        " NULL AS open_interest_usd, 'contracts' AS open_interest_unit, base AS mark_price, base AS index_price, NULL AS change_24h,"
        " NULL AS change_24h_percent, NULL AS instrument_id, 'marketprism' AS data_source,"
        " time + toIntervalMillisecond(80) AS collected_at, now64(3) AS created_at,"
        " 'MARKET_DATA@2025-09-24T00:00:00.000000000Z' AS _stream, 300000000 + number AS _seq"
    )


async def fill(
    command: Callable[[str], Awaitable[None]],
    hot: str,
    cold: str,
    *,
    trade_rows: int,
    book_rows: int,
    hot_from: int = HOT_FROM_HOUR,
) -> None:
    """The tables exist and are empty. An hour at a time, so that little memory is needed."""
    made = {
        "trades": (trades, trade_rows),
        "orderbooks": (books, book_rows),
        "lsr_top_positions": (ratios, max(book_rows // 5, 30 * 24 * 12)),
        "funding_rates": (rates, max(book_rows // 10, 30 * 24 * 12)),
        "open_interests": (interests, max(book_rows // 10, 30 * 24 * 12)),
    }
    for table, (make, rows) in made.items():
        for hour in range(24):
            first, end = rows * hour // 24, rows * (hour + 1) // 24
            select = make(rows)
            database = cold if hour < hot_from else hot
            columns = ", ".join(column.name for column in next(known for known in TABLES if known.name == table).stored)
            await command(
                f"INSERT INTO {database}.{table} ({columns}) SELECT {columns} FROM"
                f" ({select} FROM numbers({first}, {end - first}))"
            )
