"""`kubectl marketprism logs`: of all Pods of a pipeline or policy."""

from __future__ import annotations

import json
import re
from enum import StrEnum
from typing import Annotated

import typer

from marketprism_consumer.commands.common import Json, Output, fail
from marketprism_consumer.commands.exits import Exit
from marketprism_consumer.commands.kubectl.common import Context, Namespace, ResourceName, cluster, named
from marketprism_consumer.kubectl import COMPONENT, CONSUMER, PIPELINE, PIPELINES, POLICY, selection

EXAMPLES = """
Examples:

\b
  kubectl marketprism logs main -n market-data --follow        all consumers of pipeline main
  kubectl marketprism logs main --consumer fast --since 10m    those of one
  kubectl marketprism logs main --component schema             of the Job that makes the tables
  kubectl marketprism logs tierp/main --tail 200               of the migrations of policy main
  kubectl marketprism logs main --output json | jq .line       an object for each line: pod, line
"""
PREFIXED = re.compile(r"\[pod/(?P<pod>[^/\]]+)/[^\]]+\] (?P<line>.*)", re.DOTALL)
AT_ONCE = "--max-log-requests=256"


class Component(StrEnum):
    CONSUMER = "consumer"
    SCHEMA = "schema"
    VALIDATE = "validate"
    AUDIT = "audit"


def logs(
    name: ResourceName,
    component: Annotated[Component, typer.Option(help="Which Pods of a pipeline.")] = Component.CONSUMER,
    consumer: Annotated[str, typer.Option(help="Only this one, by its name in spec.consumers.")] = "",
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until Ctrl-C.")] = False,
    previous: Annotated[bool, typer.Option("--previous", "-p", help="Of the containers that ended before.")] = False,
    since: Annotated[str, typer.Option(help="Only what came since then, such as 10m.")] = "",
    tail: Annotated[int, typer.Option(min=-1, help="At most so many lines of each Pod; -1: all.")] = -1,
    namespace: Namespace = "",
    context: Context = "",
    output: Json = Output.TEXT,
) -> None:
    """Show the logs of all Pods of a pipeline or policy, each line with the Pod that it is from."""
    what, own = named(name)
    labels = {PIPELINE: own, COMPONENT: str(component)}
    if what != PIPELINES:
        labels = {POLICY: own, COMPONENT: "migrate"}
    if consumer and labels[COMPONENT] != Component.CONSUMER:
        fail("--consumer: only consumers have that name", Exit.USAGE)
    if consumer:
        labels[CONSUMER] = consumer
    options = [f"--tail={tail}", *([f"--since={since}"] if since else [])]
    options += [flag for flag, given in (("--follow", follow), ("--previous", previous)) if given]
    container = f"--container={labels[COMPONENT]}"
    with cluster(context, namespace) as kubectl:
        kubectl.get(what, own)  # no such resource is not the same as no Pods
        if not kubectl.select("pods", labels):
            typer.echo("there are no such Pods", err=True)
            return
        arguments = ("logs", f"--selector={selection(labels)}", container, "--prefix", AT_ONCE, *options)
        with kubectl.lines(*arguments) as found:
            for line in found:
                typer.echo(as_json(line) if output == "json" else line.rstrip("\n"))


def as_json(line: str) -> str:
    """One line of `kubectl logs --prefix` as an object."""
    text = line.rstrip("\n")
    match = PREFIXED.fullmatch(text)
    return json.dumps({"pod": match["pod"], "line": match["line"]} if match else {"pod": "", "line": text})
