"""The commands as a user, a CronJob and a Deployment meet them."""

from __future__ import annotations

import json
import urllib.request
from pathlib import Path

import pytest
from typer.testing import CliRunner

from marketprism_api import reasons
from marketprism_consumer import logs
from marketprism_consumer.cli import app
from marketprism_consumer.commands.migrate import termination_message
from marketprism_consumer.schema.tables import TABLES
from marketprism_consumer.tiering.run import Failure, Result, TableResult
from tests.tiering.tiering_place import HOUR, Place
from tests.waiting import PATIENCE, free_port, wait_for

POLICY = """
apiVersion: storage.marketprism.io/v1alpha1
kind: TieringPolicy
metadata: {name: main}
spec:
  pipelineRef: {name: main}
  every: 30s
  olderThan: 1h
  batchLimit: 40
  mode: %s
  tables: [trades]
  filter: {exchange: okx_spot}
"""


async def test_without_a_file_the_environment_rules(place: Place) -> None:
    await place.create(TABLES)
    await place.fill(100, hours_ago=0.1, span=300)
    code, result = place.cli("migrate", MIGRATION_WINDOW_HOURS="0.05", MIGRATION_BATCH_LIMIT="10")
    assert (code, result["result"]) == (0, "LimitReached")
    assert 1 <= result["rows"] <= 10
    first = result["rows"]
    assert len(result["tables"]) == 8
    code, result = place.cli(
        "migrate", "--batch-limit", "1000", "--older-than", "1m", "--table", "trades", MIGRATION_BATCH_LIMIT="10"
    )
    assert (code, result["result"]) == (0, "Succeeded")
    assert result["rows"] == 100 - first


async def test_a_policy_and_what_goes_above_it(place: Place, tmp_path: Path) -> None:
    await place.fill(100, hours_ago=2, span=300)
    file = tmp_path / "policy.yaml"
    file.write_text(POLICY % "DryRun")
    code, result = place.cli("migrate", "-f", str(file))
    assert (code, result["mode"], result["result"]) == (0, "dry-run", "LimitReached")
    due = result["rows"]
    assert 0 < due <= 40  # fewer where an hour ends among them: a slice is of one hour
    file.write_text(POLICY % "Move")
    code, result = place.cli("migrate", "-f", str(file))
    assert (code, result["rows"]) == (0, due)
    assert await place.query("SELECT DISTINCT exchange FROM {cold}.trades") == [("okx_spot",)]
    code, result = place.cli("migrate", "-f", str(file), "--mode", "copy", "--exchange", "binance_spot")
    assert (code, result["mode"]) == (0, "copy")
    copied = result["rows"]
    assert 0 < copied <= 40
    assert await place.counts() == (100 - due, due + copied)


@pytest.mark.parametrize(
    "wrong",
    [["--older-than", "8"], ["--every", "10ms"], ["--table", "nothing"], ["--from", "yesterday"], ["--mode", "burn"]],
    ids=lambda wrong: wrong[0],
)
def test_usage(wrong: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "configure", lambda *_: None)  # it would keep the runner's stderr for the next test
    done = CliRunner().invoke(app, ["migrate", *wrong])
    assert done.exit_code == 2
    assert not done.stdout


def test_a_termination_message_fits_and_is_json_whatever_failed() -> None:
    result = Result("run", "move", 1.0)
    for table in TABLES:
        result.tables[table.name] = TableResult(backlog_rows=7, notes=["a note " * 100])
        result.failures.append(
            Failure(table.name, reasons.TIER_TAKES_NO_WRITES, 243, "Kein Platz für “Zeilen” 满 " * 100)
        )
    text = termination_message(result)
    assert len(text.encode()) <= 4096
    told = json.loads(text)
    assert {one["code"] for one in told["failures"]} == {"MP9010"}
    assert told["tables"].keys() == {one["table"] for one in told["failures"]} == {table.name for table in TABLES}


async def test_the_result_is_the_last_line_and_the_pods_last_word(place: Place, tmp_path: Path) -> None:
    await place.fill(30, hours_ago=12, span=HOUR)
    await place.run("RENAME TABLE {cold}.trades TO {cold}.elsewhere")
    word = tmp_path / "termination-log"
    word.touch()
    for code, done in ((1, False), (0, True)):
        exit_code, result = place.cli("migrate", "--table", "trades", MARKETPRISM_TERMINATION_LOG=str(word))
        assert (exit_code, result["ok"]) == (code, done)
        assert json.loads(word.read_text()) == result
        if not done:
            assert (result["failures"][0]["code"], result["failures"][0]["cause"]) == ("MP5001", "SchemaMissing")
            assert result["message"].startswith("trades: MP5001 SchemaMissing: ")
            await place.run("RENAME TABLE {cold}.elsewhere TO {cold}.trades")
    assert result["rows"] == 30


async def test_a_loop_answers_probes_and_ends_cleanly(place: Place) -> None:
    port = free_port()
    await place.fill(30, hours_ago=12, span=HOUR)
    loop = place.command("migrate", "--table", "trades", "--every", "1s", "--port", str(port), "--output", "json")

    def answer(path: str) -> str:
        return str(urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=PATIENCE).read().decode())

    try:
        wait_for(lambda: answer("/readyz") == "ok\n", "ready")
        await place.fill(20, hours_ago=12, span=HOUR, first=100)
        moved = 'marketprism_migrated_rows_total{table="trades"} 50.0'
        wait_for(lambda: moved in answer("/metrics"), "50 rows moved")
        status = json.loads(answer("/status.json"))["dataTypes"]
        assert (status["result"], status["tables"]["trades"]["backlogRows"]) == ("Succeeded", 0)
        await place.run("RENAME TABLE {cold}.trades TO {cold}.elsewhere")
        failed = 'marketprism_migration_failures_total{reason="SchemaMissing",table="trades"}'
        wait_for(lambda: failed in answer("/metrics"), "a failure is told")
        await place.run("RENAME TABLE {cold}.elsewhere TO {cold}.trades")
        loop.terminate()
        out, _ = loop.communicate(timeout=PATIENCE)
    finally:
        loop.kill()
    assert loop.returncode == 0
    runs = [json.loads(line) for line in out.splitlines()]
    assert sum(run["rows"] for run in runs) == 50
    assert await place.counts() == (0, 50)
