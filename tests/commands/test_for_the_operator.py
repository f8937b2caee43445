"""The command that the operator's Job runs, `schema ensure`, and what a consumer tells it."""

from __future__ import annotations

import json
import os
import subprocess
import time
from pathlib import Path

import pytest

from marketprism_embedded import nats as embedded_nats
from tests.commands.command import MARKETPRISM, call, get
from tests.waiting import PATIENCE, free_port, wait_for

PIPELINE = """\
apiVersion: storage.marketprism.io/v1alpha1
kind: StoragePipeline
metadata: {{name: {name}}}
spec:
  clickhouse: {{hotDatabase: {name}_hot, coldDatabase: {name}_cold}}
  schema: {{mode: {mode}}}
"""


def file(place: Path, name: str, mode: str = "Apply") -> str:
    path = place / f"{name}-{mode}.yaml"
    path.write_text(PIPELINE.format(name=name, mode=mode))
    return str(path)


def test_ensure_does_what_the_mode_says(servers: dict[str, str], tmp_path: Path) -> None:
    verify = call("schema", "ensure", "-f", file(tmp_path, "e", "Verify"), environ=servers)
    assert verify.returncode == 1
    assert "MP5001 SchemaMissing" in verify.stderr
    assert call("schema", "ensure", "-f", file(tmp_path, "e", "Ignore"), environ=servers).returncode == 0
    done = call("schema", "ensure", "-f", file(tmp_path, "e", "Apply"), environ=servers)
    assert done.returncode == 0, done.stderr
    assert call("schema", "ensure", "-f", file(tmp_path, "e", "Verify"), environ=servers).returncode == 0


def test_ensure_tells_of_both_servers_at_once(tmp_path: Path) -> None:
    nowhere = {
        "MARKETPRISM_NATS_URL": f"nats://127.0.0.1:{free_port()}",
        "CLICKHOUSE_HTTP_URL": f"http://127.0.0.1:{free_port()}",
    }
    refused = call("schema", "ensure", "--wait", "3s", "-f", file(tmp_path, "n"), environ=nowhere)
    assert refused.returncode == 4
    lines = [line for line in refused.stderr.splitlines() if "MP" in line and not line.startswith("{")]
    assert {line.split(":")[0] for line in lines} == {"MP3001 NATSUnreachable", "MP4001 ClickHouseUnreachable"}


@pytest.mark.parametrize(
    ("config", "environ", "said"),
    [
        ('jetstream: {{store_dir: "{store}"}}\nauthorization: {{user: u, password: p}}', {}, "MP3002 NATSDenied"),
        (
            'jetstream: {{store_dir: "{store}"}}\nauthorization: {{user: u, password: p}}',
            {"NATS_USER": "u", "NATS_PASSWORD": "wrong-word"},
            "MP3002 NATSDenied",
        ),
        (
            'jetstream: {{store_dir: "{store}"}}\n'
            'authorization: {{users: [{{user: u, password: p, permissions: {{publish: "nothing"}}}}]}}',
            {"NATS_USER": "u", "NATS_PASSWORD": "p"},
            "MP3002 NATSDenied",
        ),
        ("", {}, "MP3004 NoJetStream"),
    ],
    ids=["no password", "wrong password", "no right", "no JetStream"],
)
def test_ensure_tells_why_nats_can_not_be_used(
    servers: dict[str, str], tmp_path: Path, config: str, environ: dict[str, str], said: str
) -> None:
    port = free_port()
    text = f"port: {port}\nhost: 127.0.0.1\n" + config.format(store=tmp_path)
    (tmp_path / "nats.conf").write_text(text)
    server = subprocess.Popen([embedded_nats.binary(), "-c", str(tmp_path / "nats.conf")], stderr=subprocess.DEVNULL)
    try:
        given = {**servers, "MARKETPRISM_NATS_URL": f"nats://127.0.0.1:{port}", **environ}
        refused = call("schema", "ensure", "--wait", "3s", "-f", file(tmp_path, "d", "Ignore"), environ=given)
    finally:
        server.terminate()
        server.wait()
    assert refused.returncode == 4
    assert said in refused.stderr.splitlines()[-1]
    assert "wrong-word" not in refused.stderr


def test_a_consumer_tells_at_its_port_what_the_operator_shows(servers: dict[str, str], tmp_path: Path) -> None:
    path, port, began = file(tmp_path, "s"), free_port(), time.time()
    assert call("schema", "ensure", "-f", path, environ=servers).returncode == 0
    with subprocess.Popen(
        [*MARKETPRISM, "ingest", "-f", path, "--port", str(port)],
        env={**os.environ, **servers},
        stderr=subprocess.DEVNULL,
    ) as child:
        try:
            wait_for(lambda: get(port, "/readyz")[0] == 200, "/readyz is 200")
            assert call("feed", "--rate", "0", "--count", "500", environ=servers).returncode == 0

            def stored() -> dict[str, dict[str, float]]:
                found: dict[str, dict[str, float]] = json.loads(get(port, "/status.json")[1])["dataTypes"]
                done = all(
                    one["lag"] == one["inHand"] == one["setAside"] == 0 and one["lastInsertTime"]
                    for one in found.values()
                )
                return found if done else {}

            found = wait_for(stored, "all is stored")
            assert len(found) == 8
            assert all(began - 1 <= one["lastInsertTime"] <= time.time() for one in found.values())
        finally:
            child.terminate()
            child.wait(PATIENCE)
