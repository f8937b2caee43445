"""The stream of dead letters, as JetStream has it."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from typing import Any

from nats.errors import Error as NatsError

from marketprism_api import reasons
from marketprism_api.subjects import common
from marketprism_consumer.errors import BrokerError, JetStreamError
from marketprism_consumer.ingest.dead_letters import REST, DeadLetter, part_subject, place_of, prefix_of, subjects_of
from marketprism_consumer.jetstream.broker import API_TIMEOUT, SECOND, NatsBroker
from marketprism_consumer.jetstream.refusals import NAME_IN_USE, STREAM_NOT_FOUND, WRONG_LAST_SEQUENCE

HEADERS_AROUND = 128
"""Of a message's headers: the version, line ends, and the one for compare-and-set [bytes]."""


async def in_the_way(broker: NatsBroker, graveyard: str) -> str:
    """Why no letters come to the dead-letter stream of that name, which need not be there yet; empty where nothing is in the way.
    Raises BrokerError."""
    ours = subjects_of(graveyard)
    found = await broker.described(graveyard)
    if found is not None:
        if any(common(each, ours) == ours for each in found.subjects):
            return ""
        return f"{graveyard} takes {', '.join(found.subjects) or 'no subjects of its own'}, not {ours}"
    for name in await broker.streams_of(ours):
        if name == graveyard:  # made since: by another lane, or another consumer
            return await in_the_way(broker, graveyard)
        other = await broker.described(name)
        taken = [each for each in other.subjects if common(each, ours)] if other else []
        return f"{graveyard} can't be made: the stream {name} takes {', '.join(taken) or ours}"
    return ""


class NatsGraveyard:
    """The dead-letter stream: made at first use where it is missing, with as many replicas as the streams that letters come from."""

    def __init__(self, broker: NatsBroker, stream: str, max_age: float, replicas: int = 1) -> None:
        self._broker, self._stream, self._max_age, self._replicas = broker, stream, max_age, replicas
        self._ready = False
        self._max_size = 0  # that the stream takes of a message; 0: as much as NATS does

    async def bury(self, letter: DeadLetter) -> None:
        try:
            if not self._ready:
                await self._ensure()
            await self._publish(letter)
        except BrokerError as refused:
            self._ready = False
            if refused.reason is reasons.DEAD_LETTERS_UNAVAILABLE:
                raise
            raise BrokerError(reasons.DEAD_LETTERS_UNAVAILABLE, f"{refused.reason}: {refused.detail}") from refused

    async def buried(self, data_type: str, stream: str) -> set[tuple[int, int]]:
        subjects = await self._broker.subjects(self._stream, f"{prefix_of(self._stream, data_type, stream)}.>")
        return {place_of(subject) for subject in subjects}

    async def _publish(self, letter: DeadLetter) -> None:
        """Whole: what has no place beside the headers goes before, so that a letter that is there has all of its parts."""
        subject, payload, headers = letter.subject(self._stream), letter.message.payload, letter.headers()
        room = self._room(headers)
        if len(payload) > room:
            size = self._room({})
            room -= len(REST) + 50 * (len(payload) // max(1, size) + 1)
            if room < 0:
                raise BrokerError(
                    reasons.DEAD_LETTERS_UNAVAILABLE,
                    f"{self._stream} takes {self._most} bytes: not even the headers of a letter",
                )
            parts = [(start, min(start + size, len(payload))) for start in range(room, len(payload), size)]
            for start, end in parts:
                await self._put(part_subject(subject, (start, end)), payload[start:end], {})
            headers[REST] = " ".join(f"{start}-{end}" for start, end in parts)
            payload = payload[:room]
        await self._put(subject, payload, headers)

    @property
    def _most(self) -> int:
        """Bytes of a message with its headers."""
        return min(self._broker.client.max_payload, self._max_size or sys.maxsize)

    def _room(self, headers: Mapping[str, str]) -> int:
        return self._most - sum(len(name) + len(value) + 4 for name, value in headers.items()) - HEADERS_AROUND

    async def _put(self, subject: str, payload: bytes, headers: Mapping[str, str]) -> None:
        """Where the subject is still empty."""
        given = {**headers, "Nats-Expected-Last-Subject-Sequence": "0"}
        try:
            message = await self._broker.client.request(subject, payload, timeout=API_TIMEOUT, headers=given)
        except (NatsError, OSError) as failed:
            raise BrokerError(reasons.DEAD_LETTERS_UNAVAILABLE, f"{subject}: {failed!r}") from None
        answer = json.loads(message.data)
        error = answer.get("error")
        if error and int(error.get("err_code", 0)) not in WRONG_LAST_SEQUENCE:
            raise BrokerError(reasons.DEAD_LETTERS_UNAVAILABLE, f"{subject}: {error.get('description')}")

    async def _ensure(self) -> None:
        if why := await in_the_way(self._broker, self._stream):
            raise BrokerError(reasons.DEAD_LETTERS_UNAVAILABLE, why)
        try:
            found = await self._config()
        except JetStreamError as error:
            if error.code != STREAM_NOT_FOUND:
                raise
            await self._create()
            found = await self._config()
        self._max_size = max(0, int(found.get("max_msg_size") or 0))
        self._ready = True

    async def _config(self) -> dict[str, Any]:
        config: dict[str, Any] = (await self._broker.api(f"STREAM.INFO.{self._stream}", None))["config"]
        return config

    async def _create(self) -> None:
        config = {
            "name": self._stream,
            "subjects": [subjects_of(self._stream)],
            "retention": "limits",
            "storage": "file",
            "num_replicas": self._replicas,
            "max_age": int(self._max_age * SECOND),
            "discard": "new",  # a full dead-letter stream must say so, not forget
            "allow_direct": True,
        }
        try:
            await self._broker.api(f"STREAM.CREATE.{self._stream}", config)
        except JetStreamError as error:
            if error.code != NAME_IN_USE:  # another pipeline was quicker, with settings of its own
                raise
