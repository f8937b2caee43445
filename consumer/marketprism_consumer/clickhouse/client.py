"""The one client of ClickHouse: over HTTP through clickhouse-connect, at one or several URLs of the same tables."""

from __future__ import annotations

import asyncio
import math
import re
import ssl
import time
import uuid
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any
from urllib.parse import urlsplit

import aiohttp
from clickhouse_connect.driver import create_async_client
from clickhouse_connect.driver.exceptions import Error as ClickHouseConnectError
from clickhouse_connect.driver.httputil import check_env_proxy

from marketprism_api import reasons
from marketprism_api.credentials import ClickHouseAuth
from marketprism_consumer.backoff import Breaker
from marketprism_consumer.clickhouse.http_insert import judge, send_insert
from marketprism_consumer.errors import Fault, StoreError
from marketprism_consumer.ingest.clickhouse_errors import refused

CONNECT_TIMEOUT = 5.0  # [s]
PATIENCE = 32.0  # for the answer to one statement [s]
CLOCK_EVERY = 60.0  # how often the server's clock is read again [s]
BACKSTOP = 5.0  # beyond the client's own patience [s]
SETTLE_POLL = 0.05  # [s]
STREAM_PIECE = 1 << 20  # bytes of an answer at a time
TAIL = 16 << 10  # bytes in which an answer that breaks off says why
DENIED = frozenset({192, 193, 194, 195, 497, 516})

Bound = Mapping[str, Any]

# Of large statements: what does not fit is written to disk, where the server has a place for it.
SPILL: Bound = {"max_bytes_before_external_sort": 1 << 30, "max_bytes_before_external_group_by": 1 << 30}


class Endpoint:
    """One server: its breaker, and the connections that whoever comes next shares."""

    def __init__(self, url: str, auth: Callable[[], ClickHouseAuth], patience: float) -> None:
        self.url = url
        self.breaker = Breaker()
        self.patience = patience
        self.auth = auth
        self.connections = Connections(self)

    def renew(self, met: Connections) -> None:
        """Who comes next makes new connections, and reads the login anew. Those at work on the old ones end first: what one of them met
        there says nothing of the others' statements, and an insert that is cut off is in doubt."""
        met.given_up = True
        if self.connections is met:
            self.connections = Connections(self)


class Connections:
    """To one server, by one login: a client, made at first use, a session for inserts, and its clock against ours. Tasks share them."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._client: Any = None
        self._session: aiohttp.ClientSession | None = None
        self._making = asyncio.Lock()
        self._users = 0
        self._clock_offset = 0.0
        self.clock_read_at = -math.inf
        self.given_up = False

    @asynccontextmanager
    async def used(self) -> AsyncIterator[Connections]:
        """Who leaves last closes what was given up."""
        self._users += 1
        try:
            yield self
        finally:
            self._users -= 1
            if self.given_up and not self._users:
                await self.close()

    async def client(self) -> Any:
        async with self._making:  # one for all data types, though they ask at once
            if self._client is None:
                self._client = await connect(self._endpoint.url, self._endpoint.auth(), self._endpoint.patience)
            return self._client

    async def insert(self, table: str, columns: Sequence[str], pieces: Sequence[bytes], settings: Bound) -> None:
        """A Native block. The first one of a connection is sent only after it was seen that settings arrive as they were sent."""
        client, url = await self.client(), self._endpoint.url
        async with self._making:
            if self._session is None:
                await prove_settings(client)
                self._session = session(url, self._endpoint.auth(), self._endpoint.patience)
            http = self._session
        await send_insert(http, address(url), table, columns, pieces, settings, proxy_of(url))

    async def server_time(self, at: float) -> float:
        """A moment of our monotonic clock on the server's [s since 1970]. However long the reading of the server's clock
        took, the answer is too early, never too late."""
        if time.monotonic() - self.clock_read_at > CLOCK_EVERY:
            result = await (await self.client()).query("SELECT toUnixTimestamp64Milli(now64(3))")
            self.clock_read_at = time.monotonic()
            self._clock_offset = result.result_rows[0][0] / 1000 - self.clock_read_at
        return at + self._clock_offset

    async def close(self) -> None:
        client, self._client = self._client, None
        inserts, self._session = self._session, None
        if inserts is not None:
            await inserts.close()
        if client is not None:
            await client.close()


class ClickHouse:
    """All calls raise StoreError, whatever went wrong; the next one then goes to another URL.

    `comment` marks every statement in system.processes, `settings` go with each, `patience` is how long an answer may take
    [s], `cluster` names the replicas whose statements `settle` waits for. Credentials are read anew for every connection.
    """

    def __init__(
        self,
        urls: Sequence[str],
        auth: Callable[[], ClickHouseAuth] = ClickHouseAuth,
        *,
        comment: str = "",
        settings: Bound | None = None,
        patience: float = PATIENCE,
        cluster: str = "",
    ) -> None:
        self.urls = tuple(urls)
        self.comment = comment
        self.cluster = cluster
        self.proven_whole = False
        """Was it seen that rows can't be split among servers? (`servers.py`)"""
        self._auth, self._patience = auth, patience
        self._settings = {**(settings or {}), **({"log_comment": comment} if comment else {})}
        self._endpoints = [Endpoint(url, auth, patience) for url in urls]
        self._current = 0

    @property
    def url(self) -> str:
        """The one in use."""
        return self.urls[self._current]

    async def query(
        self, sql: str, parameters: Bound | None = None, *, settings: Bound | None = None
    ) -> list[tuple[Any, ...]]:
        """The rows of a SELECT; `parameters` are bound by the server, never spliced in."""
        async with self.connections() as connections:
            client = await connections.client()
            result = await client.query(sql, parameters=dict(parameters or {}), settings=self._with(settings))
            return [tuple(row) for row in result.result_rows]

    async def reach(self) -> None:
        """Go to the first URL that answers, for who gives up at the first error. Where none does, the next statement says why."""
        for _ in self._endpoints[1:]:
            with suppress(StoreError):  # which goes on to the next URL
                await self.query("SELECT 1")
                return

    async def value(self, sql: str, parameters: Bound | None = None) -> Any:
        """The first column of the first row."""
        return (await self.query(sql, parameters))[0][0]

    async def has_table(self, database: str, table: str) -> bool:
        found = "SELECT count() FROM system.tables WHERE database = {database:String} AND name = {table:String}"
        return bool(await self.value(found, {"database": database, "table": table}))

    async def command(self, sql: str, parameters: Bound | None = None, *, settings: Bound | None = None) -> None:
        async with self.connections() as connections:
            client = await connections.client()
            await client.command(sql, parameters=dict(parameters or {}), settings=self._with(settings))

    async def read(self, sql: str, parameters: Bound) -> bytes:
        """The rows of a SELECT as Native blocks."""
        async with self.connections() as connections:
            client = await connections.client()
            return bytes(await client.raw_query(sql, dict(parameters), settings=self._with(None), fmt="Native"))

    async def write(self, table: str, columns: Sequence[str], blocks: bytes, settings: Bound | None = None) -> None:
        """Native blocks into `database.table`."""
        async with self.connections() as connections:
            client = await connections.client()
            await client.raw_insert(table, list(columns), blocks, self._with(settings), "Native")

    async def stream(
        self, sql: str, parameters: Mapping[str, str | int], *, settings: Bound | None = None
    ) -> AsyncIterator[bytes]:
        """What ClickHouse answers to a SELECT with a FORMAT of its own, as it comes: nothing is kept, and however long it takes, only
        a silence is too long. Each URL is tried once, as long as nothing has come. Raises StoreError, also where the answer broke off
        in the middle."""
        given = {f"param_{name}": escaped(str(value)) for name, value in parameters.items()}
        asked = {name: str(value) for name, value in self._with(settings).items()} | given
        for left in reversed(range(len(self._endpoints))):
            endpoint, begun = await self._allowed(), False
            try:
                async for piece in self._answer(endpoint, sql, asked):
                    begun = True
                    yield piece
            except StoreError as refused:
                if refused.fault is Fault.PASSING:
                    self._go_on(endpoint)
                if begun or not left or refused.fault is not Fault.PASSING:
                    raise
            else:
                endpoint.breaker.succeeded()
                return

    async def _answer(self, endpoint: Endpoint, sql: str, asked: Mapping[str, str]) -> AsyncIterator[bytes]:
        tail = b""
        try:
            async with (
                session(endpoint.url, self._auth(), endpoint.patience, whole=False) as http,
                http.post(
                    address(endpoint.url), params=asked, data=sql, allow_redirects=False, proxy=proxy_of(endpoint.url)
                ) as answer,
            ):
                if answer.status != 200:
                    text = await answer.text()
                    raise judge(answer.status, answer.headers, text) or refused(0, text[:300])
                tag = answer.headers.get("X-ClickHouse-Exception-Tag", "")
                async for piece in answer.content.iter_chunked(STREAM_PIECE):
                    tail = (tail + piece)[-TAIL:] if len(piece) < TAIL else piece[-TAIL:]
                    yield piece
                if broken := broke_off(tail, tag):
                    raise broken
        except (aiohttp.ClientError, OSError, TimeoutError, StoreError) as error:
            raise broke_off(tail) or store_error(error, endpoint.url) from error

    def all_replicas(self, database: str, table: str) -> str:
        """A table of every server; those that can't be reached are left out with the settings `reachable`."""
        return f"clusterAllReplicas('{self.cluster}', {database}.{table})" if self.cluster else f"{database}.{table}"

    @property
    def reachable(self) -> Bound:
        return {"skip_unavailable_shards": 1} if self.cluster else {}

    async def settle(self, prefix: str, mine: str = "") -> None:
        """Return when the statements that run now and whose comment begins with `prefix` have ended, those of `mine`
        aside. They are known by their ids: what begins meanwhile is not waited for."""
        source = self.all_replicas("system", "processes")
        sql = (
            f"SELECT query_id FROM {source} WHERE startsWith(Settings['log_comment'], {{prefix:String}})"
            " AND (Settings['log_comment'] != {mine:String} OR {mine:String} = '')"
            " AND position(query, 'system.processes') = 0"
        )
        given = {"prefix": prefix, "mine": mine}
        running = {row[0] for row in await self.query(sql, given, settings=self.reachable)}
        while running:
            await asyncio.sleep(SETTLE_POLL)
            running &= {row[0] for row in await self.query(sql, given, settings=self.reachable)}

    async def prove_settings(self) -> None:
        """Raises StoreError where settings or parameters don't arrive as they are sent."""
        async with self.connections() as connections:
            await prove_settings(await connections.client())

    def add(self, url: str) -> None:
        """Another server of the same tables."""
        self.urls += (url,)
        self._endpoints.append(Endpoint(url, self._auth, self._patience))

    async def by_new_connections(self, url: str, sql: str, times: int, *, patience: float = 0.0) -> set[str]:
        """What a SELECT of one value says at one of the URLs, each time on another connection."""
        found: set[str] = set()
        try:
            async with session(url, self._auth(), patience or self._patience, reuse=False) as http:
                for _ in range(times):
                    async with http.post(address(url), data=sql, allow_redirects=False, proxy=proxy_of(url)) as answer:
                        text = await answer.text()
                        if answer.status != 200:
                            raise judge(answer.status, answer.headers, text) or refused(0, text[:300])
                        found.add(text)
        except (aiohttp.ClientError, OSError, TimeoutError, StoreError) as error:
            raise store_error(error, url) from error
        return found

    async def close(self) -> None:
        for endpoint in self._endpoints:
            await endpoint.connections.close()

    def _with(self, settings: Bound | None) -> dict[str, Any]:
        return {**self._settings, **(settings or {})}

    @asynccontextmanager
    async def connections(self) -> AsyncIterator[Connections]:
        """To the server in use, with whatever goes wrong there raised as StoreError, and another one next time."""
        endpoint = await self._allowed()
        async with endpoint.connections.used() as connections:
            try:
                # The client's own timeouts don't see a request that can't be sent to its end.
                async with asyncio.timeout(endpoint.patience + BACKSTOP):
                    yield connections
            except (ClickHouseConnectError, aiohttp.ClientError, OSError, TimeoutError, StoreError) as error:
                refused = store_error(error, endpoint.url)
                if refused.code == 0 or refused.code in DENIED:
                    endpoint.renew(connections)
                if refused.fault is Fault.LATE:
                    connections.clock_read_at = -math.inf  # perhaps the server's clock was set
                if refused.fault in (Fault.PASSING, Fault.SERVER):
                    self._go_on(endpoint)
                elif refused.fault is not Fault.UNKNOWN:
                    endpoint.breaker.succeeded()  # it is the request that was late or wrong
                raise refused from error
        endpoint.breaker.succeeded()

    def _go_on(self, endpoint: Endpoint) -> None:
        """To the next URL."""
        endpoint.breaker.failed(asyncio.get_running_loop().time())
        self._current = (self._current + 1) % len(self._endpoints)

    async def _allowed(self) -> Endpoint:
        """The first endpoint, from the current one on, whose breaker lets a try through; waits where none does."""
        loop = asyncio.get_running_loop()
        while True:
            waits = []
            for step in range(len(self._endpoints)):
                index = (self._current + step) % len(self._endpoints)
                wait = self._endpoints[index].breaker.wait(loop.time())
                if not wait:
                    self._current = index
                    return self._endpoints[index]
                waits.append(wait)
            await asyncio.sleep(min(waits))


async def connect(url: str, auth: ClickHouseAuth, patience: float) -> Any:
    """Raises what clickhouse-connect does."""
    parts = urlsplit(url)
    secure = parts.scheme == "https"
    return await create_async_client(
        host=parts.hostname or "localhost",
        port=parts.port or (8443 if secure else 8123),
        proxy_path=parts.path,
        username=auth.user or None,
        password=auth.password,
        ca_cert=str(auth.tls.ca) if auth.tls.ca else None,
        client_cert=str(auth.tls.cert) if auth.tls.cert else None,
        client_cert_key=str(auth.tls.key) if auth.tls.key else None,
        secure=secure,
        compress=False,
        autogenerate_session_id=False,
        query_retries=0,  # retries are ours: they keep the token and the deadline
        connect_timeout=CONNECT_TIMEOUT,
        send_receive_timeout=patience,
    )


def address(url: str) -> str:
    """Where requests go: with the port that goes without saying, and a path, which a proxy may want."""
    parts = urlsplit(url)
    port = parts.port or (8443 if parts.scheme == "https" else 8123)
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname or "localhost"
    return f"{parts.scheme}://{host}:{port}{parts.path or '/'}"


def proxy_of(url: str) -> str | None:
    """As http_proxy, https_proxy and no_proxy in the environment say."""
    parts = urlsplit(address(url))
    found = check_env_proxy(parts.scheme, parts.hostname or "", parts.port or 0)
    return found if not found or "://" in found else f"http://{found}"


def escaped(value: str) -> str:
    """A parameter as ClickHouse reads it: the escapes of a tab-separated field."""
    return value.replace("\\", "\\\\").replace("\t", "\\t").replace("\n", "\\n")


def broke_off(tail: bytes, tag: str = "") -> StoreError | None:
    """Why, where the end of an answer that began as a good one says so: it is text after whatever was sent."""
    found = _exception(tail)
    if found:
        return refused(int(found[1]), " ".join(found[0].decode(errors="replace").split())[:300])
    return refused(0, "the answer broke off") if tag and tag.encode() in tail else None


_exception = re.compile(rb"Code: (\d{1,5})\. DB::Exception: [^\0]{0,300}").search


def session(
    url: str, auth: ClickHouseAuth, patience: float, *, reuse: bool = True, whole: bool = True
) -> aiohttp.ClientSession:
    """With the login, and TLS as it was asked for. `reuse`: connections are. `whole`: patience is for the whole answer, not for
    each piece of it."""
    context: ssl.SSLContext | bool = True
    if urlsplit(url).scheme == "https":
        context = ssl.create_default_context(cafile=str(auth.tls.ca) if auth.tls.ca else None)
        if auth.tls.cert:
            context.load_cert_chain(auth.tls.cert, auth.tls.key)
    headers = {"X-ClickHouse-User": auth.user, "X-ClickHouse-Key": auth.password} if auth.user else {}
    if auth.tls.cert and auth.user and not auth.password:
        headers = {"X-ClickHouse-User": auth.user, "X-ClickHouse-SSL-Certificate-Auth": "on"}
    timeout = aiohttp.ClientTimeout(
        total=patience if whole else None, sock_read=None if whole else patience, sock_connect=CONNECT_TIMEOUT
    )
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(ssl=context, force_close=not reuse), timeout=timeout, headers=headers
    )


async def prove_settings(client: Any) -> None:
    """Without its token and its fence an insert could be stored twice. Raises StoreError where anything on the way drops settings or
    parameters; one harmless statement tells."""
    token = uuid.uuid4().hex
    settings = {"insert_deduplication_token": token, "log_comment": "marketprism looks whether settings arrive"}
    asked = "SELECT getSetting('insert_deduplication_token'), getSetting('log_comment'), {given:String}"
    found = (await client.query(asked, parameters={"given": token}, settings=settings)).result_rows[0]
    expected = {**settings, "parameter given": token}
    lost = [name for (name, value), came in zip(expected.items(), found, strict=True) if came != value]
    if lost:
        detail = f"{', '.join(lost)} did not arrive as sent: nothing is inserted"
        raise StoreError(0, detail, Fault.SERVER, status=200)


def store_error(error: BaseException, url: str) -> StoreError:
    """Any failure of a request as StoreError, with the server's own code where it gave one."""
    where = redacted(url)
    if isinstance(error, StoreError):
        if error.status:
            return StoreError(error.code, f"{where}: {error}", error.fault, status=error.status)
        if error.code in DENIED and str(reasons.CLICKHOUSE_DENIED) not in str(error):
            return refused(error.code, f"{reasons.CLICKHOUSE_DENIED}: {where}: {error}")
        return error
    code = getattr(error, "code", None)
    if isinstance(code, int):
        reason = f"{reasons.CLICKHOUSE_DENIED}: " if code in DENIED else ""
        return refused(code, f"{reason}{where}: {error}")
    return refused(0, f"{reasons.CLICKHOUSE_UNREACHABLE}: {where}: {type(error).__name__}: {error}")


def redacted(url: str) -> str:
    parts = urlsplit(url)
    host = f"{parts.hostname}:{parts.port}" if parts.port else str(parts.hostname)
    return f"{parts.scheme}://{host}{parts.path}"
