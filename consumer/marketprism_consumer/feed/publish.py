"""Publishes to JetStream as fast as its acknowledgements allow, and keeps account of every one of them.

Acknowledgements come to one inbox subscription, with the message's index as the last token of the reply subject, so
that thousands are on their way at once. What stays unacknowledged is sent again under its Nats-Msg-Id, as long as
JetStream still remembers ids; a message that can't be sent again safely counts as `unknown`, never as lost or stored.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import msgspec
from nats.errors import Error as NatsError
from nats.js.errors import NotFoundError

from marketprism_consumer.camel import camel
from marketprism_consumer.feed import FeedMessage

ACK_WAIT = 5.0  # seconds until an unacknowledged message is sent again
TICK = 0.25
DEFAULT_WINDOW = 60.0  # the shortest duplicate window seen in the wild
_NOT_NOW = 503  # JetStream is starting or has no leader: certainly not stored, worth another try


@dataclass(slots=True)
class StreamCount:
    messages: int = 0  # stored by this run: without what JetStream dropped as a repeat
    first_seq: int = 0
    last_seq: int = 0


@dataclass(slots=True)
class TypeCount:
    acknowledged: int = 0
    bad: int = 0


@dataclass(slots=True)
class PublishAccount:
    """What was published: the basis of every proof that it arrived."""

    arguments: dict[str, object] = field(default_factory=dict)  # of the generator: the same messages again
    sent: int = 0  # taken from the generator: indexes 0 .. sent-1
    acknowledged: int = 0
    stored: int = 0  # acknowledged, without repeats of what the stream had already
    duplicates: int = 0  # acknowledgements that said `duplicate`: repeats, and our own second tries
    bad: int = 0  # acknowledged, of those that can't become a row
    resent: int = 0
    refused: dict[str, int] = field(default_factory=dict)  # the server's reason -> messages; certainly not stored
    unknown: list[int] = field(default_factory=list)  # indexes that may or may not be stored
    bytes: int = 0  # acknowledged payload
    seconds: float = 0.0
    types: dict[str, TypeCount] = field(default_factory=dict)
    streams: dict[str, StreamCount] = field(default_factory=dict)

    @property
    def rate(self) -> float:
        return self.acknowledged / self.seconds if self.seconds else 0.0

    def as_dict(self) -> dict[str, Any]:
        numbers: dict[str, Any] = camel(self)
        return numbers | {"rate": round(self.rate, 1), "seconds": round(self.seconds, 3)}


class _AckError(msgspec.Struct):
    code: int = 0
    description: str = ""


class _Ack(msgspec.Struct):
    stream: str = ""
    seq: int = 0
    duplicate: bool = False
    error: _AckError | None = None


_decode_ack = msgspec.json.Decoder(_Ack).decode


@dataclass(slots=True)
class _Pending:
    message: FeedMessage
    first_sent: float
    last_sent: float
    tries: int = 1


async def publish(
    nc: Any,
    messages: Iterable[FeedMessage],
    *,
    js: Any = None,
    rate: float | None = None,
    behind: float = 0.0,
    streams: Mapping[str, str] | None = None,
    manifest: Path | None = None,
    on_progress: Callable[[PublishAccount], None] | None = None,
    stop: asyncio.Event | None = None,
    arguments: Mapping[str, object] | None = None,
    max_outstanding: int = 4096,
    settle: float = 30.0,
) -> PublishAccount:
    """Publish all messages, or until `stop` is set, and wait at most `settle` seconds for the last acknowledgements.

    `nc` is a connected client, `js` its JetStream where that is another one than the server's own. `streams` names the streams
    that the types go to: they must exist, and the shortest of their duplicate windows says for how long a message may be sent again.
    `behind`: the messages of so many seconds are due at once [s].
    """
    publisher = _Publisher(
        nc, await _resend_window(js or nc.jetstream(), streams or {}), max_outstanding, stop or asyncio.Event()
    )
    publisher.account.arguments = dict(arguments or {})
    with _Manifest(manifest) as lines:
        return await publisher.run(messages, rate, behind, lines, on_progress, settle)


class _Publisher:
    def __init__(self, nc: Any, window: float, max_outstanding: int, stop: asyncio.Event) -> None:
        self.account = PublishAccount()
        self._nc = nc
        self._window = window
        self._max_outstanding = max_outstanding
        self._stop = stop
        self._reconnects: int = nc.stats["reconnects"]
        self._inbox: str = nc.new_inbox()
        self._pending: dict[int, _Pending] = {}  # oldest attempt first
        self._again: set[int] = set()  # refused for now, to be sent at the next tick
        self._in_doubt: dict[int, _Pending] = {}  # a late acknowledgement may still settle these
        self._repeatable: set[tuple[str, int]] = set()  # where ratios are stored: only those are ever repeated
        self._room = asyncio.Event()
        self._lines: _Manifest

    async def run(
        self,
        messages: Iterable[FeedMessage],
        rate: float | None,
        behind: float,
        lines: _Manifest,
        on_progress: Callable[[PublishAccount], None] | None,
        settle: float,
    ) -> PublishAccount:
        self._lines = lines
        began = time.monotonic()
        subscription = await self._nc.subscribe(f"{self._inbox}.*", cb=self._acknowledged)
        ticker = asyncio.create_task(self._tick(began, on_progress))
        try:
            await self._send_all(messages, rate, behind)
            await self._settled(settle)
        finally:
            ticker.cancel()
            await asyncio.gather(ticker, return_exceptions=True)
            self.account.seconds = time.monotonic() - began
            self.account.unknown = sorted([*self._in_doubt, *self._pending])
            if not self._nc.is_closed:
                await subscription.unsubscribe()
        return self.account

    async def _send_all(self, messages: Iterable[FeedMessage], rate: float | None, behind: float) -> None:
        began = time.monotonic() - behind
        # `stop` is checked before the generator is asked: what was generated is sent, and counted.
        source = iter(messages)
        while not self._stop.is_set():
            if rate and (ahead := began + self.account.sent / rate - time.monotonic()) > 0:
                await _either(self._stop.wait(), max(ahead, 0.001))  # a short burst beats a sleep per message
                continue
            if not await self._has_room():
                return
            message = next(source, None)
            if message is None:
                return
            self.account.sent += 1
            now = time.monotonic()
            self._pending[message.index] = _Pending(message, now, now)
            await self._send(message)
            if not self.account.sent % 64:
                await asyncio.sleep(0)  # let acknowledgements in

    async def _has_room(self) -> bool:
        """Wait while too much is on its way or the connection is down. False: asked to stop meanwhile."""
        while len(self._pending) >= self._max_outstanding or not self._nc.is_connected:
            if self._stop.is_set() or self._nc.is_closed:
                return False
            self._room.clear()
            await _either(self._room.wait(), TICK)
        return True

    async def _send(self, message: FeedMessage) -> None:
        headers = {"Nats-Msg-Id": message.msg_id} if message.msg_id else None
        with suppress(NatsError):  # the connection is gone: the tick takes care of it
            await self._nc.publish(message.subject, message.payload, f"{self._inbox}.{message.index}", headers)

    async def _acknowledged(self, msg: Any) -> None:
        index = int(msg.subject.rpartition(".")[2])
        if not msg.data:  # "no responders": no stream has the subject, or JetStream is not up yet
            self._again.add(index)
            return
        ack = _decode_ack(msg.data)
        if ack.error is not None and ack.error.code == _NOT_NOW:
            self._again.add(index)
            return
        pending = self._pending.pop(index, None) or self._in_doubt.pop(index, None)
        if pending is None:
            return  # the second answer to a message that was sent twice
        if len(self._pending) <= self._max_outstanding // 2:
            self._room.set()
        if ack.error is not None:
            self.account.refused[ack.error.description] = self.account.refused.get(ack.error.description, 0) + 1
            return
        self._count(pending, ack)

    def _count(self, pending: _Pending, ack: _Ack) -> None:
        account, message = self.account, pending.message
        account.acknowledged += 1
        account.bytes += len(message.payload)
        account.duplicates += ack.duplicate
        of_type = account.types.setdefault(message.data_type, TypeCount())
        of_type.acknowledged += 1
        if message.bad_kind:
            account.bad += 1
            of_type.bad += 1
        self._lines.write(message, ack)
        if ack.duplicate and (pending.tries == 1 or (ack.stream, ack.seq) in self._repeatable):
            return  # a repeat of a message that was there before; not merely our own second try
        if message.data_type.startswith("lsr_"):
            self._repeatable.add((ack.stream, ack.seq))
        account.stored += 1
        stream = account.streams.setdefault(ack.stream, StreamCount(first_seq=ack.seq))
        stream.messages += 1
        stream.first_seq = min(stream.first_seq, ack.seq)
        stream.last_seq = max(stream.last_seq, ack.seq)

    async def _tick(self, began: float, on_progress: Callable[[PublishAccount], None] | None) -> None:
        while True:
            await asyncio.sleep(TICK)
            self.account.seconds = time.monotonic() - began
            self._lines.flush()
            if on_progress:
                on_progress(self.account)
            if self._nc.is_connected:
                await self._resend()

    async def _resend(self) -> None:
        now = time.monotonic()
        refused, self._again = self._again, set()
        # What was on its way when the connection broke will not be answered any more.
        broken = self._nc.stats["reconnects"] != self._reconnects
        self._reconnects = self._nc.stats["reconnects"]
        overdue = [index for index, entry in self._pending.items() if broken or now - entry.last_sent > ACK_WAIT]
        for index in dict.fromkeys([*sorted(refused), *overdue]):
            entry = self._pending.pop(index, None)
            if entry is None:
                continue
            # Certainly not stored, or still recognised by its id: sent again. Otherwise it might be stored twice.
            if index in refused or (entry.message.msg_id and now - entry.first_sent < self._window):
                self._pending[index] = _Pending(entry.message, entry.first_sent, now, entry.tries + 1)
                self.account.resent += 1
                await self._send(entry.message)
            else:
                self._in_doubt[index] = entry
        self._room.set()

    async def _settled(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while self._pending and time.monotonic() < deadline and not self._nc.is_closed:
            self._room.clear()
            await _either(self._room.wait(), 0.05)


async def _either(waiting: Any, seconds: float) -> None:
    with suppress(TimeoutError):
        await asyncio.wait_for(waiting, seconds)


async def _resend_window(js: Any, streams: Mapping[str, str]) -> float:
    """For how long after its first sending a message is certainly recognised; with a margin for its way there."""
    windows = []
    for name in sorted(set(streams.values())):
        try:
            windows.append((await js.stream_info(name)).config.duplicate_window)
        except NotFoundError:
            raise LookupError(f"there is no stream {name}") from None
    return 0.8 * min(windows, default=DEFAULT_WINDOW)


class _Manifest:
    """One line of JSON per acknowledged message; a repeat names the place of the message that it repeats."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._file: IO[str] | None = None

    def __enter__(self) -> _Manifest:
        self._file = self._path.open("w", encoding="utf-8") if self._path else None
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file:
            self._file.close()

    def write(self, message: FeedMessage, ack: _Ack) -> None:
        if self._file:
            line: dict[str, object] = {
                "i": message.index,
                "stream": ack.stream,
                "seq": ack.seq,
                "type": message.data_type,
                "bad": message.bad_kind,
            }
            if ack.duplicate:
                line["dup"] = True
            self._file.write(json.dumps(line) + "\n")

    def flush(self) -> None:
        if self._file:
            self._file.flush()
