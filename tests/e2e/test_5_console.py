"""The chart's console, reached as its page says: by `kubectl port-forward`, and by nothing else."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml

from tests.console.browser import needs_browser, visit
from tests.e2e import data
from tests.e2e.cluster import NAMESPACE, Failed, kubectl
from tests.e2e.conftest import RELEASE, ROOT, install

CONSOLE = {
    "console": {
        "enabled": True,
        "image": {"repository": "localhost/marketprism-console", "tag": "dev"},
        "spec": {
            "nats": {"url": f"nats://nats.{NAMESPACE}:4222", "authSecretRef": {"name": "nats-auth"}},
            "clickhouse": {
                "url": f"http://clickhouse.{NAMESPACE}:8123",
                "authSecretRef": {"name": "clickhouse-auth"},
            },
        },
    }
}


@contextmanager
def forwarded(namespace: str, service: str) -> Iterator[str]:
    """An address on this machine that leads to the service's Pod."""
    command = ["kubectl", "--namespace", namespace, "port-forward", f"service/{service}", ":8080"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            found = re.search(r"127\.0\.0\.1:\d+", process.stdout.readline())
            assert found, "kubectl says where it listens"
            yield f"http://{found[0]}/"
        finally:
            process.terminate()


@pytest.fixture
def console(tmp_path: Path) -> Iterator[str]:
    """The name of its Service."""
    for secret in ("nats-auth", "clickhouse-auth"):
        content = json.loads(kubectl("get", "secret", secret, "-o", "json"))["data"]
        copy = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": secret}, "data": content}
        kubectl("apply", "-f", "-", given=json.dumps(copy), namespace=RELEASE[2])
    values = tmp_path / "console.yaml"
    values.write_text(yaml.safe_dump(CONSOLE))
    install(ROOT / "helm", "--reuse-values", "-f", str(values))
    yield f"{RELEASE[0]}-console"
    install(ROOT / "helm", "--reuse-values", "--set", "console.enabled=false")


@needs_browser
async def test_the_chart_s_console_shows_the_pipeline_to_whom_the_cluster_lets_forward_ports(console: str) -> None:
    with forwarded(RELEASE[2], console) as url:
        async with visit(f"{url}pipeline") as page:
            for kind in data.TABLES:
                await page.get_by_text(kind, exact=True).first.wait_for()
            await page.get_by_text(re.compile(r"\d[\d,]* rows")).first.wait_for()
    address = kubectl(
        *("get", "pod", "-l", "app.kubernetes.io/name=marketprism-console", "-o", "jsonpath={.items[0].status.podIP}"),
        namespace=RELEASE[2],
    )
    asks = f"from urllib.request import urlopen; urlopen('http://{address}:8080/healthz', timeout=5)"
    with pytest.raises(Failed, match=r"refused|timed out"):
        kubectl("exec", "tools", "--", "python", "-c", asks)
