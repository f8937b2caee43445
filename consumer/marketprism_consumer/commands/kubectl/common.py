"""What the plugin's commands share: where the cluster is, how a resource is named, waiting for the operator."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Annotated

import typer

from marketprism_api.problems import ResourceError
from marketprism_consumer.commands.common import fail, seconds
from marketprism_consumer.commands.exits import Exit
from marketprism_consumer.errors import KubernetesError
from marketprism_consumer.kubectl import PIPELINES, TYPES, Kubectl, KubeObject

Namespace = Annotated[str, typer.Option("--namespace", "-n", help="Of the resource. Without it, the context's.")]
Context = Annotated[str, typer.Option("--context", help="Of the kubeconfig. Without it, the current one.")]
PipelineName = Annotated[str, typer.Argument(metavar="PIPELINE", help="Name of a StoragePipeline.")]
ResourceName = Annotated[
    str, typer.Argument(metavar="[TYPE/]NAME", help="A StoragePipeline, or tierp/NAME: a TieringPolicy.")
]
Wait = Annotated[str, typer.Option("--wait", help="How long to wait for the operator; 0s: not at all.")]

LOOK_EVERY = 0.5  # [s]


@contextmanager
def cluster(context: str, namespace: str) -> Iterator[Kubectl]:
    """For the length of a command; what the cluster or a file refuses ends it."""
    try:
        yield Kubectl(context, namespace)
    except KubernetesError as refused:
        fail(str(refused), Exit.USAGE if refused.usage else Exit.UNREACHABLE)
    except ResourceError as error:
        fail(str(error), Exit.USAGE)
    except KeyboardInterrupt:
        raise typer.Exit(130) from None


def named(text: str) -> tuple[str, str]:
    """`main` or `tierp/main`, as type and name for kubectl."""
    kind, slash, name = text.rpartition("/")
    if slash and kind.lower() not in TYPES:
        fail(f"{text}: {kind!r} is none of {', '.join(TYPES)}", Exit.USAGE)
    if not name:
        fail(f"{text!r} names nothing: give NAME or TYPE/NAME", Exit.USAGE)
    return (TYPES[kind.lower()] if slash else PIPELINES), name


def waited(wait: str) -> float:
    """--wait in seconds."""
    try:
        return seconds(wait, "--wait")
    except ValueError as error:
        fail(str(error), Exit.USAGE)


def until(look: Callable[[], bool], limit: float) -> bool:
    """Whether `look` has seen it within `limit` seconds."""
    deadline = time.monotonic() + limit
    while not look():
        if time.monotonic() >= deadline:
            return False
        time.sleep(LOOK_EVERY)
    return True


def conditions(live: KubeObject) -> dict[str, KubeObject]:
    """By their type."""
    return {found["type"]: found for found in (live.get("status") or {}).get("conditions") or []}


def condition(live: KubeObject, kind: str) -> str:
    """Its status; empty where the operator says nothing of it."""
    return str(conditions(live).get(kind, {}).get("status", ""))
