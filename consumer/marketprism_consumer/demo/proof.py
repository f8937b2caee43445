"""What was published against what is stored, value by value.

The truth is the generator's own numbers, not a second reading of the payload: our decoder can't excuse itself with itself.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from marketprism_consumer.clickhouse.store import ClickHouseStore
from marketprism_consumer.feed import FeedMessage
from marketprism_consumer.ingest.dead_letters import SUBJECT_PREFIX
from marketprism_consumer.jetstream.broker import NatsBroker
from marketprism_consumer.schema.tables import BY_DATA_TYPE, TABLES, Table

StreamPosition = tuple[str, int]
"""(stream, sequence) that JetStream acknowledged."""

_TIMES = {(table.name, column.name) for table in TABLES for column in table.columns if "DateTime64" in column.type}
_CHUNK = 20_000  # sequences read at a time


@dataclass(slots=True)
class DemoProof:
    acknowledged: int = 0
    rows: int = 0
    dead_letters: int = 0
    missing: int = 0
    double: int = 0
    altered: int = 0
    examples: list[str] = field(default_factory=list)

    @property
    def holds(self) -> bool:
        return not (self.missing or self.double or self.altered) and self.acknowledged == self.rows + self.dead_letters

    def __str__(self) -> str:
        return (
            f"{self.acknowledged:,} acknowledged by JetStream = {self.rows:,} rows + {self.dead_letters:,} dead letters; "
            f"missing {self.missing:,}, double {self.double:,}, altered {self.altered:,}"
        )

    def tell(
        self,
        kind: Literal["missing", "double", "altered"],
        message: FeedMessage,
        place: StreamPosition,
        detail: str = "",
    ) -> None:
        if kind == "missing":
            self.missing += 1
        elif kind == "double":
            self.double += 1
        else:
            self.altered += 1
        if len(self.examples) < 10:
            self.examples.append(f"{kind}: {message.data_type} {place[0]}:{place[1]} {detail}".rstrip())


def places(manifest: Path) -> dict[int, StreamPosition]:
    """Index of the message → where JetStream put it. A repeat that JetStream recognised has its first one's place."""
    found = {}
    with manifest.open() as lines:
        for line in lines:
            entry = json.loads(line)
            found[entry["i"]] = (entry["stream"], entry["seq"])
    return found


async def prove(
    messages: Iterable[FeedMessage],
    where: Mapping[int, StreamPosition],
    store: ClickHouseStore,
    broker: NatsBroker,
    dlq: str,
) -> DemoProof:
    """`messages` as they were generated; each that has a place must be one right row, or one dead letter if it is bad."""
    buried = Counter({(s, seq): count for (s, _, seq), count in (await dead_letters(broker, dlq)).items()})
    proof = DemoProof()
    waiting: dict[str, dict[StreamPosition, FeedMessage]] = {table.data_type: {} for table in TABLES}
    seen: set[StreamPosition] = set()
    for message in messages:
        place = where.get(message.index)
        if place is None or place in seen:
            continue
        seen.add(place)
        chunk = waiting[message.data_type]
        chunk[place] = message
        if len(chunk) >= _CHUNK:
            await _check(proof, BY_DATA_TYPE[message.data_type], chunk, buried, store)
            chunk.clear()
    for data_type, chunk in waiting.items():
        await _check(proof, BY_DATA_TYPE[data_type], chunk, buried, store)
    proof.acknowledged = len(seen)
    return proof


async def dead_letters(broker: NatsBroker, stream: str) -> Counter[tuple[str, str, int]]:
    """(origin stream, data type, sequence) of every dead letter, from their subjects."""
    found: Counter[tuple[str, str, int]] = Counter()
    for subject, count in (await broker.subjects(stream, f"{SUBJECT_PREFIX}.{stream}.*.*.*.*.*")).items():
        *_, data_type, name, _, seq, _ = subject.split(".")
        found[name, data_type, int(seq)] += count
    return found


async def _check(
    proof: DemoProof,
    table: Table,
    chunk: Mapping[StreamPosition, FeedMessage],
    buried: Counter[StreamPosition],
    store: ClickHouseStore,
) -> None:
    if not chunk:
        return
    rows = await _rows(table, chunk, store)
    for place, message in chunk.items():
        found, letters = rows.get(place, []), buried[place]
        proof.rows += len(found)
        proof.dead_letters += letters
        if not found and not letters:
            proof.tell("missing", message, place)
        elif len(found) + letters > 1:
            proof.tell("double", message, place)
        elif message.truth is None:
            if found:
                proof.tell("altered", message, place, f"a bad message ({message.bad_kind}) became a row")
        elif letters:
            proof.tell("altered", message, place, "a good message became a dead letter")
        elif wrong := differences(table, message.truth, found[0]):
            proof.tell("altered", message, place, "; ".join(wrong))


async def _rows(
    table: Table, chunk: Mapping[StreamPosition, FeedMessage], store: ClickHouseStore
) -> dict[StreamPosition, list[dict[str, Any]]]:
    seqs = sorted(seq for _, seq in chunk)
    columns = [column.name for column in table.inserted]
    selected = ", ".join(f"toUnixTimestamp64Micro({c})" if (table.name, c) in _TIMES else c for c in columns)
    found: dict[StreamPosition, list[dict[str, Any]]] = {}
    for stream, seq, *values in await store.clickhouse.query(
        f"SELECT _stream, _seq, {selected} FROM {store.table(table)} WHERE _seq BETWEEN {seqs[0]} AND {seqs[-1]}"
    ):
        place = (stream.partition("@")[0], seq)
        if place in chunk:
            found.setdefault(place, []).append(dict(zip(columns, values, strict=True)))
    return found


def differences(table: Table, truth: Mapping[str, object], row: Mapping[str, Any]) -> list[str]:
    """`column: published … stored …` for each value that is not exactly what was published."""
    return [
        f"{name}: published {wanted}, stored {row[name]}"
        for name, wanted in truth.items()
        if _published(table, name, wanted) != row[name]
    ]


def _published(table: Table, name: str, value: object) -> object:
    """A generator's value in the row's terms: times in µs, an absent text of the tail as the empty one."""
    if (table.name, name) in _TIMES and isinstance(value, int):
        return value // 1000
    if name == "data_source" and value is None:
        return ""
    return value
