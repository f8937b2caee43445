"""`marketprism demo`: see the main job work, and the proof that it did."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import tempfile
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated

import typer
import uvloop

from marketprism_api.load import load_pipeline
from marketprism_api.settings import effective
from marketprism_consumer import logs
from marketprism_consumer.commands import console
from marketprism_consumer.commands.common import Json, Output, stderr, stdout
from marketprism_consumer.commands.exits import Exit
from marketprism_consumer.commands.one_machine import embedded_servers
from marketprism_consumer.demo.recording import PIPELINE, DemoOptions, Recording, as_dict
from marketprism_consumer.demo.view import show_result, shown

EXAMPLES = """
Examples:

\b
  marketprism demo                            15 seconds, a kill -9 in the middle, the proof
  marketprism demo --seconds 60 --rate 10000  longer and faster
  marketprism demo --keep                     leaves the servers up to be queried, and a console, until Ctrl-C
  marketprism demo --output json              the numbers, for a script
"""


def demo(
    seconds: Annotated[float, typer.Option(min=2, help="For how many seconds to publish.")] = 15.0,
    rate: Annotated[float, typer.Option(min=1, max=20_000, help="Messages per second.")] = 3000.0,
    seed: Annotated[int, typer.Option(help="Another seed, other messages.")] = 7,
    chaos: Annotated[bool, typer.Option(help="Kill the consumer in the middle.")] = True,
    keep: Annotated[
        bool,
        typer.Option("--keep", help="Leave the servers up at the end, with a console, until Ctrl-C."),
    ] = False,
    directory: Annotated[
        Path | None, typer.Option("--dir", help="Keep the data here. Without it, nothing is left behind.")
    ] = None,
    output: Json = Output.TEXT,
) -> None:
    """See it work: NATS, ClickHouse, a feed of all eight data types and the ingest, on this machine."""
    logs.configure("error", as_json=False)
    place = directory or Path(tempfile.mkdtemp(prefix="marketprism-demo-"))
    try:
        code = uvloop.run(_demo(place, DemoOptions(seconds, rate, seed, chaos), keep, output))
    finally:
        if directory is None:
            shutil.rmtree(place, ignore_errors=True)
    raise typer.Exit(code)


async def _demo(place: Path, options: DemoOptions, keep: bool, output: str) -> int:
    with (
        embedded_servers() as start,
        start("nats", place / "nats") as nats,
        start("clickhouse", place / "clickhouse") as clickhouse,
    ):
        stderr.print(f"NATS {nats.url}   ClickHouse {clickhouse.url}   data in {place}", style="dim")
        file = place / "pipeline.yaml"
        file.write_text(PIPELINE)
        environ = {**os.environ, "MARKETPRISM_NATS_URL": nats.url, "CLICKHOUSE_HTTP_URL": clickhouse.url}
        async with Recording(options, effective(load_pipeline(file), environ), environ, place) as recording:
            async with shown(recording, stderr):
                await recording.run()
                await recording.refresh()
            proof, tables = await recording.prove(), await recording.tables()
        if output == "json":
            typer.echo(json.dumps(as_dict(recording, proof, tables)))
        else:
            show_result(proof, tables, clickhouse.url, stdout)
        if keep:
            stderr.print("\nThe servers stay up. Ctrl-C ends them.")
            with console.console_beside(recording.settings, str(file), 0) if console.installed() else nullcontext():
                await _until_interrupted()
        return int(Exit.OK if proof.holds else Exit.FINDINGS)


async def _until_interrupted() -> None:
    interrupted = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, interrupted.set)
    await interrupted.wait()
