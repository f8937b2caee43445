"""Reads a stream, or some subjects of it, once from front to end: with an ephemeral consumer that acknowledges nothing
and so changes nothing for anybody else."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

from marketprism_api import reasons
from marketprism_consumer import times
from marketprism_consumer.errors import BrokerError, ReaderRunsError
from marketprism_consumer.ingest.frames import Messages
from marketprism_consumer.ingest.message import Message
from marketprism_consumer.ingest.pull_status import PullStatus, pull_status
from marketprism_consumer.jetstream.broker import SECOND, NatsBroker

EXPIRES = 5.0  # of one request [s]
MAX_BYTES = 16 << 20  # of one batch: books are large
NO_RESPONDERS = 503
KNOWN_AFTER = 0.1  # a consumer that was just made may not be known to all servers of a cluster yet [s]
CONSUMER_EXISTS = (10105, 10148)
INACTIVE = 60.0  # after this long without a request the server forgets the consumer [s]


class Read(Message, gc=False):
    """A message with its headers, as they came."""

    headers: bytes


@dataclass(slots=True)
class _PulledBatch:
    number: int = 0
    messages: list[Read] = field(default_factory=list)
    done: asyncio.Event = field(default_factory=asyncio.Event)
    status: PullStatus | None = None
    """How it ended, where that was told."""


class StreamReader:
    """`async with` it, then take `batches`, from sequence `first` on, or from what arrived at `since` [µs UTC]. `name`: only
    one reader of that name at a time."""

    def __init__(
        self,
        broker: NatsBroker,
        stream: str,
        subjects: Sequence[str],
        *,
        first: int = 1,
        since: int | None = None,
        headers_only: bool = False,
        name: str = "",
    ) -> None:
        self._broker, self._stream = broker, stream
        self._name = name
        self._pull = _PulledBatch()
        self._over = False
        self._config: dict[str, Any] = {
            **(
                {"deliver_policy": "by_start_sequence", "opt_start_seq": max(1, first)}
                if since is None
                else {"deliver_policy": "by_start_time", "opt_start_time": times.iso(since)}
            ),
            "ack_policy": "none",
            "replay_policy": "instant",
            "headers_only": headers_only,
            "mem_storage": True,
            "num_replicas": 1,
            "inactive_threshold": int(INACTIVE * SECOND),
        }
        if len(subjects) == 1:
            self._config["filter_subject"] = subjects[0]
        else:
            self._config["filter_subjects"] = list(subjects)

    async def __aenter__(self) -> StreamReader:
        """Raises BrokerError, ReaderRunsError."""
        request: dict[str, Any] = {"stream_name": self._stream, "config": self._config}
        where = f"CONSUMER.CREATE.{self._stream}"
        if self._name:
            # Creating the same again would succeed; what differs makes it fail, so that there is one at a time.
            self._config |= {"name": self._name, "metadata": {"reader": uuid.uuid4().hex}}
            request["action"] = "create"
            where += f".{self._name}"
        try:
            made = await self._broker.create_reader(where, request)
        except BrokerError as refused:
            if self._name and refused.code in CONSUMER_EXISTS:
                why = f"another {self._name} of {self._stream} runs, or was killed less than a minute ago"
                raise ReaderRunsError(why) from None
            raise
        self._name, self._over = made["name"], not made["num_pending"]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end(self._pull)
        try:
            await self._broker.api(f"CONSUMER.DELETE.{self._stream}.{self._name}", None)
        except BrokerError:
            return  # the server forgets it by itself

    async def batches(self, size: int) -> AsyncIterator[list[Read]]:
        """Up to `size` messages each, in order, up to where the stream ends by then. The next are requested before
        these are yielded. Raises BrokerError."""
        # One request at a time: JetStream serves several by turns, one message each.
        pull = None if self._over else self._ask(size)
        while pull:
            try:
                async with asyncio.timeout(2 * EXPIRES):
                    await pull.done.wait()
            except TimeoutError:
                raise BrokerError(reasons.NATS_UNREACHABLE, f"stream {self._stream} stopped answering") from None
            size = await self._heed(pull, size)
            if not pull.messages and not self._over:
                # The last messages may have expired under our hands: then there is no more to come.
                state = await self._broker.api(f"CONSUMER.INFO.{self._stream}.{self._name}", None)
                self._over = not state["num_pending"]
            following = None if self._over else self._ask(size)
            if pull.messages:
                yield pull.messages
            pull = following

    async def _heed(self, pull: _PulledBatch, size: int) -> int:
        """How many to ask for next. Raises BrokerError where asking again would be answered in the same way."""
        status = pull.status
        if status is None or pull.messages:
            return size
        if status.at_most:
            return min(size, status.at_most)
        if status.code == NO_RESPONDERS:
            await asyncio.sleep(KNOWN_AFTER)
        elif status.full or not status.over:
            raise BrokerError(reasons.NATS_REFUSED, f"stream {self._stream}: {status.code} {status.text}")
        return size

    def _ask(self, size: int) -> _PulledBatch:
        pull = self._pull = _PulledBatch()

        def receive(_: int, delivered: Messages | bytes) -> None:
            if isinstance(delivered, bytes):
                status = pull_status(delivered)
                if not status.idle:
                    pull.status = status
                    self._end(pull)
                return
            for index, m in enumerate(delivered):
                read = Read(m.seq, m.arrived, m.pending, m.subject, m.payload, delivered.headers(index))
                pull.messages.append(read)
            self._over = not delivered.pending
            if self._over or len(pull.messages) >= size:
                self._end(pull)

        request = {
            "batch": size,
            "expires": int(EXPIRES * SECOND),
            "max_bytes": max(MAX_BYTES, 2 * self._broker.client.max_payload),
        }
        pull.number = self._broker.client.open_pull(
            f"{self._broker.client.api}.CONSUMER.MSG.NEXT.{self._stream}.{self._name}",
            json.dumps(request).encode(),
            receive,
        )
        return pull

    def _end(self, pull: _PulledBatch) -> None:
        self._broker.client.close_pull(pull.number)
        pull.done.set()


def parse_headers(raw: bytes) -> dict[str, str]:
    """`NATS/1.0` and its lines as name → value; the last of equal names wins."""
    found: dict[str, str] = {}
    for line in raw.decode(errors="backslashreplace").split("\r\n")[1:]:
        name, colon, value = line.partition(":")
        if colon:
            found[name.strip()] = value.strip()
    return found
