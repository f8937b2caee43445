"""The numbers and names of a status. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from marketprism_api.pipeline import StoragePipeline

from marketprism_operator.naming import Manifest
from marketprism_operator.observe import Seen

_RESULTS = ("Succeeded", "Failed", "LimitReached")


def of_pipeline(pipeline: StoragePipeline, image: str, seen: Seen, before: Mapping[str, Any], renew: bool) -> Manifest:
    """`renew`: take the numbers that always move, too. Else they stay, so that at rest nothing is written."""
    consumers = {}
    for name, one in pipeline.spec.carriers.items():
        live = seen.deployments.get(str(name)) or {}
        consumers[str(name)] = {
            "deployment": live.get("metadata", {}).get("name", ""),
            "dataTypes": [data_type.value for data_type in one.data_types],
            "replicas": 0 if pipeline.spec.suspend else one.replicas,
            "readyReplicas": live.get("status", {}).get("readyReplicas") or 0,
        }
    data_types = {}
    known = before.get("dataTypes") or {}
    for data_type in pipeline.spec.stored:
        lags = [w.data_types[data_type].get("lag") or 0 for w in seen.words.values() if data_type.value in w.data_types]
        kept = (known.get(data_type.value) or {}).get("pending", 0)
        data_types[data_type.value] = {
            "stream": pipeline.spec.stream(data_type),
            "durable": pipeline.durable(data_type),
            "pending": int(max(lags)) if lags and renew else kept,
        }
    job = (seen.schema_job or {}).get("metadata", {}).get("name", "")
    return {
        "replicas": sum(one["replicas"] for one in consumers.values()),
        "readyReplicas": sum(one["readyReplicas"] for one in consumers.values()),
        "pending": sum(one["pending"] for one in data_types.values()),
        "stream": ",".join(dict.fromkeys(pipeline.spec.stream(t) for t in pipeline.spec.stored))[:256],
        "image": image[:512],
        "schemaJob": job,
        "schemaHash": job.rpartition("-")[2],
        "consumers": consumers,
        "dataTypes": data_types,
    }


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
    at, report = max(found, key=lambda one: one[0])
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


def run_status(report: Mapping[str, Any]) -> Manifest:
    result = report.get("result")
    return {
        "result": result if result in _RESULTS else ("Succeeded" if report.get("ok") else "Failed"),
        "rows": int(report.get("rows") or 0),
        "bytes": int(report.get("bytes") or 0),
        "duration": str(report.get("duration") or "")[:20],
        "message": str(report.get("message") or "")[:4096],
        "tables": {
            name: {"rows": int(one.get("rows") or 0), "bytes": int(one.get("bytes") or 0)}
            for name, one in list((report.get("tables") or {}).items())[:8]
        },
    }
