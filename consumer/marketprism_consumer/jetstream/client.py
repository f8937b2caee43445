"""nats-py's connection (TLS, authentication, reconnects), with a short way for the messages of pull requests.

nats-py parses headers and makes an object, a queue entry and a task switch for every message: 30 to 60 µs each. Here frames
for a pull's inbox are cut out of the read buffer and handed over at once: 3 µs. Everything else takes nats-py's own way.
This leans on inner names of nats-py (`_ps`, `_pending`, `_flush_queue`, `_server_info`, `_current_server`,
`_connect_command`): a test fails if one goes.
"""

from __future__ import annotations

import asyncio
import json
import re
import ssl
from collections.abc import Callable
from typing import Any

import nats.aio.client
import structlog
from nats.aio.client import Client
from nats.errors import Error as NatsError
from nats.js.client import JetStreamContext
from nats.protocol.parser import Parser

from marketprism_api import reasons
from marketprism_api.credentials import NatsAuth
from marketprism_api.problems import ResourceError
from marketprism_api.reasons import Reason
from marketprism_consumer import logs
from marketprism_consumer.errors import LoginError
from marketprism_consumer.ingest.broker import Frame, Receive
from marketprism_consumer.jetstream.login import connect_fields, tls_context

log = structlog.get_logger()

# nats-py reads 32 KiB at a time and lets twice that wait: at full rate the socket is paused and resumed all the time.
nats.aio.client.DEFAULT_BUFFER_SIZE = 1 << 18


class _PullParser(Parser):
    """Cuts what was read into frames: those of pulls are handed over at once, each of the others goes to nats-py's parser alone and
    whole. Given more than its own frame, that would keep all that follows, the pulls' too, for as long as reads end within one."""

    nc: PullClient

    def reset(self) -> None:
        super().reset()
        self._chunks: list[bytes] = []
        self._missing = 0

    async def parse(self, data: bytes = b"") -> None:
        if self._missing > len(data):
            self._chunks.append(data)
            self._missing -= len(data)
            return
        if self._chunks:
            data = b"".join((*self._chunks, data))
            self._chunks, self._missing = [], 0
        at = 0
        while at < len(data):
            at, end = self._take_pulled(data, at)
            if end > len(data):
                self._chunks, self._missing = [data[at:]], end - len(data)
                return
            await super().parse(data[at:end])
            at = end

    def _take_pulled(self, data: bytes, at: int) -> tuple[int, int]:
        """Hand over the pulls' frames from `at` on. Returns where the next one begins, which is none of theirs or is not whole, and where
        it ends: behind `data` as far as is known."""
        size = len(data)
        sid, frames = b"", list[Frame]()  # of one pull
        while True:
            line_end = data.find(b"\r\n", at)
            if line_end < 0:
                end = size + 1
                break
            line = data[at:line_end].split() or [b""]
            # MSG subject sid [reply] size, or HMSG subject sid [reply] headers' size, size of both
            headed = line[0] == b"HMSG"
            start = end = line_end + 2
            if not (headed or line[0] == b"MSG") or not 4 + headed <= len(line) <= 5 + headed:
                break
            end = start + int(line[-1]) + 2
            if line[2] != sid:
                self._hand_over(sid, frames)
                sid, frames = line[2], []
                if int(sid) not in self.nc.pulls:
                    break
            if end > size:
                break
            body = start + int(line[-2]) if headed else start
            reply = line[3] if len(line) == 5 + headed else b""
            frames.append((line[1], reply, data[body : end - 2], data[start:body]))
            at = end
        self._hand_over(sid, frames)
        return at, end

    def _hand_over(self, sid: bytes, frames: list[Frame]) -> None:
        receive = self.nc.pulls.get(int(sid)) if frames else None
        if receive:
            try:
                receive(int(sid), frames)
            except Exception:
                # Raised into nats-py, it would end the read loop without a word.
                log.exception("messages could not be taken; they will be delivered again", reply=frames[0][1])


class PullClient(Client):
    """`pulls`: what receives the messages of a subscription, by its sid. `trouble`: why there is no connection. `api`: what requests to
    JetStream begin with: those of a domain, or of another account, have other subjects. `login`: read at every try."""

    def __init__(self) -> None:
        super().__init__()
        self.api = "$JS.API"
        self.login: Callable[[], NatsAuth] = NatsAuth
        self.pulls: dict[int, Receive] = {}
        self.trouble = ""
        self._ps = _PullParser(self)

    def _connect_command(self) -> bytes:
        info, server = self.server_info, self._current_server
        try:
            if server and server.uri.scheme == "tls" and not info.get("tls_required"):
                # nats-py would send the password all the same.
                raise LoginError(reasons.NATS_UNTRUSTED, "the URL has tls://, and the server does not ask for TLS")
            given = connect_fields(self._read_login(), info.get("nonce", ""))
        except LoginError as error:
            raise NatsError(error.detail) from error
        command = json.loads(super()._connect_command().removeprefix(b"CONNECT "))
        return b"CONNECT %b\r\n" % json.dumps({**command, **given}).encode()

    @property
    def ssl_context(self) -> ssl.SSLContext:
        try:
            return tls_context(self._read_login().tls)
        except LoginError as error:
            raise NatsError(error.detail) from error

    def _read_login(self) -> NatsAuth:
        try:
            return self.login()
        except ResourceError as error:
            raise LoginError(reasons.NATS_DENIED, str(error)) from None

    def open_pull(self, request_subject: str, request: bytes, receive: Receive) -> int:
        """Subscribe an inbox of its own and send the request from it, in one write. Lost if there is no connection."""
        self._sid += 1
        sid: int = self._sid
        self.pulls[sid] = receive
        inbox = self.new_inbox()
        self.write(
            f"SUB {inbox}  {sid}\r\nPUB {request_subject} {inbox} {len(request)}\r\n".encode() + request + b"\r\n"
        )
        return sid

    def close_pull(self, sid: int) -> None:
        if self.pulls.pop(sid, None) is not None:
            self.write(b"UNSUB %d\r\n" % sid)

    def jetstream(self, **options: Any) -> JetStreamContext:
        return super().jetstream(**{"prefix": self.api, **options})

    @property
    def server_info(self) -> dict[str, Any]:
        """What the server said of itself when it was connected."""
        return dict(self._server_info)

    def forget_unsent(self) -> None:
        """nats-py would send it to the next server, which may not be what this one was."""
        self._pending.clear()
        self._pending_data_size = 0

    def write(self, data: bytes) -> None:
        """Queue protocol bytes for nats-py's flusher. Dropped without a connection: what it asked for is asked again."""
        if not self.is_connected or self._flush_queue is None:
            return
        self._pending.append(data)
        self._pending_data_size += len(data)
        if self._flush_queue.empty():
            self._flush_queue.put_nowait(asyncio.get_running_loop().create_future())


Callback = Callable[[], None]
HANGS_UP = (ConnectionResetError, BrokenPipeError)
REFUSALS = (str(reasons.NATS_DENIED), str(reasons.NATS_UNTRUSTED))


async def connect(
    url: str,
    login: Callable[[], NatsAuth] = NatsAuth,
    *,
    name: str = "marketprism",
    wait: float | None = None,
    reconnected: Callback = lambda: None,
    disconnected: Callback = lambda: None,
    client: PullClient | None = None,
    api: str = "$JS.API",
) -> PullClient:
    """A connection that reconnects for ever. `wait`: seconds for the first one (None: as long as it takes). `login` is called for each try.

    Raises TimeoutError with the last that was heard from the server, and what `login` does.
    """
    login()
    logged = -1e9

    async def error(problem: Exception) -> None:
        nonlocal logged
        heard = str(problem) or type(problem).__name__
        reason = _reason(problem)
        if not connection.is_connected:
            if isinstance(problem, HANGS_UP) and connection.trouble.startswith(REFUSALS):
                return  # the server hangs up on whom it has refused: that says less than its refusal
            connection.trouble = f"{reason}: {masked(url)}: {heard}"
        now = asyncio.get_running_loop().time()
        if now - logged > 10:
            logged = now
            logs.reason(log, "warning", reason, error=heard)

    async def on_reconnect() -> None:
        connection.trouble = ""
        log.info("reconnected to NATS")
        reconnected()

    async def on_disconnect() -> None:
        if not connection.is_closed:
            log.warning("disconnected from NATS")
        connection.forget_unsent()
        disconnected()

    async def on_close() -> None:
        log.debug("connection to NATS closed")

    connection = client or PullClient()
    connection.api, connection.login = api, login
    try:
        async with asyncio.timeout(wait):
            await connection.connect(
                servers=[server.strip() for server in url.split(",")],
                name=name,
                error_cb=error,
                reconnected_cb=on_reconnect,
                disconnected_cb=on_disconnect,
                closed_cb=on_close,
                max_reconnect_attempts=-1,
                reconnect_time_wait=1,
                connect_timeout=3,
                ping_interval=5,
                max_outstanding_pings=2,
            )
    except TimeoutError:
        raise TimeoutError(connection.trouble or f"{reasons.NATS_UNREACHABLE}: {masked(url)}: no answer") from None
    connection.trouble = ""
    return connection


def _reason(problem: Exception) -> Reason:
    """Of a connection that failed."""
    if isinstance(problem.__cause__, LoginError):
        return problem.__cause__.reason
    if isinstance(problem, ssl.SSLError):
        return reasons.NATS_UNTRUSTED
    denied = any(word in str(problem).lower() for word in ("authorization", "permissions"))
    return reasons.NATS_DENIED if denied else reasons.NATS_UNREACHABLE


def masked(url: str) -> str:
    """The URL without what stands before an @."""
    return re.sub(r"//[^/@]*@", "//***@", url)
