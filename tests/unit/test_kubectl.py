"""What `kubectl marketprism` makes and reads, without a cluster."""

from __future__ import annotations

import json
from typing import Any

import pytest

from marketprism_consumer.commands.kubectl.audit import job
from marketprism_consumer.commands.kubectl.logs import as_json
from marketprism_consumer.commands.kubectl.status import summary
from marketprism_consumer.kubectl import refusal
from marketprism_operator.builders import deployment, network_policy
from marketprism_operator.builders.request import BuildRequest
from tests.operator.test_builders import pipeline

PIPELINE: dict[str, Any] = {
    "apiVersion": "storage.marketprism.io/v1alpha1",
    "kind": "StoragePipeline",
    "metadata": {"name": "main", "namespace": "n", "uid": "u", "generation": 2},
}


def test_an_audit_is_a_consumer_without_its_ports_probes_and_sidecars() -> None:
    request = BuildRequest(pipeline(clickhouse={"authSecretRef": {"name": "auth"}}), "image:1")
    made = deployment.build(request, "default", request.pipeline.spec.carriers["default"])
    template = made["spec"]["template"]
    template["spec"]["containers"].append({"name": "sidecar", "image": "x"})
    audit = job("main-audit-1", PIPELINE, template, ["--deep", "--output=json"])
    (container,) = audit["spec"]["template"]["spec"]["containers"]
    assert container["args"] == ["audit", "-f", "/etc/marketprism/pipeline.yaml", "--deep", "--output=json"]
    assert not {"ports", "livenessProbe", "readinessProbe"} & container.keys()
    consumer = template["spec"]["containers"][0]
    assert {key: container[key] for key in ("image", "env", "volumeMounts", "securityContext")} == {
        key: consumer[key] for key in ("image", "env", "volumeMounts", "securityContext")
    }
    labels = audit["spec"]["template"]["metadata"]["labels"]
    assert not made["spec"]["selector"]["matchLabels"].items() <= labels.items(), "a Deployment would count it"
    policy = network_policy.build(request)["spec"]["podSelector"]["matchLabels"]
    assert policy.items() <= labels.items(), "it may connect to what consumers may"
    assert not policy.items() <= audit["metadata"]["labels"].items(), "the operator would take the Job away"
    assert audit["metadata"]["ownerReferences"][0]["uid"] == "u"


def test_a_line_of_a_log_is_an_object_with_its_pod() -> None:
    assert json.loads(as_json('[pod/main-fast-0/consumer] {"a": "[x]"}\n')) == {
        "pod": "main-fast-0",
        "line": '{"a": "[x]"}',
    }
    assert json.loads(as_json("no prefix\n")) == {"pod": "", "line": "no prefix"}


@pytest.mark.parametrize(
    ("said", "usage"),
    [
        ('Error from server (NotFound): storagepipelines "x" not found', True),
        ('error: context "x" does not exist', True),
        ('error: the server doesn\'t have a resource type "storagepipelines"', True),
        ("Error from server (Forbidden): pods is forbidden", False),
        ("error: You must be logged in to the server (Unauthorized)", False),
        ("Unable to connect to the server: EOF", False),
        ("", False),
    ],
)
def test_what_is_asked_wrongly_is_told_from_what_the_cluster_does_not_let_one_do(said: str, usage: bool) -> None:
    assert refusal(said).usage is usage


@pytest.mark.parametrize(("generation", "ready"), [(1, "Unknown"), (2, "True")])
def test_ready_is_of_the_present_spec(generation: int, ready: str) -> None:
    told = {"type": "Ready", "status": "True", "reason": "AllWell", "observedGeneration": generation}
    assert summary(PIPELINE | {"status": {"conditions": [told]}})["ready"] == ready
