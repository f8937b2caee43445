"""The records of the lanes: a NATS key-value bucket, which is a stream with one message per subject."""

from __future__ import annotations

import base64
import json
import time
from typing import Any

from msgspec.structs import replace
from nats.errors import Error as NatsError

from marketprism_api import reasons
from marketprism_consumer.errors import BrokerError, ConflictError, JetStreamError
from marketprism_consumer.ingest.lane_id import LaneId
from marketprism_consumer.ingest.record import dump
from marketprism_consumer.jetstream.broker import NatsBroker
from marketprism_consumer.jetstream.client import PullClient
from marketprism_consumer.jetstream.refusals import NAME_IN_USE, NO_MESSAGE, STREAM_NOT_FOUND, WRONG_LAST_SEQUENCE

JS_API = "$JS.API"
WRITE_TIMEOUT = 3.0  # [s]


class NatsRecords:
    """The port of `ingest/broker.py`. Every read is answered by the stream's leader: a follower may be behind."""

    def __init__(self, client: PullClient, bucket: str) -> None:
        self.bucket = bucket
        self.stream = f"KV_{bucket}"
        self._client = client
        self._broker = NatsBroker(client)
        self._replicas = 0  # of the bucket that was ensured

    @property
    def boot(self) -> str:
        """Its id is another one after every start. In a cluster the bucket's replicas vouch for it instead."""
        info = self._client.server_info
        return "" if info.get("cluster") else str(info.get("server_id", ""))

    async def read(self, key: str) -> tuple[int, bytes]:
        try:
            found = await self._api(f"STREAM.MSG.GET.{self.stream}", {"last_by_subj": self._subject(key)})
        except JetStreamError as error:
            if error.code == STREAM_NOT_FOUND and self._replicas:
                # Somebody has deleted it under our hands: its records are in doubt, and nobody would ever go on.
                await self.ensure(self._replicas)
            elif error.code != NO_MESSAGE:
                raise
            return 0, b""
        message = found["message"]
        return message["seq"], base64.b64decode(message.get("data") or "")

    async def write(self, key: str, value: bytes, revision: int) -> int:
        subject = self._subject(key)
        if self._client.api != JS_API:
            subject = f"{self._client.api}.{subject}"  # into another domain only JetStream's own subjects lead
        if not self._client.is_connected:
            raise BrokerError(reasons.NATS_UNREACHABLE, self._client.trouble or "not connected")
        headers = {"Nats-Expected-Last-Subject-Sequence": str(revision)}
        try:
            answer = json.loads((await self._client.request(subject, value, WRITE_TIMEOUT, headers=headers)).data)
        except (NatsError, OSError) as error:
            raise BrokerError(reasons.RECORD_UNAVAILABLE, f"{subject}: {error!r}") from None
        if refused := answer.get("error"):
            if int(refused.get("err_code", 0)) in WRONG_LAST_SEQUENCE:
                raise ConflictError(f"{key} is not at revision {revision} any more")
            raise BrokerError(reasons.RECORD_UNAVAILABLE, f"{subject}: {refused.get('description')}")
        return int(answer["seq"])

    async def keys(self, data_type: str = "") -> list[str]:
        """All, or those of a data type's lanes; none where there is no bucket."""
        pattern = self._subject(f"{data_type}.>" if data_type else ">")
        found = await self._broker.subjects(self.stream, pattern)
        return sorted(subject.removeprefix(self._subject("")) for subject in found)

    async def state(self) -> dict[str, Any]:
        """What JetStream says of the bucket. Raises JetStreamError where it is missing."""
        return await self._api(f"STREAM.INFO.{self.stream}", {})

    async def ensure(self, replicas: int) -> None:
        """Make the bucket where it is missing. Its revisions begin above all that ever were: a clock's microseconds."""
        self._replicas = replicas
        try:
            await self.state()
            return
        except JetStreamError as error:
            if error.code != STREAM_NOT_FOUND:
                raise
        config = {
            "name": self.stream,
            "subjects": [f"$KV.{self.bucket}.>"],
            "max_msgs_per_subject": 1,
            "discard": "new",
            "storage": "file",
            "num_replicas": replicas,
            "allow_rollup_hdrs": True,
            "deny_delete": True,
            "allow_direct": True,
            "first_seq": time.time_ns() // 1000,
        }
        try:
            await self._api(f"STREAM.CREATE.{self.stream}", config)
        except JetStreamError as error:
            if error.code != NAME_IN_USE:  # somebody was quicker
                raise

    async def _api(self, subject: str, request: dict[str, Any]) -> dict[str, Any]:
        try:
            return await self._broker.api(subject, request)
        except JetStreamError as error:
            detail = f"bucket {self.bucket}: {error.detail}"
            raise JetStreamError(reasons.RECORD_UNAVAILABLE, detail, code=error.code) from None

    def _subject(self, key: str) -> str:
        return f"$KV.{self.bucket}.{key}"


async def begin(records: NatsRecords, lane: LaneId) -> None:
    """The record of a lane whose table was made just now: nobody can have sent anything, so it need not be in doubt. Raises
    BrokerError."""
    record = replace(lane.empty_record(), boot=records.boot)
    try:
        await records.write(lane.key, dump(record), 0)
    except ConflictError:
        return
