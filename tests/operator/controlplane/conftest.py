"""One control plane for the run; a namespace and an operator of its own for each test."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import yaml
from kubernetes.aio import config as kube_config
from kubernetes.aio.client import ApiClient, Configuration

from marketprism_api.meta import API_VERSION
from tests.operator.controlplane.control_plane import ControlPlane, control_plane
from tests.operator.controlplane.pipeline_world import World, until

CRDS = Path(__file__).parents[3] / "crds"


@pytest.fixture(scope="session")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    with control_plane(tmp_path_factory.mktemp("controlplane")) as found:
        yield found


prepared: set[ControlPlane] = set()


@pytest.fixture
async def world(plane: ControlPlane) -> AsyncIterator[World]:
    configuration = Configuration()
    await kube_config.load_kube_config(str(plane.kubeconfig), client_configuration=configuration)
    async with ApiClient(configuration) as api:
        made = World(api, plane.kubeconfig)
        for path in () if plane in prepared else sorted(CRDS.glob("*.yaml")):
            crd = yaml.safe_load(path.read_text())
            where = f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{crd['metadata']['name']}"
            await made._patch(where, crd, "application/apply-patch+yaml")
        namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": made.namespace}}
        await made._patch(f"/api/v1/namespaces/{made.namespace}", namespace, "application/apply-patch+yaml")

        async def served() -> bool:
            try:
                await made.client.request("get", f"/apis/{API_VERSION}/namespaces/{made.namespace}/tieringpolicies")
                await made.client.request("get", f"/apis/{API_VERSION}/namespaces/{made.namespace}/storagepipelines")
            except Exception:
                return False
            return True

        await until(served)
        prepared.add(plane)
        yield made
        await made.client.request("delete", f"/api/v1/namespaces/{made.namespace}")
