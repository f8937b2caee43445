"""The tutorial for Kubernetes, pasted line by line on a cluster that has nothing of it yet; and in the middle of it, what
other pages tell people to type there."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from tests.docs.pages import ROOT, typed
from tests.e2e.cluster import kubectl, run, until
from tests.e2e.conftest import HERE, VALUES, remove

TUTORIAL = ROOT / "docs/tutorial/kubernetes.md"
NAMESPACE = "recording"
OTHER_PAGES = [
    ROOT / "docs/howto/upgrading.md",
    ROOT / "docs/operations/troubleshooting.md",
    ROOT / "docs/reference/conditions.md",
    *sorted((ROOT / "docs/runbooks").glob("*.md")),
]
# What a reader puts in, what a script can't look at for ever, and what this pipeline has not (a container that ended).
AS_PASTED = {
    "password=...": "password=e2e",
    " --watch": "",
    "helm install": f"helm install --wait --set {VALUES}",
    "--namespace marketprism-system": "--namespace marketprism",
    "main-default": "main-fast",
    " --previous": "",
}


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
    """What the page takes for granted: a NATS and a ClickHouse with the credentials of its Secrets, and nothing in them."""
    manifests = [one for one in yaml.safe_load_all((HERE / "servers.yaml").read_text()) if one["kind"] != "Secret"]
    kubectl("apply", "-f", "-", given=yaml.safe_dump_all(manifests), namespace=NAMESPACE)
    kubectl("wait", "pod", "--all", "--for=condition=Ready", "--timeout=120s", namespace=NAMESPACE)


def collect() -> None:
    """What a collector does, once there are streams."""
    feed = ["marketprism", "feed", "--count", "500", "--rate", "0", "--streams", "orderbook=ORDERBOOK_SNAP"]
    kubectl("exec", "tools", "--", *feed, namespace=NAMESPACE)


def stored() -> bool:
    """By the audit that the tutorial ends with. The pipeline's status is only as new as the last look at the Pods."""
    audit = ["marketprism", "audit", "-f", "/etc/marketprism/pipeline.yaml", "--output", "json"]
    said = kubectl("exec", "deploy/main-fast", "--", *audit, namespace=NAMESPACE)
    return not any(one["pending"] for one in json.loads(said.splitlines()[0])["types"])


@pytest.fixture
def paste(tmp_path: Path) -> Callable[[str], str]:
    """Types a line as a reader does, whose kubectl is at the tutorial's namespace."""
    config = tmp_path / "kubeconfig"
    config.write_text(run("kubectl", "config", "view", "--raw", "--minify", "--flatten"))
    run("kubectl", "--kubeconfig", str(config), "config", "set-context", "--current", "--namespace", NAMESPACE)
    setting = f"PATH={Path(sys.executable).parent}:$PATH; export KUBECONFIG={config}; cd {ROOT}; "

    def paste(line: str) -> str:
        for old, new in AS_PASTED.items():
            line = line.replace(old, new)
        return run("sh", "-c", setting + line)

    return paste


def test_the_tutorial_works_by_pasting(clean: None, paste: Callable[[str], str]) -> None:
    elsewhere = [one.line for page in OTHER_PAGES for one in typed(page) if one.line.startswith(("kubectl ", "helm "))]
    assert len(elsewhere) > 10
    for line in [one.line for one in typed(TUTORIAL)]:
        said = paste(line)
        if "secret generic nats-auth" in line:
            bring_servers()
        if line.endswith("apply -f examples/pipeline.yaml"):
            kubectl("wait", "storagepipeline", "main", "--for=condition=Ready", "--timeout=120s", namespace=NAMESPACE)
            collect()
            until("all that was published is stored", stored)
            for other in elsewhere:
                paste(other)
        if "marketprism audit" in line:
            assert said.splitlines()[-1].startswith("PROVEN")
        if "get storagepipelines" in line:
            assert "True" in said.splitlines()[1]
