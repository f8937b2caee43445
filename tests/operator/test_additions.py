"""What somebody else has added to a Pod template, by what the API server notes of who owns what."""

from __future__ import annotations

from typing import Any

from marketprism_operator.additions import Addition, additions

CONTAINER = 'k:{"name":"consumer"}'


def owned(manager: str, spec: dict[str, Any], subresource: str = "") -> dict[str, Any]:
    entry = {"manager": manager, "fieldsV1": {"f:spec": {"f:template": {"f:spec": spec}}}}
    return {**entry, "subresource": subresource} if subresource else entry


def deployment(spec: dict[str, Any], *managed: dict[str, Any]) -> dict[str, Any]:
    return {"kind": "Deployment", "metadata": {"managedFields": list(managed)}, "spec": {"template": {"spec": spec}}}


WANTED = {
    "spec": {
        "template": {"spec": {"containers": [{"name": "consumer", "image": "x", "env": [{"name": "A", "value": "x"}]}]}}
    }
}


def added(live: dict[str, Any]) -> list[Addition]:
    return additions(live, WANTED)


def env(*names: str) -> dict[str, Any]:
    return {"containers": [{"name": "consumer", "env": [{"name": name, "value": "x"} for name in names]}]}


def theirs(*names: str) -> dict[str, Any]:
    entries = {f'k:{{"name":"{name}"}}': {".": {}, "f:name": {}, "f:value": {}} for name in names}
    return owned("kubectl-set", {"f:containers": {CONTAINER: {"f:env": entries}}})


def test_nothing_is_added_where_all_is_ours() -> None:
    assert added(deployment(env("A"))) == []


def test_a_variable_is_named_and_found() -> None:
    (found,) = added(deployment(env("A", "B"), theirs("B")))
    assert found == ("/spec/template/spec/containers/0/env/1", "spec.template.spec.containers[consumer].env[B]")


def test_of_several_in_a_list_the_last_is_removed_first() -> None:
    found = added(deployment(env("B", "A", *"CDEFGHIJKL"), theirs(*"BCDEFGHIJKL")))
    numbers = [int(each.pointer.rpartition("/")[2]) for each in found]
    assert numbers == sorted(numbers, reverse=True)
    assert len(numbers) == 11


def test_what_is_ours_as_well_is_no_addition() -> None:
    assert added(deployment(env("A"), theirs("A"))) == []


def test_a_field_and_a_container_beside_ours() -> None:
    spec = {**env("A"), "nodeSelector": {"zone": "a"}}
    spec["containers"].append({"name": "other"})
    more = owned("kubectl-edit", {"f:nodeSelector": {"f:zone": {}}, "f:containers": {'k:{"name":"other"}': {".": {}}}})
    assert {each.pointer for each in added(deployment(spec, more))} == {
        "/spec/template/spec/nodeSelector",
        "/spec/template/spec/containers/1",
    }


def test_a_status_and_annotations_are_nobodys_additions() -> None:
    restart = {"f:spec": {"f:template": {"f:metadata": {"f:annotations": {"f:restartedAt": {}}}}}}
    live = deployment(env("A"), {"manager": "kubectl-rollout", "fieldsV1": restart})
    assert added(live) == []
    assert added(deployment(env("A", "B"), {**theirs("B"), "subresource": "status"})) == []


def test_what_is_gone_meanwhile_is_not_looked_for() -> None:
    assert added(deployment(env("A"), theirs("B"))) == []


def test_of_other_kinds_nothing_is_said() -> None:
    assert added({"kind": "Service", "metadata": {"managedFields": []}}) == []


def test_a_wanted_field_that_somebody_took_over_is_no_addition() -> None:
    """As `kubectl set image` does: applying puts it back."""
    live = deployment(
        {"containers": [{"name": "consumer", "image": "other"}]},
        owned("kubectl-set", {"f:containers": {CONTAINER: {"f:image": {}}}}),
    )
    assert added(live) == []


def test_a_key_of_which_the_manifest_leaves_out_what_has_a_default_is_found() -> None:
    wanted = {"spec": {"template": {"spec": {"containers": [{"name": "consumer", "ports": [{"containerPort": 1}]}]}}}}
    spec = {"containers": [{"name": "consumer", "ports": [{"containerPort": 1, "protocol": "TCP"}]}]}
    port = 'k:{"containerPort":1,"protocol":"TCP"}'
    live = deployment(spec, owned("kubectl-edit", {"f:containers": {CONTAINER: {"f:ports": {port: {".": {}}}}}}))
    assert additions(live, wanted) == []
