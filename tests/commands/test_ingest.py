"""`marketprism ingest` and `run` as a user meets them: errors that say what to do, a clean end, one port for its health."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
from pathlib import Path

import pytest

from tests.commands.command import MARKETPRISM, NO_URLS, call, get
from tests.waiting import PATIENCE, free_port, wait_for


@pytest.mark.parametrize("command", [("ingest",), ("run",), ("schema", "plan"), ("audit",)], ids=" ".join)
def test_a_wrong_file_is_refused_with_its_field_and_what_is_allowed(command: tuple[str, ...], tmp_path: Path) -> None:
    file = tmp_path / "pipeline.yaml"
    file.write_text(
        "apiVersion: storage.marketprism.io/v1alpha1\nkind: StoragePipeline\nmetadata: {name: main}\n"
        "spec: {dataTypes: {trade: {batch: {maxRows: 0}}}}\n"
    )
    refused = call(*command, "-f", str(file))
    assert refused.returncode == 2
    assert "spec.dataTypes.trade.batch.maxRows" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_an_unknown_consumer_is_refused_with_the_names_there_are() -> None:
    refused = call("ingest", "--consumer", "fats")
    assert refused.returncode == 2
    assert "'fats'" in refused.stderr
    assert "default" in refused.stderr


def test_a_bad_variable_is_named() -> None:
    refused = call("schema", "plan", environ={"MIGRATION_WINDOW_HOURS": "8h"})
    assert refused.returncode == 2
    assert "MIGRATION_WINDOW_HOURS" in refused.stderr


def test_an_unreachable_clickhouse_is_told_with_its_address_and_without_its_password() -> None:
    url = f"http://me:secret-word@127.0.0.1:{free_port()}"
    refused = call("schema", "verify", environ={"CLICKHOUSE_HTTP_URL": url})
    assert refused.returncode == 4
    assert "MP4001" in refused.stderr
    assert "127.0.0.1" in refused.stderr
    assert "secret-word" not in refused.stderr + refused.stdout


def test_ingest_stores_a_backlog_and_ends_when_nothing_is_pending(servers: dict[str, str]) -> None:
    environ = {**servers, "CLICKHOUSE_HOT_DB": "idle_hot", "CLICKHOUSE_COLD_DB": "idle_cold"}
    account = json.loads(call("feed", "--rate", "0", "--count", "3000", "--output", "json", environ=environ).stdout)
    assert call("schema", "apply", environ=environ).returncode == 0
    ended = call("ingest", "--until-idle", "1s", "--port", "0", environ=environ)
    assert ended.returncode == 0, ended.stderr
    audited = call("audit", "--deep", "--output", "json", environ=environ)
    assert audited.returncode == 0, audited.stdout + audited.stderr
    assert account["acknowledged"] == 3000


def test_one_port_tells_health_readiness_metrics_and_status_and_sigterm_ends_it_cleanly(
    servers: dict[str, str],
) -> None:
    environ = {**servers, "CLICKHOUSE_HOT_DB": "port_hot", "CLICKHOUSE_COLD_DB": "port_cold"}
    port = free_port()
    with subprocess.Popen(
        [*MARKETPRISM, "ingest", "--port", str(port)], env={**os.environ, **environ}, stderr=subprocess.PIPE, text=True
    ) as child:
        try:
            wait_for(lambda: get(port, "/healthz")[0] == 200, "/healthz is 200")
            status, why = wait_for(
                lambda: (found := get(port, "/readyz"))[0] == 503 and "MP5001" in found[1] and found, "MP5001 is told"
            )
            assert (status, "schema apply" in why or "does not exist" in why) == (503, True)
            assert call("schema", "apply", environ=environ).returncode == 0
            wait_for(lambda: get(port, "/readyz")[0] == 200, "/readyz is 200")
            assert json.loads(get(port, "/status.json")[1])["ready"] is True
            assert "marketprism_rows_inserted_total" in get(port, "/metrics")[1]
            child.send_signal(signal.SIGTERM)
            assert child.wait(PATIENCE) == 0
        finally:
            child.kill()


def test_a_taken_health_port_is_refused(servers: dict[str, str]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        refused = call("ingest", "--port", str(taken.getsockname()[1]), environ=servers)
    assert refused.returncode == 2
    assert "MP1004" in refused.stderr


@pytest.mark.parametrize("processes", [1, 2])
def test_run_brings_its_own_servers_and_keeps_their_data(tmp_path: Path, processes: int) -> None:
    port = free_port()
    command = [
        *MARKETPRISM,
        "run",
        "--dir",
        str(tmp_path),
        "--nats-port",
        "0",
        "--clickhouse-port",
        "0",
        "--port",
        str(port),
        "--processes",
        str(processes),
    ]
    with subprocess.Popen(command, env={**os.environ, **NO_URLS}, stderr=subprocess.PIPE, text=True) as child:
        try:
            assert child.stderr is not None
            urls = dict(line.split()[1:3] for line in (child.stderr.readline(), child.stderr.readline()))
            wait_for(lambda: get(port, "/readyz")[0] == 200, "/readyz is 200")
            account = call("feed", "--url", urls["NATS"], "--rate", "0", "--count", "500", "--output", "json")
            assert json.loads(account.stdout)["acknowledged"] == 500
            environ = {"MARKETPRISM_NATS_URL": urls["NATS"], "CLICKHOUSE_HTTP_URL": urls["ClickHouse"]}
            wait_for(
                lambda: (
                    sum(t["inserted"] for t in json.loads(get(port, "/status.json")[1])["dataTypes"].values()) > 400
                ),
                "400 rows are in",
            )
            child.send_signal(signal.SIGINT)
            assert child.wait(PATIENCE) == 0
        finally:
            child.kill()
    assert environ
    assert (tmp_path / "clickhouse").is_dir()
