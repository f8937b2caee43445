"""The tables in a notebook: lazily, with exact decimals.

    from marketprism import data

    data.trades("binance_spot", "BTC-USDT", "2025-09-24", "2025-09-25").polars()

Where ClickHouse is, and how to log in, is in the environment, as for `marketprism`: CLICKHOUSE_HTTP_URL, CLICKHOUSE_HOT_DB,
CLICKHOUSE_COLD_DB. Nothing is asked before the rows are wanted: `batches()` gives them as they come, in flat memory; `arrow()`, `polars()`
and `pandas()` take them whole. Times are UTC: a text (ISO 8601), or a datetime; without an offset it is UTC.

Raises StoreError where ClickHouse refuses or does not answer, ValueError for a time that is none.
"""

from __future__ import annotations

import asyncio
import io
import os
import threading
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from queue import Queue
from typing import TYPE_CHECKING, Any

from marketprism_api.settings import Settings, effective
from marketprism_consumer.commands.servers import clickhouse_of
from marketprism_consumer.operations import questions
from marketprism_consumer.schema.tables import ORDERBOOKS, TRADES, Table

if TYPE_CHECKING:
    import pandas
    import polars
    import pyarrow

Time = str | datetime
AHEAD = 8  # pieces that are held while nobody takes them
PATIENCE = 600.0  # for the next piece of an answer [s]
SETTINGS: Mapping[str, Any] = {
    "output_format_arrow_string_as_string": 1,
    "output_format_arrow_low_cardinality_as_dictionary": 0,
}


@dataclass(frozen=True, slots=True)
class Rows:
    """A SELECT that has not been asked yet."""

    sql: str
    parameters: Mapping[str, str | int]

    def batches(self) -> Iterator[pyarrow.RecordBatch]:
        """As they come."""
        import pyarrow.ipc

        with pyarrow.ipc.open_stream(_Answer(self)) as reader:
            yield from reader

    def arrow(self) -> pyarrow.Table:
        import pyarrow.ipc

        with pyarrow.ipc.open_stream(_Answer(self)) as reader:
            return reader.read_all()

    def polars(self) -> polars.DataFrame:
        """Sums of 76 digits, such as a candle's volume, as 38, the widest that polars has. Raises ValueError where one has more."""
        import polars
        import pyarrow as pa

        whole = self.arrow()
        for number, field in enumerate(whole.schema):
            if pa.types.is_decimal256(field.type):
                whole = whole.set_column(number, field.name, _narrow(whole.column(number)))
        found = polars.from_arrow(whole)
        assert isinstance(found, polars.DataFrame)
        return found

    def pandas(self) -> pandas.DataFrame:
        """Decimals are Python's Decimal: floats would be other numbers."""
        found: pandas.DataFrame = self.arrow().to_pandas()
        return found


def trades(exchange: str, symbol: str, start: Time, end: Time, *, market_type: str = "") -> Rows:
    """Every trade from `start` on and before `end`, with all columns, in order."""
    return _table(TRADES, exchange, symbol, start, end, market_type)


def books(exchange: str, symbol: str, start: Time, end: Time, *, market_type: str = "") -> Rows:
    """Every book message, full or an update, with its levels as arrays."""
    return _table(ORDERBOOKS, exchange, symbol, start, end, market_type)


def book_at(exchange: str, symbol: str, at: Time, *, market_type: str = "spot", levels: int = 1000) -> Rows:
    """The book at a time: side, level, price, quantity, updated_at, snapshot_at."""
    series = {"exchange": exchange, "market_type": market_type, "symbol": symbol}
    return Rows(questions.book(*_tiers(), ()).sql, {**series, "until": _micros(at), "levels": levels})


def candles(exchange: str, symbol: str, start: Time, end: Time, *, minutes: int = 1, market_type: str = "") -> Rows:
    """Open, high, low, close, volume, turnover, vwap and the number of trades."""
    named = questions.named_series(exchange, symbol, market_type)
    question = questions.candles(*_tiers(), list(named))
    return Rows(question.sql, {**named, **question.span(_micros(start), _micros(end)), "seconds": minutes * 60})


def _table(table: Table, exchange: str, symbol: str, start: Time, end: Time, market_type: str) -> Rows:
    named = questions.named_series(exchange, symbol, market_type)
    where = [questions.NAMED[name] for name in named] + [questions.TIME_SPAN.format("timestamp")]
    columns = ", ".join(column.name for column in table.stored)
    return Rows(
        f"SELECT {columns} FROM `{_settings().hot_db}`.`all_{table.name}` WHERE {' AND '.join(where)} ORDER BY timestamp, _stream, _seq",
        {**named, "since": _micros(start), "until": _micros(end)},
    )


def _settings() -> Settings:
    return effective(None, os.environ)


def _tiers() -> tuple[str, str]:
    """The databases."""
    settings = _settings()
    return settings.hot_db, settings.cold_db


def _micros(at: Time) -> int:
    moment = datetime.fromisoformat(at) if isinstance(at, str) else at
    since = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)) - datetime(1970, 1, 1, tzinfo=UTC)
    return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds


def _narrow(column: Any) -> Any:
    """Decimals of 76 digits as 38, with as many behind the point as leave them exact. Raises ValueError."""
    import pyarrow as pa

    for scale in range(column.type.scale, -1, -1):
        try:
            return column.cast(pa.decimal128(38, scale))
        except pa.ArrowInvalid as error:
            why = error
    raise ValueError(
        f"{column.type} has numbers of more than 38 digits, which polars can't hold: take .arrow()"
    ) from why


class _Answer(io.RawIOBase):
    """A file of what ClickHouse sends. Asked in a thread of its own: a notebook has a loop that runs already."""

    def __init__(self, rows: Rows) -> None:
        self._rows = rows
        self._pieces: Queue[bytes | BaseException | None] = Queue(AHEAD)
        self._left = b""
        self._given_up = threading.Event()
        threading.Thread(target=self._ask, daemon=True).start()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if not self._left:
            piece = self._pieces.get()
            if isinstance(piece, BaseException):
                raise piece
            if piece is None:
                self._pieces.put(None)
                return 0
            self._left = piece
        many = min(len(buffer), len(self._left))
        buffer[:many] = self._left[:many]
        self._left = self._left[many:]
        return many

    def close(self) -> None:
        self._given_up.set()
        while not self._pieces.empty():
            self._pieces.get_nowait()
        super().close()

    def _ask(self) -> None:
        try:
            asyncio.run(self._all())
        except BaseException as error:
            self._pieces.put(error)
        else:
            self._pieces.put(None)

    async def _all(self) -> None:
        server = clickhouse_of(_settings(), "data", patience=PATIENCE)
        try:
            data: AsyncIterator[bytes] = server.stream(
                f"{self._rows.sql} FORMAT ArrowStream", self._rows.parameters, settings=SETTINGS
            )
            async for piece in data:
                if self._given_up.is_set():
                    return
                self._pieces.put(piece)
        finally:
            await server.close()
