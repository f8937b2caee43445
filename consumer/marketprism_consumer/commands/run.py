"""`marketprism run`: a whole pipeline on one machine."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Annotated

import structlog
import typer
import uvloop

from marketprism_api.settings import Settings
from marketprism_consumer import logs
from marketprism_consumer.clickhouse import schema
from marketprism_consumer.commands import console
from marketprism_consumer.commands.common import File, fail, settings_of
from marketprism_consumer.commands.exits import exit_of
from marketprism_consumer.commands.one_machine import embedded_where_needed
from marketprism_consumer.commands.one_process import Share
from marketprism_consumer.commands.processes import ProcessesOption, consume, number_of
from marketprism_consumer.commands.servers import begin_lanes, clickhouse_of
from marketprism_consumer.errors import StoreError
from marketprism_consumer.schema.ddl import Change
from marketprism_consumer.schema.tables import Table

log = structlog.get_logger()

EXAMPLES = """
Examples:

\b
  marketprism run                        every default, with a NATS and a ClickHouse of its own
  marketprism run -f pipeline.yaml       the same pipeline as on a cluster; a URL in it, or in
                                         NATS_URL or CLICKHOUSE_HTTP_URL, is used instead
  marketprism run --console              and a console in the browser, http://127.0.0.1:8500/
  marketprism run --nats-port 0 --clickhouse-port 0
  marketprism run --processes auto       one process a core; they share what waits
  marketprism feed                       in another terminal: something to store
"""


def run(
    file: File = "",
    directory: Annotated[Path, typer.Option("--dir", help="Where the embedded servers keep their data.")] = Path(
        "marketprism-data"
    ),
    nats_port: Annotated[
        int, typer.Option(min=0, max=65535, help="Port of the embedded NATS; 0: any free one.")
    ] = 4222,
    clickhouse_port: Annotated[
        int, typer.Option(min=0, max=65535, help="Port of the embedded ClickHouse; 0: any free one.")
    ] = 8123,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port of /healthz, /readyz and /metrics.")] = 9464,
    processes: ProcessesOption = "1",
    with_console: Annotated[
        bool, typer.Option("--console", help="A console in the browser, too: see `marketprism console`.")
    ] = False,
    console_port: Annotated[
        int, typer.Option(min=0, max=65535, help="Port of the console; 0: any free one.")
    ] = console.PORT,
    log_level: Annotated[str, typer.Option(help="debug, info, warning or error.")] = "info",
) -> None:
    """Run all consumers of a pipeline, after applying the schema. Ctrl-C stores what is in hand and ends."""
    logs.configure(log_level)
    count = number_of(processes)
    with (
        embedded_where_needed(settings_of(file), directory, nats_port, clickhouse_port) as settings,
        console.console_beside(settings, file, console_port) if with_console else nullcontext(),
    ):
        raise typer.Exit(uvloop.run(_run(settings, count, port, log_level)))


async def apply_schema(settings: Settings) -> None:
    if settings.schema_mode != "Apply":
        return
    clickhouse = clickhouse_of(settings, "run")
    created: list[Table] = []

    def done(change: Change) -> None:
        log.info("schema", done=change.why)
        created.extend([change.makes] if change.makes else ())

    try:
        await schema.apply(clickhouse, settings, done)
        if why := await begin_lanes(settings, created, make_streams=True):
            log.warning(why)
    finally:
        await clickhouse.close()


async def _run(settings: Settings, processes: int, port: int, log_level: str) -> int:
    try:
        await apply_schema(settings)
    except StoreError as refused:
        fail(str(refused), exit_of(refused))
    data_types = tuple(data_type for types in settings.consumers.values() for data_type in types)
    return await consume(Share(settings, data_types, log_level), processes, "127.0.0.1", port)
