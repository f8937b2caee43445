"""A real kube-apiserver with etcd: of KUBECONFIG, of KUBEBUILDER_ASSETS, or built once from Go modules."""

from __future__ import annotations

import os
import re
import secrets
import shutil
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from ssl import _create_unverified_context

import pytest

HERE = Path(__file__).parent
CACHE = Path.home() / ".cache" / "marketprism-controlplane"


def servers() -> Path:
    """The folder with etcd and kube-apiserver."""
    if given := os.environ.get("KUBEBUILDER_ASSETS"):
        return Path(given)
    version = re.search(r"k8s.io/kubernetes v(\S+)", (HERE / "servers" / "go.mod").read_text())
    assert version
    folder = CACHE / version[1]
    binary = folder / "servers"
    if not binary.exists():
        go = shutil.which("go")
        if not go:
            pytest.skip("NO CONTROL PLANE: set KUBEBUILDER_ASSETS or KUBECONFIG, or install Go to build one")
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


@contextmanager
def control_plane(home: Path) -> Iterator[Path]:
    """Yields a kubeconfig. Deployments and Jobs are stored and nothing runs: the tests say what would have become."""
    if given := os.environ.get("KUBECONFIG"):
        yield Path(given)
        return
    folder = servers()
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
    with ExitStack() as stack:
        stack.enter_context(
            _server(
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
        )
        stack.enter_context(
            _server(
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
            )
        )
        _wait_ready(f"https://127.0.0.1:{api}/readyz", token)
        yield config


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


@contextmanager
def _server(program: Path, home: Path, *arguments: str) -> Iterator[None]:
    with (home / f"{program.name}.log").open("wb") as log:
        process = subprocess.Popen([program, *arguments], stdout=log, stderr=log)
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


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
