"""Compares every message that a stream holds with its row, value by value: decimals as numbers, times in microseconds."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Protocol

from marketprism_api.data_types import Declaration
from marketprism_api.messages import MessageLimits
from marketprism_consumer.clickhouse.store import ClickHouseStore
from marketprism_consumer.errors import MessageError
from marketprism_consumer.ingest.decode import Row, decode
from marketprism_consumer.ingest.values import shown
from marketprism_consumer.jetstream.broker import NatsBroker
from marketprism_consumer.jetstream.stream_reader import StreamReader
from marketprism_consumer.operations.sequences import Sequences
from marketprism_consumer.schema.tables import Column, Table, exact, table_of

AT_ONCE = {"orderbook": 2_000}
AT_ONCE_OTHERS = 20_000
NAMED = 20


@dataclass(frozen=True, slots=True)
class Alteration:
    """One value of a row that is not its message's. `column` is empty where the message can't be a row at all."""

    seq: int
    tier: str
    column: str
    in_stream: str
    in_table: str

    def __str__(self) -> str:
        if not self.column:
            return f"{self.seq} ({self.tier}): there is a row, but the message can't be one: {self.in_stream}"
        return f"{self.seq} ({self.tier}): {self.column} is {self.in_table}, the message has {self.in_stream}"


@dataclass(frozen=True, slots=True)
class Misburied:
    """A dead letter whose message decodes: an older version's, to be replayed; or not the message's own."""

    seq: int

    def __str__(self) -> str:
        return f"{self.seq}: a dead letter, but its message can be a row: `marketprism dlq replay`"


class Findings(Protocol):
    """What `compare` adds to."""

    stream: str
    first: int
    last: int
    altered: int
    alterations: list[Alteration]
    compared: int
    misburied: list[Misburied]


async def compare(
    found: Findings,
    broker: NatsBroker,
    declaration: Declaration,
    *,
    tiers: Mapping[str, tuple[ClickHouseStore, str]],
    streams: Sequence[str],
    dead: Sequences,
    refused: Sequences,
    limits: MessageLimits,
) -> None:
    """Reads the stream once, a chunk at a time. `refused`: dead letters that decode, but ClickHouse would not have.

    A message is compared with its rows in each tier; of several generations one must be its own."""
    table = table_of(declaration)
    columns = ", ".join(exact(column) for column in table.inserted)
    async with StreamReader(broker, found.stream, [declaration.subject], first=found.first) as reader:
        async for messages in reader.batches(AT_ONCE.get(table.data_type, AT_ONCE_OTHERS)):
            messages = [message for message in messages if message.seq <= found.last]
            if not messages:
                break
            rows: dict[int, Row | MessageError] = {}
            for message in messages:
                try:
                    rows[message.seq] = decode(declaration, message.subject, message.payload, message.arrived, limits)
                except MessageError as refusal:
                    rows[message.seq] = refusal
                    continue
                if message.seq in dead and message.seq not in refused and len(found.misburied) < NAMED:
                    found.misburied.append(Misburied(message.seq))
            seen: set[int] = set()
            for tier, (store, name) in tiers.items():
                stored = await store.clickhouse.query(
                    f"SELECT _seq, {columns} FROM {name} WHERE _seq >= {messages[0].seq} AND _seq <= {messages[-1].seq}"
                    " AND _stream IN {streams:Array(String)}",
                    {"streams": list(streams)},
                )
                of: dict[int, list[tuple[Any, ...]]] = {}
                for seq, *values in stored:
                    if seq in rows:
                        of.setdefault(seq, []).append(tuple(values))
                for seq in sorted(of):
                    if alteration := difference(table, seq, tier, rows[seq], of[seq]):
                        found.altered += 1
                        if len(found.alterations) < NAMED:
                            found.alterations.append(alteration)
                seen |= of.keys()
            found.compared += len(seen)


def difference(
    table: Table, seq: int, tier: str, message: Row | MessageError, rows: Sequence[tuple[Any, ...]]
) -> Alteration | None:
    """The first value in which no row of a message is the message's own; None where one row is."""
    if isinstance(message, MessageError):
        return Alteration(seq, tier, "", str(message), "")
    expected = [canonical(column)(value) for column, value in zip(table.inserted, message, strict=True)]
    worst: Alteration | None = None
    for row in rows:
        names = differing(table, expected, row)
        first = next(names, None)
        if first is None:
            return None
        column, wanted, has = first
        worst = worst or Alteration(seq, tier, column, wanted, has)
    return worst


def differing(table: Table, expected: Sequence[Any], row: Sequence[Any]) -> Iterator[tuple[str, str, str]]:
    for column, wanted, has in zip(table.inserted, expected, row, strict=True):
        if wanted == has:
            continue
        if isinstance(wanted, list) and isinstance(has, list) and len(wanted) == len(has):
            at = next(i for i, pair in enumerate(zip(wanted, has, strict=True)) if pair[0] != pair[1])
            yield f"{column.name}[{at + 1}]", _text(wanted[at]), _text(has[at])
        else:
            yield column.name, _text(wanted), _text(has)


def canonical(column: Column) -> Callable[[Any], Any]:
    """What turns a decoded value into what ClickHouse's clients give for it."""
    if "Decimal" not in column.type:
        return lambda value: value
    if column.type.startswith("Array"):
        return lambda value: [Decimal(text) for text in value]
    return lambda value: None if value is None else Decimal(value)


def _text(value: Any) -> str:
    if isinstance(value, list):
        return f"{len(value)} values"
    return format(value, "f") if isinstance(value, Decimal) else shown(str(value))
