"""What happens to a pipeline that runs, with the feed going on. Nothing of it may lose or double a message."""

from __future__ import annotations

import json

import pytest

from tests.e2e import data
from tests.e2e.cluster import Failed, find, get, kubectl, names, patch, ready, reason, rolled_out, until


def pods(consumer: str) -> set[str]:
    """Those that are not on their way out."""
    found = find("pod", pipeline="main", consumer=consumer)
    return names([one for one in found if not one["metadata"].get("deletionTimestamp")])


def replaced(consumer: str, before: set[str]) -> set[str]:
    return until(f"the Pods of {consumer} are others", lambda: (now := pods(consumer)) and not now & before and now)


def test_a_consumer_is_killed_under_load() -> None:
    victim, *_ = pods("fast")
    kubectl("delete", "pod", victim, *pods("slow"), "--grace-period=0", "--force")
    rolled_out("main-fast")
    rolled_out("main-slow")
    data.arriving()
    data.proven()


def test_a_deployment_is_restarted_by_hand() -> None:
    before = pods("fast")
    kubectl("rollout", "restart", "deployment/main-fast")
    rolled_out("main-fast")
    replaced("fast", before)
    data.arriving()


def test_a_larger_batch_rolls_exactly_the_pods_concerned() -> None:
    fast, slow = pods("fast"), pods("slow")
    patch("storagepipeline", "main", {"dataTypes": {"trade": {"batch": {"maxRows": 500}}}})
    replaced("fast", fast)
    ready("storagepipeline", "main")
    assert pods("slow") == slow
    data.arriving()


def test_the_password_of_clickhouse_is_changed() -> None:
    fast, slow = pods("fast"), pods("slow")
    kubectl("patch", "secret", "clickhouse-auth", "-p", json.dumps({"stringData": {"password": "another"}}))
    kubectl("exec", "clickhouse", "--", "bash", "-c", "kill -TERM 1")
    replaced("fast", fast)
    replaced("slow", slow)
    assert until("ClickHouse takes the new password", lambda: data.sql("SELECT 1")) == [["1"]]
    ready("storagepipeline", "main")
    data.arriving()
    data.proven()


@pytest.mark.parametrize(
    ("edit", "field"),
    [
        (("scale", "deployment/main-fast", "--replicas=3"), "spec.replicas"),
        (
            ("set", "image", "deployment/main-slow", "consumer=localhost/other:1"),
            "spec.template.spec.containers[consumer].image",
        ),
        (("label", "service/main-metrics", "storage.marketprism.io/pipeline=other", "--overwrite"), "metadata.labels"),
    ],
    ids=["replicas", "image", "label"],
)
def test_a_child_that_is_edited_is_put_back_and_the_field_named(edit: tuple[str, ...], field: str) -> None:
    kubectl(*edit)

    def told() -> bool:
        events = json.loads(kubectl("get", "events", "--field-selector", "reason=DriftCorrected", "-o", "json"))[
            "items"
        ]
        return any(field in event["message"] for event in events)

    until(f"an Event names {field}", told)
    ready("storagepipeline", "main")
    assert get("deployment", "main-fast")["spec"]["replicas"] == 2


@pytest.mark.parametrize(
    "child",
    [
        "service/main-metrics",
        "serviceaccount/main-storage",
        "pdb/main-fast",
        "deployment/main-slow",
    ],
)
def test_a_child_that_is_deleted_comes_again(child: str) -> None:
    kind, _, name = child.partition("/")
    uid = get(kind, name)["metadata"]["uid"]
    kubectl("delete", child)
    until(f"{child} is there again", lambda: get(kind, name)["metadata"]["uid"] != uid)
    ready("storagepipeline", "main")


def test_a_spec_that_no_consumer_could_obey_is_refused_by_the_api_server() -> None:
    with pytest.raises(Failed, match=r"spec.consumers.fast.replicas.*greater than or equal to 0|replicas"):
        patch("storagepipeline", "main", {"consumers": {"fast": {"replicas": -1}}})


def test_a_broken_spec_stops_nothing_and_can_be_mended() -> None:
    patch("storagepipeline", "main", {"clickhouse": {"authSecretRef": {"name": "nowhere"}}})
    assert "Secret/nowhere" in reason("storagepipeline", "main", "Ready", "SecretMissing")
    data.arriving()
    patch("storagepipeline", "main", {"clickhouse": {"authSecretRef": {"name": "clickhouse-auth"}}})
    ready("storagepipeline", "main")


def test_an_overlay_that_no_pod_can_have_stops_nothing_and_can_be_mended() -> None:
    broken = {"spec": {"containers": [{"name": "consumer", "imagePullPolicy": "Sometimes"}]}}
    patch("storagepipeline", "main", {"consumers": {"slow": {"podTemplate": broken}}})
    assert "imagePullPolicy" in reason("storagepipeline", "main", "Ready", "ApplyRefused")
    data.arriving()
    patch("storagepipeline", "main", {"consumers": {"slow": {"podTemplate": None}}})
    ready("storagepipeline", "main")


def test_suspended_it_drains_and_stands_still_and_resumed_it_goes_on() -> None:
    patch("storagepipeline", "main", {"suspend": True})
    until("all Pods have gone", lambda: not find("pod", pipeline="main", component="consumer"))
    reason("storagepipeline", "main", "Ready", "Suspended")
    before = data.rows("marketprism_hot", "marketprism_cold")
    report = data.proven()
    assert sum(one["pending"] for one in report["types"]) > 0
    assert data.rows("marketprism_hot", "marketprism_cold") == before
    patch("storagepipeline", "main", {"suspend": False})
    ready("storagepipeline", "main")
    data.arriving()
