"""A real kube-apiserver with etcd: of KUBECONFIG, of KUBEBUILDER_ASSETS, or built once from Go modules.

The tests say themselves what would have become of Pods, Jobs and Deployments, so KUBECONFIG is used only where nothing else
does: a control plane without a node. On a whole cluster the kubelet and the controllers would contradict (`make e2e` is for those).
"""

from __future__ import annotations

import asyncio
import os
import re
import secrets
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from ssl import _create_unverified_context
from typing import Any

import pytest
import yaml
from kubernetes.aio import config as kube_config
from kubernetes.aio.client import ApiClient, Configuration, CoreV1Api

from tests.e2e.guard import is_tests

HERE = Path(__file__).parent
CACHE = Path.home() / ".cache" / "marketprism-controlplane"


def servers() -> Path | None:
    """The folder with etcd and kube-apiserver; built where there is Go, which takes minutes once."""
    if given := os.environ.get("KUBEBUILDER_ASSETS"):
        return Path(given)
    version = re.search(r"k8s.io/kubernetes v(\S+)", (HERE / "servers" / "go.mod").read_text())
    assert version
    folder = CACHE / version[1]
    binary = folder / "servers"
    if not binary.exists():
        go = shutil.which("go")
        if not go:
            return None
        sys.stderr.write(f"building etcd and kube-apiserver {version[1]} into {folder}: minutes, once\n")
        folder.mkdir(parents=True, exist_ok=True)
        flags = f"-s -w -X k8s.io/component-base/version.gitVersion=v{version[1]}"
        command = [go, "build", "-o", str(binary) + ".new", f"-ldflags={flags}", "."]
        subprocess.run(command, cwd=HERE / "servers", env={**os.environ, "CGO_ENABLED": "0"}, check=True)
        Path(str(binary) + ".new").rename(binary)
    for name in ("etcd", "kube-apiserver"):
        link = folder / name
        if not link.is_symlink():
            link.symlink_to("servers")
    return folder


@dataclass(frozen=True, slots=True)
class ControlPlane:
    """Deployments and Jobs are stored and nothing runs: the tests play the controllers."""

    kubeconfig: Path
    api_server: Server | None
    """None where it is somebody else's."""


@contextmanager
def control_plane(home: Path) -> Iterator[ControlPlane]:
    if given := _given():
        yield ControlPlane(given, None)
        return
    folder = servers()
    if folder is None:
        pytest.skip(
            "NO CONTROL PLANE: set KUBEBUILDER_ASSETS, or KUBECONFIG to one without nodes, or install Go to build it"
        )
    etcd, peer, api = _free_port(), _free_port(), _free_port()
    token = secrets.token_hex(16)
    (home / "tokens.csv").write_text(f'{token},admin,admin,"system:masters"\n')
    key = home / "sa.key"
    subprocess.run(["openssl", "genrsa", "-out", str(key), "2048"], check=True, capture_output=True)
    config = home / "kubeconfig"
    config.write_text(
        f"""apiVersion: v1
kind: Config
clusters: [{{name: here, cluster: {{server: "https://127.0.0.1:{api}", insecure-skip-tls-verify: true}}}}]
users: [{{name: here, user: {{token: {token}}}}}]
contexts: [{{name: here, context: {{cluster: here, user: here}}}}]
current-context: here
"""
    )
    etcd_server = Server(
        folder / "etcd",
        home,
        f"--data-dir={home}/etcd",
        "--unsafe-no-fsync",
        f"--listen-client-urls=http://127.0.0.1:{etcd}",
        f"--advertise-client-urls=http://127.0.0.1:{etcd}",
        f"--listen-peer-urls=http://127.0.0.1:{peer}",
        f"--initial-advertise-peer-urls=http://127.0.0.1:{peer}",
        f"--initial-cluster=default=http://127.0.0.1:{peer}",
    )
    api_server = Server(
        folder / "kube-apiserver",
        home,
        f"--etcd-servers=http://127.0.0.1:{etcd}",
        f"--secure-port={api}",
        "--bind-address=127.0.0.1",
        f"--cert-dir={home}/certificates",
        f"--token-auth-file={home}/tokens.csv",
        "--authorization-mode=RBAC",
        "--service-cluster-ip-range=10.0.0.0/24",
        "--service-account-issuer=https://kubernetes.default.svc",
        f"--service-account-key-file={key}",
        f"--service-account-signing-key-file={key}",
        "--disable-admission-plugins=ServiceAccount",
        ready=lambda: _wait_ready(f"https://127.0.0.1:{api}/readyz", token),
    )
    try:
        etcd_server.start()
        api_server.start()
        yield ControlPlane(config, api_server)
    finally:
        api_server.stop()
        etcd_server.stop()


def _given() -> Path | None:
    """KUBECONFIG's, if it is a test's (`tests/e2e/guard.py` has the rule) and no node runs what is stored in it."""
    path = os.environ.get("KUBECONFIG", "").split(os.pathsep)[0]
    if not path or not is_tests(str(yaml.safe_load(Path(path).read_text()).get("current-context"))):
        return None

    async def nodes() -> list[Any]:
        configuration = Configuration()
        await kube_config.load_kube_config(path, client_configuration=configuration)
        async with ApiClient(configuration) as api:
            found: list[Any] = (await CoreV1Api(api).list_node()).items
            return found

    return None if asyncio.run(nodes()) else Path(path)


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


class Server:
    """A process that may be stopped and started again."""

    def __init__(self, program: Path, home: Path, *arguments: str, ready: Callable[[], None] = lambda: None) -> None:
        self._command = [program, *arguments]
        self._log = home / f"{program.name}.log"
        self._ready = ready
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(self._command, stdout=log, stderr=log)
        self._ready()

    def stop(self) -> None:
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None


def _wait_ready(url: str, token: str) -> None:
    deadline = time.monotonic() + 90
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {token}"})
    while True:
        try:
            with urllib.request.urlopen(request, context=_create_unverified_context(), timeout=3):
                return
        except OSError:
            assert time.monotonic() < deadline, "the API server does not get ready"
            time.sleep(0.3)


if __name__ == "__main__":  # before the tests, which have a time limit each
    servers()
