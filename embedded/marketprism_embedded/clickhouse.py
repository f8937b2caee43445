"""The embedded ClickHouse server: HTTP/1.1 on a socket, one thread per connection, the engine behind it.

For one machine, demos and tests. What it doesn't have: users, sessions (temporary tables, SET that lasts), ClickHouse's
block compression, external data, the native TCP protocol. KILL QUERY works, with `Settings['log_comment']` in place of
`query_id`: the engine makes ids of its own, so a request's query id is put there.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
import secrets
import signal
import socketserver
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from http import HTTPStatus
from pathlib import Path
from typing import NoReturn

from marketprism_embedded import codecs, native_blocks, place
from marketprism_embedded.clickhouse_engine import Engine, Statement
from marketprism_embedded.clickhouse_http import (
    ClickHouseError,
    Guard,
    HttpRequest,
    Stats,
    can_stream,
    content_type,
    format_clause,
    http_status,
    parameters_of,
    refuse_unsupported,
    settings_of,
    split_insert,
    tagged_exception,
)

log = logging.getLogger(__name__)

READ_SIZE = 1 << 20
HEAD_LIMIT = 1 << 20  # request line and headers, bytes
STATEMENT_LIMIT = 16 << 20  # a statement without its data, bytes
REPLY_IN_MEMORY = 16 << 20  # a reply that must be complete before it is sent goes to a file above this
REPLY_AT_ONCE = 1 << 20  # up to here a failing query gets a clean error, above it the reply has begun
WAKE_SECONDS = 0.5
DRAIN_SECONDS = 10.0
CLOSE_SECONDS = 20  # chDB now and then waits for minutes for a thread of its own
CUSTOM_SERIALIZATION = 54454  # protocol version from which Native blocks look different


class _MalformedError(Exception):
    """Not HTTP as we speak it; the connection is closed."""


class _Body:
    """A request's body, read as it is needed; `rest()` says whether the connection can be used again."""

    def __init__(self, connection: _Connection, headers: dict[str, str]) -> None:
        self._connection = connection
        self._chunked = headers.get("transfer-encoding", "").lower() == "chunked"
        self._left = 0 if self._chunked else _number(headers.get("content-length", "0"))
        self._continue = headers.get("expect", "").lower() == "100-continue"
        self.finished = not self._chunked and self._left == 0

    def __iter__(self) -> Iterator[bytes]:
        if self._continue:
            self._continue = False
            self._connection.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        while not self.finished:
            if self._chunked and self._left == 0:
                self._left = _number(self._connection.line().partition(b";")[0].strip().decode("latin-1"), 16)
                if self._left == 0:
                    while self._connection.line().strip():
                        pass  # trailers
                    self.finished = True
                    return
            data = self._connection.rfile.read(min(self._left, READ_SIZE))
            if not data:
                raise _MalformedError("the body ended early")
            self._left -= len(data)
            if self._left == 0:
                if self._chunked:
                    self._connection.line()
                else:
                    self.finished = True
            yield data

    def rest(self) -> bool:
        """Skip what nobody read, so that the answer isn't lost in a reset. False when that is too much."""
        if self.finished or self._continue:
            return self.finished
        for _ in itertools.islice(self, 64):
            pass
        return self.finished


def _number(text: str, base: int = 10) -> int:
    try:
        number = int(text, base)
    except ValueError:
        number = -1
    if number < 0:
        raise _MalformedError("bad length")
    return number


class _Connection(socketserver.StreamRequestHandler):
    """One client's connection: requests in turn."""

    server: HttpServer
    disable_nagle_algorithm = True
    rbufsize = 1 << 16
    wbufsize = 0

    def handle(self) -> None:
        with contextlib.suppress(ConnectionError, TimeoutError, _MalformedError):
            while self._request():
                pass

    def line(self) -> bytes:
        line = self.rfile.readline(HEAD_LIMIT)
        if not line.endswith(b"\n"):
            raise _MalformedError("no line")
        return line

    def send(self, data: bytes) -> None:
        self.connection.sendall(data)

    def _request(self) -> bool:
        """Serve one request. False when the connection is at its end."""
        first = self.rfile.readline(HEAD_LIMIT)
        if not first.strip():
            return False
        parts = first.decode("latin-1").split()
        if len(parts) != 3:
            raise _MalformedError("not a request")
        method, target, version = parts
        headers: dict[str, str] = {}
        size = 0
        while (line := self.line().decode("latin-1").rstrip("\r\n")) != "":
            size += len(line)
            if size > HEAD_LIMIT:
                raise _MalformedError("head too large")
            name, _, value = line.partition(":")
            headers[name.lower()] = value.strip()
        keep = version == "HTTP/1.1" and headers.get("connection", "").lower() != "close"
        body = _Body(self, headers)
        with self.server.busy() as taken:
            if not taken:
                return False
            request = HttpRequest.parse(method, target, headers)
            exchange = Exchange(self.server, request, body, self.send, chunks=version == "HTTP/1.1", keep=keep)
            return exchange.serve() and keep and body.rest()


class Exchange:
    """One request and its answer."""

    def __init__(
        self,
        server: HttpServer,
        request: HttpRequest,
        body: _Body,
        send: Callable[[bytes], None],
        *,
        chunks: bool,
        keep: bool,
    ) -> None:
        self._server = server
        self._engine = server.engine
        self._request = request
        self._body = body
        self._send = send
        self._chunks = chunks
        self._keep = keep
        self._query_id = request.params.get("query_id") or str(uuid.uuid4())
        self._coding: str | None = None
        if request.flag("enable_http_compression"):
            self._coding = codecs.choose_coding(request.headers.get("accept-encoding", ""))

    def serve(self) -> bool:
        """Answer. False when the connection can't be used any more."""
        request = self._request
        started = time.monotonic()
        try:
            if refusal := self._server.guard.refusal(request.headers):
                self._plain(403, refusal)
            elif request.method not in ("GET", "HEAD", "POST", "PUT"):
                self._plain(501, f"Method {request.method} is not served.\n")
            elif request.path in ("/ping", "/replicas_status"):
                self._plain(200, "Ok.\n")
            elif request.path not in ("/", ""):
                self._plain(404, f"There is no handle {request.path}\nUse / or /ping.\n")
            elif request.changes_nothing and "query" not in request.params:
                self._plain(200, "Ok.\n")
            else:
                self._server.guard.authenticate(request)
                refuse_unsupported(request)
                return self._query()
        except ClickHouseError as error:
            self._failure(error, started)
        except codecs.CodecError as error:
            self._failure(ClickHouseError(271, "CANNOT_DECOMPRESS", f"{error}."), started)
        return True

    # --- running it ---

    def _query(self) -> bool:
        stats = Stats()
        with self._statement() as statement, contextlib.closing(self._engine.run(statement, stats)) as results:
            return self._reply(self._revised(results, statement.format), stats, statement.format)

    def _revised(self, results: Iterator[bytes], format_name: str) -> Iterator[bytes]:
        """Native as a newer client wants it; small versions are ignored, their clients find out and use 0."""
        version = self._request.params.get("client_protocol_version", "0")
        if format_name != "Native" or not version.isdecimal() or int(version) < CUSTOM_SERIALIZATION:
            return results
        return map(native_blocks.with_revision, results)

    @contextlib.contextmanager
    def _statement(self) -> Iterator[Statement]:
        """The statement of this request; an INSERT's data is in a file for as long as the context lasts."""
        request = self._request
        body: Iterator[bytes] = iter(self._body)
        if coding := request.headers.get("content-encoding", ""):
            body = codecs.decompress(coding.lower(), body)
        text = request.params.get("query", "").encode("utf-8", "surrogateescape")
        text = text + b"\n" if text else b""
        text += next(body, b"")
        insert = split_insert(text)
        if insert is not None:
            with self._engine.upload(itertools.chain((text[insert.offset :],), body)) as path:
                yield self._under(insert.from_file(path), "Null", stream=False)
            return
        for chunk in body:
            text += chunk
            if len(text) > STATEMENT_LIMIT:
                raise ClickHouseError(229, "QUERY_IS_TOO_LARGE", "The statement is larger than 16 MiB.")
        if not text.strip():
            raise ClickHouseError(62, "SYNTAX_ERROR", "Syntax error (Empty query).")
        format_name = format_clause(text) or request.default_format
        yield self._under(text, format_name, stream=can_stream(text, format_name))

    def _under(self, sql: bytes, format_name: str, *, stream: bool) -> Statement:
        request = self._request
        return Statement(
            sql=sql,
            format=format_name,
            database=request.params.get("database") or request.headers.get("x-clickhouse-database", ""),
            settings=settings_of(request, self._query_id),
            parameters=parameters_of(request),
            stream=stream,
        )

    # --- answering ---

    def _reply(self, results: Iterator[bytes], stats: Stats, format_name: str) -> bool:
        """Send the result: with its length when it is short, or must be complete before it is sent
        (wait_end_of_query), else in chunks as it comes."""
        head: list[bytes] = []
        size = 0
        wait = self._request.flag("wait_end_of_query")
        limit = REPLY_IN_MEMORY if wait else REPLY_AT_ONCE
        for piece in results:
            head.append(piece)
            size += len(piece)
            if size > limit:
                break
        else:
            self._whole(200, b"".join(head), self._result_headers(stats, format_name))
            return True
        if not wait:
            return self._stream(itertools.chain(head, results), stats, format_name)
        with tempfile.TemporaryFile(dir=self._server.directory) as spool:
            for piece in itertools.chain(head, results):
                spool.write(piece)
            spool.seek(0)
            return self._stream(iter(lambda: spool.read(READ_SIZE), b""), stats, format_name)

    def _stream(self, pieces: Iterable[bytes], stats: Stats, format_name: str) -> bool:
        tag = secrets.token_hex(8)
        headers = {**self._result_headers(stats, format_name), "X-ClickHouse-Exception-Tag": tag}
        compressor = None
        if self._coding:
            headers["Content-Encoding"] = self._coding
            compressor = codecs.compressor(self._coding)
        if self._chunks:
            headers["Transfer-Encoding"] = "chunked"
        self._send(self._head(200, headers, keep=self._keep and self._chunks))
        try:
            for piece in pieces:
                self._chunk(compressor.compress(piece) if compressor else piece)
            if compressor:
                self._chunk(compressor.flush())
        except ClickHouseError as error:
            # The head said 200: the text goes where the data was, and the reply is left without its end, so that no
            # client takes it for whole.
            self._log(error)
            last = tagged_exception(tag, error.body(self._engine.version))
            self._chunk(compressor.compress(last) + compressor.flush() if compressor else last)
            return False
        if self._chunks:
            self._send(b"0\r\n\r\n")
        return self._chunks

    def _chunk(self, data: bytes) -> None:
        if data:
            self._send(b"%x\r\n%b\r\n" % (len(data), data) if self._chunks else data)

    def _failure(self, error: ClickHouseError, started: float) -> None:
        self._log(error, time.monotonic() - started)
        headers = {
            "Content-Type": "text/plain; charset=UTF-8",
            "X-ClickHouse-Query-Id": self._query_id,
            "X-ClickHouse-Exception-Code": str(error.code),
            "X-ClickHouse-Server-Display-Name": self._server.name,
        }
        self._whole(http_status(error.code), error.body(self._engine.version).encode(), headers)

    def _log(self, error: ClickHouseError, seconds: float | None = None) -> None:
        took = f" after {seconds * 1000:.0f} ms" if seconds is not None else " in the middle of the reply"
        log.warning("%s failed%s: %s %s", ascii(self._query_id), took, error.code, error.name)

    def _plain(self, status: int, text: str) -> None:
        self._whole(status, text.encode(), {"Content-Type": "text/plain; charset=UTF-8"})

    def _whole(self, status: int, data: bytes, headers: dict[str, str]) -> None:
        if self._coding and data:
            compressor = codecs.compressor(self._coding)
            data = compressor.compress(data) + compressor.flush()
            headers["Content-Encoding"] = self._coding
        headers["Content-Length"] = str(len(data))
        head = self._head(status, headers, keep=self._keep)
        # One segment for head and body: the client's delayed ACK must not come between them.
        self._send(head if self._request.method == "HEAD" else head + data)

    def _result_headers(self, stats: Stats, format_name: str) -> dict[str, str]:
        return {
            "Content-Type": content_type(format_name),
            "X-ClickHouse-Server-Display-Name": self._server.name,
            "X-ClickHouse-Query-Id": self._query_id,
            "X-ClickHouse-Format": format_name,
            "X-ClickHouse-Timezone": "UTC",
            "X-ClickHouse-Summary": stats.summary(),
        }

    def _head(self, status: int, headers: dict[str, str], *, keep: bool) -> bytes:
        lines = [f"HTTP/1.1 {status} {HTTPStatus(status).phrase}", f"Connection: {'keep-alive' if keep else 'close'}"]
        lines += [f"{name}: {_one_line(value)}" for name, value in headers.items()]
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1", "replace")


def _one_line(value: str) -> str:
    return value if value.isprintable() else "".join(c if c.isprintable() else "?" for c in value)


class HttpServer(socketserver.ThreadingTCPServer):
    """The listening socket, the engine, and the count of running requests."""

    daemon_threads = True
    block_on_close = False
    allow_reuse_address = True
    request_queue_size = 128

    def __init__(self, host: str, port: int, engine: Engine, directory: Path, guard: Guard) -> None:
        self.engine = engine
        self.directory = directory
        self.guard = guard
        self.name = "marketprism-embedded"
        self._draining = False
        self._running = 0
        self._idle = threading.Condition()
        self.address_family = place.address_family(host)
        super().__init__((host, port), _Connection)
        self.host = host
        self.port = int(self.server_address[1])

    @contextlib.contextmanager
    def busy(self) -> Iterator[bool]:
        """While a request runs. False where it comes too late: the engine may be closing, and is not to be asked any more."""
        with self._idle:
            if self._draining:
                yield False
                return
            self._running += 1
        try:
            yield True
        finally:
            with self._idle:
                self._running -= 1
                self._idle.notify_all()

    def drain(self, seconds: float) -> bool:
        """Take no new request and wait for the running ones. False when some are left."""
        with self._idle:
            self._draining = True
        self.shutdown()
        with self._idle:
            return self._idle.wait_for(lambda: self._running == 0, seconds)

    def handle_error(self, request: object, client_address: object) -> None:
        log.exception("a bug in the embedded server; the connection is closed")


def serve(
    directory: Path,
    host: str,
    port: int,
    *,
    allow_hosts: frozenset[str] = frozenset(),
    memory_limit: int | None = None,
    ready: Callable[[str], None],
) -> int:
    """Serve until SIGINT or SIGTERM, or until a write to disk has failed; `ready(url)` is called when it answers. Running requests
    get ten seconds to end. Returns the exit code. Raises EmbeddedError when it can't start."""
    lock = place.claim_directory(directory)
    place.bindable_port(host, port)  # before the engine is loaded: a taken port is reported at once
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    engine = Engine(directory, memory_limit, stop.set)
    guard = Guard(host, allow_hosts, os.environ.get("MARKETPRISM_EMBEDDED_PASSWORD") or None)
    try:
        server = HttpServer(host, port, engine, directory, guard)
    except OSError as error:
        raise place.port_error(host, port, error) from None
    threading.Thread(target=server.serve_forever, args=(0.1,), daemon=True).start()
    ready(place.url("http", host, server.port))
    while not stop.wait(WAKE_SECONDS):
        pass  # the kernel may give a signal to a thread of the engine's: it is handled when this one wakes
    drained = server.drain(DRAIN_SECONDS)
    if engine.lost_writes:
        log.error("a write to disk failed (is it full?), and the engine does not know of it: start the server again")
        _leave(1)
    if not drained:
        log.warning("requests still run after %d seconds: left behind; what was acknowledged is stored", DRAIN_SECONDS)
        _leave(1)
    server.server_close()
    closing = threading.Thread(target=engine.close, daemon=True)
    closing.start()
    closing.join(CLOSE_SECONDS)
    if closing.is_alive():
        log.warning("the engine does not end within %d seconds: left; what was acknowledged is stored", CLOSE_SECONDS)
        _leave(0)
    os.close(lock)
    return 0


def _leave(code: int) -> NoReturn:
    """At once: threads of the engine may hang. Where the log is on a full disk, too, it ends all the same."""
    with contextlib.suppress(OSError):
        sys.stderr.flush()
    os._exit(code)
