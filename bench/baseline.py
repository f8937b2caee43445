"""The baseline: a service as it is usually written. Push subscription, json.loads, an insert every 100 rows, one ack per message.

It has no dead letters, no token, no look-up: it loses and doubles rows in a crash. Books are kept as JSON text, as such
services do; `orderbook_typed` keeps their levels as decimals, as we do.

    python -m bench.baseline NATS_URL CLICKHOUSE_URL STREAM KIND COUNT
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from urllib.parse import urlsplit

import clickhouse_connect
import nats

BOOK = """CREATE TABLE IF NOT EXISTS baseline.{name} (timestamp DateTime64(3, 'UTC'),
    exchange LowCardinality(String), market_type LowCardinality(String), symbol LowCardinality(String),
    last_update_id UInt64, update_type String, depth_levels UInt32, bids {levels}, asks {levels},
    best_bid Decimal(38, 18), best_ask Decimal(38, 18), data_source LowCardinality(String),
    collected_at DateTime64(3, 'UTC'), created_at DateTime64(3, 'UTC'))
    ENGINE = MergeTree ORDER BY (exchange, symbol, timestamp)"""
DDL = {
    "trade": """CREATE TABLE IF NOT EXISTS baseline.trade (timestamp DateTime64(3, 'UTC'), exchange LowCardinality(String),
        market_type LowCardinality(String), symbol LowCardinality(String), trade_id String, price Decimal(38, 18),
        quantity Decimal(38, 18), side LowCardinality(String), is_maker Nullable(Bool), trade_time DateTime64(3, 'UTC'),
        data_source LowCardinality(String), collected_at DateTime64(3, 'UTC'), created_at DateTime64(3, 'UTC'))
        ENGINE = MergeTree ORDER BY (exchange, symbol, timestamp)""",
    "orderbook": BOOK.format(name="orderbook", levels="String"),
    "orderbook_typed": BOOK.format(name="orderbook_typed", levels="Array(Tuple(Decimal(38, 18), Decimal(38, 18)))"),
}


def trade(m: dict[str, Any]) -> list[Any]:
    return [
        datetime.fromisoformat(m["timestamp"]), m["exchange"], m["market_type"], m["symbol"], m["trade_id"],
        Decimal(m["price"]), Decimal(m["quantity"]), m["side"], m.get("is_maker"), datetime.fromisoformat(m["trade_time"]),
        m["data_source"], datetime.fromisoformat(m["collected_at"]), datetime.now(UTC),
    ]  # fmt: skip


def levels(side: list[dict[str, str]]) -> list[tuple[Decimal, Decimal]]:
    return [(Decimal(level["price"]), Decimal(level["quantity"])) for level in side]


def orderbook(m: dict[str, Any], keep: Callable[[list[dict[str, str]]], Any] = json.dumps) -> list[Any]:
    return [
        datetime.fromisoformat(m["timestamp"]), m["exchange"], m["market_type"], m["symbol"], m["last_update_id"],
        m["update_type"], m["depth_levels"], keep(m["bids"]), keep(m["asks"]),
        Decimal(m["bids"][0]["price"]), Decimal(m["asks"][0]["price"]), m["data_source"],
        datetime.fromisoformat(m["collected_at"]), datetime.now(UTC),
    ]  # fmt: skip


PARSE: dict[str, Callable[[dict[str, Any]], list[Any]]] = {
    "trade": trade,
    "orderbook": orderbook,
    "orderbook_typed": lambda m: orderbook(m, levels),
}


async def main(nats_url: str, clickhouse_url: str, stream: str, kind: str, count: int) -> None:
    parts = urlsplit(clickhouse_url)
    clickhouse = await clickhouse_connect.get_async_client(host=parts.hostname, port=parts.port)
    connection = await nats.connect(nats_url)
    parse = PARSE[kind]
    rows: list[list[Any]] = []
    done = asyncio.Event()
    stored = 0

    async def on_message(message: Any) -> None:
        nonlocal rows, stored
        rows.append(parse(json.loads(message.data)))
        await message.ack()
        if len(rows) >= 100:
            batch, rows = rows, []
            await clickhouse.insert(f"baseline.{kind}", batch)
            stored += len(batch)
            if stored >= count:
                done.set()

    await connection.jetstream().subscribe(
        f"{kind.partition('_')[0]}.>", stream=stream, durable="baseline", cb=on_message, manual_ack=True,
        pending_msgs_limit=10_000_000, pending_bytes_limit=1 << 30,
    )  # fmt: skip
    await done.wait()
    await connection.drain()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:5], int(sys.argv[5])))
