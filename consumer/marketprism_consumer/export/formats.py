"""The forms of a file, each as the SELECT that makes its bytes. ClickHouse formats; Python compresses and counts, no more.

Every SELECT has an order in which no two rows are equal, so that the same rows give the same text. What Parquet and Arrow make of
them depends on how the tables lie on disk, too (where a group of rows ends): their values are the same, their bytes need not be.
"""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field

from marketprism_consumer.errors import ExportError
from marketprism_consumer.export.source import OF_SERIES, FileUnit, RowSource
from marketprism_consumer.schema.tables import FUNDING_RATES, ORDERBOOKS, TRADES, Table

Bytes = AsyncIterator[bytes]
TablesOfKind = tuple[Table, ...]


@dataclass(frozen=True, slots=True)
class FileFormat:
    """`kinds`: what becomes files, and the tables of each; empty where each table does. `select` makes the query of a unit of a kind and
    its tables, without FORMAT. `ends`: what a whole file ends with. `same_bytes`: the same rows give the same bytes. `pack`: what is
    done with what ClickHouse sends, of as many rows as are given."""

    suffix: str
    clickhouse: str
    kinds: Mapping[str, tuple[Table, ...]]
    select: Callable[[RowSource, str, TablesOfKind], str]
    ends: bytes = b""
    same_bytes: bool = True
    pack: Callable[[Bytes, int], Bytes] | None = None
    settings: Mapping[str, str | int] = field(default_factory=dict)

    def sql(self, tiers: RowSource, unit: FileUnit, tables: TablesOfKind) -> str:
        return f"{self.select(tiers, unit.kind, tables)} FORMAT {self.clickhouse}"

    def count(self, tiers: RowSource, unit: FileUnit, tables: TablesOfKind) -> str:
        """How many rows that gives: for those whose beginning says it."""
        return f"SELECT count() FROM ({self.select(tiers, unit.kind, tables)})"


# --- every column, as it is ---------------------------------------------------------------------------------------------


def plain(tiers: RowSource, _: str, tables: TablesOfKind) -> str:
    """Texts without the dictionaries of LowCardinality, whose order is an accident."""
    (table,) = tables
    columns = [
        f"CAST({column.name} AS {column.type.removeprefix('LowCardinality(').removesuffix(')')}) AS {column.name}"
        if column.type.startswith("LowCardinality")
        else column.name
        for column in table.stored
    ]
    # Rows from nowhere may be alike in all of these: then it is no matter which comes first, but for their other columns.
    others = ", ".join(column.name for column in table.inserted)
    order = f"timestamp, _stream, _seq, if(_seq = 0, cityHash64({others}), 0)"
    return f"SELECT {', '.join(columns)} FROM ({tiers.rows(table, OF_SERIES)}) ORDER BY {order}"


# --- as tardis.dev has it -----------------------------------------------------------------------------------------------

# https://docs.tardis.dev/downloadable-csv-files/data-types: µs since 1970, ordered by when a message arrived.
_TARDIS_HEAD = (
    "exchange, symbol, toUnixTimestamp64Micro(timestamp) AS timestamp,"
    " toUnixTimestamp64Micro(ifNull(collected_at, t.timestamp)) AS local_timestamp"
)


def tardis(tiers: RowSource, kind: str, _: TablesOfKind) -> str:
    match kind:
        case "trades":
            return (
                f"SELECT {_TARDIS_HEAD}, trade_id AS id, if(side IN ('buy', 'sell'), toString(side), 'unknown') AS side,"
                f" price, quantity AS amount FROM ({tiers.rows(TRADES, OF_SERIES)}) AS t"
                " ORDER BY local_timestamp, _stream, _seq, timestamp, id, price, amount, side"
            )
        case "derivative_ticker":
            return (
                f"SELECT {_TARDIS_HEAD}, toUnixTimestamp64Micro(next_funding_time) AS funding_timestamp, funding_rate,"
                " estimated_funding_rate AS predicted_funding_rate, NULL AS open_interest, NULL AS last_price, index_price,"
                f" mark_price FROM ({tiers.rows(FUNDING_RATES, OF_SERIES)}) AS t"
                " ORDER BY local_timestamp, _stream, _seq, timestamp, funding_rate"
            )
        case _:
            return _tardis_books(tiers)


def _tardis_books(tiers: RowSource) -> str:
    """A full book that follows a full book is told as changes: who reads takes neighbouring rows of is_snapshot for one book, in which
    a level that is gone would stay. So what it lacks is sent with amount 0. A book without a level has no row that could tell of it."""
    before = "lagInFrame({0}) OVER by_arrival"
    return f"""\
SELECT exchange, symbol, timestamp, local_timestamp, is_snapshot, level.1 AS side, level.2 AS price, level.3 AS amount FROM
(
    SELECT exchange, symbol, timestamp, local_timestamp, _stream, _seq, last_update_id,
        CAST(full AND NOT after_full AS Bool) AS is_snapshot,
        arrayJoin(arrayZip(levels, arrayEnumerate(levels))) AS one, one.1 AS level, one.2 AS number
    FROM
    (
        SELECT exchange, symbol, toUnixTimestamp64Micro(timestamp) AS timestamp, last_update_id, _stream, _seq,
            toUnixTimestamp64Micro(ifNull(collected_at, t.timestamp)) AS local_timestamp,
            ifNull(update_type = 'snapshot', false) AS full, {before.format("full")} AS after_full,
            if(full AND after_full, arrayFilter(p -> NOT has(bid_prices, p), {before.format("bid_prices")}), []) AS bids_gone,
            if(full AND after_full, arrayFilter(p -> NOT has(ask_prices, p), {before.format("ask_prices")}), []) AS asks_gone,
            arrayConcat(
                arrayMap(p -> ('bid', p, toDecimal128(0, 18)), bids_gone), arrayMap(p -> ('ask', p, toDecimal128(0, 18)), asks_gone),
                arrayMap((p, q) -> ('bid', p, q), bid_prices, bid_quantities),
                arrayMap((p, q) -> ('ask', p, q), ask_prices, ask_quantities)) AS levels
        FROM ({tiers.rows(ORDERBOOKS, OF_SERIES)}) AS t
        WHERE notEmpty(bid_prices) OR notEmpty(ask_prices)
        WINDOW by_arrival AS (ORDER BY ifNull(collected_at, t.timestamp), _stream, _seq, t.timestamp, last_update_id
            ROWS BETWEEN 1 PRECEDING AND CURRENT ROW)
    )
)
ORDER BY local_timestamp, _stream, _seq, timestamp, last_update_id, number"""


# --- as hftbacktest has it ----------------------------------------------------------------------------------------------

# https://hftbacktest.readthedocs.io, hftbacktest/types.py: what an event is, and how it is marked.
DEPTH, TRADE, CLEAR, SNAPSHOT = 1, 2, 3, 4
EXCH, LOCAL, BUY, SELL = 1 << 31, 1 << 30, 1 << 29, 1 << 28
EVENT = (
    ("ev", "<u8"),
    ("exch_ts", "<i8"),
    ("local_ts", "<i8"),
    ("px", "<f8"),
    ("qty", "<f8"),
    ("order_id", "<u8"),
    ("ival", "<i8"),
    ("fval", "<f8"),
)
EVENT_BYTES = 64


def events(tiers: RowSource, _: str, __: TablesOfKind) -> str:
    """Trades and books as one list. Each event is there twice: where the exchange had it, and where it arrived; so both are in the order
    of their own clocks, whatever overtook what. What seems to arrive before it happened arrives when it happened. Trades stand before the
    books of the same moment, which have them in already. A full book first clears what it spans."""

    def levels(side: int, prices: str, quantities: str) -> str:
        each = f"arrayMap((p, q) -> (toUInt64(if(full, {SNAPSHOT}, {DEPTH}) + {side}), toFloat64(p), toFloat64(q)), {prices}, {quantities})"
        clear = (
            f"if(full AND notEmpty({prices}), [(toUInt64({CLEAR + side}), toFloat64({prices}[-1]), toFloat64(0))], [])"
        )
        return f"{clear}, {each}"

    head = (
        "toUnixTimestamp64Micro(t.timestamp) * 1000 AS exch_ts,"
        " greatest(exch_ts, toUnixTimestamp64Micro(ifNull(collected_at, t.timestamp)) * 1000) AS local_ts, _stream, _seq"
    )
    side = f"multiIf(side = 'buy', {BUY}, side = 'sell', {SELL}, 0)"
    return f"""\
SELECT event.1 + mark AS ev, exch_ts, local_ts, event.2 AS px, event.3 AS qty,
    toUInt64(0) AS order_id, toInt64(0) AS ival, toFloat64(0) AS fval
FROM
(
    SELECT *, arrayJoin([toUInt64({EXCH}), toUInt64({LOCAL})]) AS mark, if(mark = {EXCH}, exch_ts, local_ts) AS at,
        arrayJoin(arrayZip(events, arrayEnumerate(events))) AS numbered, numbered.1 AS event, numbered.2 AS number
    FROM
    (
        SELECT {head}, 0 AS kind, toUInt64OrZero(trade_id) AS own, false AS full,
            [(toUInt64({TRADE} + {side}), toFloat64(price), toFloat64(quantity))] AS events
        FROM ({tiers.rows(TRADES, OF_SERIES)}) AS t
        UNION ALL
        SELECT {head}, 1 AS kind, ifNull(last_update_id, 0) AS own, ifNull(update_type = 'snapshot', false) AS full,
            arrayConcat({levels(BUY, "bid_prices", "bid_quantities")}, {levels(SELL, "ask_prices", "ask_quantities")}) AS events
        FROM ({tiers.rows(ORDERBOOKS, OF_SERIES)}) AS t
    )
)
ORDER BY at, kind, _stream, _seq, own, mark, number, px, qty"""


async def npz(data: Bytes, rows: int) -> Bytes:
    """`data.npy` in a zip, as numpy's savez_compressed has it: the rows of RowBinary are the records of the array as they are."""
    out = _Sink()
    whole = zipfile.ZipInfo("data.npy", date_time=(1980, 1, 1, 0, 0, 0))
    whole.compress_type = zipfile.ZIP_DEFLATED
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        with archive.open(whole, "w", force_zip64=True) as member:
            member.write(npy_header(rows))
            size = 0
            async for piece in data:
                size += len(piece)
                member.write(piece)
                yield out.taken()
        if size != rows * EVENT_BYTES:
            raise ExportError(
                f"{rows:,} events were counted, {size:,} bytes came: end before now, with --to", unsettled=True
            )
        yield out.taken()
    yield out.taken()


def npy_header(rows: int) -> bytes:
    """Version 1.0 of NumPy's format, padded so that the records begin at a multiple of 64."""
    text = f"{{'descr': {list(EVENT)!r}, 'fortran_order': False, 'shape': ({rows},), }}"
    length = -(-(10 + len(text) + 1) // 64) * 64
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", length - 10) + text.ljust(length - 11).encode() + b"\n"


class _Sink(io.RawIOBase):
    """A file that can't be sought, of which what was written is taken away."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []

    def writable(self) -> bool:
        return True

    def write(self, data: object) -> int:
        piece = bytes(data)  # type: ignore[call-overload]
        self._pieces.append(piece)
        return len(piece)

    def taken(self) -> bytes:
        pieces, self._pieces = self._pieces, []
        return b"".join(pieces)


async def gzip(data: Bytes, _: int) -> Bytes:
    """Without a time, which would make each one another."""
    compressor = zlib.compressobj(6, zlib.DEFLATED, 31)
    async for piece in data:
        yield compressor.compress(piece)
    yield compressor.flush()


PLAIN: Mapping[str, TablesOfKind] = {}
SERIES = {"timestamp", "exchange", "market_type", "symbol"}
FORMATS: Mapping[str, FileFormat] = {
    "parquet": FileFormat(
        ".parquet",
        "Parquet",
        PLAIN,
        plain,
        ends=b"PAR1",
        same_bytes=False,
        settings={"output_format_parquet_compression_method": "zstd", "output_format_parquet_string_as_string": 1},
    ),
    "arrow": FileFormat(
        ".arrow",
        "Arrow",
        PLAIN,
        plain,
        ends=b"ARROW1",
        same_bytes=False,
        settings={"output_format_arrow_string_as_string": 1},
    ),
    "csv": FileFormat(".csv", "CSVWithNames", PLAIN, plain, ends=b"\n"),
    "tardis": FileFormat(
        ".csv.gz",
        "CSVWithNames",
        {"trades": (TRADES,), "incremental_book_L2": (ORDERBOOKS,), "derivative_ticker": (FUNDING_RATES,)},
        tardis,
        pack=gzip,
        settings={"format_csv_null_representation": ""},
    ),
    "hftbacktest": FileFormat(".npz", "RowBinary", {"events": (TRADES, ORDERBOOKS)}, events, pack=npz),
}


def kinds_of(form: FileFormat, tables: Sequence[Table]) -> dict[str, TablesOfKind]:
    """The kinds of file that are made of any of these tables. A table without a series has none."""
    if not form.kinds:
        return {table.name: (table,) for table in tables if {column.name for column in table.columns} >= SERIES}
    return {kind: its for kind, its in form.kinds.items() if set(its) & set(tables)}
