"""`kubectl marketprism pause` and `resume`: the operator leaves a resource alone for a while; its Pods go on."""

from __future__ import annotations

import json

import typer

from marketprism_consumer.commands.common import Json, Output, fail
from marketprism_consumer.commands.exits import Exit
from marketprism_consumer.commands.kubectl.common import (
    Context,
    Namespace,
    ResourceName,
    Wait,
    cluster,
    condition,
    named,
    until,
    waited,
)
from marketprism_consumer.kubectl import PAUSE

PAUSE_EXAMPLES = """
Examples:

\b
  kubectl marketprism pause main -n market-data        hands off StoragePipeline main
  kubectl marketprism pause tierp/main                 and off TieringPolicy main

\b
Pods go on storing. To have them end, set spec.suspend.
"""
RESUME_EXAMPLES = """
Examples:

\b
  kubectl marketprism resume main -n market-data
  kubectl marketprism resume tierp/main --wait 0s      without waiting for the operator

\b
What was changed by hand meanwhile is put back as the spec says.
"""


def pause(
    name: ResourceName, wait: Wait = "30s", namespace: Namespace = "", context: Context = "", output: Json = Output.TEXT
) -> None:
    """Have the operator leave a resource and all that it made alone, until `resume`."""
    _set(name, True, wait, namespace, context, output)


def resume(
    name: ResourceName, wait: Wait = "30s", namespace: Namespace = "", context: Context = "", output: Json = Output.TEXT
) -> None:
    """Have the operator look after a resource again."""
    _set(name, False, wait, namespace, context, output)


def _set(name: str, paused: bool, wait: str, namespace: str, context: str, output: Output) -> None:
    limit = waited(wait)
    what, own = named(name)

    with cluster(context, namespace) as kubectl:

        def obeyed() -> bool:
            return (condition(kubectl.get(what, own), "Paused") == "True") == paused

        kubectl.annotate(what, own, f"{PAUSE}=true" if paused else f"{PAUSE}-")
        done = until(obeyed, limit) if limit else None
    if done is False:
        fail(f"{name} is annotated, but the operator has not said so within {wait}: is it running?", Exit.FINDINGS)
    if output == "json":
        typer.echo(json.dumps({"name": own, "paused": paused, "obeyed": done}))
    else:
        typer.echo(
            f"{name} is {'paused' if paused else 'looked after again'}{'' if done else ', once the operator sees it'}"
        )
