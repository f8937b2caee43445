"""The feed that is published, and what became of it: by `marketprism audit`, and by counting in ClickHouse."""

from __future__ import annotations

import base64
import json
from typing import Any

from tests.e2e.cluster import NAMESPACE, Failed, apply, get, kubectl, run, until
from tests.waiting import PATIENCE

TABLES = {
    "trade": "trades",
    "orderbook": "orderbooks",
    "funding_rate": "funding_rates",
    "open_interest": "open_interests",
    "liquidation": "liquidations",
    "lsr_top_position": "lsr_top_positions",
    "lsr_all_account": "lsr_all_accounts",
    "volatility_index": "volatility_indices",
}
QUERY = """\
import sys, urllib.request
request = urllib.request.Request("http://clickhouse:8123/", sys.stdin.buffer.read(), {"X-ClickHouse-Key": sys.argv[1]})
sys.stdout.write(urllib.request.urlopen(request, timeout=20).read().decode())
"""
SUBJECTS = """\
import asyncio, json, os, nats
async def subjects():
    connection = await nats.connect(os.environ["NATS_URL"])
    streams = await connection.jetstream().streams_info()
    print(json.dumps({one.config.name: sorted(one.config.subjects) for one in streams}))
    await connection.close()
asyncio.run(subjects())
"""


def subjects() -> dict[str, list[str]]:
    """What each stream of the server holds."""
    found: dict[str, list[str]] = json.loads(kubectl("exec", "tools", "--", "python", "-c", SUBJECTS))
    return found


def password() -> str:
    return base64.b64decode(get("secret", "clickhouse-auth")["data"]["password"]).decode()


def sql(statement: str) -> list[list[str]]:
    """Rows of texts."""
    answer = kubectl("exec", "-i", "tools", "--", "python", "-c", QUERY, password(), given=statement)
    return [line.split("\t") for line in answer.splitlines()]


def rows(*databases: str) -> dict[str, int]:
    """Data type → rows, over the databases; one that is just being moved between them counts once."""
    wanted = databases or ("marketprism_hot",)
    each = []
    for kind, table in TABLES.items():
        tiers = " UNION ALL ".join(f"SELECT _stream, _seq FROM {database}.{table}" for database in wanted)
        each.append(f"SELECT '{kind}', uniqExact(_stream, _seq) FROM ({tiers})")
    return {kind: int(count) for kind, count in sql(" UNION ALL ".join(each))}


def arriving() -> None:
    """Waits until trades and order books are stored that were not before."""
    before = rows("marketprism_hot", "marketprism_cold")

    def look() -> bool:
        now = rows("marketprism_hot", "marketprism_cold")
        return now["trade"] > before["trade"] and now["orderbook"] > before["orderbook"]

    until("new rows arrive", look)


def marketprism(spec: str, *command: str) -> str:
    """What a command says of a pipeline, as JSON."""
    inside = [
        "kubectl",
        "--namespace",
        NAMESPACE,
        "exec",
        "-i",
        "tools",
        "--",
        "env",
        f"CLICKHOUSE_PASSWORD={password()}",
    ]
    return run(*inside, "marketprism", *command, "-f", "-", "--output", "json", given=spec)


def lanes(spec: str) -> dict[str, dict[str, Any]]:
    """Data type → how far it is stored, and who works on the rest, by the lanes' records."""
    return {lane["dataType"]: lane for lane in json.loads(marketprism(spec, "lanes", "list"))["lanes"]}


def audit(pipeline: str = "main", *options: str) -> dict[str, Any]:
    """`marketprism audit` of the pipeline as it is in the cluster."""
    spec = kubectl("get", "storagepipeline", pipeline, "-o", "yaml")
    try:
        said = marketprism(spec, "audit", *options)
    except Failed as failed:
        said = str(failed).partition("\n")[2]
        if not said.startswith("{"):
            raise
    report: dict[str, Any] = json.loads(said.splitlines()[0])
    return report


def proven(*options: str) -> dict[str, Any]:
    """The audit's report; it holds, whatever goes on."""
    report = audit("main", *options)
    assert report["holds"], f"{report}\n{double_rows(report)}"
    return report


def double_rows(report: dict[str, Any]) -> str:
    """Those that the audit names, with when they were stored, and in which part they are now."""
    found = []
    for one in report["types"]:
        for _, tier, seq, _ in one["doubles"]:
            table = f"marketprism_{tier}.{TABLES[one['dataType']]}"
            found += sql(
                f"SELECT created_at, _part, * FROM {table} WHERE _seq = {int(seq)} ORDER BY created_at FORMAT Vertical"
            )
    return "\n".join("\t".join(row) for row in found)


def start_feed(options: str = "--rate 400 --bad 1% --streams orderbook=ORDERBOOK_SNAP") -> None:
    """Messages until `stop_feed`: if nothing else is asked for of all eight types, one in a hundred that can't be a row."""
    command = ["marketprism", "feed", *options.split(), "--output", "json"]
    pod = get("pod", "tools")["spec"]["containers"][0]
    container = {key: pod[key] for key in ("image", "imagePullPolicy", "env", "securityContext")}
    security = get("pod", "tools")["spec"]["securityContext"]
    spec = {
        "restartPolicy": "Never",
        "securityContext": security,
        "containers": [{**container, "name": "feed", "command": command}],
    }
    apply({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "feed"}, "spec": spec})
    kubectl("wait", "pod/feed", "--for=condition=Ready", "--timeout=120s")


def stop_feed() -> dict[str, Any]:
    """Its account of what JetStream has acknowledged."""
    kubectl("exec", "feed", "--", "bash", "-c", "kill -TERM 1")
    return fed()


def fed(seconds: float = PATIENCE) -> dict[str, Any]:
    """The account of a feed that ends by itself."""
    until(
        "the feed has ended", lambda: get("pod", "feed")["status"]["phase"] in ("Succeeded", "Failed"), seconds=seconds
    )
    account: dict[str, Any] = json.loads(kubectl("logs", "feed").splitlines()[-1])
    return account
