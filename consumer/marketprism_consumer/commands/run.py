"""`marketprism run`: a whole pipeline on one machine."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path
from typing import Annotated

import structlog
import typer
import uvloop

from marketprism_api.settings import Settings
from marketprism_consumer import health, logs
from marketprism_consumer.clickhouse import schema
from marketprism_consumer.commands.common import File, fail, settings_of
from marketprism_consumer.commands.exits import Exit, exit_of
from marketprism_consumer.commands.one_machine import embedded_where_needed
from marketprism_consumer.commands.servers import begin_lanes, clickhouse_of
from marketprism_consumer.errors import BrokerError, PortTakenError, StoreError
from marketprism_consumer.schema.ddl import Change
from marketprism_consumer.schema.tables import Table
from marketprism_consumer.worker import Worker

log = structlog.get_logger()

EXAMPLES = """
Examples:

\b
  marketprism run                        every default, with a NATS and a ClickHouse of its own
  marketprism run -f pipeline.yaml       the same pipeline as on a cluster; a URL in it, or in
                                         NATS_URL or CLICKHOUSE_HTTP_URL, is used instead
  marketprism run --nats-port 0 --clickhouse-port 0
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
    log_level: Annotated[str, typer.Option(help="debug, info, warning or error.")] = "info",
) -> None:
    """Run all consumers of a pipeline in one process, after applying the schema. Ctrl-C stores what is in hand and ends."""
    logs.configure(log_level)
    with embedded_where_needed(settings_of(file), directory, nats_port, clickhouse_port) as settings:
        raise typer.Exit(uvloop.run(_run(settings, port)))


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
        if why := await begin_lanes(settings, created):
            log.warning(why)
    finally:
        await clickhouse.close()


async def _run(settings: Settings, port: int) -> int:
    try:
        await apply_schema(settings)
    except StoreError as refused:
        fail(str(refused), exit_of(refused))
    data_types = [data_type for types in settings.consumers.values() for data_type in types]
    worker = Worker(settings, data_types)
    return await serve(worker, port)


async def serve(worker: Worker, port: int, host: str = "127.0.0.1", until_idle: float | None = None) -> int:
    """Run a worker with its health port until SIGTERM, Ctrl-C or idleness; returns the exit code."""
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, worker.stop)
    try:
        server, bound = await health.serve(worker, host, port)
    except PortTakenError as error:
        log.error(str(error))
        return int(Exit.USAGE)
    log.info("starting", data_types=[str(t) for t in worker.data_types], ready=f"http://{host}:{bound}/readyz")
    try:
        await worker.run(until_idle=until_idle)
    except BrokerError as refused:
        logs.reason(log, "error", refused.reason, detail=refused.detail)
        return int(Exit.FINDINGS)
    finally:
        await server.cleanup()
    log.info("stopped", **{name: numbers["inserted"] for name, numbers in worker.status().items()})
    return int(Exit.OK)
