"""The cache is never older than what a watch has told, nor than what our own write was answered."""

from __future__ import annotations

from typing import Any

import pytest

from marketprism_operator.cache import KindCache
from marketprism_operator.naming import PIPELINE


def made(version: int, uid: str = "u", name: str = "a", labels: Any = None, **rest: Any) -> dict[str, Any]:
    metadata = {"namespace": "n", "name": name, "uid": uid, "resourceVersion": str(version), "labels": labels or {}}
    return {"metadata": metadata, "spec": {"replicas": 1}, **rest}


@pytest.fixture
def store() -> KindCache:
    return KindCache("apps/v1", "Deployment")


def version(store: KindCache) -> str | None:
    found = store.get("n", "a")
    return found and found["metadata"]["resourceVersion"]


def test_what_was_put_is_found_whole_and_as_a_copy(store: KindCache) -> None:
    put = made(5, status={"readyReplicas": 1})
    assert store.put(put)
    found = store.get("n", "a")
    assert found == {"apiVersion": "apps/v1", "kind": "Deployment", **put}
    found["spec"]["replicas"] = 9
    assert store.get("n", "a") == {"apiVersion": "apps/v1", "kind": "Deployment", **put}


def test_a_watch_that_is_behind_our_own_write_changes_nothing(store: KindCache) -> None:
    store.put(made(5))
    store.put(made(8, spec={"replicas": 3}))  # as our write was answered
    assert not store.put(made(6)), "told late"
    assert not store.put(made(8, spec={"replicas": 3})), "our own write, as the watch tells it, is no news"
    found = store.get("n", "a")
    assert found
    assert found["spec"] == {"replicas": 3}


def test_versions_are_compared_as_numbers(store: KindCache) -> None:
    store.put(made(9))
    assert store.put(made(10))
    assert version(store) == "10"


def test_what_we_have_deleted_does_not_come_back_by_a_watch_that_is_behind(store: KindCache) -> None:
    store.put(made(5))
    store.deleted("n", "a", "u")
    assert store.get("n", "a") is None
    assert not store.put(made(6))
    assert store.get("n", "a") is None
    store.remove(made(7))
    assert store.get("n", "a") is None


def test_what_is_made_again_after_our_deletion_stays_when_that_is_told(store: KindCache) -> None:
    store.put(made(5, "old"))
    store.deleted("n", "a", "old")
    store.put(made(8, "new"))  # as our write was answered
    assert not store.put(made(6, "old"))
    store.remove(made(7, "old"))
    assert version(store) == "8"


def test_a_deletion_of_another_object_of_that_name_is_none(store: KindCache) -> None:
    store.put(made(8, "new"))
    store.deleted("n", "a", "old")
    assert version(store) == "8"


def test_a_list_takes_out_what_has_gone_while_nobody_watched(store: KindCache) -> None:
    store.put(made(5, "u1"))
    store.put(made(6, "u2", "b"))
    assert [gone["metadata"]["name"] for gone in store.prune({"u2"}, 7)] == ["a"]
    assert store.get("n", "a") is None
    assert store.get("n", "b")


def test_a_list_that_is_older_than_our_own_write_leaves_it(store: KindCache) -> None:
    store.put(made(9))
    assert list(store.prune(set(), 7)) == []
    assert version(store) == "9"


def test_a_list_that_is_older_than_our_deletion_does_not_undo_it(store: KindCache) -> None:
    store.put(made(5))
    store.deleted("n", "a", "u")
    assert not store.put(made(5))
    assert list(store.prune({"u"}, 6)) == []
    assert store.get("n", "a") is None


def test_a_new_status_is_no_new_spec(store: KindCache) -> None:
    def since() -> int:
        entry = store.entry("n", "a")
        assert entry
        return entry.since

    store.put(made(5))
    store.put(made(6, status={"readyReplicas": 1}))
    assert (version(store), since()) == ("6", 5)
    store.put(made(7, spec={"replicas": 2}))
    assert since() == 7
    store.put(made(8, labels={"x": "y"}, spec={"replicas": 2}))
    assert since() == 8
    store.put(made(9, "another", labels={"x": "y"}, spec={"replicas": 2}))
    assert since() == 9


def test_children_are_found_by_their_parent_and_lost_with_its_label(store: KindCache) -> None:
    store.put(made(5, "1", "a", {PIPELINE: "p", "x": "1"}))
    store.put(made(6, "2", "b", {PIPELINE: "p", "x": "2"}))
    store.put(made(7, "3", "c", {PIPELINE: "q", "x": "1"}))

    def names(namespace: str, **labels: str) -> list[str]:
        found = store.list(namespace, {key.replace("parent", PIPELINE): value for key, value in labels.items()})
        return [each["metadata"]["name"] for each in found]

    assert names("n", parent="p") == ["a", "b"]
    assert names("n", parent="p", x="2") == ["b"]
    assert names("n", x="1") == ["a", "c"]
    assert names("other", parent="p") == names("other") == []
    store.put(made(8, "1", "a", {"x": "1"}))
    assert names("n", parent="p") == ["b"]
    store.remove(made(9, "2", "b"))
    assert names("n", parent="p") == []


def test_of_secrets_only_versions_are_kept() -> None:
    store = KindCache("v1", "Secret", versions_only=True)
    found = made(5)
    found["metadata"]["annotations"] = {"last-applied-configuration": "c2VjcmV0"}
    store.put(found)
    assert "c2VjcmV0" not in repr(vars(store))
    entry = store.entry("n", "a")
    assert entry
    assert entry.version == 5


def test_a_list_says_the_same_as_a_watch_which_names_the_kind_too(store: KindCache) -> None:
    store.put(made(5))
    store.put({**made(6), "apiVersion": "apps/v1", "kind": "Deployment"})
    entry = store.entry("n", "a")
    assert entry
    assert entry.since == 5


def test_of_a_pod_only_where_it_answers_and_its_status_are_kept() -> None:
    store = KindCache("v1", "Pod")
    port = {"name": "metrics", "containerPort": 9090}
    container = {"name": "consumer", "image": "x", "env": [{"name": "A", "value": "b"}], "ports": [port]}
    store.put(made(5, status={"podIP": "10.0.0.1"}) | {"spec": {"containers": [container], "nodeName": "one"}})
    found = store.get("n", "a")
    assert found
    assert found["spec"] == {"containers": [{"name": "consumer", "ports": [port]}]}
    assert found["status"] == {"podIP": "10.0.0.1"}
