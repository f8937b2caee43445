"""An HTTP proxy before ClickHouse that can spoil one exchange at a time."""

from __future__ import annotations

import asyncio
import re
import socket
import struct
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass

_LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)
_CHUNKED = re.compile(rb"transfer-encoding: *chunked", re.IGNORECASE)


@dataclass
class Exchange:
    """One request, whole, and the way to the server that it is for."""

    head: bytes
    body: bytes
    client: asyncio.StreamWriter
    port: int

    @property
    def is_insert(self) -> bool:
        return re.search(rb"INSERT(\+|%20| )INTO", self.head + self.body[:2000]) is not None

    async def ask(self) -> bytes:
        """The server's answer, whole."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            writer.write(self.head + self.body)
            head, body = await _message(reader)
            return head + body
        finally:
            writer.close()

    async def ask_half(self) -> None:
        """The server gets the first half of the body, then a reset."""
        _, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(self.head + self.body[: len(self.body) // 2])
        await writer.drain()
        _reset(writer)

    async def answer(self, data: bytes) -> None:
        self.client.write(data)
        await self.client.drain()


Fault = Callable[[Exchange], Awaitable[None]]
"""What happens in place of forwarding. It closes the client's connection, or answers."""


async def forwarded(exchange: Exchange) -> None:
    await exchange.answer(await exchange.ask())


# --- faults -----------------------------------------------------------------------------------------------------------


async def answer_lost(exchange: Exchange) -> None:
    """The server did what it was asked, and nobody hears of it."""
    await exchange.ask()
    exchange.client.close()


async def answer_cut(exchange: Exchange) -> None:
    """Reset in the middle of the answer."""
    answer = await exchange.ask()
    await exchange.answer(answer[: len(answer) // 2])
    _reset(exchange.client)


async def request_cut(exchange: Exchange) -> None:
    """Reset in the middle of the request's body, on both sides."""
    await exchange.ask_half()
    _reset(exchange.client)


def slow(seconds: float) -> Fault:
    """The request lies about before the server gets it."""

    async def fault(exchange: Exchange) -> None:
        await asyncio.sleep(seconds)
        await forwarded(exchange)

    return fault


def slow_answer(seconds: float) -> Fault:
    async def fault(exchange: Exchange) -> None:
        answer = await exchange.ask()
        await asyncio.sleep(seconds)
        await exchange.answer(answer)

    return fault


def answers(status: int, text: str, *headers: str) -> Fault:
    """The server is not asked at all."""

    async def fault(exchange: Exchange) -> None:
        lines = [f"HTTP/1.1 {status} Proxied", *headers, f"Content-Length: {len(text.encode())}"]
        await exchange.answer(("\r\n".join(lines) + "\r\n\r\n" + text).encode())

    return fault


def html_page() -> Fault:
    return answers(200, "<html><body><h1>Please log in</h1></body></html>", "Content-Type: text/html")


def clickhouse_error(code: int, name: str) -> Fault:
    text = f"Code: {code}. DB::Exception: injected. ({name}) (version 25.8.1.1)"
    return answers(500, text, f"X-ClickHouse-Exception-Code: {code}")


class Parking:
    """The client's connection is reset, and the request goes on later all the same: after `seconds()`, or when it is let go."""

    def __init__(self, seconds: Callable[[], float] | None = None) -> None:
        self.parked, self.arrived = 0, 0
        self._seconds = seconds
        self._gates: list[asyncio.Event] = []
        self._busy: set[asyncio.Task[None]] = set()

    async def fault(self, exchange: Exchange) -> None:
        await self.park(exchange)
        _reset(exchange.client)

    async def park(self, exchange: Exchange) -> None:
        self.parked += 1
        self._gates.append(asyncio.Event())
        task = asyncio.ensure_future(self._later(exchange, self._gates[-1]))
        self._busy.add(task)
        task.add_done_callback(self._busy.discard)

    async def _later(self, exchange: Exchange, gate: asyncio.Event) -> None:
        if self._seconds:
            await asyncio.sleep(self._seconds())
        else:
            await gate.wait()
        while True:
            try:
                await exchange.ask()
                break
            except (OSError, EOFError):  # the server is away: what has waited for so long waits on
                await asyncio.sleep(0.1)
        self.arrived += 1

    async def let_go(self) -> None:
        """All that is parked, the last one first."""
        for gate in reversed(self._gates):
            gate.set()
            await asyncio.sleep(0.01)

    @property
    def empty(self) -> bool:
        return self.arrived == self.parked


async def sent_twice(exchange: Exchange) -> None:
    """At once, on two connections."""
    first, _ = await asyncio.gather(exchange.ask(), exchange.ask())
    await exchange.answer(first)


async def done_and_504(exchange: Exchange) -> None:
    await exchange.ask()
    await answers(504, "<html>Gateway Time-out</html>", "Content-Type: text/html")(exchange)


def in_turn(*faults: Fault) -> Fault:
    """One after the other; then nothing more."""
    left = list(faults)

    async def fault(exchange: Exchange) -> None:
        await (left.pop(0) if left else forwarded)(exchange)

    return fault


class Again:
    """Answered as it should be, and sent once more `seconds` later."""

    def __init__(self, seconds: float) -> None:
        self._parking = Parking(lambda: seconds)

    async def fault(self, exchange: Exchange) -> None:
        await forwarded(exchange)
        await self._parking.park(exchange)

    @property
    def empty(self) -> bool:
        return self._parking.empty


# --- the proxy --------------------------------------------------------------------------------------------------------


class Proxy:
    """`spoil(fault)` for the inserts, or for all requests, until `heal()`. `hits`: how often the fault has happened."""

    def __init__(self, upstream: int) -> None:
        self.upstream, self.port, self.hits = upstream, 0, 0
        self._fault: Fault | None = None
        self._all = False
        self._left = -1
        self._busy: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def connections(self) -> int:
        """Of clients, that are open."""
        return len(self._busy)

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, limit=1 << 26)
        self.port = self._server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        self._server.close()
        for task in self._busy:
            task.cancel()
        await asyncio.gather(*self._busy, return_exceptions=True)

    def spoil(self, fault: Fault, *, everything: bool = False, times: int = -1) -> None:
        self.hits, self._all, self._left, self._fault = 0, everything, times, fault

    def heal(self) -> None:
        self._fault = None

    def _take(self, exchange: Exchange) -> Fault:
        fault = self._fault
        if fault is None or not self._left or not (self._all or exchange.is_insert):
            return forwarded
        self._left -= 1
        self.hits += 1
        return fault

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._busy.add(task)
        with suppress(OSError, EOFError, asyncio.CancelledError):
            while not writer.is_closing():
                exchange = Exchange(*await _message(reader), writer, self.upstream)
                await self._take(exchange)(exchange)
        self._busy.discard(task)
        writer.close()


async def _message(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    """Head and body of a request or an answer, as they are on the wire."""
    head = await reader.readuntil(b"\r\n\r\n")
    if length := _LENGTH.search(head):
        return head, await reader.readexactly(int(length[1]))
    body = b""
    if _CHUNKED.search(head):
        while not body.endswith(b"0\r\n\r\n"):
            line = await reader.readuntil(b"\r\n")
            body += line + await reader.readexactly(int(line, 16) + 2)
    return head, body


def _reset(writer: asyncio.StreamWriter) -> None:
    """Closed with RST, not FIN."""
    connection = writer.get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
