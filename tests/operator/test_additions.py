"""What somebody else has added to a Pod template, by what the API server notes of who owns what."""

from __future__ import annotations

from typing import Any

from marketprism_operator.additions import additions
from marketprism_operator.naming import FIELD_MANAGER

CONTAINER = 'k:{"name":"consumer"}'


def owned(manager: str, spec: dict[str, Any], subresource: str = "") -> dict[str, Any]:
    entry = {"manager": manager, "fieldsV1": {"f:spec": {"f:template": {"f:spec": spec}}}}
    return {**entry, "subresource": subresource} if subresource else entry


def deployment(spec: dict[str, Any], *managed: dict[str, Any]) -> dict[str, Any]:
    return {"kind": "Deployment", "metadata": {"managedFields": list(managed)}, "spec": {"template": {"spec": spec}}}


OURS = owned(
    FIELD_MANAGER,
    {
        "f:containers": {
            CONTAINER: {".": {}, "f:name": {}, "f:env": {'k:{"name":"A"}': {".": {}, "f:name": {}, "f:value": {}}}}
        }
    },
)


def env(*names: str) -> dict[str, Any]:
    return {"containers": [{"name": "consumer", "env": [{"name": name, "value": "x"} for name in names]}]}


def theirs(*names: str) -> dict[str, Any]:
    entries = {f'k:{{"name":"{name}"}}': {".": {}, "f:name": {}, "f:value": {}} for name in names}
    return owned("kubectl-set", {"f:containers": {CONTAINER: {"f:env": entries}}})


def test_nothing_is_added_where_all_is_ours() -> None:
    assert additions(deployment(env("A"), OURS)) == []


def test_a_variable_is_named_and_found() -> None:
    (found,) = additions(deployment(env("A", "B"), OURS, theirs("B")))
    assert found == ("/spec/template/spec/containers/0/env/1", "spec.template.spec.containers[consumer].env[B]")


def test_of_several_in_a_list_the_last_is_removed_first() -> None:
    found = additions(deployment(env("B", "A", *"CDEFGHIJKL"), OURS, theirs(*"BCDEFGHIJKL")))
    numbers = [int(each.pointer.rpartition("/")[2]) for each in found]
    assert numbers == sorted(numbers, reverse=True)
    assert len(numbers) == 11


def test_what_is_ours_as_well_is_no_addition() -> None:
    assert additions(deployment(env("A"), OURS, theirs("A"))) == []


def test_a_field_and_a_container_beside_ours() -> None:
    spec = {**env("A"), "nodeSelector": {"zone": "a"}}
    spec["containers"].append({"name": "other"})
    more = owned("kubectl-edit", {"f:nodeSelector": {"f:zone": {}}, "f:containers": {'k:{"name":"other"}': {".": {}}}})
    assert {each.pointer for each in additions(deployment(spec, OURS, more))} == {
        "/spec/template/spec/nodeSelector",
        "/spec/template/spec/containers/1",
    }


def test_a_status_and_annotations_are_nobodys_additions() -> None:
    restart = {"f:spec": {"f:template": {"f:metadata": {"f:annotations": {"f:restartedAt": {}}}}}}
    live = deployment(env("A"), OURS, {"manager": "kubectl-rollout", "fieldsV1": restart})
    assert additions(live) == []
    assert additions(deployment(env("A", "B"), OURS, {**theirs("B"), "subresource": "status"})) == []


def test_what_is_gone_meanwhile_is_not_looked_for() -> None:
    assert additions(deployment(env("A"), OURS, theirs("B"))) == []


def test_of_other_kinds_nothing_is_said() -> None:
    assert additions({"kind": "Service", "metadata": {"managedFields": [OURS]}}) == []
