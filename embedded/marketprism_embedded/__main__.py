"""`marketprism embedded`: NATS and ClickHouse for this machine."""

from __future__ import annotations

import json
import logging
import os
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from marketprism_embedded.place import EmbeddedError

app = typer.Typer(
    name="embedded",
    help="NATS and ClickHouse on this machine, for laptops, demos and tests. Not for production.",
    no_args_is_help=True,
    add_completion=False,
)


class ReadyFormat(StrEnum):
    text = "text"
    json = "json"


Host = Annotated[str, typer.Option(help="Address to listen on. Anything but loopback opens it to the network.")]
Ready = Annotated[ReadyFormat, typer.Option("--output", help="How the ready line is written.")]


@app.command()
def nats(
    port: Annotated[int, typer.Option(help="0 takes a free one.", min=0, max=65535)] = 4222,
    directory: Annotated[Path, typer.Option("--dir", help="Where JetStream keeps its files.")] = Path(
        "marketprism-data/nats"
    ),
    host: Host = "127.0.0.1",
    output: Ready = ReadyFormat.text,
) -> None:
    """Run nats-server with JetStream until Ctrl-C. Its log is nats-server.log in the directory.

    A killed server loses nothing; a power cut, at most the last second (sync_interval 1s).

    Example:  marketprism embedded nats --port 4222 --dir ./marketprism-data/nats
    """
    from marketprism_embedded import nats as server

    try:
        server.serve(directory, host, port, ready=lambda url, pid: _ready(output, url, pid, directory))
    except EmbeddedError as error:
        raise _refused(error) from None


@app.command()
def clickhouse(
    port: Annotated[int, typer.Option(help="0 takes a free one.", min=0, max=65535)] = 8123,
    directory: Annotated[Path, typer.Option("--dir", help="Where the tables are.")] = Path(
        "marketprism-data/clickhouse"
    ),
    host: Host = "127.0.0.1",
    output: Ready = ReadyFormat.text,
    memory_limit: Annotated[
        int | None, typer.Option(metavar="MIB", help="Memory for the whole engine, in MiB.", min=64)
    ] = None,
    allow_host: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Another name that clients reach it by (host.docker.internal). Repeatable."),
    ] = None,
) -> None:
    """Run the ClickHouse engine behind ClickHouse's HTTP interface until Ctrl-C.

    Any user and password will do, unless MARKETPRISM_EMBEDDED_PASSWORD is set. GET changes nothing; requests from web
    pages are refused.

    Example:  marketprism embedded clickhouse --port 8123 &  curl 'http://127.0.0.1:8123/?query=SELECT+version()'
    """
    from marketprism_embedded import clickhouse as server

    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s", level=logging.INFO)
    try:
        code = server.serve(
            directory,
            host,
            port,
            allow_hosts=frozenset(allow_host or ()),
            memory_limit=memory_limit << 20 if memory_limit else None,
            ready=lambda url: _ready(output, url, os.getpid(), directory),
        )
    except EmbeddedError as error:
        raise _refused(error) from None
    raise typer.Exit(code)


def _ready(output: ReadyFormat, url: str, pid: int, directory: Path) -> None:
    """The one line on stdout; what starts us waits for it."""
    line = json.dumps({"url": url, "pid": pid, "dir": str(directory)}) if output is ReadyFormat.json else url
    os.write(1, f"{line}\n".encode())


def _refused(error: EmbeddedError) -> typer.Exit:
    typer.echo(f"error: {error}", err=True)
    return typer.Exit(2)


if __name__ == "__main__":
    app()
