"""`marketprism ingest`: what a consumer's Pod runs."""

from __future__ import annotations

import gc
from typing import Annotated

import typer
import uvloop

from marketprism_api import reasons
from marketprism_api.settings import Settings
from marketprism_consumer import logs
from marketprism_consumer.commands.common import File, fail, seconds, settings_of
from marketprism_consumer.commands.exits import Exit
from marketprism_consumer.commands.run import serve
from marketprism_consumer.worker import Worker

EXAMPLES = """
Examples:

\b
  marketprism ingest -f pipeline.yaml                       every data type of the pipeline
  marketprism ingest -f pipeline.yaml --consumer fast       what the Pods of the consumer `fast` run
  marketprism ingest --until-idle 5s                        a back-fill: ends when nothing is pending
"""


def ingest(
    file: File = "",
    consumer: Annotated[str, typer.Option(help="A name from spec.consumers; without it, all of them.")] = "",
    until_idle: Annotated[str, typer.Option(help="End when nothing has been pending for this long, such as 5s.")] = "",
    host: Annotated[str, typer.Option(help="Where /healthz, /readyz and /metrics listen.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Their port; 0: any free one.")] = 9464,
    log_level: Annotated[str, typer.Option(help="debug, info, warning or error.")] = "info",
) -> None:
    """Take messages off JetStream and store them in ClickHouse, each exactly once."""
    logs.configure(log_level)
    settings = settings_of(file)
    if consumer and consumer not in settings.consumers:
        reason = reasons.UNKNOWN_CONSUMER
        fail(f"{reason}: {consumer!r}; the pipeline has {', '.join(settings.consumers)}", Exit.USAGE)
    names = [consumer] if consumer else list(settings.consumers)
    try:
        idle = seconds(until_idle, "--until-idle") if until_idle else None
    except ValueError as error:
        fail(str(error), Exit.USAGE)
    # Rows come and go by the ten thousand, without cycles: looking for some after every 700 would cost a tenth of the time.
    gc.freeze()
    gc.set_threshold(100_000, 20, 100)
    raise typer.Exit(uvloop.run(_run(settings, names, idle, host, port)))


async def _run(settings: Settings, consumers: list[str], until_idle: float | None, host: str, port: int) -> int:
    data_types = [data_type for name in consumers for data_type in settings.consumers[name]]
    return await serve(Worker(settings, data_types), port, host, until_idle)
