"""One cluster, one installation, one feed: the files are read in the order of their numbers, as one story."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from helm import generate
from tests.e2e import guard
from tests.e2e.cluster import NAMESPACE, Failed, kubectl, run

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
RELEASE = ("marketprism", "--namespace", "marketprism-e2e-system")
VALUES = (
    "image.repository=localhost/marketprism-operator,image.tag=dev,"
    "consumerImage.repository=localhost/marketprism-consumer,consumerImage.tag=dev,"
    "test.enabled=true,"
    "resyncSeconds=30"  # what always moves, such as a loop's last run, is told that often
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Without a cluster nothing of this can run; on one that is not a test's, nothing may."""
    reason = guard.refusal() or ("" if shutil.which("helm") else "helm is not installed")
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.timeout(600))
            if reason:
                item.add_marker(pytest.mark.skip(reason=reason))


failed: list[str] = []


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    report = yield
    if report.failed and HERE in item.path.parents:
        failed.append(item.name)
    return report


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """A story that has broken off is not told further."""
    if failed and HERE in item.path.parents:
        pytest.skip(f"{failed[0]} failed, and what follows builds upon it")


@pytest.fixture(scope="session")
def cluster() -> Iterator[None]:
    """An empty NATS, an empty ClickHouse and tools, in a namespace that enforces the restricted standard; all of it goes at
    the end."""
    remove()
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE, "labels": labels}}
    kubectl("create", "-f", "-", given=yaml.safe_dump(namespace))
    kubectl("apply", "-f", str(HERE / "servers.yaml"))
    kubectl("wait", "pod", "--all", "--for=condition=Ready", "--timeout=120s")
    yield
    remove()


def remove() -> None:
    for command in (
        ("helm", "uninstall", *RELEASE, "--wait"),
        ("kubectl", "delete", "namespace", NAMESPACE, RELEASE[2]),
    ):
        try:
            run(*command)
        except Failed as failed:
            if "not found" not in str(failed):
                raise
    run("kubectl", "delete", "crd", "--ignore-not-found", *(path.stem + ".storage.marketprism.io" for path in CRDS))


CRDS = sorted((ROOT / "crds").glob("*.yaml"))


def install(chart: Path = ROOT / "helm", *options: str, release: tuple[str, str, str] = RELEASE) -> None:
    """As `helm upgrade --install` does it, of the images that were built."""
    run("helm", "upgrade", "--install", *release, str(chart), "--create-namespace", "--wait", "--set", VALUES, *options)


@pytest.fixture(scope="session")
def older_chart(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The chart of a release before: its definitions lack a field and a column."""
    chart = tmp_path_factory.mktemp("older") / "helm"
    shutil.copytree(ROOT / "helm", chart)
    meta = yaml.safe_load((chart / "Chart.yaml").read_text())
    (chart / "Chart.yaml").write_text(yaml.safe_dump(meta | {"version": "0.0.1"}))
    older = yaml.safe_load((ROOT / "crds/storagepipelines.yaml").read_text())
    (version,) = older["spec"]["versions"]
    del version["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]["clickhouse"]["properties"][
        "tlsSecretRef"
    ]
    version["additionalPrinterColumns"].pop()
    text = generate.crd_template(yaml.safe_dump(older, sort_keys=False))
    (chart / "templates/crds/storagepipelines.yaml").write_text(text)
    return chart
