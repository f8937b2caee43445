"""`kubectl marketprism migrate`: one run of a policy now, and how it ended."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Annotated

import typer

from marketprism_consumer.commands.common import Json, Output, fail
from marketprism_consumer.commands.exits import Exit
from marketprism_consumer.commands.kubectl.common import Context, Namespace, cluster, condition, until, waited
from marketprism_consumer.commands.kubectl.status import run_line
from marketprism_consumer.kubectl import POLICIES, RUN_NOW, KubeObject

EXAMPLES = """
Examples:

\b
  kubectl marketprism migrate main -n market-data      runs TieringPolicy main, and says how it ended
  kubectl marketprism migrate main --wait 0s           only starts it
  kubectl marketprism migrate main --output json | jq .rows

\b
Beside a run by the schedule it is kept apart by the lease that a run takes. What --wait does not see ends all the same.
"""


def migrate(
    name: Annotated[str, typer.Argument(metavar="POLICY", help="Name of a TieringPolicy.")],
    wait: Annotated[str, typer.Option("--wait", help="How long to wait for its end; 0s: not at all.")] = "10m",
    namespace: Namespace = "",
    context: Context = "",
    output: Json = Output.TEXT,
) -> None:
    """Run a policy's migration now, wait for its end, and say what it moved."""
    limit = waited(wait)
    ended: list[KubeObject] = []
    with cluster(context, namespace) as kubectl:
        before = kubectl.get(POLICIES, name)
        if before["spec"].get("suspend"):
            fail(f"policy {name} is suspended: set spec.suspend to false", Exit.USAGE)
        if condition(before, "Paused") == "True":
            fail(f"policy {name} is paused: kubectl marketprism resume tierp/{name}", Exit.USAGE)
        asked = datetime.now(UTC).isoformat(timespec="milliseconds")
        last = (before.get("status") or {}).get("lastRunTime")

        def look() -> bool:
            told = kubectl.get(POLICIES, name).get("status") or {}
            if told.get("runNow") == asked and told.get("lastRunTime") != last:
                ended.append(told)
            return bool(ended)

        kubectl.annotate(POLICIES, name, f"{RUN_NOW}={asked}")
        if limit and not until(look, limit):
            logs = f"kubectl marketprism logs tierp/{name}"
            fail(f"the run that was asked for has not ended within {wait}: see {logs}", Exit.FINDINGS)
    if not ended:
        typer.echo(json.dumps({"asked": asked}) if output == "json" else f"asked for at {asked}")
        return
    run = ended[0]["lastRun"]
    at = ended[0]["lastRunTime"]
    typer.echo(json.dumps({"asked": asked, "ended": at, **run}) if output == "json" else f"{at}: {run_line(run)}")
    raise typer.Exit(int(Exit.FINDINGS if run["result"] == "Failed" else Exit.OK))
