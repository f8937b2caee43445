"""The embedded ClickHouse, as its clients see it."""

from __future__ import annotations

import concurrent.futures
import ctypes
import datetime as dt
import gzip
import http.client
import json
import os
import resource
import shutil
import signal
import socket
import subprocess
import sys
import urllib.parse
import zlib
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import clickhouse_connect
import lz4.frame
import pytest
from clickhouse_connect.driver.exceptions import ClickHouseError

from marketprism_embedded import clickhouse_http as protocol
from marketprism_embedded.place import EmbeddedError
from marketprism_embedded.process import EmbeddedServer, start
from tests.waiting import PATIENCE, wait_for

# --- helpers ----------------------------------------------------------------------------------------------------------


class Reply:
    def __init__(self, response: http.client.HTTPResponse) -> None:
        self.status = response.status
        self.headers = response.headers
        try:
            self.data = response.read()
            self.whole = True
        except http.client.IncompleteRead as error:
            self.data = error.partial
            self.whole = False

    @property
    def text(self) -> str:
        return self.data.decode()

    @property
    def code(self) -> int | None:
        code = self.headers["X-ClickHouse-Exception-Code"]
        return int(code) if code else None

    @property
    def summary(self) -> dict[str, int]:
        return {k: int(v) for k, v in json.loads(self.headers["X-ClickHouse-Summary"]).items()}


class Http:
    """Plain HTTP, one kept connection."""

    def __init__(self, url: str) -> None:
        self._connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=PATIENCE)

    def __call__(
        self, sql: str | None = None, body: Any = None, *, method: str = "POST", path: str = "/", **options: Any
    ) -> Reply:
        headers = {k.replace("_", "-"): v for k, v in options.pop("headers", {}).items()}
        params = {**({"query": sql} if sql is not None else {}), **options}
        self._connection.request(method, f"{path}?{urllib.parse.urlencode(params)}", body, headers)
        reply = Reply(self._connection.getresponse())
        if not reply.whole:
            self._connection.close()  # the next request opens a new one
        return reply

    def ok(self, sql: str, body: Any = None, **options: Any) -> Reply:
        reply = self(sql, body, **options)
        assert reply.status == 200, reply.text
        return reply

    def value(self, sql: str, **options: Any) -> str:
        return self.ok(sql, **options).text.rstrip("\n")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedServer]:
    with start("clickhouse", tmp_path_factory.mktemp("clickhouse")) as running:
        yield running


@pytest.fixture
def ask(server: EmbeddedServer) -> Http:
    return Http(server.url)


@pytest.fixture
def client(server: EmbeddedServer) -> Iterator[Any]:
    with clickhouse_connect.get_client(dsn=server.url) as client:
        yield client


def native(ask: Http, sql: str) -> bytes:
    """The result of a query as ONE block in Native format: what an inserter sends."""
    return ask.ok(f"{sql} SETTINGS max_block_size = 10000000, max_threads = 1 FORMAT Native").data


# --- it looks like ClickHouse -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/ping", "/", "/replicas_status"])
def test_health_paths_say_ok(ask: Http, path: str) -> None:
    assert ask(method="GET", path=path).text == "Ok.\n"


def test_unknown_path_is_404(ask: Http) -> None:
    assert ask(method="GET", path="/play").status == 404


def test_reply_headers(ask: Http) -> None:
    reply = ask.ok("SELECT number FROM numbers(3)", query_id="mine")
    assert reply.text == "0\n1\n2\n"
    assert reply.headers["X-ClickHouse-Query-Id"] == "mine"
    assert reply.headers["X-ClickHouse-Timezone"] == "UTC"
    assert reply.headers["X-ClickHouse-Server-Display-Name"]
    assert reply.headers["X-ClickHouse-Format"] == "TabSeparated"
    assert reply.headers["Content-Type"] == "text/tab-separated-values; charset=UTF-8"
    assert reply.summary["result_rows"] == 3
    assert reply.summary["read_rows"] == 3


def test_times_are_utc_wherever_the_machine_is(ask: Http) -> None:
    assert ask.value("SELECT timezone()") == "UTC"


def test_the_format_is_the_clauses_else_the_headers_else_the_parameters(ask: Http) -> None:
    assert ask.value("SELECT 1 AS x", default_format="JSONEachRow") == '{"x":1}'
    assert ask.value("SELECT 1 AS x", default_format="CSV", headers={"X_ClickHouse_Format": "JSONEachRow"}) == '{"x":1}'
    reply = ask.ok("SELECT 1 AS x FORMAT JSON", default_format="CSV")
    assert reply.headers["X-ClickHouse-Format"] == "JSON"
    assert json.loads(reply.data)["data"] == [{"x": 1}]


def test_formats_with_head_or_tail_come_as_one_whole(ask: Http) -> None:
    sql = "SELECT number AS n FROM numbers(200000) SETTINGS max_block_size = 1000"
    assert json.loads(ask.ok(f"{sql} FORMAT JSON").data)["rows"] == 200_000
    lines = ask.ok(f"{sql} FORMAT CSVWithNames").text.splitlines()
    assert (lines[0], len(lines)) == ('"n"', 200_001)


def test_totals_follow_a_streamed_result(ask: Http) -> None:
    sql = "SELECT number % 2 AS k, count() FROM numbers(10) GROUP BY k WITH TOTALS ORDER BY k"
    assert ask.ok(sql).text == "0\t5\n1\t5\n\n0\t10\n"


def test_settings_come_from_the_url(ask: Http) -> None:
    assert ask.value("SELECT getSetting('max_threads')", max_threads="3") == "3"


def test_parameters(ask: Http) -> None:
    assert ask.value("SELECT {s:String}, {n:UInt8} + 1", param_s="it's", param_n="4") == "it\\'s\t5"


def test_database_from_url_or_header(ask: Http) -> None:
    ask.ok("CREATE DATABASE IF NOT EXISTS other")
    assert ask.value("SELECT currentDatabase()", database="other") == "other"
    assert ask.value("SELECT currentDatabase()", headers={"X_ClickHouse_Database": "other"}) == "other"


def test_sessions_and_users_are_accepted(ask: Http) -> None:
    assert ask.value("SELECT 1", session_id="s", user="u", password="p", role="r", quota_key="q") == "1"
    assert ask.value("SELECT 1", headers={"X_ClickHouse_User": "u", "X_ClickHouse_Key": "k"}) == "1"


def test_query_in_the_body_or_in_both(ask: Http) -> None:
    assert ask(None, b"SELECT 1").text == "1\n"
    assert ask("SELECT 1 +", b"2").text == "3\n"


# --- errors -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "status", "name", "sql"),
    [
        (47, 404, "UNKNOWN_IDENTIFIER", "SELECT nothing"),
        (60, 404, "UNKNOWN_TABLE", "SELECT * FROM nothing"),
        (62, 400, "SYNTAX_ERROR", "SELEC 1"),
        (62, 400, "SYNTAX_ERROR", "SELECT 1; SELECT 2"),
        (62, 400, "SYNTAX_ERROR", ""),
        (81, 404, "UNKNOWN_DATABASE", "CREATE TABLE nowhere.t (a Int8) ENGINE = Memory"),
        (
            159,
            408,
            "TIMEOUT_EXCEEDED",
            "SELECT sleepEachRow(0.1) FROM numbers(9) SETTINGS max_execution_time = 0.1, max_block_size = 1",
        ),
        (358, 500, "INTO_OUTFILE_NOT_ALLOWED", "SELECT 1 INTO OUTFILE '/tmp/never'"),
        (78, 404, "UNKNOWN_TYPE_OF_QUERY", "INSERT INTO t FROM INFILE '/etc/passwd' FORMAT CSV"),
        (48, 501, "NOT_IMPLEMENTED", "INSERT INTO t SELECT a FROM input('a Int8') FORMAT CSV"),
    ],
)
def test_errors(ask: Http, code: int, status: int, name: str, sql: str) -> None:
    for query_id in ("failing", "failing again"):
        reply = ask(sql, query_id=query_id)
        assert (reply.code, reply.status) == (code, status), reply.text
        assert reply.text.startswith(f"Code: {code}. DB::Exception: ")
        assert f"({name}) (version " in reply.text
        assert reply.headers["X-ClickHouse-Query-Id"] == query_id


def test_what_only_reads_is_told_from_what_writes_each_time(ask: Http) -> None:
    """A statement that was looked through is remembered; how long it may be, and how many, is bounded."""
    for number in range(600):
        assert ask(f"SELECT {number}").text == f"{number}\n"
    for _ in range(2):
        assert ask("SELECT {a:UInt8} + 1", param_a="1").text == "2\n"
        assert ask("SELECT 1; SELECT 2").code == 62
        assert ask(f"SELECT length('{'x' * 100_000}')").text == "100000\n"


def test_unknown_setting(ask: Http) -> None:
    assert ask("SELECT 1", no_such_setting="1").code == 115
    assert ask("SELECT 1", **{"a'b": "1"}).code == 115


def test_block_compression_is_refused_with_what_to_use(ask: Http) -> None:
    reply = ask("SELECT 1", compress="1")
    assert reply.code == 48
    assert "enable_http_compression" in reply.text


def test_a_failed_request_is_one_line_in_the_log_without_its_text(tmp_path: Path) -> None:
    with start("clickhouse", tmp_path / "data", stderr=subprocess.PIPE) as server:
        ask = Http(server.url)
        assert ask("SELECT 'hunter2' FROM nothing", query_id="q1", password="hunter3").code == 60
        server.stop()
        assert server.process.stderr is not None
        log = server.process.stderr.read()
        server.process.stderr.close()
    assert log.count("\n") == 1
    assert "'q1' failed" in log
    assert "60 UNKNOWN_TABLE" in log
    assert "hunter" not in log


def test_failing_queries_never_leak_rows_to_others(server: EmbeddedServer) -> None:
    """chDB puts a failed query's rows in front of the next result of the same connection."""

    def work(number: int) -> list[str]:
        ask = Http(server.url)
        seen = []
        for round_ in range(5):
            failing = ask(f"SELECT number + {number * 10**6}, throwIf(number = 150000) FROM numbers(200000)")
            assert failing.code == 395 or not failing.whole
            seen.append(ask.value(f"SELECT {number}, {round_}"))
        return seen

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        for number, seen in enumerate(pool.map(work, range(8))):
            assert seen == [f"{number}\t{round_}" for round_ in range(5)]


# --- GET, web pages, passwords ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "sql",
    ["CREATE TABLE web2 (a Int8) ENGINE = Memory", "INSERT INTO web VALUES (1)", "DROP TABLE web", "SET readonly = 0"],
)
def test_get_can_not_write(ask: Http, sql: str) -> None:
    ask.ok("CREATE OR REPLACE TABLE web (a Int8) ENGINE = Memory")
    assert ask(sql, method="GET").code == 164
    assert ask(sql, method="GET", readonly="0").code == 164


def test_get_may_read_with_settings(ask: Http) -> None:
    assert ask("SELECT getSetting('max_threads')", method="GET", max_threads="2").text == "2\n"


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8123", "127.0.0.1.evil.example", "10.0.0.7:8123", ""])
def test_foreign_host_is_refused(ask: Http, host: str) -> None:
    assert ask("SELECT 1", headers={"Host": host}).status == 403


@pytest.mark.parametrize("host", ["localhost:8123", "127.0.0.1", "[::1]:8123"])
def test_own_host_is_served(ask: Http, host: str) -> None:
    assert ask("SELECT 1", headers={"Host": host}).text == "1\n"


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:1"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
def test_requests_of_other_web_pages_are_refused(ask: Http, headers: dict[str, str]) -> None:
    assert ask("SELECT 1", headers=headers).status == 403
    assert ask("SELECT 1", method="GET", headers=headers).status == 403


def test_password(tmp_path: Path) -> None:
    with start("clickhouse", tmp_path / "data", environment={"MARKETPRISM_EMBEDDED_PASSWORD": "sesame"}) as server:
        ask = Http(server.url)
        for wrong in ({}, {"password": "wrong"}, {"headers": {"Authorization": "Basic !"}}):
            reply = ask("SELECT 1", **wrong)
            assert (reply.code, reply.status) == (516, 403)
        assert ask(method="GET", path="/ping").text == "Ok.\n"
        assert ask("SELECT 1", headers={"X_ClickHouse_User": "me", "X_ClickHouse_Key": "sesame"}).text == "1\n"
        assert ask("SELECT 1", user="me", password="sesame").text == "1\n"
        with clickhouse_connect.get_client(dsn=server.url, username="me", password="sesame") as client:
            assert client.command("SELECT 1") == 1


# --- inserts ----------------------------------------------------------------------------------------------------------


def test_native_insert_counts_its_rows(ask: Http) -> None:
    ask.ok("CREATE OR REPLACE TABLE t (a UInt64, s String) ENGINE = MergeTree ORDER BY a")
    # 2570 is 0A 0A: a blank line, for who takes data for text
    block = native(ask, "SELECT number AS a, '\\n\\n' || number AS s FROM numbers(2560, 20)")
    for reply in (
        ask.ok("INSERT INTO t (a, s) FORMAT Native", block),
        ask.ok("", b"INSERT INTO t (a, s) FORMAT Native\n" + block),
        ask.ok("INSERT INTO t FORMAT Native", block),
        ask.ok("insert into default.t (a, s) settings max_threads=1 format Native", block),
    ):
        assert reply.summary["written_rows"] == 20
    assert ask.value("SELECT count(), sum(a), uniqExact(s) FROM t") == f"80\t{4 * sum(range(2560, 2580))}\t20"


@pytest.mark.parametrize(
    ("sql", "body"),
    [
        ("INSERT INTO v VALUES", b"(1, 'a\n\nb'), (2, 'it''s; FORMAT')"),
        ("INSERT INTO v (a, s) VALUES (1, 'a\n\nb'), (2, 'it\\'s; FORMAT');", None),
        ("INSERT INTO v FORMAT JSONEachRow", b'{"a":1,"s":"a\\n\\nb"}\n\n{"a":2,"s":"it\'s; FORMAT"}\n'),
        ("INSERT INTO v FORMAT CSV", b'1,"a\n\nb"\r\n2,it\'s; FORMAT\r\n'),
        ("INSERT INTO v SETTINGS format_csv_delimiter='|' FORMAT CSV", b'1|"a\n\nb"\n2|it\'s; FORMAT\n'),
        ("/* FORMAT x */ INSERT INTO v -- VALUES\n (a, s) FORMAT TSV", b"1\ta\\n\\nb\n2\tit's; FORMAT\n"),
        ("INSERT INTO v SELECT number + 1, if(number = 1, 'it\\'s; FORMAT', 'a\n\nb') FROM numbers(2)", None),
    ],
)
def test_inserts_of_every_shape(ask: Http, sql: str, body: bytes | None) -> None:
    ask.ok("CREATE OR REPLACE TABLE v (a UInt64, s String) ENGINE = MergeTree ORDER BY a")
    assert ask.ok(sql, body).summary["written_rows"] == 2
    assert json.loads(ask.value("SELECT groupArray((a, s)) AS x FROM v FORMAT JSONCompactColumns"))[0][0] == [
        [1, "a\n\nb"],
        [2, "it's; FORMAT"],
    ]


def test_ephemeral_columns(ask: Http) -> None:
    columns = "a UInt64, b String EPHEMERAL, c String DEFAULT upper(b)"
    ask.ok(f"CREATE OR REPLACE TABLE e ({columns}) ENGINE = MergeTree ORDER BY a")
    ask.ok("INSERT INTO e (a, b) FORMAT Native", native(ask, "SELECT 1::UInt64 AS a, 'x' AS b"))
    assert ask.value("SELECT * FROM e") == "1\tX"


@pytest.mark.parametrize(
    ("code", "columns", "rows", "settings"),
    [
        (469, "a UInt64, CONSTRAINT small CHECK a < 5", 9, {}),
        (395, "a UInt64, b UInt8 DEFAULT throwIf(a = 5)", 9, {}),
        (252, "a UInt64", 9, {"max_partitions_per_insert_block": "5"}),
        (241, "a UInt64", 1_000_000, {"max_memory_usage": "1000000"}),
    ],
)
def test_a_refused_insert_says_so_and_stores_nothing(
    ask: Http, code: int, columns: str, rows: int, settings: dict[str, str]
) -> None:
    ask.ok(f"CREATE OR REPLACE TABLE refused ({columns}) ENGINE = MergeTree ORDER BY a PARTITION BY a")
    block = native(ask, f"SELECT number AS a FROM numbers({rows})")
    assert ask("INSERT INTO refused (a) FORMAT Native", block, **settings).code == code
    assert ask.value("SELECT count() FROM refused") == "0"


def test_damaged_data_says_so_and_stores_nothing(ask: Http) -> None:
    ask.ok("CREATE OR REPLACE TABLE d (a UInt64, t DateTime64(3, 'UTC')) ENGINE = MergeTree ORDER BY a")
    block = native(ask, "SELECT number AS a, toDateTime64(0, 3, 'UTC') AS t FROM numbers(100)")
    assert ask("INSERT INTO d FORMAT Native", block[:-1]).code == 33
    assert ask("INSERT INTO d FORMAT Native", b"\x01\xff\xff\xff\xff garbage").code == 128
    assert ask("INSERT INTO d FORMAT JSONEachRow", b'{"a":1,"t":"no date"}').code in (27, 41)
    assert ask("INSERT INTO d FORMAT JSONEachRow", b'{"a":1,"t":"2026-13-99 00:00:00"}').code in (27, 41)
    assert ask("INSERT INTO nothing FORMAT Native", block).code == 60
    assert ask.value("SELECT count() FROM d") == "0"


@pytest.mark.parametrize("rows", [10_000, 100_000, 200_000])
def test_one_block_is_one_part_per_partition_and_its_token_counts_once(ask: Http, rows: int) -> None:
    ask.ok(
        "CREATE OR REPLACE TABLE parts (a UInt64, p UInt8) ENGINE = MergeTree ORDER BY a PARTITION BY p "
        "SETTINGS non_replicated_deduplication_window = 100"
    )
    block = native(ask, f"SELECT number AS a, toUInt8(number % 2) AS p FROM numbers({rows})")
    for _ in range(2):
        ask.ok("INSERT INTO parts FORMAT Native", block, insert_deduplication_token=f"token-{rows}")
    sizes = "SELECT groupArray(rows) FROM system.parts WHERE table = 'parts' AND active"
    assert ask.value(sizes) == f"[{rows // 2},{rows // 2}]"


@pytest.mark.parametrize(
    ("coding", "encode"),
    [("gzip", gzip.compress), ("deflate", zlib.compress), ("lz4", lz4.frame.compress)],
)
def test_compressed_and_chunked_bodies(ask: Http, coding: str, encode: Callable[[bytes], bytes]) -> None:
    ask.ok("CREATE OR REPLACE TABLE z (a UInt64) ENGINE = MergeTree ORDER BY a")
    body = encode(b"INSERT INTO z FORMAT Native\n" + native(ask, "SELECT number AS a FROM numbers(1000)"))
    pieces = [body[i : i + 100] for i in range(0, len(body), 100)]
    for sent in (body, iter(pieces)):  # http.client sends an iterator in chunks
        assert ask("", sent, headers={"Content-Encoding": coding}).summary["written_rows"] == 1000
    assert ask("", body[:-20], headers={"Content-Encoding": coding}).code == 271
    assert ask.value("SELECT count() FROM z") == "2000"


def test_a_body_of_any_size_goes_through_a_file(ask: Http, server: EmbeddedServer) -> None:
    ask.ok("CREATE OR REPLACE TABLE big (a UInt64) ENGINE = MergeTree ORDER BY a")
    line = b"1\n" * (1 << 19)
    assert ask.ok("INSERT INTO big FORMAT TSV", iter([line] * 20)).summary["written_rows"] == 20 << 19


def test_a_body_that_ends_early_inserts_nothing(ask: Http, server: EmbeddedServer) -> None:
    ask.ok("CREATE OR REPLACE TABLE early (a UInt64) ENGINE = MergeTree ORDER BY a")
    with socket.create_connection(("127.0.0.1", int(server.url.rpartition(":")[2]))) as raw:
        raw.sendall(b"POST /?query=INSERT+INTO+early+FORMAT+TSV HTTP/1.1\r\nHost: localhost\r\n")
        raw.sendall(b"Content-Length: 9\r\n\r\n1\n2\n")
        raw.shutdown(socket.SHUT_WR)
        assert raw.recv(1) == b""
    assert ask.value("SELECT count() FROM early") == "0"


# --- results ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("coding", "decode"),
    [("gzip", gzip.decompress), ("deflate", zlib.decompress), ("lz4", lz4.frame.decompress)],
)
@pytest.mark.parametrize("rows", [10, 400_000])
def test_compressed_replies_only_when_asked_for(
    ask: Http, coding: str, decode: Callable[[bytes], bytes], rows: int
) -> None:
    sql = f"SELECT number FROM numbers({rows})"
    plain = ask.ok(sql, headers={"Accept_Encoding": coding})
    assert plain.headers["Content-Encoding"] is None
    packed = ask.ok(sql, enable_http_compression="1", headers={"Accept_Encoding": coding})
    assert packed.headers["Content-Encoding"] == coding
    assert decode(packed.data) == plain.data


def test_a_large_result_is_streamed_in_bounded_memory(ask: Http, server: EmbeddedServer) -> None:
    def peak() -> int:
        status = Path(f"/proc/{server.pid}/status").read_text()
        return int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1])

    before = peak()
    for wait in ("0", "1"):
        data = ask.ok("SELECT repeat('x', 99) FROM numbers(1500000)", wait_end_of_query=wait).data
        assert len(data) == 150_000_000
    assert peak() - before < 100_000  # KiB; the two results are 300 MB


def test_an_error_in_the_middle_reaches_every_client(ask: Http, server: EmbeddedServer, client: Any) -> None:
    sql = "SELECT repeat('x', 99), throwIf(number = 1000000, 'boom') FROM numbers(3000000)"
    params = urllib.parse.urlencode({"query": sql, "max_block_size": 10000})
    raw = socket.create_connection(server.url.removeprefix("http://").split(":"))  # type: ignore[arg-type]
    raw.sendall(f"POST /?{params} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    data = b"".join(iter(lambda: raw.recv(1 << 20), b""))
    raw.close()
    assert data.startswith(b"HTTP/1.1 200 OK")
    assert b"\r\n__exception__\r\n" in data
    assert b"Code: 395. DB::Exception: boom" in data
    assert not data.endswith(b"0\r\n\r\n")  # never a whole reply
    assert not ask(sql, max_block_size="10000").whole
    assert ask(sql, wait_end_of_query="1").code == 395  # nothing was sent yet: a clean error
    with pytest.raises(ClickHouseError, match="boom"), client.query_row_block_stream(sql) as stream:
        sum(len(block) for block in stream)


def test_an_early_error_is_a_clean_one_even_after_some_rows(ask: Http) -> None:
    assert ask("SELECT throwIf(number = 200) FROM numbers(1000) SETTINGS max_block_size = 10").code == 395


# --- the clients that people use --------------------------------------------------------------------------------------


def moment(*parts: int) -> dt.datetime:
    return dt.datetime(*parts, tzinfo=dt.UTC)  # type: ignore[misc, arg-type]


TYPES: dict[str, tuple[str, list[Any]]] = {
    "ms": ("DateTime64(3, 'UTC')", [moment(2026, 1, 2, 3, 4, 5, 678000), moment(1970, 1, 1)]),
    "us": ("DateTime64(6, 'UTC')", [moment(2026, 1, 2, 3, 4, 5, 678901), moment(2100, 1, 1)]),
    "d18": ("Decimal(38, 18)", [Decimal("12345678901234567890.123456789012345678"), Decimal("-1e-18")]),
    "d28": ("Decimal(38, 28)", [Decimal("1234567890.1234567890123456789012345678"), Decimal(0)]),
    "n18": ("Nullable(Decimal(38, 18))", [None, Decimal("1.5")]),
    "n28": ("Nullable(Decimal(38, 28))", [Decimal("0.0000000000000000000000000001"), None]),
    "lc": ("LowCardinality(String)", ["binance_spot", ""]),
    "u": ("UInt64", [2**64 - 1, 2570]),
    "b": ("Bool", [True, False]),
    "arr": ("Array(Decimal(38, 18))", [[Decimal("1.1"), Decimal("2.000000000000000002")], []]),
    "s": ("String", ["NUL \0 emoji 🚀 quotes ' \" ` \\ \n\n end", ""]),
}
COLUMNS = list(TYPES)
ROWS = [[values[i] for _, values in TYPES.values()] for i in range(2)]
CREATE = ", ".join(f"{name} {kind}" for name, (kind, _) in TYPES.items())


@pytest.mark.parametrize("compress", [True, "lz4", "zstd", "gzip", False])
@pytest.mark.parametrize("codec", ["python", "rust"])
def test_sync_client_round_trip(server: EmbeddedServer, compress: bool | str, codec: Any) -> None:
    options: dict[str, Any] = {"compress": compress, "native_codec": codec, "tz_mode": "aware"}
    with clickhouse_connect.get_client(dsn=server.url, **options) as client:
        client.command(f"CREATE OR REPLACE TABLE types ({CREATE}) ENGINE = MergeTree ORDER BY u")
        assert client.insert("types", ROWS, column_names=COLUMNS).written_rows == 2
        result = client.query("SELECT * FROM types ORDER BY u DESC")
        assert [list(row) for row in result.result_rows] == ROWS


async def test_async_client_round_trip(server: EmbeddedServer) -> None:
    client = await clickhouse_connect.get_async_client(dsn=server.url, tz_mode="aware")
    try:
        await client.command(f"CREATE OR REPLACE TABLE types_async ({CREATE}) ENGINE = MergeTree ORDER BY u")
        summary = await client.insert("types_async", ROWS, column_names=COLUMNS)
        assert summary.written_rows == 2
        result = await client.query("SELECT * FROM types_async ORDER BY u DESC")
        assert [list(row) for row in result.result_rows] == ROWS
    finally:
        await client.close()


def test_client_errors_have_their_code(client: Any) -> None:
    with pytest.raises(ClickHouseError) as caught:
        client.query("SELECT * FROM nothing")
    assert caught.value.code == 60
    assert client.command("SELECT 42") == 42


def test_client_parameters_and_other_formats(client: Any) -> None:
    assert client.query("SELECT {s:String}", parameters={"s": "it's\n\t\\"}).result_rows == [("it's\n\t\\",)]
    assert client.raw_query("SELECT 1 AS x", fmt="JSONEachRow") == b'{"x":1}\n'
    assert client.query_arrow("SELECT number FROM numbers(3)").num_rows == 3
    with client.query_row_block_stream("SELECT number FROM numbers(300000)") as stream:
        assert sum(len(block) for block in stream) == 300_000


@pytest.mark.parametrize(
    ("kind", "value"),
    [(kind, f"CAST(NULL AS {kind})") for kind in ("Nullable(Decimal(38, 28))", "LowCardinality(Nullable(String))")]
    + [
        ("DateTime64(3, 'UTC')", "toDateTime64(1.5, 3, 'UTC')"),
        ("Decimal(38, 18)", "1.5::Decimal(38, 18)"),
        ("Decimal(76, 18)", "1.5::Decimal(76, 18)"),
        ("LowCardinality(String)", "toLowCardinality(toString(number))"),
        ("String", "repeat('x', number * 100)"),
        ("FixedString(5)", "toFixedString('abc', 5)"),
        ("Enum8('a,(' = 1, 'b' = 2)", "CAST('b' AS Enum8('a,(' = 1, 'b' = 2))"),
        ("Array(Decimal(38, 18))", "arrayMap(x -> x::Decimal(38, 18), range(number))"),
        ("Array(LowCardinality(String))", "[toLowCardinality('a'), toLowCardinality('b')]"),
        ("Array(LowCardinality(String))", "emptyArrayString()::Array(LowCardinality(String))"),
        ("Array(Tuple(p Decimal(9, 2), `q r` String))", "[(1, 'a')]::Array(Tuple(p Decimal(9, 2), `q r` String))"),
        ("Map(LowCardinality(String), UInt64)", "map('a', number)::Map(LowCardinality(String), UInt64)"),
    ],
)
def test_newer_native_clients_get_their_blocks(ask: Http, kind: str, value: str) -> None:
    """clickhouse-go, and so Grafana, sends client_protocol_version and reads blocks of that version, always."""
    sql = f"SELECT {value} AS a, 'end' AS z FROM numbers(3) FORMAT Native"
    old = ask.ok(sql).data
    assert kind.encode() in old
    expected = old.replace(kind.encode(), kind.encode() + b"\0", 1).replace(b"\x01z\x06String", b"\x01z\x06String\0")
    assert ask.ok(sql, client_protocol_version="54460").data == b"\x01\0\x02\xff\xff\xff\xff\0" + expected


def test_only_native_knows_protocol_versions(ask: Http) -> None:
    assert ask.ok("SELECT 1 AS x", client_protocol_version="54460").text == "1\n"
    assert ask("SELECT uniqState(1) AS x FORMAT Native", client_protocol_version="54460").code == 48


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed: NOT TESTED with it")
def test_curl(server: EmbeddedServer, tmp_path: Path) -> None:
    def curl(*arguments: str) -> str:
        done = subprocess.run(["curl", "-sS", "-m", "20", *arguments], check=True, capture_output=True, text=True)
        return done.stdout

    assert curl(f"{server.url}/?query=SELECT%201") == "1\n"
    curl(server.url, "-d", "CREATE OR REPLACE TABLE curled (a UInt64) ENGINE = MergeTree ORDER BY a")
    (tmp_path / "rows.csv").write_text("".join(f"{n}\n" for n in range(400_000)))  # > 1 MB: Expect: 100-continue
    curl(f"{server.url}/?query=INSERT%20INTO%20curled%20FORMAT%20CSV", "--data-binary", f"@{tmp_path / 'rows.csv'}")
    assert curl(server.url, "-d", "SELECT count(), sum(a) FROM curled") == f"400000\t{sum(range(400_000))}\n"
    assert "UNKNOWN_TABLE" in curl(server.url, "-d", "SELECT * FROM nothing")
    failing = "SELECT repeat('x', 99), throwIf(number = 500000) FROM numbers(600000)"
    assert subprocess.run(["curl", "-s", server.url, "-d", failing], capture_output=True, check=False).returncode != 0


def test_a_query_is_found_and_killed_by_its_id(server: EmbeddedServer, ask: Http) -> None:
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        sql = "SELECT sleepEachRow(0.01) FROM numbers(100000)"
        victim = pool.submit(Http(server.url), sql, query_id="victim", max_block_size="1")
        found = "SELECT count() FROM system.processes WHERE Settings['log_comment'] = 'victim'"
        wait_for(lambda: ask.value(found) == "1", "the query runs")
        ask.ok("KILL QUERY WHERE Settings['log_comment'] = 'victim' SYNC")
        assert victim.result(PATIENCE).code == 394


# --- the process ------------------------------------------------------------------------------------------------------


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "marketprism_embedded", "clickhouse", *arguments],
        check=False, capture_output=True, text=True, timeout=PATIENCE,
    )  # fmt: skip


def test_a_taken_port_is_refused_with_what_to_do(server: EmbeddedServer, tmp_path: Path) -> None:
    port = server.url.rpartition(":")[2]
    refused = command("--port", port, "--dir", str(tmp_path))
    assert refused.returncode == 2
    assert refused.stdout == ""
    assert f"port {port} on 127.0.0.1 is already in use" in refused.stderr
    assert "--port" in refused.stderr


def test_a_taken_directory_is_refused(tmp_path: Path) -> None:
    with start("clickhouse", tmp_path / "data") as server:
        refused = command("--port", "0", "--dir", str(tmp_path / "data"))
        assert refused.returncode == 2
        assert f"in use by another embedded server (pid {server.pid})" in refused.stderr
        with pytest.raises(EmbeddedError, match="did not come up"):
            start("clickhouse", tmp_path / "data", stderr=subprocess.DEVNULL)


def test_a_directory_that_would_lose_inserts_is_refused(tmp_path: Path) -> None:
    refused = command("--port", "0", "--dir", str(tmp_path / "a{b,c}"))
    assert refused.returncode == 2
    assert "--dir" in refused.stderr


def test_every_acknowledged_row_survives_kill_9(tmp_path: Path) -> None:
    server = start("clickhouse", tmp_path)
    ask = Http(server.url)
    ask.ok("CREATE TABLE k (batch UInt64, a UInt64) ENGINE = MergeTree ORDER BY a PARTITION BY a % 3")
    acknowledged: list[int] = []

    def insert() -> None:
        for batch in range(100_000):
            body = b"".join(b"%d\t%d\n" % (batch, row) for row in range(300))
            try:
                reply = ask("INSERT INTO k FORMAT TSV", body)
            except (OSError, http.client.HTTPException):
                return
            if reply.status == 200:
                acknowledged.append(batch)

    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        inserting = pool.submit(insert)
        wait_for(lambda: len(acknowledged) >= 30, "30 inserts are acknowledged")
        assert server.kill() == -signal.SIGKILL
        inserting.result(PATIENCE)
    with start("clickhouse", tmp_path) as server:
        ask = Http(server.url)
        stored = ask.value("SELECT groupArray(batch) FROM (SELECT batch FROM k GROUP BY batch HAVING count() = 300)")
        assert set(acknowledged) <= set(json.loads(stored))
        assert list((tmp_path / "uploads").iterdir()) == []


@pytest.mark.skipif(sys.platform != "linux", reason="NOT TESTED: another process's limits are set by Linux only")
@pytest.mark.parametrize("statement", ["INSERT INTO w SELECT number FROM numbers(1000)", "OPTIMIZE TABLE w FINAL"])
def test_what_could_not_be_written_is_never_acknowledged_and_takes_nothing_with_it(
    statement: str, tmp_path: Path
) -> None:
    server = start("clickhouse", tmp_path)
    ask = Http(server.url)
    ask.ok("CREATE TABLE w (a UInt64) ENGINE = MergeTree ORDER BY a")
    for _ in range(3):
        ask.ok("INSERT INTO w SELECT number FROM numbers(100)")
    resource.prlimit(server.pid, resource.RLIMIT_FSIZE, (0, 0))  # each write to a file fails, as on a full disk
    assert ask(statement).code == 243
    assert server.process.wait(PATIENCE) == 1
    server.kill()
    with start("clickhouse", tmp_path) as server:
        ask = Http(server.url)
        assert ask.value("SELECT count(), sum(a) FROM w") == f"300\t{3 * sum(range(100))}"
        ask.ok("INSERT INTO w SELECT number FROM numbers(100)")


def test_some_of_the_disk_is_kept_free(ask: Http) -> None:
    assert int(ask.value("SELECT keep_free_space FROM system.disks")) >= 1 << 20


def test_sigterm_lets_a_running_request_finish(tmp_path: Path) -> None:
    with start("clickhouse", tmp_path) as server, concurrent.futures.ThreadPoolExecutor(1) as pool:
        ask = Http(server.url)
        running = pool.submit(Http(server.url), "SELECT sleep(3), 'done'", query_id="last")
        runs = "SELECT count() FROM system.processes WHERE Settings['log_comment'] = 'last'"
        wait_for(lambda: ask.value(runs) == "1", "the statement runs")
        os.kill(server.pid, signal.SIGTERM)
        assert running.result(PATIENCE).text == "0\tdone\n"
        assert server.process.wait(PATIENCE) == 0


@pytest.mark.skipif(sys.platform != "linux", reason="NOT TESTED: a signal to a thread of another process is Linux's")
def test_a_sigterm_that_a_thread_of_the_engine_gets_ends_it_too(tmp_path: Path) -> None:
    """The kernel gives one to any thread, where the first one has another signal to handle just then."""
    with start("clickhouse", tmp_path) as server:
        thread = max(int(task.name) for task in Path(f"/proc/{server.pid}/task").iterdir())
        assert thread != server.pid
        assert ctypes.CDLL(None).tgkill(server.pid, thread, signal.SIGTERM) == 0
        assert server.process.wait(PATIENCE) == 0


def test_it_dies_with_its_parent(tmp_path: Path) -> None:
    program = (
        "import pathlib, sys, time\nfrom marketprism_embedded.process import start\n"
        "print(start('clickhouse', pathlib.Path(sys.argv[1])).pid, flush=True)\ntime.sleep(60)"
    )
    parent = subprocess.Popen([sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    parent.kill()
    parent.wait()
    parent.stdout.close()
    gone = lambda: not Path(f"/proc/{pid}").exists() or "\nState:\tZ" in Path(f"/proc/{pid}/status").read_text()  # noqa: E731
    wait_for(gone, "the process is gone")


def test_memory_limit(tmp_path: Path) -> None:
    with start("clickhouse", tmp_path, options=("--memory-limit", "512")) as server:
        sql = "SELECT value FROM system.server_settings WHERE name = 'max_server_memory_usage'"
        assert Http(server.url).value(sql) == str(512 << 20)


# --- the pure part ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "target", "settings", "format_", "data"),
    [
        (b"INSERT INTO t FORMAT Native\n\n\n", b"INSERT INTO t ", b"", b"Native", b"\n\n"),
        (b"INSERT INTO t FORMAT Native \r\nX", b"INSERT INTO t ", b"", b"Native", b"X"),
        (b"insert into `values` (a) values (1)", b"insert into `values` (a) ", b"", b"Values", b" (1)"),
        (b"INSERT INTO values.format VALUES(1)", b"INSERT INTO values.format ", b"", b"Values", b"(1)"),
        (b"INSERT INTO t (`FORMAT`) SETTINGS x='FORMAT' FORMAT CSV\n1", b"INSERT INTO t (`FORMAT`) ", b"SETTINGS x='FORMAT' ", b"CSV", b"1"),  # noqa: E501
    ],
)  # fmt: skip
def test_where_the_data_of_an_insert_begins(
    text: bytes, target: bytes, settings: bytes, format_: bytes, data: bytes
) -> None:
    insert = protocol.split_insert(text)
    assert insert is not None
    assert (insert.target, insert.settings, insert.format) == (target, settings, format_)
    assert text[insert.offset :] == data


@pytest.mark.parametrize(
    "text",
    [
        b"SELECT 1",
        b"INSERT INTO t SELECT 'FORMAT x'",
        b"INSERT INTO t (a) WITH 1 AS x SELECT x",
        b"INSERT INTO t (SELECT 1)",
    ],
)
def test_statements_without_data(text: bytes) -> None:
    assert protocol.split_insert(text) is None


@pytest.mark.parametrize(
    ("text", "name"),
    [
        (b"SELECT 1 FORMAT JSON", "JSON"),
        (b"SELECT 1 format CSV settings a=1;", "CSV"),
        (b"SELECT 1 FORMAT CSV -- FORMAT TSV", "CSV"),
        (b"SELECT 'FORMAT x'", None),
        (b"SELECT format('{}', 1)", None),
        (b"SELECT format FROM t", None),
        (b"SELECT (SELECT 1 FORMAT x)", None),
    ],
)
def test_the_format_clause(text: bytes, name: str | None) -> None:
    assert protocol.format_clause(text) == name


@pytest.mark.parametrize(
    ("text", "code", "name", "message"),
    [
        ("Code: 60. DB::Exception: No t. (UNKNOWN_TABLE)", 60, "UNKNOWN_TABLE", "No t."),
        ("Code: 33. DB::Exception: Code: 33. DB::Exception: x. (A_B) (version 26.9). (A_B)", 33, "A_B", "x."),
        ("something else", 1002, "UNKNOWN_EXCEPTION", "something else"),
    ],
)  # fmt: skip
def test_engine_errors_are_taken_apart(text: str, code: int, name: str, message: str) -> None:
    error = protocol.parse_engine_error(text)
    assert (error.code, error.name, error.message) == (code, name, message)
