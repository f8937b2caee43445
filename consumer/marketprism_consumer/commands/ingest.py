"""`marketprism ingest`: what a consumer's Pod runs."""

from __future__ import annotations

import asyncio
import signal
from typing import Annotated

import durationpy
import structlog
import typer
import uvloop
from marketprism_api import reasons
from marketprism_api.settings import Settings

from marketprism_consumer import health, logs
from marketprism_consumer.broker import BrokerRefused
from marketprism_consumer.commands.common import Exit, File, fail, settings_of
from marketprism_consumer.worker import Worker

log = structlog.get_logger()

EXAMPLES = """
Examples:

\b
  marketprism ingest -f pipeline.yaml                       every data type of the pipeline
  marketprism ingest -f pipeline.yaml --consumer fast       what the Pods of the consumer `fast` run
  marketprism ingest --until-idle 5s                        a back-fill: ends when nothing is pending
"""


def ingest(
    file: File = "",
    consumer: Annotated[str, typer.Option(help="A name from spec.consumers; all of them without it.")] = "",
    until_idle: Annotated[str, typer.Option(help="End when nothing has been pending for so long, such as 5s.")] = "",
    host: Annotated[str, typer.Option(help="Where /healthz, /readyz and /metrics listen.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Their port; 0 takes a free one.")] = 9464,
    log_level: Annotated[str, typer.Option(help="debug, info, warning or error.")] = "info",
) -> None:
    """Take messages off JetStream and store them in ClickHouse, each exactly once."""
    logs.configure(log_level)
    settings = settings_of(file)
    if consumer and consumer not in settings.consumers:
        reason = reasons.UNKNOWN_CONSUMER
        fail(f"{reason}: {consumer!r}; the pipeline has {', '.join(settings.consumers)}", Exit.USAGE)
    names = [consumer] if consumer else list(settings.consumers)
    idle = durationpy.from_str(until_idle).total_seconds() if until_idle else None
    raise typer.Exit(uvloop.run(_run(settings, names, idle, host, port)))


async def _run(settings: Settings, consumers: list[str], until_idle: float | None, host: str, port: int) -> int:
    data_types = [data_type for name in consumers for data_type in settings.consumers[name]]
    worker = Worker(settings, data_types)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, worker.stop)
    try:
        server, bound = await health.serve(worker, host, port)
    except health.PortTakenError as error:
        log.error(str(error))
        return int(Exit.USAGE)
    log.info("starting", data_types=[str(t) for t in data_types], health=f"http://{host}:{bound}/readyz")
    try:
        await worker.run(until_idle=until_idle)
    except BrokerRefused as refused:
        log.error(str(refused), code=refused.reason.code)
        return int(Exit.FINDINGS)
    finally:
        await server.cleanup()
    log.info("stopped", **{name: one["inserted"] for name, one in worker.status().items()})
    return int(Exit.OK)
