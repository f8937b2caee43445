"""`kubectl marketprism status`: what the operator says of pipelines and their policies."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Annotated, Any

import typer

from marketprism_consumer.commands.common import Json, Output
from marketprism_consumer.commands.exits import Exit
from marketprism_consumer.commands.kubectl.common import Context, Namespace, cluster, conditions, named
from marketprism_consumer.kubectl import PIPELINES, POLICIES, KubeObject

EXAMPLES = """
Examples:

\b
  kubectl marketprism status                           every pipeline and policy of the namespace
  kubectl marketprism status --all-namespaces
  kubectl marketprism status main -n market-data       one pipeline, with its policies
  kubectl marketprism status --output json | jq '.[] | select(.ready != "True")'

\b
It shows what the operator wrote last, numbers of messages up to a minute ago. `marketprism status` asks NATS and ClickHouse.
"""
HELD_TRUE = ("Stalled", "Reconciling", "Suspended", "Paused")
"""Conditions that are there only while they hold."""


def status(
    name: Annotated[
        str, typer.Argument(metavar="[TYPE/]NAME", help="A StoragePipeline, or tierp/NAME. Without it, all.")
    ] = "",
    all_namespaces: Annotated[bool, typer.Option("--all-namespaces", "-A", help="Of the whole cluster.")] = False,
    namespace: Namespace = "",
    context: Context = "",
    output: Json = Output.TEXT,
) -> None:
    """Show what the operator says of each pipeline and policy: Ready, why not, what waits, the last migration."""
    with cluster(context, namespace) as kubectl:
        if name:
            what, own = named(name)
            found = [kubectl.get(what, own)]
            if what == PIPELINES:
                policies = kubectl.select(POLICIES)
                found += [each for each in policies if each["spec"]["pipelineRef"]["name"] == own]
        else:
            found = kubectl.select(f"{PIPELINES},{POLICIES}", None, *(["--all-namespaces"] if all_namespaces else []))
    seen = [summary(live) for live in found]
    if output == "json":
        typer.echo(json.dumps(seen))
    else:
        for line in lines(seen):
            typer.echo(line)
    raise typer.Exit(int(Exit.OK if all(each["ready"] == "True" for each in seen) else Exit.FINDINGS))


def summary(live: KubeObject) -> dict[str, Any]:
    """One resource, for a script. `ready` is Unknown where the operator has not looked at the present spec."""
    metadata, told, by_type = live["metadata"], live.get("status") or {}, conditions(live)
    ready = by_type.get("Ready", {})
    current = ready.get("observedGeneration", 0) >= metadata.get("generation", 0)
    paused = "Paused" in by_type
    return {
        "kind": live["kind"],
        "namespace": metadata["namespace"],
        "name": metadata["name"],
        "ready": ready.get("status", "Unknown") if current or paused else "Unknown",
        "reason": ready.get("reason", "") if current or paused else "NotSeenYet",
        "message": ready.get("message", "") if current or paused else "the operator has not looked at this spec yet",
        "others": [
            {key: each.get(key, "") for key in ("type", "status", "reason", "message")}
            for each in by_type.values()
            if each["type"] != "Ready" and (each["status"] == "True") == (each["type"] in HELD_TRUE)
        ],
        **{
            key: told[key]
            for key in ("replicas", "readyReplicas", "dataTypes", "lastRunTime", "lastRun")
            if key in told
        },
    }


def lines(seen: Iterable[dict[str, Any]]) -> Iterator[str]:
    nothing = True
    for each in seen:
        nothing = False
        pods = f"  {each['readyReplicas']}/{each['replicas']} Pods ready" if "replicas" in each else ""
        yield f"{each['kind']} {each['namespace']}/{each['name']}  Ready={each['ready']} {each['reason']}{pods}"
        if each["ready"] != "True" and each["message"]:
            yield f"  {each['message']}"
        for other in each["others"]:
            if other["message"] != each["message"]:
                yield f"  {other['type']}={other['status']} {other['reason']}: {other['message']}"
        for data_type, numbers in each.get("dataTypes", {}).items():
            counted = (("pending", "pending"), ("in hand", "inHand"), ("aside", "setAside"))
            said = "  ".join(f"{word} {numbers.get(key, 0):,}" for word, key in counted)
            yield f"  {data_type:<18} {said}  last insert {numbers.get('lastInsertTime') or 'never'}"
        if run := each.get("lastRun"):
            yield f"  last run {each.get('lastRunTime', '')}: {run_line(run)}"
    if nothing:
        yield "there is no StoragePipeline and no TieringPolicy"


def run_line(run: KubeObject) -> str:
    """A migration in one line."""
    rows, backlog = run.get("rows", 0), run.get("backlogRows", 0)
    message = f": {run['message']}" if run.get("message") else ""
    return f"{run['result']}, {rows:,} rows in {run.get('duration') or '0s'}, {backlog:,} left{message}"
