"""Which changes of a Secret replace Pods: those that were seen, and not the seeing itself."""

from __future__ import annotations

from itertools import pairwise

import pytest

from marketprism_operator.naming import SECRETS_HASH, UNREADABLE, Manifest
from marketprism_operator.references import unmoved


def deployment(secrets: str | None) -> Manifest:
    """As it is built; without Secrets where there are none."""
    metadata = {"annotations": {"other": "kept", **({SECRETS_HASH: secrets} if secrets else {})}}
    return {"metadata": {"name": "d", "annotations": {"ours": "kept"}}, "spec": {"template": {"metadata": metadata}}}


def hash_after(*seen: str) -> list[str]:
    """The Pod template's hash after each look."""
    live: Manifest | None = None
    hashes = []
    for look in seen:
        live = unmoved(deployment(look), live)
        hashes.append(live["spec"]["template"]["metadata"]["annotations"][SECRETS_HASH])
    return hashes


@pytest.mark.parametrize(
    ("seen", "rolls"),
    [
        (["a", "a", "b"], [False, True]),
        ([UNREADABLE, "a", "b"], [False, True]),
        (["a", UNREADABLE, "a", "b"], [False, False, True]),
        (["a", UNREADABLE, "b"], [False, True]),
        ([UNREADABLE, UNREADABLE], [False]),
        (["a", "b", UNREADABLE, "b", UNREADABLE, "c"], [True, False, False, False, True]),
    ],
    ids=["changed", "seen at last", "not seen for a while", "changed meanwhile", "never seen", "all of it"],
)
def test_what_rolls(seen: list[str], rolls: list[bool]) -> None:
    found = hash_after(*seen)
    assert [one != other for one, other in pairwise(found)] == rolls


def test_pods_of_before_stay_though_nothing_was_noted_beside_them() -> None:
    live = deployment("of another version")
    assert unmoved(deployment("a"), live)["spec"] == live["spec"]


def test_what_is_not_about_secrets_is_left_alone() -> None:
    made = unmoved(deployment("a"), None)
    assert made["metadata"]["annotations"] == {"ours": "kept", SECRETS_HASH: "a"}
    assert made["spec"]["template"]["metadata"]["annotations"] == {"other": "kept", SECRETS_HASH: "a"}
    assert unmoved(deployment(None), made)["spec"] == deployment(None)["spec"]
