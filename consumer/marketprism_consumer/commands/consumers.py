"""`marketprism consumers delete`."""

from __future__ import annotations

import asyncio
import json
import os
from typing import Annotated

import typer
from nats.errors import Error as NatsError

from marketprism_api.credentials import nats_auth
from marketprism_api.settings import Settings
from marketprism_consumer import logs
from marketprism_consumer.commands.common import File, Json, Output, fail, seconds, settings_of
from marketprism_consumer.commands.exits import Exit, epilog
from marketprism_consumer.errors import BrokerError, DurablesInUseError
from marketprism_consumer.jetstream.broker import NatsBroker
from marketprism_consumer.jetstream.client import connect
from marketprism_consumer.jetstream.durables import DurableAddress, addresses, delete_unused

app = typer.Typer(no_args_is_help=True, help="The durable consumers of a pipeline in JetStream.")


@app.callback()
def consumers() -> None:
    """The durable consumers of a pipeline in JetStream."""


@app.command(epilog=epilog("consumers delete", "Example:  marketprism consumers delete -f pipeline.yaml --wait 2m"))
def delete(
    file: File = "",
    wait: Annotated[str, typer.Option(help="How long to wait until nothing uses them.")] = "1m",
    quiet: Annotated[str, typer.Option(help="Unused is what nobody has pulled from for this long.")] = "5s",
    output: Json = Output.TEXT,
) -> None:
    """Delete a pipeline's durable consumers, never one in use. Streams, their messages and all rows stay: a pipeline that
    comes back reads its streams from the first message on and stores only what is not in the tables.
    """
    logs.configure("error")
    settings = settings_of(file)
    try:
        times = seconds(quiet, "--quiet", least=0.1), seconds(wait, "--wait", least=0.1)
    except ValueError as error:
        fail(str(error), Exit.USAGE)
    try:
        found = asyncio.run(_delete(settings, *times))
    except DurablesInUseError as used:
        fail(f"{used}: stop its consumers first (spec.suspend, or end `marketprism run`)", Exit.FINDINGS)
    except (BrokerError, TimeoutError, NatsError, OSError) as error:
        fail(str(error), Exit.UNREACHABLE)
    if output == "json":
        typer.echo(json.dumps({"deleted": [{"stream": stream, "consumer": name} for stream, name in found]}))
        return
    for stream, name in found:
        typer.echo(f"deleted: {stream}/{name}")
    if not found:
        typer.echo("there are none")


async def _delete(settings: Settings, quiet: float, wait: float) -> list[DurableAddress]:
    client = await connect(settings.nats_url, nats_auth(os.environ), name="marketprism consumers", wait=10)
    try:
        broker = NatsBroker(client)
        return await delete_unused(broker, await addresses(broker, settings), quiet, wait)
    finally:
        await client.close()
