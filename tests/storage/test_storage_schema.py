"""The schema on the real engine: made, made again, found different, mended; and the commands that do it."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from marketprism_api.load import load_pipeline
from marketprism_api.settings import Settings, effective
from marketprism_consumer.cli import app
from marketprism_consumer.clickhouse import schema
from marketprism_consumer.clickhouse.client import ClickHouse
from marketprism_consumer.clickhouse.store import ClickHouseStore
from marketprism_consumer.schema.ddl import Difference, Plan, render
from marketprism_consumer.schema.tables import TABLES, TRADES
from marketprism_consumer.schema.views import VIEWS
from marketprism_embedded.process import EmbeddedServer
from tests.blocks import block_of, seconds_from_now
from tests.waiting import PATIENCE

_numbers = itertools.count(1)
CLI = [sys.executable, "-m", "marketprism_consumer.cli", "schema"]


@dataclass
class Site:
    """A hot and a cold database that nobody has made yet."""

    environ: dict[str, str]
    settings: Settings
    clickhouse: ClickHouse
    loop: asyncio.Runner

    @property
    def trades(self) -> str:
        return f"{self.settings.hot_db}.trades"

    def plan(self) -> Plan:
        return self.loop.run(schema.current_plan(self.clickhouse, self.settings))

    def apply(self) -> Plan:
        return self.loop.run(schema.apply(self.clickhouse, self.settings))

    def alter(self, sql: str) -> None:
        self.loop.run(self.clickhouse.command(f"ALTER TABLE {self.trades} {sql}"))

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        return self.loop.run(self.clickhouse.query(sql))

    def run(self, *arguments: str, **environ: str) -> Any:
        """`marketprism schema …`: its exit code and what it printed."""
        return CliRunner().invoke(app, ["schema", *arguments], env={**self.environ, **environ})


@pytest.fixture
def site(clickhouse_server: EmbeddedServer, loop: asyncio.Runner) -> Iterator[Site]:
    number = next(_numbers)
    environ = {
        "CLICKHOUSE_HTTP_URL": clickhouse_server.url,
        "CLICKHOUSE_HOT_DB": f"site_{number}_hot",
        "CLICKHOUSE_COLD_DB": f"site_{number}_cold",
    }
    clickhouse = ClickHouse([clickhouse_server.url])
    yield Site(environ, effective(None, environ), clickhouse, loop)
    loop.run(clickhouse.close())


# --- made ---------------------------------------------------------------------------------------------------------------


def test_applied_it_fits_and_applied_again_it_changes_nothing(site: Site) -> None:
    assert len(site.plan().changes) == 2 + 2 * len(TABLES) + 1 + len(VIEWS)
    assert site.apply() == Plan((), ())
    made = (
        "SELECT name, create_table_query, metadata_modification_time FROM system.tables"
        f" WHERE database = '{site.settings.hot_db}' ORDER BY name"
    )
    before = site.query(made)
    assert site.apply() == Plan((), ())
    assert site.query(made) == before


def test_applied_twice_at_once_it_fits(site: Site) -> None:
    async def both() -> list[Plan]:
        others = [ClickHouse(site.settings.clickhouse_urls) for _ in range(2)]
        found = await asyncio.gather(*(schema.apply(other, site.settings) for other in others))
        for other in others:
            await other.close()
        return found

    site.loop.run(both())
    assert site.plan() == Plan((), ())


def test_applied_by_two_processes_at_once_it_fits(site: Site) -> None:
    environ = {**os.environ, **site.environ}
    both = [subprocess.Popen([*CLI, "apply"], env=environ, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    assert [process.communicate(timeout=PATIENCE)[0].splitlines()[-1] for process in both] == ["the schema fits"] * 2
    assert [process.returncode for process in both] == [0, 0]
    assert site.plan() == Plan((), ())


def test_what_is_rendered_is_what_apply_makes(site: Site, loop: asyncio.Runner) -> None:
    target = schema.target_of(site.settings)
    for change in render(target):
        loop.run(site.clickhouse.command(change.sql, settings=schema.DDL_SETTINGS))
    assert site.plan() == Plan((), ())


# --- different ------------------------------------------------------------------------------------------------------------

MENDED = [  # what happened to the table → the reason that the plan gives
    ("a dropped column", "DROP COLUMN is_maker", "lacks the column is_maker"),
    ("a dropped alias", "DROP COLUMN notional", "lacks the column notional"),
    ("a dropped index", "DROP INDEX _seq_range", "lacks the index for look-ups"),
    ("no window", "RESET SETTING non_replicated_deduplication_window", "forgets insert tokens at once"),
    ("a window of 0", "MODIFY SETTING non_replicated_deduplication_window = 0", "forgets insert tokens at once"),
]


@pytest.mark.parametrize(("sql", "why"), [case[1:] for case in MENDED], ids=[case[0] for case in MENDED])
def test_what_is_missing_is_explained_and_mended(site: Site, sql: str, why: str) -> None:
    site.apply()
    site.alter(sql)
    found = site.plan()
    assert [change.why for change in found.changes] == [f"{site.trades} {why}"]
    assert not found.fits
    assert site.apply() == Plan((), ())
    columns = (
        f"SELECT name FROM system.columns WHERE database = '{site.settings.hot_db}' AND table = 'trades'"
        " AND default_kind != 'ALIAS' ORDER BY position"
    )
    expected = [column.name for column in TRADES.columns if column.kind != "ALIAS"]
    assert [name for (name,) in site.query(columns)] == expected


TOLD = [
    ("a narrowed type", "MODIFY COLUMN quantity Decimal(18, 8)", ".quantity", "its type is Decimal(18, 8)", True),
    ("another default", "MODIFY COLUMN data_source DEFAULT 'mine'", ".data_source", "its default is 'mine'", False),
    ("no fence", "MODIFY COLUMN created_at DEFAULT now64(3, 'UTC')", ".created_at", "its default is now64", True),
    ("one more column", "ADD COLUMN note String", ".note", "the user's own", False),
    ("a TTL that nobody set", "MODIFY TTL toDateTime(timestamp) + INTERVAL 3 DAY", "", "TTL deletes rows", False),
]


@pytest.mark.parametrize(
    ("sql", "where", "words", "blocking"), [case[1:] for case in TOLD], ids=[case[0] for case in TOLD]
)
def test_what_adding_cannot_mend_is_explained_and_left(
    site: Site, sql: str, where: str, words: str, blocking: bool
) -> None:
    site.apply()
    site.alter(sql)
    found = site.apply()
    (difference,) = found.differences
    assert found.changes == ()
    assert difference.where == f"{site.trades}{where}"
    assert words in difference.what
    assert difference.blocking is blocking
    assert site.plan() == found, "apply has not touched it"


def test_a_retention_is_set_changed_and_told_when_it_is_set_no_more(site: Site, tmp_path: Path) -> None:
    def settings(retention: str) -> Settings:
        file = tmp_path / "pipeline.yaml"
        file.write_text(
            "apiVersion: storage.marketprism.io/v1alpha1\nkind: StoragePipeline\nmetadata: {name: test}\n"
            f"spec: {{schema: {{hotRetention: {retention}}}}}\n"
        )
        return effective(load_pipeline(str(file)), site.environ)

    without = site.settings
    for retention, changes in (
        ("72h", 19 + len(VIEWS)),
        ("72h", 0),
        ("720h", 8),
        ("72h", 8),
    ):  # 259200 is the head of 2592000
        site.settings = settings(retention)
        assert len(site.plan().changes) == changes
        assert site.apply() == Plan((), ())
    site.settings = without
    left = site.plan()
    assert left.changes == ()
    assert [d.blocking for d in left.differences] == [False] * 8
    assert left.fits


def test_a_table_of_an_older_version_becomes_whole_and_its_rows_stay_readable(site: Site) -> None:
    """It had neither identity nor fence: each column comes after what its default needs, and old rows have a value."""
    site.apply()
    for name in ("created_at", "_expires", "notional", "_stream", "_seq", "collected_at", "data_source"):
        if name == "_seq":
            site.alter("DROP INDEX _seq_range")
        site.alter(f"DROP COLUMN {name}")
    site.query(
        f"INSERT INTO {site.trades} (timestamp, exchange, market_type, symbol, trade_id, price, quantity, side, trade_time)"
        " VALUES ('2025-09-24 07:55:51', 'e', 'm', 's', '1', 2, 3, 'buy', '2025-09-24 07:55:51')"
    )
    assert site.apply() == Plan((), ())
    store = ClickHouseStore(ClickHouse(site.settings.clickhouse_urls), site.settings.hot_db)
    at = 1_758_700_551_000_000
    block = block_of(TRADES, [(at, "e", "m", "s", "2", "2", "3", "buy", None, at, "", None)], [1], ["S@1"])

    async def insert() -> None:
        await store.insert(block, seconds_from_now())
        await store.clickhouse.close()

    site.loop.run(insert())
    assert site.query(f"SELECT trade_id, toString(notional), _stream, _seq FROM {site.trades} ORDER BY trade_id") == [
        ("1", "6", "", 0),
        ("2", "6", "S@1", 1),
    ]
    assert site.query(f"SELECT count() FROM {site.trades} WHERE created_at > now() - 600") == [(2,)]


# --- the commands ---------------------------------------------------------------------------------------------------------


def test_plan_apply_verify(site: Site) -> None:
    planned = site.run("plan")
    assert planned.exit_code == 0
    assert planned.stdout.count("CREATE TABLE IF NOT EXISTS") == 17
    assert f"-- database {site.settings.hot_db} does not exist" in planned.stdout

    missing = site.run("verify")
    assert missing.exit_code == 1
    assert f"missing: table {site.trades} does not exist" in missing.stdout

    applied = site.run("apply")
    assert applied.exit_code == 0
    assert applied.stdout.count("done: ") == 19 + len(VIEWS)
    assert applied.stdout.endswith("the schema fits\n")

    for command in ("plan", "apply", "verify"):
        again = site.run(command)
        assert (again.exit_code, again.stdout) == (0, "the schema fits\n")


def test_verify_explains_and_says_so_with_its_exit_code(site: Site) -> None:
    site.apply()
    site.alter("MODIFY COLUMN quantity Decimal(18, 8)")
    site.alter("ADD COLUMN note String")
    text = site.run("verify")
    assert text.exit_code == 1
    assert f"differs: {site.trades}.quantity: its type is Decimal(18, 8), not Decimal(38, 18)" in text.stdout
    assert f"note: {site.trades}.note: " in text.stdout

    answer = site.run("verify", "-o", "json")
    assert answer.exit_code == 1
    found = json.loads(answer.stdout)
    assert found["fits"] is False
    (change,) = found["changes"]
    assert (
        change["why"] == f"{site.settings.cold_db}.trades lacks the column note, a user's own in {site.settings.hot_db}"
    )
    assert [Difference(**difference).blocking for difference in found["differences"]] == [True, False]


@pytest.mark.parametrize("command", ["plan", "apply", "verify"])
def test_json_is_one_object(site: Site, command: str) -> None:
    site.apply()
    answer = site.run(command, "-o", "json")
    assert json.loads(answer.stdout) == {"fits": True, "changes": [], "differences": []}
    assert answer.exit_code == 0


def test_render_needs_no_server(site: Site) -> None:
    answer = site.run("render", CLICKHOUSE_HTTP_URL="http://127.0.0.1:9")
    assert answer.exit_code == 0
    assert answer.stdout == "".join(f"{change.sql};\n\n" for change in render(schema.target_of(site.settings)))


@pytest.mark.parametrize("command", ["plan", "apply", "verify"])
def test_a_server_that_does_not_answer_is_exit_code_4(site: Site, command: str) -> None:
    answer = site.run(command, CLICKHOUSE_HTTP_URL="http://127.0.0.1:9")
    assert answer.exit_code == 4
    assert "MP4001" in answer.stderr


def test_a_file_that_is_not_there_is_exit_code_2(site: Site) -> None:
    assert site.run("plan", "-f", "/nowhere/pipeline.yaml").exit_code == 2


def test_a_variable_that_is_wrong_is_exit_code_2(site: Site) -> None:
    answer = site.run("plan", CLICKHOUSE_HOT_DB="default; DROP TABLE x")
    assert answer.exit_code == 2
    assert "CLICKHOUSE_HOT_DB" in answer.stderr


# --- whose records count ------------------------------------------------------------------------------------------------


def with_bucket(bucket: str, place: Path) -> str:
    """A pipeline file of trades."""
    spec = {"nats": {"bucket": bucket}, "dataTypes": {"trade": {}}}
    file = place / f"{bucket}.yaml"
    kind = {"apiVersion": "storage.marketprism.io/v1alpha1", "kind": "StoragePipeline"}
    file.write_text(json.dumps({**kind, "metadata": {"name": "main"}, "spec": spec}))
    return str(file)


def test_a_table_is_of_one_bucket_of_records_until_somebody_says_otherwise(site: Site, tmp_path: Path) -> None:
    ours, theirs = with_bucket("OURS", tmp_path), with_bucket("THEIRS", tmp_path)
    assert site.run("apply", "-f", ours).exit_code == 0
    assert site.run("verify", "-f", ours).exit_code == 0
    for command in ("apply", "verify"):
        refused = site.run(command, "-f", theirs)
        assert refused.exit_code == 1
        said = f"MP5004 RecordedElsewhere: {site.trades}._stream: its records are in the bucket OURS, not in THEIRS"
        assert said in refused.stdout
    site.alter("COMMENT COLUMN _stream ''")
    assert "does not say in which bucket" in site.run("verify", "-f", theirs).stdout
    assert site.run("apply", "-f", theirs).exit_code == 0
    assert site.run("verify", "-f", ours).exit_code == 1


def test_of_two_who_make_a_table_at_once_with_records_in_two_buckets_one_is_refused(site: Site, tmp_path: Path) -> None:
    environ = {**os.environ, **site.environ}
    files = [with_bucket(bucket, tmp_path) for bucket in ("OURS", "THEIRS")]
    both = [subprocess.Popen([*CLI, "apply", "-f", file], env=environ, stdout=subprocess.DEVNULL) for file in files]
    assert sorted(process.wait(PATIENCE) for process in both) == [0, 1]
    assert sorted(site.run("verify", "-f", file).exit_code for file in files) == [0, 1]
