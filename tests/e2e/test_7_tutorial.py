"""The tutorial for Kubernetes, pasted line by line on a cluster that has nothing of it yet."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.docs.pages import ROOT, typed
from tests.e2e.cluster import kubectl, run, until
from tests.e2e.conftest import HERE, VALUES, remove

PAGE = ROOT / "docs/tutorial/kubernetes.md"
NAMESPACE = "recording"
# What a reader puts in, and what a script can't look at for ever.
AS_PASTED = {"password=...": "password=e2e", " --watch": "", "helm install": f"helm install --wait --set {VALUES}"}


@pytest.fixture
def clean() -> Iterator[None]:
    def away() -> None:
        remove()
        run("helm", "uninstall", "marketprism", "--namespace", "marketprism", "--ignore-not-found")
        run("kubectl", "delete", "namespace", NAMESPACE, "marketprism", "--ignore-not-found")

    away()
    yield
    away()


def bring_servers() -> None:
    """What the page takes for granted: a NATS and a ClickHouse with the credentials of its Secrets, and a collector."""
    manifests = [one for one in yaml.safe_load_all((HERE / "servers.yaml").read_text()) if one["kind"] != "Secret"]
    kubectl("apply", "-f", "-", given=yaml.safe_dump_all(manifests), namespace=NAMESPACE)
    kubectl("wait", "pod", "--all", "--for=condition=Ready", "--timeout=60s", namespace=NAMESPACE)
    feed = ["marketprism", "feed", "--count", "500", "--rate", "0", "--streams", "orderbook=ORDERBOOK_SNAP"]
    kubectl("exec", "tools", "--", *feed, namespace=NAMESPACE)


def stored() -> bool:
    status = json.loads(kubectl("get", "storagepipeline", "main", "-o", "json", namespace=NAMESPACE))["status"]
    return "lastInsertTime" in status and not status["pending"] + status["ackPending"]


def test_the_tutorial_works_by_pasting(clean: None) -> None:
    for line in [one.line for one in typed(PAGE)]:
        pasted = line
        for old, new in AS_PASTED.items():
            pasted = pasted.replace(old, new)
        said = run("sh", "-c", f"PATH={Path(sys.executable).parent}:$PATH; cd {ROOT}; {pasted}")
        if "secret generic nats-auth" in line:
            bring_servers()
        if line.endswith("apply -f examples/pipeline.yaml"):
            kubectl("wait", "storagepipeline", "main", "--for=condition=Ready", "--timeout=60s", namespace=NAMESPACE)
            until("all that was published is stored", stored)
        if "marketprism audit" in line:
            assert said.splitlines()[-1].startswith("PROVEN")
        if "get storagepipelines" in line:
            assert "True" in said.splitlines()[1]
