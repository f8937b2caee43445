"""The ClickHouse engine in this process (chDB). The one module that knows it; it has no types, so `Any` ends here.

Four things about chDB 4.4 decide how it is used:
- After a failed statement, a connection may put that statement's rows in front of the next one's: one connection per
  request, never reused.
- Data inside the statement breaks on blank lines, and its streaming insert reports success when a constraint, a default
  or the partition limit stopped the insert: data goes through a file and `FROM INFILE`, which reports everything.
- A file's name with glob characters makes `FROM INFILE` insert nothing, silently: such a directory is refused.
- A write to disk that fails is ignored: an INSERT on a full disk succeeds and leaves a part of empty files, and a merge puts one
  in the place of good parts. So some space is kept free, below which it refuses by itself; and failed writes are counted: after one
  nothing is acknowledged any more, and the process has to end. A start sets the broken parts aside and takes the merged ones back.
"""

from __future__ import annotations

import contextlib
import errno
import importlib
import itertools
import os
import re
import shutil
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from marketprism_embedded.clickhouse_http import ClickHouseError, Stats, parse_engine_error
from marketprism_embedded.place import EmbeddedError

KEEP_FREE = 256 << 20  # bytes of the disk, or an eighth of a small one
REMEMBERED, REMEMBERED_SIZE = 256, 16 << 10  # statements that only read, and how long one may be
LOOK_EVERY = 1.0  # at failed writes after a statement that only reads: a look costs as much as a small SELECT [s]
_FAILED_WRITES = "SELECT value FROM system.events WHERE event = 'WriteBufferFromFileDescriptorWriteFailed'"
_UNSAFE_IN_PATH = re.compile(r"""[*?{}'"\\&<>\n]""")


@dataclass(frozen=True, slots=True)
class Statement:
    """A statement with everything that it runs under. `stream`: give blocks as they come, in bounded memory."""

    sql: bytes
    format: str
    database: str
    settings: dict[str, str]
    parameters: dict[str, str]
    stream: bool


class Engine:
    """One per process and directory. Its methods may be called from any thread, and run concurrently."""

    def __init__(self, directory: Path, memory_limit: int | None, on_lost_write: Callable[[], None]) -> None:
        """Open or create the data in `directory`. `memory_limit`: bytes for the whole engine, None for its default.
        `on_lost_write` is called, once or more, when a write to disk has failed. Raises EmbeddedError."""
        directory = directory.resolve()
        if _UNSAFE_IN_PATH.search(str(directory)):
            raise EmbeddedError(f"{directory} has a character that the engine can't have in a path: give another --dir")
        # Every time is UTC, wherever the laptop is. Read once by the engine, when it is loaded.
        os.environ["TZ"] = "UTC"
        time.tzset()
        try:
            chdb: Any = importlib.import_module("chdb._chdb")
        except ImportError as error:
            raise EmbeddedError(
                f"the ClickHouse engine is not installed ({error}): pip install 'marketprism-consumer[embedded]'"
            ) from None
        self.lost_writes = False
        self._looked = 0.0
        self._only_read: set[bytes] = set()
        self._on_lost_write = on_lost_write
        self._uploads = directory / "uploads"
        shutil.rmtree(self._uploads, ignore_errors=True)  # what a killed process left
        self._uploads.mkdir()
        self._numbers = itertools.count()
        self._path = str(directory / "data")
        self._connect: Any = chdb.connect
        config = directory / "config.xml"
        config.write_text(_config(shutil.disk_usage(directory).total, memory_limit))
        try:
            # The engine lives as long as one connection does.
            self._keep: Any = self._connect(f"{self._path}?config-file={config}")
            self.version = str(self._keep.query("SELECT version()", "TSV").bytes().decode().strip())
        except RuntimeError as error:
            raise EmbeddedError(f"the ClickHouse engine can't open {directory}: {error}") from None

    def close(self) -> None:
        self._keep.close()

    def run(self, statement: Statement, stats: Stats) -> Generator[bytes, None, None]:
        """Run it and give its result in pieces; `stats` is complete when they have all been taken. Closing the iterator
        cancels. Raises ClickHouseError, also between two pieces."""
        connection = self._connect(self._path)
        try:
            if statement.database:
                connection.query(f"USE {_quoted(statement.database, '`')}", "Null")
            connection.query("SET " + ", ".join(f"{k} = {_quoted(v)}" for k, v in statement.settings.items()), "Null")
            only_reads = self._check(connection, statement.sql)
            if statement.stream:
                yield from _stream(connection, statement, stats)
                self._see_writes(connection, only_reads)
            else:
                result = connection.query(statement.sql, statement.format, params=statement.parameters)
                self._see_writes(connection, only_reads)
                _count(stats, result)
                stats.written_rows = result.rows_written()
                stats.written_bytes = result.bytes_written()
                yield result.bytes()
        except RuntimeError as error:
            raise parse_engine_error(str(error)) from None
        finally:
            connection.close()

    def _check(self, connection: Any, sql: bytes) -> bool:
        """A server runs one statement per request, and doesn't write files for its clients. True where it only reads.

        What only reads comes again and again, with other parameters, and to look through it takes as long as to parse it."""
        if sql in self._only_read:
            return True
        kind = connection.classify_query(sql)
        if kind["statement_count"] > 1:
            raise ClickHouseError(62, "SYNTAX_ERROR", "Syntax error (Multi-statements are not allowed).")
        if kind["query_class"].name == "CONTROL" and re.search(rb"\boutfile\b", sql, re.IGNORECASE):
            raise ClickHouseError(358, "INTO_OUTFILE_NOT_ALLOWED", "INTO OUTFILE is not allowed.")
        only_reads = bool(kind["query_class"].name == "READ_ONLY")
        if only_reads and len(sql) <= REMEMBERED_SIZE:
            if len(self._only_read) >= REMEMBERED:
                self._only_read.clear()
            self._only_read.add(sql)
        return only_reads

    def _see_writes(self, connection: Any, only_reads: bool) -> None:
        """Raises NOT_ENOUGH_SPACE once a write to disk has failed, whoever's it was: a merge's, too."""
        if only_reads and time.monotonic() - self._looked < LOOK_EVERY:
            return
        self._looked = time.monotonic()
        if connection.query(_FAILED_WRITES, "TSV").bytes():
            self.lost_writes = True
            self._on_lost_write()
            raise ClickHouseError(243, "NOT_ENOUGH_SPACE", "A write to disk has failed: this server ends.")

    @contextlib.contextmanager
    def upload(self, chunks: Iterable[bytes]) -> Iterator[str]:
        """A file with these bytes, for `FROM INFILE`; gone when the context ends."""
        path = self._uploads / str(next(self._numbers))
        try:
            with path.open("wb", buffering=0) as file:
                for chunk in chunks:
                    _write(file, chunk)
            yield str(path)
        finally:
            path.unlink(missing_ok=True)


def _config(disk: int, memory_limit: int | None) -> str:
    keep = min(KEEP_FREE, disk // 8)
    disks = f"<disks><default><keep_free_space_bytes>{keep}</keep_free_space_bytes></default></disks>"
    memory = f"<max_server_memory_usage>{memory_limit}</max_server_memory_usage>" if memory_limit is not None else ""
    return f"<clickhouse><storage_configuration>{disks}</storage_configuration>{memory}</clickhouse>\n"


def _write(file: BinaryIO, data: bytes) -> None:
    """All of it: an unbuffered file takes what fits and says nothing of the rest."""
    view = memoryview(data)
    try:
        while view:
            view = view[file.write(view) :]
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise ClickHouseError(
                243, "NOT_ENOUGH_SPACE", f"Can't keep the data of an INSERT: {error.strerror}."
            ) from None
        raise


def _stream(connection: Any, statement: Statement, stats: Stats) -> Iterator[bytes]:
    stream = connection.send_query(statement.sql, statement.format, params=statement.parameters)
    while True:
        block = connection.streaming_fetch_result(stream)
        if block is None:
            return
        if data := block.bytes():
            yield data
        if block.rows_read() == 0:  # the end; it may still have carried the totals
            return
        _count(stats, block)


def _count(stats: Stats, result: Any) -> None:
    stats.read_rows += result.storage_rows_read()
    stats.read_bytes += result.storage_bytes_read()
    stats.result_rows += result.rows_read()
    stats.result_bytes += result.size()
    stats.elapsed_ns += int(result.elapsed() * 1e9)


def _quoted(text: str, quote: str = "'") -> str:
    return quote + text.replace("\\", "\\\\").replace(quote, "\\" + quote) + quote
