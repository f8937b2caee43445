"""User, password, token, keys: from the environment, or from a mounted Secret. Read again to see a rotated Secret.

For each part the variable goes before the URL in the environment, and the URL before the directory.
Printing never shows a secret.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from .problems import Problem, ResourceError, ValueRefusedError
from .settings import CLICKHOUSE_URL, NATS_URL, clickhouse_endpoints, nats_endpoints, variable
from .types import EndpointUrl

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

KEYS = ("username", "password", "token", "nkey.seed", "user.creds", "tls.crt", "tls.key", "ca.crt")
"""What a Secret may hold."""


@dataclass(frozen=True, slots=True)
class Tls:
    """Files in PEM. A certificate of our own is optional, and needs its key."""

    ca: Path | None = None
    cert: Path | None = None
    key: Path | None = None


@dataclass(frozen=True, slots=True)
class NatsAuth:
    """How to log in at NATS; nothing set: without."""

    user: str = ""
    password: str = field(default="", repr=False)
    token: str = field(default="", repr=False)
    creds: Path | None = None
    """A .creds file: JWT and seed."""
    nkey_seed: Path | None = None
    """A file with an nkey's seed."""
    tls: Tls = Tls()


@dataclass(frozen=True, slots=True)
class ClickHouseAuth:
    """How to log in at ClickHouse; nothing set: as `default` without a password."""

    user: str = ""
    password: str = field(default="", repr=False)
    tls: Tls = Tls()


def nats_auth(environ: Mapping[str, str]) -> NatsAuth:
    """How to log in at NATS. Raises ResourceError.

    NATS_USER, NATS_PASSWORD, NATS_TOKEN; files NATS_CREDS, NATS_NKEY_SEED, NATS_TLS_CA, NATS_TLS_CERT, NATS_TLS_KEY;
    a URL's user information (one name alone is a token); the directory MARKETPRISM_NATS_AUTH_DIR.
    """
    source = _Source(environ, "MARKETPRISM_NATS_AUTH_DIR")
    url = source.from_url(NATS_URL, nats_endpoints)
    url_token = url.user if url.user and not url.password else ""
    auth = NatsAuth(
        user=source.text("NATS_USER", "username", "" if url_token else url.user),
        password=source.text("NATS_PASSWORD", "password", url.password),
        token=source.text("NATS_TOKEN", "token", url_token),
        creds=source.file("NATS_CREDS", "user.creds"),
        nkey_seed=source.file("NATS_NKEY_SEED", "nkey.seed"),
        tls=source.tls("NATS"),
    )
    if bool(auth.user) != bool(auth.password):
        source.refuse("NATS_USER and NATS_PASSWORD", "only one of them is given", "both")
    source.finish()
    return auth


def clickhouse_auth(environ: Mapping[str, str]) -> ClickHouseAuth:
    """How to log in at ClickHouse. Raises ResourceError.

    CLICKHOUSE_USER, CLICKHOUSE_PASSWORD; files CLICKHOUSE_TLS_CA, CLICKHOUSE_TLS_CERT, CLICKHOUSE_TLS_KEY;
    a URL's user information; the directory MARKETPRISM_CLICKHOUSE_AUTH_DIR.
    """
    source = _Source(environ, "MARKETPRISM_CLICKHOUSE_AUTH_DIR")
    url = source.from_url(CLICKHOUSE_URL, clickhouse_endpoints)
    auth = ClickHouseAuth(
        user=source.text("CLICKHOUSE_USER", "username", url.user),
        password=source.text("CLICKHOUSE_PASSWORD", "password", url.password),
        tls=source.tls("CLICKHOUSE"),
    )
    source.finish()
    return auth


class _Source:
    """Environment and directory together; collects what is wrong with them, never what is in them."""

    def __init__(self, environ: Mapping[str, str], directory: str) -> None:
        self.environ = environ
        self.problems: list[Problem] = []
        self.variable, path = variable(environ, directory)
        self.directory = Path(path) if path else None
        try:
            found = {entry.name for entry in self.directory.iterdir()} if self.directory else set()
        except OSError as error:
            found = set()
            self.refuse(
                self.variable, f"{path} can't be read: {error.strerror}", "a directory, such as a mounted Secret"
            )
        else:
            if self.directory and not found.intersection(KEYS):
                self.refuse(self.variable, f"{path} has none of the keys that a Secret may hold", ", ".join(KEYS))
        self.keys = found.intersection(KEYS)

    def from_url(self, names: tuple[str, ...], parse: Callable[[str], tuple[EndpointUrl, ...]]) -> EndpointUrl:
        """The credentials in the URL that the environment gives. A bad URL is refused elsewhere."""
        name, text = variable(self.environ, *names)
        try:
            servers = parse(text) if name else ()
        except ValueRefusedError:
            servers = ()
        given = {(server.user, server.password): server for server in servers if server.user or server.password}
        if len(given) > 1:
            self.refuse(name, "its servers have different credentials", "the same user and password for every server")
        return next(iter(given.values()), EndpointUrl(""))

    def text(self, name: str, key: str, otherwise: str) -> str:
        """A value, without the line end that editors and `echo` leave."""
        _, value = variable(self.environ, name)
        if value:
            return self.environ[name].rstrip("\r\n")
        if otherwise or key not in self.keys or not self.directory:
            return otherwise
        path = self.directory / key
        try:
            value = path.read_bytes().decode().rstrip("\r\n")
        except OSError as error:
            self.refuse(str(path), f"can't be read: {error.strerror}", "", kind="file")
        except UnicodeDecodeError:
            self.refuse(str(path), "is not text", "UTF-8", kind="file")
        else:
            if not value:
                self.refuse(str(path), "is empty", "a value, or no such key", kind="file")
        return value

    def file(self, name: str, key: str) -> Path | None:
        """A file's path."""
        _, value = variable(self.environ, name)
        if value:
            path = Path(value)
            if not path.is_file():
                self.refuse(name, f"there is no file {value}", "the path of a file")
            return path
        return self.directory / key if self.directory and key in self.keys else None

    def tls(self, prefix: str) -> Tls:
        """The three files of TLS."""
        tls = Tls(
            self.file(f"{prefix}_TLS_CA", "ca.crt"),
            self.file(f"{prefix}_TLS_CERT", "tls.crt"),
            self.file(f"{prefix}_TLS_KEY", "tls.key"),
        )
        if bool(tls.cert) != bool(tls.key):
            self.refuse(f"{prefix}_TLS_CERT and {prefix}_TLS_KEY", "only one of them is given", "both")
        return tls

    def refuse(self, what: str, message: str, allowed: str, kind: str = "environment") -> None:
        """Notes a problem."""
        self.problems.append(Problem(message, path=f"{kind} {what}", allowed=allowed))

    def finish(self) -> None:
        """Raises ResourceError if anything was wrong."""
        if self.problems:
            raise ResourceError(self.problems)
