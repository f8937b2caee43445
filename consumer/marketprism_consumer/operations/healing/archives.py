"""The files that rows may come from, as messages: what a collector would have published, one for each line. So the rules of decoding
are those of ingest, and a price is as exact.

- Binance's trades (https://data.binance.vision, https://github.com/binance/binance-public-data): a zip with one CSV. Spot: id, price,
  qty, quoteQty, time, isBuyerMaker, isBestMatch, without a header, `True` and `False`, in ms, and since 2025 in µs. Futures: the first
  six, newer ones with a header, in ms.
- tardis.dev's trades (https://docs.tardis.dev/downloadable-csv-files/data-types): a CSV with a header, gzipped, in µs.
- Parquet of `marketprism export`: any data type, each row with the identity of its message.
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import re
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from decimal import Decimal
from itertools import chain
from pathlib import Path
from typing import Any, Literal, TextIO

import msgspec

from marketprism_api.data_types import Declaration, DeclaredField, Levels
from marketprism_consumer import times
from marketprism_consumer.errors import HealError
from marketprism_consumer.schema.incidents import FILE

PIECE = 1 << 20
ROWS = 5_000  # of Parquet at a time
BINANCE_HEADS = (
    "id,price,qty,quote_qty,time,is_buyer_maker",
    "id,price,qty,base_qty,time,is_buyer_maker",
    "id,price,qty,quoteQty,time,isBuyerMaker",
    "id,price,qty,quoteQty,time,isBuyerMaker,isBestMatch",
    "id,price,qty,quote_qty,time,is_buyer_maker,is_best_match",
)
TARDIS_HEAD = "exchange,symbol,timestamp,local_timestamp,id,side,price,amount"
_TAKER = {"true": "sell", "false": "buy"}  # where the buyer was there first, the seller took

ArchiveForm = Literal["binance", "tardis", "parquet"]


@dataclass(frozen=True, slots=True)
class ArchiveLine:
    """`number`: of the line, or of the row, from 1. `identity`: that its message had, where the file knows it."""

    number: int
    message: Mapping[str, Any]
    identity: tuple[str, int] | None = None


@dataclass(frozen=True, slots=True)
class Archive:
    """`sha256`: of the file as it is, so that whoever has it can reckon it. `columns`: of Parquet."""

    path: Path
    form: ArchiveForm
    sha256: str
    columns: frozenset[str] = frozenset()

    @property
    def stream(self) -> str:
        """Which rows of it have that had none of their own."""
        return f"{FILE}{self.sha256}"

    def lines(self) -> Iterator[ArchiveLine]:
        """Raises HealError."""
        with _readable(self.path):
            if self.form == "parquet":
                yield from _parquet(self.path)
            else:
                with _text(self.path) as text:
                    yield from _BY_FORM[self.form](self.path, text)


def open_archive(path: Path) -> Archive:
    """Raises HealError where it is none that can be read."""
    with _readable(path):
        digest = hashlib.sha256()
        with path.open("rb") as file:
            begins = file.read(4)
            file.seek(0)
            while piece := file.read(PIECE):
                digest.update(piece)
        if begins == b"PAR1":
            return Archive(path, "parquet", digest.hexdigest(), frozenset(_pyarrow(path)[1].read_schema(path).names))
        with _text(path) as text:
            return Archive(path, _form(path, text.readline()), digest.hexdigest())


def _form(path: Path, first: str) -> ArchiveForm:
    head = first.strip()
    if head.replace('"', "") == TARDIS_HEAD:
        return "tardis"
    cells = head.split(",")
    if head in BINANCE_HEADS or (len(cells) in (6, 7) and cells[0].isdigit() and cells[5].lower() in _TAKER):
        return "binance"
    raise HealError(
        f"{path}: it begins with {head[:100]!r}: it is none of Binance's trades (a zip from data.binance.vision), tardis.dev's trades"
        " (.csv.gz) and Parquet of `marketprism export`"
    )


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, EOFError, zipfile.BadZipFile, zlib.error, UnicodeDecodeError, csv.Error) as error:
        why = error.strerror if isinstance(error, OSError) and error.strerror else f"{type(error).__name__}: {error}"
        raise HealError(f"{path}: it can't be read: {why}") from error


@contextmanager
def _text(path: Path) -> Iterator[TextIO]:
    with path.open("rb") as file:
        begins = file.read(4)
        file.seek(0)
        if begins == b"PK\x03\x04":
            with zipfile.ZipFile(file) as zipped:
                members = [name for name in zipped.namelist() if name.endswith(".csv")]
                if len(members) != 1:
                    raise HealError(f"{path}: one .csv is looked for in it, and there are {len(members)}")
                with zipped.open(members[0]) as member, io.TextIOWrapper(member, "utf-8", newline="") as text:
                    yield text
        elif begins[:2] == b"\x1f\x8b":
            with gzip.open(file, "rt", encoding="utf-8", newline="") as text:
                yield text
        else:
            with io.TextIOWrapper(file, "utf-8", newline="") as text:
                yield text


def _cells(path: Path, text: TextIO, wanted: Sequence[int]) -> Iterator[tuple[int, list[str]]]:
    """Lines with their numbers; empty ones are none. Raises HealError where one has not so many cells."""
    lines = csv.reader(text)
    for cells in lines:
        if not cells:
            continue
        if len(cells) not in wanted:
            raise HealError(f"{path}, line {lines.line_num}: it has {len(cells)} cells, and not {wanted[0]}")
        yield lines.line_num, cells


# --- the forms ----------------------------------------------------------------------------------------------------------


def _binance(path: Path, text: TextIO) -> Iterator[ArchiveLine]:
    cells = _cells(path, text, (6, 7))
    first = next(cells, None)
    if first is None:
        return
    head = [] if first[1][0] == "id" else [first]
    for number, (id_, price, quantity, _, time, buyer_made, *_) in chain(head, cells):
        side = _TAKER.get(buyer_made.lower(), buyer_made)
        yield ArchiveLine(
            number,
            {
                "trade_id": id_,
                "price": price,
                "quantity": quantity,
                "side": side,
                "timestamp": time,
                "trade_time": time,
                "data_source": "binance_archive",
            },
        )


def _tardis(path: Path, text: TextIO) -> Iterator[ArchiveLine]:
    for number, (exchange, symbol, time, arrived, id_, side, price, amount) in _cells(path, text, (8,)):
        if exchange == "exchange":
            continue
        yield ArchiveLine(
            number,
            {
                "exchange": exchange,
                "symbol": symbol,
                "trade_id": id_,
                "price": price,
                "quantity": amount,
                "side": side,
                "timestamp": time,
                "trade_time": time,
                "collected_at": arrived,
                "data_source": "tardis",
            },
        )


_BY_FORM = {"binance": _binance, "tardis": _tardis}


def _pyarrow(path: Path) -> tuple[Any, Any]:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        raise HealError(f"{path}: to read Parquet needs pyarrow: pip install 'marketprism-consumer[data]'") from None
    return pyarrow, parquet


def _parquet(path: Path) -> Iterator[ArchiveLine]:
    pa, parquet = _pyarrow(path)
    number = 0
    try:
        for batch in parquet.ParquetFile(path).iter_batches(batch_size=ROWS):
            # Times as numbers: what Python makes of them ends at a microsecond.
            columns = [
                column.cast(pa.int64()) if pa.types.is_timestamp(column.type) else column for column in batch.columns
            ]
            for row in pa.RecordBatch.from_arrays(columns, batch.schema.names).to_pylist():
                number += 1
                stream, seq = row.pop("_stream", ""), row.pop("_seq", 0)
                message = {name: _written(value) for name, value in row.items()}
                yield ArchiveLine(number, message, (stream, seq) if stream else None)
    except pa.ArrowException as error:
        raise HealError(f"{path}: it can't be read: {error}") from error


def _written(value: Any) -> Any:
    """As a message would have it."""
    if isinstance(value, list):
        return [_written(each) for each in value]
    if isinstance(value, bytes):
        return value.decode()
    return format(value, "f") if isinstance(value, Decimal) else value


# --- lines to messages -----------------------------------------------------------------------------------------------


def as_stored(declaration: Declaration) -> Declaration:
    """The same data type of messages that have each field under the name of its column, as it is stored: archives do, whatever a
    pipeline's collectors send."""

    def plain(each: DeclaredField) -> DeclaredField:
        words = tuple((word.lower(), word) for _, word in each.words)
        return replace(each, places=(), words=words, mapped=(), nothing=(), constant=None, token=0, unit="")

    return replace(
        declaration,
        time=plain(declaration.time),
        place=tuple(map(plain, declaration.place)),
        fields=tuple(Levels() if isinstance(each, Levels) else plain(each) for each in declaration.fields),
        tail=tuple(map(plain, declaration.tail)),
        claimed="",
    )


def payload(message: Mapping[str, Any]) -> bytes:
    """As JSON. The levels of a stored book stand in four lists: here in two, of pairs."""
    found = dict(message)
    for side in ("bid", "ask"):
        if f"{side}_prices" in found:
            found[f"{side}s"] = list(zip(found.pop(f"{side}_prices"), found.pop(f"{side}_quantities"), strict=True))
    return msgspec.json.encode(found)


def where_to_get(exchange: str, market_type: str, symbol: str, at: int) -> str:
    """The address of the archive that has a day's trades, of those venues that give theirs away; empty for others. `at`: a moment of the
    day [µs]."""
    kind = {"spot": "spot", "perpetual": "futures/um"}.get(market_type)
    if not exchange.startswith("binance") or kind is None:
        return ""
    name = "".join(symbol.split("-")[:2])
    return f"https://data.binance.vision/data/{kind}/daily/trades/{name}/{name}-trades-{times.shown(at)[:10]}.zip"


def named_otherwise(path: Path, symbol: str) -> str:
    """What Binance's name of the file says it is of, where that is not the symbol; empty where it says nothing else."""
    named = re.match(r"([A-Z0-9]+)(?:_[A-Z0-9]+)?-trades-", path.name)
    own = re.sub(r"[^A-Z0-9]", "", symbol.upper())
    return "" if named is None or own.startswith(named[1]) else named[1]
