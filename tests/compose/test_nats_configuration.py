"""A real nats-server takes the configuration, and syncs always."""

from __future__ import annotations

import json
import subprocess
import urllib.request
from pathlib import Path

from marketprism_embedded.nats import binary
from tests.waiting import PATIENCE, free_port, wait_for

CONFIG = Path(__file__).parents[2] / "deploy" / "compose" / "nats.conf"


def test_the_server_starts_with_it_and_syncs_always(tmp_path: Path) -> None:
    port, http = free_port(), free_port()
    text = CONFIG.read_text().replace("port: 4222", f"port: {port}").replace("http: 8222", f"http: 127.0.0.1:{http}")
    (tmp_path / "nats.conf").write_text(text.replace("/data", str(tmp_path / "data")))
    child = subprocess.Popen([binary(), "--config", str(tmp_path / "nats.conf"), "--addr", "127.0.0.1"])
    try:
        varz = wait_for(lambda: urllib.request.urlopen(f"http://127.0.0.1:{http}/varz", timeout=5).read(), "/varz")
        assert json.loads(varz)["jetstream"]["config"]["sync_always"] is True
    finally:
        child.terminate()
        child.wait(PATIENCE)
