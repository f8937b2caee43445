"""A backlog of two million messages: one Pod at first, as many as may be while rows are late, and one again after it."""

from __future__ import annotations

import json
import time

import pytest

from tests.e2e import data
from tests.e2e.cluster import apply, condition, get, kubectl, patch, ready, reason, until
from tests.e2e.conftest import install

MESSAGES = 2_000_000
MOST = 4
SPEC = {
    "suspend": True,  # until there is a backlog
    "nats": {"url": "nats://nats:4222", "authSecretRef": {"name": "nats-auth"}},
    "clickhouse": {"url": "http://clickhouse:8123", "authSecretRef": {"name": "clickhouse-auth"}},
    "dataTypes": {"trade": {}},
    "consumers": {
        "main": {
            "dataTypes": ["trade"],
            "autoscale": {"min": 1, "max": MOST, "targetLag": "10s"},
            # One Pod with a whole core would be done before it is looked at twice.
            "resources": {"requests": {"cpu": "50m", "memory": "128Mi"}, "limits": {"cpu": "250m", "memory": "512Mi"}},
        }
    },
}


def pods() -> int:
    """That are wanted."""
    replicas: int = get("deployment", "main-main")["spec"]["replicas"]
    return replicas


def stored() -> int:
    return int(data.sql("SELECT count() FROM marketprism_hot.trades")[0][0])


@pytest.mark.timeout(3000)
def test_a_backlog_is_drained_by_more_pods_and_one_is_left(cluster: None, capsys: pytest.CaptureFixture[str]) -> None:
    install()
    api = {"apiVersion": "storage.marketprism.io/v1alpha1", "kind": "StoragePipeline"}
    apply({**api, "metadata": {"name": "main"}, "spec": SPEC})
    reason("storagepipeline", "main", "Ready", "Suspended")
    until("the streams are made", lambda: "MARKET_DATA" in data.subjects())
    data.start_feed(f"--rate 0 --count {MESSAGES} --types trade --symbols 50")
    assert data.fed(seconds=900)["stored"] == MESSAGES
    assert stored() == 0

    began = time.monotonic()
    seen: list[tuple[int, int, int]] = []

    def look() -> tuple[int, int]:
        """Pods and rows, and notes them."""
        now = pods(), stored()
        seen.append((round(time.monotonic() - began), *now))
        return now

    patch("storagepipeline", "main", {"suspend": False})
    until(f"there are {MOST} Pods", lambda: look()[0] == MOST, seconds=600)
    up = time.monotonic() - began
    assert stored() < MESSAGES, "the last Pods came when all was done"
    until("all is stored", lambda: look()[1] >= MESSAGES, seconds=1200)
    drained = time.monotonic() - began
    until("one Pod is left", lambda: look()[0] == 1, seconds=1200)
    down = time.monotonic() - began

    rising, falling = ([count for _, count, rows in seen if (rows < MESSAGES) == full] for full in (True, False))
    assert rising == sorted(rising)
    assert falling == sorted(falling, reverse=True)
    pipeline = ready("storagepipeline", "main")
    assert condition(pipeline, "ScaledToLag")["status"] == "True"
    report = data.proven()
    (trades,) = report["types"]
    assert (trades["held"], trades["rows"], trades["pending"]) == (MESSAGES, MESSAGES, 0)
    assert data.sql("SELECT count(), uniqExact(_stream, _seq) FROM marketprism_hot.trades") == [[str(MESSAGES)] * 2]
    events = json.loads(kubectl("get", "events", "--field-selector", "reason=Scaled", "-o", "json"))["items"]
    with capsys.disabled():
        print(
            f"\n{MESSAGES:,} messages: {MOST} Pods after {up:.0f} s, drained after {drained:.0f} s, one Pod after {down:.0f} s"
        )
        changes = [one for before, one in zip([(0, 0, 0), *seen], seen, strict=False) if before[1] != one[1]]
        print("\n".join(f"  {at:>4} s  {count} Pods  {rows:>9,} rows" for at, count, rows in changes))
        print("\n".join(f"  {event['message']}" for event in events))
