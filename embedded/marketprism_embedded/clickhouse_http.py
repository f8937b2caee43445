"""ClickHouse's HTTP interface as pure functions: request in, statement and settings out; error in, reply out.

What it means to be ClickHouse for a client: which URL parameters are settings, where an INSERT ends and its data
begins, which format the answer has, how an error looks.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import json
import re
import urllib.parse
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from marketprism_embedded.place import is_loopback

# URL parameters that ClickHouse's HTTP handler keeps for itself, and settings that only a real one acts on.
_NOT_SETTINGS = frozenset(
    {"query", "query_id", "database", "default_format", "user", "password", "quota_key", "role", "stacktrace"}
    | {"compress", "decompress", "buffer_size", "wait_end_of_query", "client_protocol_version"}
    | {"session_id", "session_check", "session_timeout", "close_session", "enable_http_compression"}
    | {"send_progress_in_http_headers", "http_headers_progress_interval_ms"}
    | {"cancel_http_readonly_queries_on_client_close"}
)
_SETTING_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.]*")


class ClickHouseError(Exception):
    """An error as ClickHouse reports it: a numeric code, its name, and a text without either."""

    def __init__(self, code: int, name: str, message: str) -> None:
        super().__init__(f"Code: {code}. {message} ({name})")
        self.code = code
        self.name = name
        self.message = message

    def body(self, version: str) -> str:
        return f"Code: {self.code}. DB::Exception: {self.message} ({self.name}) (version {version})\n"


_ENGINE_ERROR = re.compile(r"Code: (\d+)\. DB::Exception: (.*?)(?: \(([A-Z][A-Z0-9_]*)\))?\s*", re.DOTALL)
_NESTED_ERROR = re.compile(r"Code: \d+\. DB::Exception: (.*?)(?: \([A-Z0-9_]+\))?(?: \(version [^)]*\)\.?)?", re.DOTALL)


def parse_engine_error(text: str) -> ClickHouseError:
    """The engine's exception text taken apart. Errors while reading input come with a second head and tail inside."""
    if not (match := _ENGINE_ERROR.fullmatch(text.strip())):
        return ClickHouseError(1002, "UNKNOWN_EXCEPTION", text.strip())
    code, message, name = match.groups()
    if nested := _NESTED_ERROR.fullmatch(message):
        message = nested[1]
    return ClickHouseError(int(code), name or "UNKNOWN_EXCEPTION", message)


def http_status(code: int) -> int:
    """HTTP status for an exception code (ClickHouse: exceptionCodeToHTTPStatus)."""
    for status, codes in _STATUS_OF_CODES.items():
        if code in codes:
            return status
    return 500


_STATUS_OF_CODES: dict[int, frozenset[int]] = {
    400: frozenset({6, 15, 25, 26, 27, 36, 37, 38, 41, 42, 43, 44, 53, 62, 69, 70, 72, 117, 123, 167, 168, 223, 321})
    | {376, 457, 467},
    401: frozenset({194}),
    403: frozenset({192, 193, 497, 516}),
    404: frozenset({46, 47, 50, 56, 60, 63, 73, 78, 81, 115, 152, 336}),
    408: frozenset({159}),
    411: frozenset({381}),
    413: frozenset({229}),
    501: frozenset({48}),
    503: frozenset({202, 439}),
}


def tagged_exception(tag: str, text: str) -> bytes:
    """What ends a reply that failed after its first bytes were sent. The tag is random and announced in the reply's
    head, so that no data can be taken for an error."""
    message = text.encode()
    return b"\r\n__exception__\r\n%b\r\n%b%d %b\r\n__exception__\r\n" % (
        tag.encode(),
        message,
        len(message),
        tag.encode(),
    )


# --- the request ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """A request's head. Header names are in lower case."""

    method: str
    path: str
    params: Mapping[str, str]
    headers: Mapping[str, str]

    @classmethod
    def parse(cls, method: str, target: str, headers: Mapping[str, str]) -> HttpRequest:
        path, _, query = target.partition("?")
        params = dict(urllib.parse.parse_qsl(query, keep_blank_values=True, errors="surrogateescape"))
        return cls(method, path, params, headers)

    @property
    def changes_nothing(self) -> bool:
        return self.method in ("GET", "HEAD")

    @property
    def default_format(self) -> str:
        return self.headers.get("x-clickhouse-format") or self.params.get("default_format") or "TabSeparated"

    def flag(self, name: str) -> bool:
        return self.params.get(name, "0") not in ("0", "", "false")


@dataclass(frozen=True, slots=True)
class Guard:
    """Who may talk to us. Any web page that the user opens can send requests to a port of this machine, directly or
    after pointing its own name at 127.0.0.1; such requests carry a foreign Origin, Host or Sec-Fetch-Site."""

    bound_host: str
    extra_hosts: frozenset[str] = frozenset()
    password: str | None = None

    def refusal(self, headers: Mapping[str, str]) -> str | None:
        """Why these headers are refused (403), or None."""
        host = headers.get("host", "")
        if not self._own(_host_name(host)):
            return f"Host '{host}' is not this server. Use 127.0.0.1 or localhost, or start with --allow-host.\n"
        origin = headers.get("origin")
        if origin is not None and origin.partition("://")[2] != host:
            return f"requests from web pages of other origins ('{origin}') are refused.\n"
        if headers.get("sec-fetch-site", "none") not in ("none", "same-origin"):
            return "requests from web pages of other sites are refused.\n"
        return None

    def _own(self, name: str) -> bool:
        return is_loopback(name) or name == self.bound_host or name in self.extra_hosts

    def authenticate(self, request: HttpRequest) -> None:
        """Raises AUTHENTICATION_FAILED. Any user name will do: the engine has no users."""
        if self.password is None:
            return
        given = _password(request)
        if given is None or not hmac.compare_digest(given.encode(), self.password.encode()):
            raise ClickHouseError(
                516, "AUTHENTICATION_FAILED", "Authentication failed: password is incorrect, or there is no such user."
            )


def _host_name(host: str) -> str:
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.rpartition(":")[0] if ":" in host else host


def _password(request: HttpRequest) -> str | None:
    if "x-clickhouse-key" in request.headers:
        return request.headers["x-clickhouse-key"]
    kind, _, credentials = request.headers.get("authorization", "").partition(" ")
    if kind.lower() == "basic":
        try:
            return base64.b64decode(credentials).decode().partition(":")[2]
        except (binascii.Error, UnicodeDecodeError):
            return None
    return request.params.get("password")


def settings_of(request: HttpRequest, query_id: str) -> dict[str, str]:
    """The settings to run a request with. Raises UNKNOWN_SETTING for what can't be the name of one."""
    settings = {"implicit_select": "0", "log_comment": query_id}  # the engine makes query ids of its own
    for name, value in request.params.items():
        if name in _NOT_SETTINGS or name.startswith("param_"):
            continue
        if not _SETTING_NAME.fullmatch(name):
            raise ClickHouseError(115, "UNKNOWN_SETTING", f"Unknown setting '{name}'.")
        settings[name] = value
    if request.changes_nothing and settings.get("readonly") != "1":
        settings["readonly"] = "2"  # no writes, but settings may be given: as ClickHouse treats GET
    return settings


def parameters_of(request: HttpRequest) -> dict[str, str]:
    """Values of `{name:Type}` in the statement."""
    return {name[6:]: value for name, value in request.params.items() if name.startswith("param_")}


def refuse_unsupported(request: HttpRequest) -> None:
    """Raises NOT_IMPLEMENTED for what would otherwise be answered wrongly."""
    if request.flag("compress") or request.flag("decompress"):
        raise _not_implemented(
            "ClickHouse's block compression (compress=1, decompress=1) is not served by the embedded server; use HTTP "
            "compression: Content-Encoding, and enable_http_compression=1 with Accept-Encoding."
        )
    if request.headers.get("content-type", "").startswith("multipart/"):
        raise _not_implemented("External data and form fields (multipart) are not served by the embedded server.")


def _not_implemented(message: str) -> ClickHouseError:
    return ClickHouseError(48, "NOT_IMPLEMENTED", message)


# --- the statement ----------------------------------------------------------------------------------------------------

_TOKEN = re.compile(
    rb"""(?xs)
    (?P<skip> \s+ | --[^\n]* | \#[\ !][^\n]* | /\*.*?\*/ )
  | (?P<quoted> '(?:[^'\\]|\\.|'')*' | "(?:[^"\\]|\\.)*" | `(?:[^`\\]|\\.)*` )
  | (?P<word> [A-Za-z_][A-Za-z0-9_]* )
  | (?P<other> . )
    """
)
_INSERT = re.compile(rb"(?:\s+|--[^\n]*\n|/\*.*?\*/)*insert\b", re.IGNORECASE | re.DOTALL)
_INPUT_FUNCTION = re.compile(rb"\binput\s*\(", re.IGNORECASE)
_DATA_START = re.compile(rb"[ \t\f]*(?:\r?\n)?")


@dataclass(frozen=True, slots=True)
class InsertWithData:
    """`INSERT INTO t (cols) [SETTINGS ...] FORMAT f <data>`, taken apart; `offset` is where the data begins."""

    target: bytes
    settings: bytes
    format: bytes
    offset: int

    def from_file(self, path: str) -> bytes:
        """The statement that reads the same data from a file. `path` has no character that needs care."""
        return b"%b FROM INFILE '%b' %b FORMAT %b" % (self.target, path.encode(), self.settings, self.format)


def split_insert(text: bytes) -> InsertWithData | None:
    """Find the end of an INSERT statement that carries its data, None for any other statement. Looks at no byte of the
    data. Raises for what the engine would get wrong in silence or must not do: reading files, `input()`."""
    start = _INSERT.match(text)
    if start is None:
        return None
    settings_at: int | None = None
    previous = b"INSERT"
    for word, token in _outer_words(text, start.end()):
        after, previous = previous, word
        if after in (b"INTO", b"TABLE", b"."):  # a table may be called `values`
            continue
        if word == b"SETTINGS":
            settings_at = token.start()
        elif word in (b"FORMAT", b"VALUES"):
            if word == b"VALUES":
                name, end = b"Values", token.end()
            else:
                named = re.compile(rb"\s*(\w+)").match(text, token.end())
                if named is None:
                    return None
                name, end = named[1], named.end()
            head_end = settings_at if settings_at is not None else token.start()
            return InsertWithData(
                target=text[:head_end],
                settings=text[head_end : token.start()],
                format=name,
                offset=end if word == b"VALUES" else _skip_blank(text, end),
            )
        elif word == b"FROM":
            raise ClickHouseError(78, "UNKNOWN_TYPE_OF_QUERY", "INSERT ... FROM INFILE is for clients, not servers.")
        elif word in (b"SELECT", b"WITH", b"WATCH"):
            break
    if _INPUT_FUNCTION.search(text, start.end()):
        raise _not_implemented("INSERT ... SELECT FROM input() is not served by the embedded server.")
    return None


def _outer_words(text: bytes, position: int) -> Iterator[tuple[bytes, re.Match[bytes]]]:
    """Words, and dots, outside of brackets, in upper case, from `position` on. Lazy."""
    depth = 0
    for token in _TOKEN.finditer(text, position):
        kind = token.lastgroup
        if kind == "other":
            character = token[0]
            depth += (character == b"(") - (character == b")")
            if character == b"." and depth == 0:
                yield character, token
        elif kind == "quoted" and depth == 0:
            yield b"'", token
        elif kind == "word" and depth == 0:
            yield token[0].upper(), token


def _skip_blank(text: bytes, position: int) -> int:
    """ClickHouse's rule: blanks and one line end after the format's name are not data."""
    match = _DATA_START.match(text, position)
    return match.end() if match else position


_FORMAT_CLAUSE = re.compile(rb"format\s+([A-Za-z]\w*)\s*(?=;|$|settings\b|into\b|--|/\*)", re.IGNORECASE)


def format_clause(text: bytes) -> str | None:
    """The name in the statement's own FORMAT clause, which wins over every default."""
    found = None
    if re.search(rb"\bformat\b", text, re.IGNORECASE):
        for word, token in _outer_words(text, 0):
            if word == b"FORMAT" and (clause := _FORMAT_CLAUSE.match(text, token.start())):
                found = clause[1].decode()
    return found


_SELECT = re.compile(rb"(?:\s+|\(|--[^\n]*\n|/\*.*?\*/)*(?:select|with)\b", re.IGNORECASE | re.DOTALL)

# Formats of which one block after the other makes the whole: no head, no tail, no counters.
_CONCATENABLE = frozenset(
    {"Native", "RowBinary", "TabSeparated", "TSV", "TabSeparatedRaw", "TSVRaw", "CSV", "LineAsString", "RawBLOB"}
    | {"JSONEachRow", "JSONLines", "NDJSON", "JSONCompactEachRow", "JSONStringsEachRow"}
)


def can_stream(text: bytes, format_name: str) -> bool:
    return format_name in _CONCATENABLE and _SELECT.match(text) is not None


def content_type(format_name: str) -> str:
    if format_name.startswith(("TabSeparated", "TSV")):
        return "text/tab-separated-values; charset=UTF-8"
    if format_name.startswith("CSV"):
        return f"text/csv; charset=UTF-8; header={'present' if 'WithNames' in format_name else 'absent'}"
    if format_name.startswith("JSON"):
        return "application/x-ndjson; charset=UTF-8" if "EachRow" in format_name else "application/json; charset=UTF-8"
    if format_name == "XML":
        return "application/xml; charset=UTF-8"
    if format_name.startswith(("Pretty", "Vertical", "Values", "Markdown")):
        return "text/plain; charset=UTF-8"
    return "application/octet-stream"


# --- the answer -------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Stats:
    """What a statement did: counts of rows and bytes; elapsed in nanoseconds."""

    read_rows: int = 0
    read_bytes: int = 0
    written_rows: int = 0
    written_bytes: int = 0
    result_rows: int = 0
    result_bytes: int = 0
    elapsed_ns: int = field(default=0)

    def summary(self) -> str:
        """The value of X-ClickHouse-Summary: numbers as strings."""
        return json.dumps(
            {
                "read_rows": str(self.read_rows),
                "read_bytes": str(self.read_bytes),
                "written_rows": str(self.written_rows),
                "written_bytes": str(self.written_bytes),
                "total_rows_to_read": "0",
                "result_rows": str(self.result_rows),
                "result_bytes": str(self.result_bytes),
                "elapsed_ns": str(self.elapsed_ns),
            },
            separators=(",", ":"),
        )
