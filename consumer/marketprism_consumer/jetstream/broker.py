"""The real broker: JetStream's API over one NATS connection."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

from nats.aio.msg import Msg
from nats.errors import Error as NatsError
from nats.errors import NoRespondersError
from nats.errors import TimeoutError as NatsTimeout

from marketprism_api import reasons
from marketprism_consumer import times
from marketprism_consumer.errors import BrokerError, JetStreamError
from marketprism_consumer.ingest.allowance import Allowance
from marketprism_consumer.ingest.broker import ReaderMade, ReaderState, Receive, StreamState
from marketprism_consumer.ingest.values import micros
from marketprism_consumer.jetstream.client import PullClient
from marketprism_consumer.jetstream.refusals import (
    FORGOTTEN_TOO_LATE,
    NO_MESSAGE,
    STREAM_NOT_FOUND,
    jetstream_error,
)

API_TIMEOUT = 5.0  # [s]
PATIENCE = (1.0, 2.0, API_TIMEOUT)
"""How long an answer to what may be asked twice is waited for, each time [s]: where a leader changes, the first is often lost."""
MAY_BE_ASKED_TWICE = ("STREAM.INFO.", "STREAM.NAMES", "STREAM.MSG.GET.", "CONSUMER.INFO.", "CONSUMER.CREATE.")
ACCOUNT_STATISTICS = "$SYS.REQ.ACCOUNT.PING.STATZ"
"""Of our own account, by whatever server hears it: the one that we are connected to is the first."""
SECOND = 1_000_000_000  # JetStream counts durations in nanoseconds

READER_FORGOTTEN = 20.0  # after so long without a request the server drops a reader [s]


class Source(NamedTuple):
    """A stream that another one mirrors or has as a source. `subjects`: patterns of what is taken of it, `>` where they are changed on
    the way (`changes`). `api`: of the domain or account where it is; empty for the one that is asked."""

    stream: str
    subjects: tuple[str, ...]
    changes: bool
    api: str


def _source(config: Mapping[str, Any]) -> Source:
    transforms = config.get("subject_transforms") or []
    changes = any(each.get("dest", "") not in ("", each["src"]) for each in transforms)
    subjects = [each["src"] for each in transforms] or [config.get("filter_subject") or ">"]
    return Source(
        config["name"], (">",) if changes else tuple(subjects), changes, (config.get("external") or {}).get("api", "")
    )


class Described(NamedTuple):
    """A stream: when it was created, the streams that it mirrors or has as sources, the patterns of what is published to it."""

    created: str
    sources: list[Source]
    subjects: list[str]


class NatsBroker:
    """The port of `ingest/broker.py` over a PullClient."""

    def __init__(self, client: PullClient) -> None:
        self.client = client
        self.allowance = Allowance()

    @property
    def domain(self) -> str:
        return str(self.client.server_info.get("domain") or "")

    def pull(
        self, stream: str, reader: str, batch: int, max_bytes: int, expires: float, heartbeat: float, receive: Receive
    ) -> int:
        request = json.dumps(
            {
                "batch": batch,
                "max_bytes": max_bytes,
                "expires": int(expires * SECOND),
                "idle_heartbeat": int(heartbeat * SECOND),
            }
        ).encode()
        return self.client.open_pull(f"{self.client.api}.CONSUMER.MSG.NEXT.{stream}.{reader}", request, receive)

    def cancel(self, pull: int) -> None:
        self.client.close_pull(pull)

    async def make_reader(self, stream: str, subject: str, start: int) -> ReaderMade:
        made = await self._make_reader(
            stream, {"deliver_policy": "by_start_sequence", "opt_start_seq": max(1, start), "filter_subject": subject}
        )
        return ReaderMade(made["name"], made["num_pending"])

    async def first_after(self, stream: str, arrived: int) -> int:
        # No request asks for a message by its time; a consumer begins at it.
        start = times.iso(arrived + 1)
        made = await self._make_reader(stream, {"deliver_policy": "by_start_time", "opt_start_time": start})
        self.forget_reader(stream, made["name"])
        return int(made["delivered"]["stream_seq"]) + 1

    async def _make_reader(self, stream: str, start: dict[str, Any]) -> dict[str, Any]:
        config = {
            **start,
            "ack_policy": "none",
            "replay_policy": "instant",
            "mem_storage": True,
            "num_replicas": 1,
            "inactive_threshold": int(READER_FORGOTTEN * SECOND),
        }
        return await self.create_reader(f"CONSUMER.CREATE.{stream}", {"stream_name": stream, "config": config})

    async def create_reader(self, subject: str, request: Mapping[str, Any]) -> dict[str, Any]:
        """Of a stream that wants its consumers forgotten sooner (`consumer_limits`) it is made so. Raises BrokerError."""
        try:
            return await self.api(subject, request)
        except JetStreamError as error:
            if error.code != FORGOTTEN_TOO_LATE:
                raise
        limits = (await self.api(f"STREAM.INFO.{request['stream_name']}", {}))["config"]["consumer_limits"]
        config = {**request["config"], "inactive_threshold": limits["inactive_threshold"]}
        return await self.api(subject, {**request, "config": config})

    async def reader_state(self, stream: str, reader: str) -> ReaderState:
        found = await self.api(f"CONSUMER.INFO.{stream}.{reader}", None)
        return ReaderState(found["num_pending"], found["delivered"]["consumer_seq"])

    def forget_reader(self, stream: str, reader: str) -> None:
        self.client.write(f"PUB {self.client.api}.CONSUMER.DELETE.{stream}.{reader} 0\r\n\r\n".encode())

    async def arrival(self, stream: str, seq: int) -> int | None:
        found = await self._message(stream, {"seq": seq})
        return micros(found["time"], "time") if found else None

    async def next_of(self, stream: str, subject: str, start: int) -> int | None:
        found = await self._message(stream, {"seq": max(1, start), "next_by_subj": subject})
        return int(found["seq"]) if found else None

    async def _message(self, stream: str, which: dict[str, Any]) -> dict[str, Any] | None:
        try:
            found: dict[str, Any] = (await self.api(f"STREAM.MSG.GET.{stream}", which))["message"]
        except JetStreamError as error:
            if error.code == NO_MESSAGE:
                return None
            raise
        return found

    async def stream(self, name: str) -> StreamState:
        found = await self.api(f"STREAM.INFO.{name}", {})
        if (retention := found["config"].get("retention")) != "limits":
            raise BrokerError(reasons.STREAM_UNFIT, f"{name} has retention {retention}")
        state = found["state"]
        leader = (found.get("cluster") or {}).get("leader", "")
        return StreamState(found["created"], state["first_seq"], state["last_seq"], state["messages"], leader)

    async def replicas(self, name: str) -> int:
        """Of a stream. Raises BrokerError."""
        return int((await self.api(f"STREAM.INFO.{name}", {}))["config"]["num_replicas"])

    async def leaf_nodes(self) -> int:
        """How many of them the server has for our account; the hub is one to its leaf. Raises BrokerError."""
        accounts = (await self._ask(ACCOUNT_STATISTICS, b"", PATIENCE[:2]))["data"]["account_statz"]
        return sum(int(account["leafnodes"]) for account in accounts)

    async def streams_of(self, subject: str) -> list[str]:
        """The names of the streams that take any of the subject. Raises BrokerError."""
        return await self._names({"subject": subject})

    async def all_streams(self) -> list[str]:
        """Their names. Raises BrokerError."""
        return await self._names({})

    async def _names(self, which: Mapping[str, str]) -> list[str]:
        found: list[str] = []
        while True:
            page = await self.api("STREAM.NAMES", {**which, "offset": len(found)})
            names: list[str] = page.get("streams") or []
            found += names
            if not names or len(found) >= page["total"]:
                return found

    async def described(self, stream: str) -> Described | None:
        """None where there is no such stream. Raises BrokerError."""
        try:
            found = await self.api(f"STREAM.INFO.{stream}", {})
        except JetStreamError as error:
            if error.code == STREAM_NOT_FOUND:
                return None
            raise
        config = found["config"]
        sources = [_source(one) for one in [config.get("mirror"), *(config.get("sources") or [])] if one]
        return Described(found["created"], sources, config.get("subjects") or [])

    async def sources_of(self, stream: str) -> list[Source] | None:
        """The streams that it mirrors or has as sources; None where there is no such stream. Raises BrokerError."""
        found = await self.described(stream)
        return found and found.sources

    async def subjects(self, stream: str, pattern: str) -> dict[str, int]:
        """How many messages the stream holds for each subject that fits; none where there is no such stream."""
        found: dict[str, int] = {}
        while True:
            try:
                info = await self.api(f"STREAM.INFO.{stream}", {"subjects_filter": pattern, "offset": len(found)})
            except JetStreamError as error:
                if error.code == STREAM_NOT_FOUND:
                    return found
                raise
            page: dict[str, int] = info["state"].get("subjects") or {}
            found |= page
            if not page or len(found) >= info.get("total", 0):
                return found

    async def api(self, subject: str, request: Mapping[str, Any] | None) -> dict[str, Any]:
        """One call of JetStream's API; its errors as BrokerError."""
        body = b"" if request is None else json.dumps(request).encode()
        patience = PATIENCE if subject.startswith(MAY_BE_ASKED_TWICE) else (API_TIMEOUT,)
        return await self._ask(f"{self.client.api}.{subject}", body, patience)

    async def _ask(self, subject: str, body: bytes, patience: Sequence[float]) -> dict[str, Any]:
        if not self.client.is_connected:
            # nats-py would keep it, to be sent to whatever server comes next.
            raise BrokerError(reasons.NATS_UNREACHABLE, self.client.trouble or "not connected")
        try:
            message = await self._request(subject, body, patience)
        except NoRespondersError:
            raise BrokerError(reasons.NO_JETSTREAM, f"no answer to {subject}") from None
        except (NatsTimeout, NatsError, OSError) as error:
            detail = f"{subject}: {type(error).__name__} {error}".strip()
            said = str(self.client.last_error or "").lower()
            if "permissions violation" in said and f'"{subject}"'.lower() in said:
                raise BrokerError(reasons.NATS_DENIED, f"{detail}; {self.client.last_error}") from None
            raise BrokerError(reasons.NATS_UNREACHABLE, detail) from None
        answer: dict[str, Any] = json.loads(message.data)
        if "error" in answer:
            raise jetstream_error(subject, answer["error"])
        return answer

    async def _request(self, subject: str, body: bytes, patience: Sequence[float]) -> Msg:
        """A reader that is made twice is forgotten by the server; all else that may be asked twice changes nothing."""
        *short, last = patience
        for timeout in short:
            with suppress(NatsTimeout):
                return await self.client.request(subject, body, timeout=timeout)
        return await self.client.request(subject, body, timeout=last)


def epoch_seconds(text: str) -> float:
    """An RFC 3339 time with up to nine digits, as Go writes it."""
    return micros(text, "time") / 1e6
