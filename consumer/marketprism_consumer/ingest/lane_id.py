"""Which lane this is: one stream, as it was once made, into one table, as it was once made."""

from __future__ import annotations

from dataclasses import dataclass

from marketprism_consumer.ingest.broker import Broker
from marketprism_consumer.ingest.record import Record, lane_key
from marketprism_consumer.ingest.store import Store
from marketprism_consumer.schema.tables import Table


@dataclass(frozen=True, slots=True)
class LaneId:
    """`created`: of the stream, as the server writes it. Two pipelines into one table are one lane."""

    data_type: str
    stream: str
    created: str
    subject: str
    table: str

    @property
    def key(self) -> str:
        return lane_key(self.data_type, self.stream, self.created, self.subject, self.table)

    def empty_record(self) -> Record:
        return Record(self.stream, self.created, self.subject, self.table)


async def lane_of(broker: Broker, store: Store, table: Table, stream: str, subject: str) -> LaneId:
    """Raises BrokerError, StoreError."""
    state = await broker.stream(stream)
    return LaneId(table.data_type, stream, state.created, subject, await store.identity(table))
