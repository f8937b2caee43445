"""One export: several units at once, each written, counted again, and entered in the manifest."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

from marketprism_consumer.clickhouse.client import SPILL, ClickHouse
from marketprism_consumer.clickhouse.incidents import incidents
from marketprism_consumer.errors import ExportError, StorageError
from marketprism_consumer.export import manifest as manifests
from marketprism_consumer.export.destination import Destination
from marketprism_consumer.export.formats import FORMATS, FileFormat, TablesOfKind, kinds_of
from marketprism_consumer.export.manifest import FileEntry, Manifest
from marketprism_consumer.export.patience import Patience
from marketprism_consumer.export.source import Covered, FileUnit, RowSource, Wanted, covered, units
from marketprism_consumer.schema.tables import Table

ALL_TIME = 1 << 62  # [µs]
SAVE_EVERY = 5.0  # how old the manifest may be; what is younger is written again after a kill [s]
TRIES = 3  # where rows come while a unit is read


@dataclass(slots=True)
class Exported:
    """`kept`: files that were there already, of the same rows."""

    files: int = 0
    kept: int = 0
    rows: int = 0
    bytes: int = 0
    seconds: float = 0.0
    paths: list[str] = field(default_factory=list)


class Digest:
    """Passes bytes on, and knows their SHA-256 and their number."""

    def __init__(self) -> None:
        self._sha = hashlib.sha256()
        self.bytes = 0

    async def of(self, data: AsyncIterator[bytes], ends: bytes = b"") -> AsyncIterator[bytes]:
        """Raises ExportError where they don't end so."""
        tail = b""
        async for piece in data:
            if piece:
                self._sha.update(piece)
                self.bytes += len(piece)
                tail = (tail + piece[-16:])[-16:]
                yield piece
        if not tail.endswith(ends):
            raise ExportError("what ClickHouse sent is no whole file: it broke off")

    @property
    def sha256(self) -> str:
        return self._sha.hexdigest()


class Export:
    """`progress` is called with the kind of a file, its rows done and rows in all, and bytes written."""

    def __init__(
        self,
        server: ClickHouse,
        tiers: RowSource,
        place: Destination,
        format: str,
        *,
        jobs: int = 2,
        progress: Callable[[str, int, int, int], None] = lambda *_: None,
    ) -> None:
        self._server, self._tiers, self._place = server, tiers, place
        self._name, self._format = format, FORMATS[format]
        self._jobs, self._progress = jobs, progress
        self._saved_at = time.monotonic()
        self._saving = asyncio.Lock()
        self._kinds: dict[str, TablesOfKind] = {}
        self._patient = Patience(server)

    async def run(self, wanted: Wanted, tables: Sequence[Table]) -> Exported:
        """Raises StoreError, ExportError. What was done until then is in the manifest."""
        begun, done = time.monotonic(), Exported()
        manifest = await manifests.load(self._place) or Manifest()
        manifest.clickhouse = str(await self._patient(lambda: self._server.value("SELECT version()")))
        self._kinds = kinds_of(self._format, tables)
        found = await self._patient(lambda: units(self._server, self._tiers, self._kinds, wanted))
        waiting = iter(found.items())
        total: dict[str, int] = {}
        so_far: dict[str, list[int]] = {}
        for unit, there in found.items():
            total[unit.kind] = total.get(unit.kind, 0) + sum(of_stream.rows for of_stream in there)

        async def work() -> None:
            for unit, there in waiting:
                entry = manifest.files.get(unit.path(self._format.suffix))
                if entry and self._same(entry, unit, there):
                    done.kept += 1
                else:
                    entry = await self._patient(partial(self._file, unit, there))
                    manifest.files[entry.path] = entry
                    done.files += 1
                    done.rows += entry.rows
                    done.bytes += entry.bytes
                done.paths.append(entry.path)
                counts = so_far.setdefault(unit.kind, [0, 0])
                counts[0] += entry.rows
                counts[1] += entry.bytes
                self._progress(unit.kind, counts[0], total[unit.kind], counts[1])
                await self._save(manifest)

        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(min(self._jobs, max(1, len(found)))):
                    group.create_task(work())
        except* StorageError as errors:
            raise errors.exceptions[0] from None
        finally:
            await manifests.save(self._place, manifest)
        await self._note_healed(manifest, tables)
        await manifests.save(self._place, manifest)
        done.seconds = time.monotonic() - begun
        return done

    async def _note_healed(self, manifest: Manifest, tables: Sequence[Table]) -> None:
        """Of the data types that were asked for; what is known of others stays."""
        types = {table.name: table.data_type for table in tables}
        found = await incidents(self._server, self._tiers.hot, 0, ALL_TIME)
        others = [each for each in manifest.incidents if each["dataType"] not in types.values()]
        manifest.incidents = [*others, *manifests.healed_in(found, manifest.files.values(), types)]

    def _same(self, entry: FileEntry, unit: FileUnit, there: Sequence[Covered]) -> bool:
        return (
            entry.unit == unit
            and entry.format == self._name
            and entry.tier == self._tiers.choice
            and list(entry.covered) == list(there)
        )

    async def _save(self, manifest: Manifest) -> None:
        if time.monotonic() - self._saved_at > SAVE_EVERY and not self._saving.locked():
            async with self._saving:
                await manifests.save(self._place, manifest)
                self._saved_at = time.monotonic()

    async def _file(self, unit: FileUnit, there: Sequence[Covered]) -> FileEntry:
        """Written until it has what the tables have before and after."""
        path, tables = unit.path(self._format.suffix), self._kinds[unit.kind]
        for _ in range(TRIES):
            digest = Digest()
            data = formatted(self._server, self._tiers, self._format, unit, tables)
            await self._place.write(path, digest.of(data, self._format.ends))
            now = await covered(self._server, self._tiers, tables, unit)
            if list(now) == list(there):
                return FileEntry(path, self._name, self._tiers.choice, unit, digest.bytes, digest.sha256, tuple(there))
            there = now
        raise ExportError(
            f"{path}: rows went on coming while it was written: end before now, with --to", unsettled=True
        )


async def formatted(
    server: ClickHouse, tiers: RowSource, form: FileFormat, unit: FileUnit, tables: TablesOfKind
) -> AsyncIterator[bytes]:
    """A unit's file as it comes. Raises StoreError."""
    settings = {**SPILL, **form.settings}
    data = server.stream(form.sql(tiers, unit, tables), unit.parameters, settings=settings)
    if form.pack:
        rows = int(await server.value(form.count(tiers, unit, tables), unit.parameters))
        data = form.pack(data, rows)
    async for piece in data:
        yield piece
