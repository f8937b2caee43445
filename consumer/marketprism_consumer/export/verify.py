"""Does a directory say what the tables say? Each file of the manifest: its bytes, what the tables have, and every value."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from marketprism_consumer.clickhouse.client import SPILL, ClickHouse
from marketprism_consumer.errors import ExportError
from marketprism_consumer.export.destination import Destination
from marketprism_consumer.export.formats import FORMATS, TablesOfKind, kinds_of
from marketprism_consumer.export.manifest import FileEntry, Manifest
from marketprism_consumer.export.patience import Patience
from marketprism_consumer.export.run import Digest, formatted
from marketprism_consumer.export.source import RowSource, TierChoice, covered
from marketprism_consumer.schema.tables import Table

BATCH = 50_000  # rows that are compared at a time


@dataclass(slots=True)
class Verified:
    """`compared`: files whose every value was held against the tables; the others were asked for with `quick`."""

    files: int = 0
    rows: int = 0
    compared: int = 0
    wrong: dict[str, str] = field(default_factory=dict)
    """By path, what is."""


async def verify(
    server_of: Callable[[TierChoice], ClickHouse],
    hot: str,
    cold: str,
    tables: Sequence[Table],
    place: Destination,
    manifest: Manifest,
    *,
    quick: bool = False,
    progress: Callable[[str, int, int, int], None] = lambda *_: None,
) -> Verified:
    """Raises StoreError, ExportError."""
    found, total = Verified(), sum(entry.rows for entry in manifest.files.values())
    size = 0
    patient: dict[TierChoice, Patience] = {}
    for path, entry in sorted(manifest.files.items()):
        tiers = RowSource(hot, cold, entry.tier)
        its = kinds_of(FORMATS[entry.format], tables).get(entry.unit.kind)
        if its is None:
            raise ExportError(
                f"{path}: the pipeline does not store {entry.unit.kind}: verify it with the file of one that does, --file"
            )
        server = server_of(entry.tier)
        one = partial(_wrong, server, tiers, its, place, entry, quick=quick)
        if wrong := await patient.setdefault(entry.tier, Patience(server))(one):
            found.wrong[path] = wrong
        found.files += 1
        found.rows += entry.rows
        found.compared += not quick and not wrong
        size += entry.bytes
        progress("verified", found.rows, total, size)
    return found


async def _wrong(
    server: ClickHouse, tiers: RowSource, tables: TablesOfKind, place: Destination, entry: FileEntry, *, quick: bool
) -> str:
    form, digest = FORMATS[entry.format], Digest()
    try:
        async for _ in digest.of(place.pieces(entry.path)):
            pass
    except FileNotFoundError:
        return "the file is not there"
    if digest.sha256 != entry.sha256:
        return f"the file was changed: SHA-256 is {digest.sha256}, and was {entry.sha256}"
    there = await covered(server, tiers, tables, entry.unit)
    if list(there) != list(entry.covered):
        rows = sum(of_stream.rows for of_stream in there)
        return (
            f"the tables have {rows:,} rows, and had {entry.rows:,}"
            if rows != entry.rows
            else "the tables have other rows now"
        )
    if quick:
        return ""
    again = Digest()
    if form.same_bytes:
        async for _ in again.of(formatted(server, tiers, form, entry.unit, tables)):
            pass
        return "" if again.sha256 == entry.sha256 else "the tables have other values: the file made again is another"
    return await _values(server, form.select(tiers, entry.unit.kind, tables), place, entry)


async def _values(server: ClickHouse, select: str, place: Destination, entry: FileEntry) -> str:
    """Both as Arrow, row by row, of which few are held at a time."""
    try:
        import pyarrow as pa
        from pyarrow import ipc, parquet
    except ImportError:
        raise ExportError(
            "to compare values needs pyarrow: pip install 'marketprism-consumer[data]', or --quick"
        ) from None
    sql = f"{select} FORMAT ArrowStream"
    settings = {**SPILL, "output_format_arrow_string_as_string": 1}
    with tempfile.TemporaryFile() as file, tempfile.TemporaryFile() as tables:
        async for piece in place.pieces(entry.path):
            file.write(piece)
        async for piece in server.stream(sql, entry.unit.parameters, settings=settings):
            tables.write(piece)
        file.seek(0)
        tables.seek(0)
        if entry.format == "parquet":
            mine: Any = parquet.ParquetFile(file).iter_batches(batch_size=BATCH)
        else:
            opened = ipc.open_file(file)
            mine = (opened.get_batch(number) for number in range(opened.num_record_batches))
        return _difference(pa, mine, ipc.open_stream(tables))


def _difference(pa: Any, mine: Any, theirs: Any) -> str:
    """Of two sequences of record batches, whatever the size of each: what differs first."""
    at, left, right = 0, None, None
    while True:
        left = left if left is not None and left.num_rows else _next(mine)
        right = right if right is not None and right.num_rows else _next(theirs)
        if left is None or right is None:
            return "" if left is right else f"one has {at:,} rows, the other more"
        many = min(left.num_rows, right.num_rows)
        for name in left.schema.names:
            one, other = left.column(name).slice(0, many), right.column(name).slice(0, many)
            if not one.cast(other.type).equals(other):
                row = next(n for n in range(many) if not one[n].cast(other.type).equals(other[n]))
                return f"row {at + row + 1:,}, {name}: {one[row].as_py()!r} in the file, {other[row].as_py()!r} in the tables"
        at += many
        left, right = left.slice(many), right.slice(many)


def _next(batches: Any) -> Any:
    for batch in batches:
        if batch.num_rows:
            return batch
    return None
