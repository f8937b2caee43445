"""`manifest.json`: which files there are, what is in each, and what was healed in it. The one truth of what is done: a file that is
not in it is written again."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from marketprism_consumer import times
from marketprism_consumer.camel import camel
from marketprism_consumer.errors import ExportError
from marketprism_consumer.export.destination import Destination, once
from marketprism_consumer.export.source import Covered, FileUnit, TierChoice
from marketprism_consumer.schema.incidents import Incident

NAME = "manifest.json"
VERSION = 1


@dataclass(frozen=True, slots=True)
class FileEntry:
    """`bytes` and `sha256` of the file; `covered` is what the tables had."""

    path: str
    format: str
    tier: TierChoice
    unit: FileUnit
    bytes: int
    sha256: str
    covered: Sequence[Covered]

    @property
    def rows(self) -> int:
        return sum(of_stream.rows for of_stream in self.covered)

    def as_dict(self) -> dict[str, Any]:
        unit = self.unit
        return {
            "path": self.path,
            "format": self.format,
            "tier": self.tier,
            "kind": unit.kind,
            "exchange": unit.exchange,
            "marketType": unit.market_type,
            "symbol": unit.symbol,
            "from": times.iso(unit.since),
            "to": times.iso(unit.until),
            "rows": self.rows,
            "first": times.iso(min(of_stream.first for of_stream in self.covered)),
            "last": times.iso(max(of_stream.last for of_stream in self.covered)),
            "bytes": self.bytes,
            "sha256": self.sha256,
            "covered": [
                {**camel(of_stream), "first": times.iso(of_stream.first), "last": times.iso(of_stream.last)}
                for of_stream in self.covered
            ],
        }


@dataclass(slots=True)
class Manifest:
    clickhouse: str = ""
    files: dict[str, FileEntry] = field(default_factory=dict)
    """By path."""
    incidents: list[dict[str, Any]] = field(default_factory=list)
    """What was healed in the time of its files."""

    def as_dict(self) -> dict[str, Any]:
        return {
            "version": VERSION,
            "clickhouse": self.clickhouse,
            "rows": sum(entry.rows for entry in self.files.values()),
            "bytes": sum(entry.bytes for entry in self.files.values()),
            "incidents": self.incidents,
            "files": [entry.as_dict() for _, entry in sorted(self.files.items())],
        }


def healed_in(found: Iterable[Incident], files: Iterable[FileEntry], types: Mapping[str, str]) -> list[dict[str, Any]]:
    """Those of the incidents that one of the files has rows of; `types`: the data type of each table."""
    units = [
        (types[of_stream.table], entry.unit)
        for entry in files
        for of_stream in entry.covered
        if of_stream.table in types
    ]
    return [
        {**camel(incident), "since": times.iso(incident.since), "until": times.iso(incident.until)}
        for incident in found
        if any(
            (incident.data_type, incident.exchange, incident.market_type, incident.symbol)
            == (data_type, unit.exchange, unit.market_type, unit.symbol)
            and incident.touches(unit.since, unit.until)
            for data_type, unit in units
        )
    ]


async def load(place: Destination) -> Manifest | None:
    """None where there is none. Raises ExportError."""
    text = await place.read(NAME)
    if text is None:
        return None
    try:
        found = json.loads(text)
        if found["version"] != VERSION:
            raise ValueError(f"version {found['version']}, and not {VERSION}")
        entries = [_entry(entry) for entry in found["files"]]
        return Manifest(found["clickhouse"], {entry.path: entry for entry in entries}, found["incidents"])
    except (ValueError, KeyError, TypeError) as error:
        raise ExportError(
            f"{NAME} can't be read: {type(error).__name__}: {error}: move it away to begin anew"
        ) from error


async def save(place: Destination, manifest: Manifest) -> None:
    """Raises ExportError."""
    text = json.dumps(manifest.as_dict(), indent=1, ensure_ascii=False)
    await place.write(NAME, once(text.encode()))


def _entry(found: dict[str, Any]) -> FileEntry:
    unit = FileUnit(
        found["kind"],
        found["exchange"],
        found["marketType"],
        found["symbol"],
        times.micros(found["from"]),
        times.micros(found["to"]),
    )
    covered = [
        Covered(
            each["table"],
            each["stream"],
            each["rows"],
            times.micros(each["first"]),
            times.micros(each["last"]),
            each["firstSeq"],
            each["lastSeq"],
            each["digest"],
        )
        for each in found["covered"]
    ]
    return FileEntry(found["path"], found["format"], found["tier"], unit, found["bytes"], found["sha256"], covered)
