"""Two tiers on an embedded ClickHouse: one server for all tests here, databases of its own for each test."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from marketprism_api.credentials import ClickHouseAuth
from marketprism_consumer.clickhouse.client import ClickHouse
from marketprism_consumer.schema.ddl import Target, render
from marketprism_consumer.schema.tables import TABLES, TRADES, Table
from marketprism_consumer.tiering.job import Job
from marketprism_consumer.tiering.run import Migration, Result
from marketprism_consumer.tiering.servers import server as open_server
from marketprism_embedded import process
from marketprism_embedded.process import EmbeddedServer
from tests.waiting import PATIENCE

HOUR = 3600
STREAM = "MARKET_DATA@2025-09-24T07:00:00.000000000Z"
# A user's own way to copy rows.
USERS_STATEMENT = """
INSERT INTO {cold}.trades (timestamp, exchange, market_type, symbol, trade_id, price, quantity, side, is_maker, trade_time,
                           data_source, created_at)
SELECT timestamp, exchange, market_type, symbol, trade_id, price, quantity, side, is_maker, trade_time, 'marketprism', now()
FROM {hot}.trades WHERE exchange = 'binance_spot' AND symbol = 'BTC-USDT'
"""


@dataclass
class Place:
    """A pair of databases."""

    url: str
    hot: str
    cold: str
    server: ClickHouse
    cold_url: str = ""

    def job(self, **changes: Any) -> Job:
        job = Job(
            (self.url,),
            (self.cold_url,) if self.cold_url else (),
            self.hot,
            self.cold,
            ("trades",),
            8.0 * HOUR,
            5_000_000,
        )
        return replace(job, **changes)

    async def migrate(self, *, lease: float | None = 5.0, slice_rows: int = 1_000_000, **changes: Any) -> Result:
        return await Migration(self.job(**changes), lease=lease, slice_rows=slice_rows).run()

    @property
    def environ(self) -> dict[str, str]:
        more = {"CLICKHOUSE_COLD_HTTP_URL": self.cold_url} if self.cold_url else {}
        return {"CLICKHOUSE_HTTP_URL": self.url, "CLICKHOUSE_HOT_DB": self.hot, "CLICKHOUSE_COLD_DB": self.cold, **more}

    def command(self, *arguments: str, **environ: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "marketprism_consumer.cli", *arguments],
            env={**os.environ, **self.environ, **environ},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def cli(self, *arguments: str, **environ: str) -> tuple[int, dict[str, Any]]:
        """A command's exit code and the JSON on the last line of its output."""
        child = self.command(*arguments, **environ)
        out, err = child.communicate(timeout=PATIENCE)
        last = out.strip().splitlines()[-1:] or ["{}"]
        assert child.returncode < 0 or last[0].startswith(('{"', "[")), out + err
        return child.returncode, json.loads(last[0]) if child.returncode >= 0 else {}

    async def create(self, tables: Sequence[Table]) -> None:
        for change in render(Target(self.hot, self.cold), tables):
            await self.server.command(change.sql)

    async def run(self, sql: str) -> None:
        await self.server.command(sql.format(hot=self.hot, cold=self.cold))

    async def query(self, sql: str) -> list[tuple[Any, ...]]:
        return await self.server.query(sql.format(hot=self.hot, cold=self.cold))

    async def value(self, sql: str) -> Any:
        return (await self.query(sql))[0][0]

    async def fill(
        self,
        rows: int,
        *,
        hours_ago: float = 12,
        span: float = 3 * HOUR,
        first: int = 1,
        seq: str = "",
        table: str = "trades",
        stored_ago: int = 120,
    ) -> None:
        """Trades that differ in everything, from so many hours ago on. `seq` "0": by hand."""
        await self.run(
            "INSERT INTO {hot}.trades (timestamp, exchange, market_type, symbol, trade_id, price, quantity, side, is_maker,"
            " trade_time, data_source, collected_at, created_at, _stream, _seq)"
            f" SELECT now64(6) - toIntervalMicrosecond(toInt64({hours_ago * HOUR * 1e6:.0f} - number * {span * 1e6 / rows:.3f})),"
            " ['binance_spot', 'okx_spot'][1 + number % 2], 'spot', ['BTC-USDT', 'ETH-USDT', 'SOL-USDT'][1 + number % 3],"
            f" toString(number + {first}), toDecimal128(number, 18) / 7, toDecimal128('1e-18', 18) * number,"
            " if(number % 5 = 0, 'buy', 'sell'), if(number % 3 = 0, NULL, number % 2 = 0), now64(6), 'marketprism',"
            f" if(number % 4 = 0, NULL, now64(6)),"
            f" now64(3) - INTERVAL {stored_ago} SECOND - toIntervalMillisecond(number % 1000), '{STREAM if not seq else ''}',"
            f" {seq or f'number + {first}'} FROM numbers({rows})"
        )

    async def rows(self, table: str = "trades", identity: bool = True) -> dict[str, list[tuple[Any, ...]]]:
        """Every stored value of both tiers, in an order."""
        own = next(one for one in TABLES if one.name == table)
        names = [f"toString({c.name})" for c in own.stored if identity or c.name not in ("_stream", "_seq")]
        return {
            tier: sorted(
                await self.query(f"SELECT {', '.join(names)} FROM {{{tier}}}.{table}"),
                key=lambda row: tuple(map(str, row)),
            )
            for tier in ("hot", "cold")
        }

    async def counts(self, table: str = "trades") -> tuple[int, int]:
        return (
            int(await self.value(f"SELECT count() FROM {{hot}}.{table}")),
            int(await self.value(f"SELECT count() FROM {{cold}}.{table}")),
        )


async def make(url: str, cold_url: str = "") -> Place:
    """With the table `trades`; `create` makes others."""
    name = uuid.uuid4().hex[:8]
    server = open_server([url], ClickHouseAuth, "test")
    made = Place(url, f"hot_{name}", f"cold_{name}", server, cold_url)
    await made.create([TRADES])
    if cold_url:
        other = Place(cold_url, made.hot, made.cold, open_server([cold_url], ClickHouseAuth, "test"))
        await other.create([TRADES])
        await other.server.close()
    return made


def start_clickhouse(directory: Path, port: int = 0) -> EmbeddedServer:
    return process.start("clickhouse", directory, port=port, stderr=subprocess.DEVNULL)
