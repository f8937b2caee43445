"""The numbers and names of a status. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from operator import itemgetter
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cronsim import CronSim

from marketprism_api.pipeline import ConsumerSpec, StoragePipeline
from marketprism_api.tiering import TieringPolicy
from marketprism_operator.conditions import Seen
from marketprism_operator.naming import Manifest
from marketprism_operator.times import rfc3339

_RESULTS = ("Succeeded", "Failed", "LimitReached")


def of_pipeline(pipeline: StoragePipeline, image: str, seen: Seen, before: Mapping[str, Any], renew: bool) -> Manifest:
    """`renew`: take the numbers that change all the time, too. Otherwise they stay, so that at rest nothing is written."""
    consumers = {}
    for name, consumer in pipeline.spec.carriers.items():
        live = seen.deployments.get(str(name)) or {}
        consumers[str(name)] = {
            "deployment": live.get("metadata", {}).get("name", ""),
            "dataTypes": [str(data_type) for data_type in consumer.data_types],
            "replicas": _replicas(pipeline, consumer, live),
            "readyReplicas": live.get("status", {}).get("readyReplicas") or 0,
        }
    data_types = {}
    known = before.get("dataTypes") or {}
    for data_type in pipeline.spec.stored:
        numbers = _numbers(known.get(data_type) or {}, _said_of(data_type, seen) if renew else [])
        data_types[str(data_type)] = {
            "stream": pipeline.spec.stream(data_type),
            **numbers,
        }
    inserts = [entry["lastInsertTime"] for entry in data_types.values() if "lastInsertTime" in entry]
    job = (seen.schema_job or {}).get("metadata", {}).get("name", "")
    return {
        "replicas": sum(entry["replicas"] for entry in consumers.values()),
        "readyReplicas": sum(entry["readyReplicas"] for entry in consumers.values()),
        "pending": sum(entry["pending"] for entry in data_types.values()),
        "inHand": sum(entry["inHand"] for entry in data_types.values()),
        **({"lastInsertTime": max(inserts)} if inserts else {}),
        "stream": ",".join(dict.fromkeys(pipeline.spec.stream(t) for t in pipeline.spec.stored))[:256],
        "image": image[:512],
        "schemaJob": job,
        "schemaHash": job.rpartition("-")[2],
        "consumers": consumers,
        "dataTypes": data_types,
    }


def _replicas(pipeline: StoragePipeline, consumer: ConsumerSpec, live: Manifest) -> int:
    """Pods wanted: by the spec, or by whoever scales the Deployment."""
    if pipeline.spec.suspend:
        return 0
    if consumer.replicas is not None:
        return int(consumer.replicas)
    return int(live.get("spec", {}).get("replicas", 1))


def _said_of(data_type: str, seen: Seen) -> list[Mapping[str, Any]]:
    return [word.data_types[data_type] for word in seen.words.values() if data_type in word.data_types]


def _numbers(before: Mapping[str, Any], said: list[Mapping[str, Any]]) -> Manifest:
    """Of one data type, from what its Pods say: what they hold adds up, and only the one that reads the tail knows what waits."""
    kept = {key: before[key] for key in ("lastInsertTime",) if before.get(key)}
    if not said:
        return {key: before.get(key, 0) for key in ("pending", "inHand", "setAside")} | kept
    if last := max((float(numbers.get("lastInsertTime") or 0) for numbers in said), default=0.0):
        at = rfc3339(datetime.fromtimestamp(last, UTC))
        kept["lastInsertTime"] = max(at, kept.get("lastInsertTime", ""))
    lags = [int(numbers["lag"]) for numbers in said if numbers.get("lag") is not None]
    return {
        "pending": max(lags, default=before.get("pending", 0)),
        "inHand": sum(int(numbers.get("inHand") or 0) for numbers in said),
        "setAside": max(int(numbers.get("setAside") or 0) for numbers in said),
        **kept,
    }


def next_run(policy: TieringPolicy, now: datetime) -> Manifest:
    """When the CronJob is due next. A loop has no such time: it runs when the last run has ended."""
    if policy.spec.suspend or not policy.spec.schedule:
        return {}
    try:
        zone = ZoneInfo(str(policy.spec.time_zone)) if policy.spec.time_zone else UTC
    except ZoneInfoNotFoundError:
        return {}  # the API server refuses the CronJob
    due = next(CronSim(str(policy.spec.schedule), now.astimezone(zone)))
    return {"nextRunTime": rfc3339(due)}


def last_run(pods: Iterable[Manifest]) -> tuple[Manifest, str] | None:
    """The last migration's own report and when it ended, from the Pods' termination messages."""
    found = []
    for pod in pods:
        for status in pod.get("status", {}).get("containerStatuses") or []:
            ended = status.get("state", {}).get("terminated") or status.get("lastState", {}).get("terminated")
            if ended and ended.get("finishedAt"):
                found.append((str(ended["finishedAt"]), report_of(ended)))
    if not found:
        return None
    at, report = max(found, key=itemgetter(0))
    return report, at


def report_of(ended: Manifest) -> Manifest:
    """The last line of JSON; where there is none, what else was left."""
    for line in reversed(str(ended.get("message", "")).splitlines()):
        try:
            report = json.loads(line)
        except ValueError:
            continue
        if isinstance(report, dict) and "ok" in report:
            return report
    ok = ended.get("exitCode") == 0
    return {"ok": ok, "result": "Succeeded" if ok else "Failed", "message": str(ended.get("message", ""))[-1000:]}


def _dry(report: Mapping[str, Any]) -> Manifest:
    """A dry run moves nothing: what it would have moved is only in its message."""
    tables = {name: {**table, "rows": 0, "bytes": 0} for name, table in (report.get("tables") or {}).items()}
    message = report.get("message") or f"dry run: {report.get('rows') or 0} rows would move"
    return {**report, "rows": 0, "bytes": 0, "tables": tables, "message": message}


def worth_writing(run: Manifest, at: str, known: Manifest | None, known_at: str) -> bool:
    """Whether a run of a loop, which ends one every few seconds, is written: once a minute if it did something."""
    if known is None or known["result"] != run["result"]:
        return True
    idle = all(each["rows"] == each["backlogRows"] == 0 for each in (run, known)) and known["message"] == run["message"]
    return not idle and datetime.fromisoformat(at) - datetime.fromisoformat(known_at) >= timedelta(minutes=1)


def run_status(report: Mapping[str, Any]) -> Manifest:
    if report.get("mode") == "dry-run":
        report = _dry(report)
    result = report.get("result")
    tables = dict(list((report.get("tables") or {}).items())[:8])
    failures = {
        failure.get("table"): "{code} {cause}: {message}".format_map(failure)
        for failure in report.get("failures") or []
    }
    return {
        "result": result if result in _RESULTS else ("Succeeded" if report.get("ok") else "Failed"),
        "rows": int(report.get("rows") or 0),
        "bytes": int(report.get("bytes") or 0),
        "backlogRows": sum(int(table.get("backlogRows") or 0) for table in tables.values()),
        "backlogSeconds": max((int(table.get("backlogSeconds") or 0) for table in tables.values()), default=0),
        "duration": str(report.get("duration") or "")[:20],
        "message": str(report.get("message") or "")[:4096],
        "tables": {
            name: {
                "rows": int(table.get("rows") or 0),
                "bytes": int(table.get("bytes") or 0),
                "backlogRows": int(table.get("backlogRows") or 0),
                "backlogSeconds": int(table.get("backlogSeconds") or 0),
                "oldestInHot": str(table.get("oldestInHot") or "")[:40],
                **({"failure": failures[name][:1024]} if name in failures else {}),
            }
            for name, table in tables.items()
        },
    }
