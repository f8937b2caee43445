"""`marketprism ingest`: what a consumer's Pod runs."""

from __future__ import annotations

from typing import Annotated

import typer
import uvloop

from marketprism_api import reasons
from marketprism_consumer import logs
from marketprism_consumer.commands.common import File, fail, seconds, settings_of
from marketprism_consumer.commands.exits import Exit
from marketprism_consumer.commands.one_process import Share
from marketprism_consumer.commands.processes import ProcessesOption, consume, number_of

EXAMPLES = """
Examples:

\b
  marketprism ingest -f pipeline.yaml                       every data type of the pipeline
  marketprism ingest -f pipeline.yaml --consumer fast       what the Pods of the consumer `fast` run
  marketprism ingest -f pipeline.yaml --processes auto      one process a core; they share what waits
  marketprism ingest --until-idle 5s                        a back-fill: ends when nothing is pending
"""


def ingest(
    file: File = "",
    consumer: Annotated[str, typer.Option(help="A name from spec.consumers; without it, all of them.")] = "",
    until_idle: Annotated[str, typer.Option(help="End when nothing has been pending for this long, such as 5s.")] = "",
    host: Annotated[str, typer.Option(help="Where /healthz, /readyz and /metrics listen.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Their port; 0: any free one.")] = 9464,
    processes: ProcessesOption = "1",
    log_level: Annotated[str, typer.Option(help="debug, info, warning or error.")] = "info",
) -> None:
    """Take messages off JetStream and store them in ClickHouse, each exactly once."""
    logs.configure(log_level)
    count = number_of(processes)
    settings = settings_of(file)
    if consumer and consumer not in settings.consumers:
        reason = reasons.UNKNOWN_CONSUMER
        fail(f"{reason}: {consumer!r}; the pipeline has {', '.join(settings.consumers)}", Exit.USAGE)
    names = [consumer] if consumer else list(settings.consumers)
    try:
        idle = seconds(until_idle, "--until-idle") if until_idle else None
    except ValueError as error:
        fail(str(error), Exit.USAGE)
    data_types = tuple(data_type for name in names for data_type in settings.consumers[name])
    share = Share(settings, data_types, log_level, idle)
    raise typer.Exit(uvloop.run(consume(share, count, host, port)))
