"""The DDL, word by word, and what is planned where a server has something else. Nothing is ever dropped or narrowed."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from marketprism_api import reasons
from marketprism_consumer.schema.ddl import (
    SEQ_INDEX,
    ExistingTable,
    Plan,
    Target,
    TierName,
    column_ddl,
    create_table,
    partition_of,
    plan,
    render,
    settings_of,
    shards_in,
    ttl_of,
)
from marketprism_consumer.schema.incidents import TABLE as INCIDENTS
from marketprism_consumer.schema.tables import BY_DATA_TYPE, TABLES, TRADES, Table
from marketprism_consumer.schema.views import VIEWS

GOLDEN = Path(__file__).with_name("golden")
PLAIN = Target("marketprism_hot", "marketprism_cold")
KEPT = Target("marketprism_hot", "marketprism_cold", retention=259_200)
CLUSTER = Target("marketprism_hot", "marketprism_cold", cluster="main", retention=259_200)
SHARDED = replace(CLUSTER, shards=("1", "2"))
DATABASES = ("marketprism_hot", "marketprism_cold")


# --- rendering ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "target"),
    [("schema", PLAIN), ("schema_with_retention", KEPT), ("schema_on_cluster", CLUSTER), ("schema_sharded", SHARDED)],
)
def test_the_ddl_is_word_by_word_the_golden_file(name: str, target: Target) -> None:
    """UPDATE_GOLDEN=1 writes the files anew: then read what changed, and whether a user's table can follow."""
    golden = GOLDEN / f"{name}.sql"
    text = "\n\n".join(f"{change.sql};" for change in render(target)) + "\n"
    if os.environ.get("UPDATE_GOLDEN"):
        golden.parent.mkdir(exist_ok=True)
        golden.write_text(text, encoding="utf-8")
    assert text == golden.read_text(encoding="utf-8")


def test_every_table_is_in_both_databases_with_the_same_columns() -> None:
    for table in TABLES:
        hot, cold = (columns_of(create_table(PLAIN, tier, table)) for tier in ("hot", "cold"))
        assert [re.sub(r" CODEC\(.*", "", line) for line in hot] == [re.sub(r" CODEC\(.*", "", line) for line in cold]


def columns_of(sql: str) -> list[str]:
    return [line.strip() for line in sql.splitlines() if line.startswith("    `")]


@pytest.mark.parametrize("target", [PLAIN, KEPT, CLUSTER, SHARDED])
def test_every_statement_may_run_twice(target: Target) -> None:
    for change in render(target):
        assert "IF NOT EXISTS" in change.sql


def test_only_the_hot_tier_forgets_and_only_where_a_retention_is_set() -> None:
    assert not [change for change in render(PLAIN) if "TTL" in change.sql]
    assert {change.sql.split("`")[1] for change in render(KEPT) if "TTL" in change.sql} == {"marketprism_hot"}


def test_on_a_cluster_every_statement_is_for_all_of_it_and_tables_are_replicated() -> None:
    for change in render(CLUSTER):
        assert "ON CLUSTER `main`" in change.sql
        made = ("CREATE DATABASE", "ENGINE = Replicated", "CREATE VIEW")
        assert len([words for words in made if words in change.sql]) == 1


def test_with_shards_each_has_a_table_of_its_own_that_names_them_and_one_is_over_all() -> None:
    sql = [change.sql for change in render(SHARDED, [TRADES]) if "`trades" in change.sql and "TABLE" in change.sql]
    assert [shards_in(text.rpartition("COMMENT ")[2].strip("'")) for text in sql[::2]] == [("1", "2"), ("1", "2")]
    for local, over_all, database in zip(sql[::2], sql[1::2], DATABASES, strict=True):
        assert f"`{database}`.`trades_local`" in local
        assert "ENGINE = ReplicatedMergeTree" in local
        assert f"`{database}`.`trades` ON CLUSTER `main` AS `{database}`.`trades_local`" in over_all
        assert over_all.endswith(f"ENGINE = Distributed('main', '{database}', 'trades_local')"), "no sharding key"


def test_a_chosen_few_tables() -> None:
    sql = [change.sql for change in render(PLAIN, [TRADES])]
    assert [text.partition(" IF NOT EXISTS ")[0] for text in sql].count("CREATE TABLE") == 2 + 1
    views = [text.split("`")[3] for text in sql if text.startswith("CREATE VIEW")]
    assert views == ["all_trades", "candles_1m", "trade_gaps"]
    assert not [text for text in sql if "orderbooks" in text]


ODD_NAMES = ["hot; DROP TABLE x", "hot-db", "Hot Db", "select", "日本"]


@pytest.mark.parametrize("name", ODD_NAMES)
def test_identifiers_stand_in_back_ticks(name: str) -> None:
    target = Target(name, f"{name}_cold", cluster=name)
    for change in render(target):
        bare = re.sub(r"`[^`]*`", "", change.sql)
        assert name not in bare.removeprefix("CREATE TABLE IF NOT EXISTS ")
    for table in TABLES:
        for column in table.columns:
            assert column_ddl(column, "hot").startswith(f"`{column.name}` ")


# --- what is there, as ClickHouse tells it ------------------------------------------------------------------------------


def there(
    target: Target,
    tier: TierName,
    table: Table,
    *,
    columns: Callable[[dict[str, Any]], Any] = lambda columns: None,
    **changes: Any,
) -> ExistingTable:
    """The table as `plan` would have made it, but for the changes."""
    settings = settings_of(target)
    ttl = f" TTL {ttl_of(target)}" if tier == "hot" and target.retention else ""
    engine = "ReplicatedMergeTree" if target.cluster else "MergeTree"
    found = {
        column.name: {
            "type": column.type,
            "default_kind": column.kind if column.default or column.kind != "DEFAULT" else "",
            "default_expression": column.default,
        }
        for column in table.columns
    }
    columns(found)
    made = ExistingTable(
        engine=engine,
        engine_full=f"{engine} PARTITION BY {partition_of(tier, table)} ORDER BY ({', '.join(table.order_by)}){ttl} SETTINGS {settings}",
        sorting_key=", ".join(table.order_by),
        partition_key=partition_of(tier, table),
        create=f"CREATE TABLE {table.name} (INDEX {SEQ_INDEX})",
        columns=found,
    )
    return replace(made, **changes)


def everything(target: Target) -> dict[tuple[str, str], ExistingTable]:
    tables = {
        (target.database(tier), table.name): there(target, tier, table) for tier in ("hot", "cold") for table in TABLES
    }
    incidents = ExistingTable("ReplacingMergeTree", "", "id", "", "", {})
    return {
        **tables,
        (target.hot, INCIDENTS): incidents,
    } | {(target.hot, view.name): a_view(f"COMMENT '{view.mark(target.hot, target.cold)}'") for view in VIEWS}


def a_view(create: str) -> ExistingTable:
    return ExistingTable("View", "", "", "", create, {})


def planned(target: Target = KEPT, tier: TierName = "hot", table: Table = TRADES, **changes: Any) -> Plan:
    """The plan for a server that is complete but for one table."""
    existing = everything(target)
    existing[target.database(tier), table.name] = there(target, tier, table, **changes)
    return plan(target, existing, DATABASES)


# --- plans --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", [PLAIN, KEPT, CLUSTER])
def test_on_an_empty_server_everything_is_made(target: Target) -> None:
    found = plan(target, {}, ())
    assert list(found.changes) == render(target)
    assert len(found.changes) == 2 + 2 * len(TABLES) + 1 + len(VIEWS)
    assert found.differences == ()
    assert not found.fits


@pytest.mark.parametrize("target", [PLAIN, KEPT, CLUSTER])
def test_on_a_complete_server_nothing_is(target: Target) -> None:
    assert plan(target, everything(target), DATABASES) == Plan((), ())
    assert plan(target, everything(target), DATABASES).fits


def test_a_missing_table_is_made_and_the_others_are_left_alone() -> None:
    existing = everything(KEPT)
    del existing["marketprism_cold", "liquidations"]
    (change,) = plan(KEPT, existing, DATABASES).changes
    assert change.sql == create_table(KEPT, "cold", BY_DATA_TYPE["liquidation"])
    assert change.why == "table marketprism_cold.liquidations does not exist"


PLACES = [
    ("trade", "timestamp", "FIRST"),
    ("trade", "exchange", "AFTER `timestamp`"),
    ("trade", "price", "AFTER `trade_id`"),
    ("trade", "data_source", "AFTER `trade_time`"),  # an alias stands between them, and has no place
    ("trade", "_seq", "AFTER `_stream`"),
    ("orderbook", "standardized_at", "AFTER `ask_quantities`"),
    ("funding_rate", "premium_index", "AFTER `index_price`"),
]


@pytest.mark.parametrize(("data_type", "name", "place"), PLACES)
def test_a_missing_column_is_added_at_its_place(data_type: str, name: str, place: str) -> None:
    table = BY_DATA_TYPE[data_type]
    (change,) = planned(table=table, columns=lambda columns: columns.pop(name)).changes
    ddl = column_ddl(table.column(name), "hot")
    assert change.sql == f"ALTER TABLE `marketprism_hot`.`{table.name}` ADD COLUMN IF NOT EXISTS {ddl} {place}"
    assert change.why == f"marketprism_hot.{table.name} lacks the column {name}"


@pytest.mark.parametrize("name", ["notional", "_expires"])
def test_a_missing_column_that_is_not_stored_has_no_place(name: str) -> None:
    (change,) = planned(columns=lambda columns: columns.pop(name)).changes
    assert change.sql.endswith(f"ADD COLUMN IF NOT EXISTS {column_ddl(TRADES.column(name), 'hot')}")


def test_a_column_comes_after_those_that_its_default_refers_to() -> None:
    def without_the_tail(columns: dict[str, Any]) -> None:
        for name in ("created_at", "_stream", "_seq", "_expires", "notional", "price"):
            columns.pop(name)

    added = [change.sql.split("`")[5] for change in planned(columns=without_the_tail).changes]
    assert added.index("_expires") < added.index("created_at")
    assert added.index("price") < added.index("notional")


def test_on_a_cluster_a_table_is_mended_on_all_of_it() -> None:
    (change,) = planned(CLUSTER, columns=lambda columns: columns.pop("price")).changes
    assert change.sql.startswith("ALTER TABLE `marketprism_hot`.`trades` ON CLUSTER `main` ADD COLUMN IF NOT EXISTS ")


def test_without_an_insert_window_it_is_set() -> None:
    (change,) = planned(
        engine_full="MergeTree ORDER BY x TTL toDateTime(created_at) + toIntervalSecond(259200)"
    ).changes
    assert (
        change.sql
        == "ALTER TABLE `marketprism_hot`.`trades` MODIFY SETTING non_replicated_deduplication_window = 10000"
    )
    assert change.why == "marketprism_hot.trades forgets insert tokens at once"


def window(settings: str, target: Target = PLAIN) -> bool:
    """Whether these settings count as having a window."""
    return planned(target, tier="cold", engine_full=f"MergeTree ORDER BY x SETTINGS {settings}").fits


@pytest.mark.parametrize(
    ("target", "settings", "fits"),
    [
        (PLAIN, "non_replicated_deduplication_window = 100", True),
        (PLAIN, "index_granularity = 8192, non_replicated_deduplication_window = 10000", True),
        (PLAIN, "non_replicated_deduplication_window = 0", False),
        (PLAIN, "replicated_deduplication_window = 100", False),
        (PLAIN, "index_granularity = 8192", False),
        (CLUSTER, "index_granularity = 8192", True),
        (CLUSTER, "replicated_deduplication_window = 100", True),
        (CLUSTER, "replicated_deduplication_window = 0", False),
        (CLUSTER, "non_replicated_deduplication_window = 0", True),
    ],
)
def test_what_counts_as_an_insert_window(target: Target, settings: str, fits: bool) -> None:
    assert window(settings, target) is fits


def test_a_missing_index_is_added() -> None:
    (change,) = planned(create="CREATE TABLE trades (price Decimal(38, 18))").changes
    assert change.sql == f"ALTER TABLE `marketprism_hot`.`trades` ADD INDEX IF NOT EXISTS {SEQ_INDEX}"


# --- retention ----------------------------------------------------------------------------------------------------------

RETENTION = "toDateTime(created_at) + toIntervalSecond({})"
TTLS = [  # the target's retention, the table's TTL → a statement, a note
    (None, "", False, False),
    (None, RETENTION.format(259_200), False, True),
    (None, "toDateTime(timestamp) + toIntervalDay(3)", False, True),
    (259_200, "", True, False),
    (259_200, RETENTION.format(259_200), False, False),
    (259_200, RETENTION.format(2_592_000), True, False),
    (2_592_000, RETENTION.format(259_200), True, False),
    (259_200, "toDateTime(timestamp) + toIntervalSecond(259200)", True, False),
    (259_200, f"{RETENTION.format(259_200)} WHERE side = 'buy'", True, False),
]


@pytest.mark.parametrize(("retention", "ttl", "changes", "noted"), TTLS)
def test_the_hot_tiers_retention_is_what_the_pipeline_says(
    retention: int | None, ttl: str, changes: bool, noted: bool
) -> None:
    target = replace(PLAIN, retention=retention)
    engine = f"MergeTree ORDER BY x{' TTL ' if ttl else ''}{ttl} SETTINGS {settings_of(target)}"
    found = planned(target, engine_full=engine)
    expected = f"ALTER TABLE `marketprism_hot`.`trades` MODIFY TTL {RETENTION.format(retention)}"
    assert [change.sql for change in found.changes] == [expected] * changes
    assert [(d.where, d.blocking) for d in found.differences] == [("marketprism_hot.trades", False)] * noted
    assert all(ttl in difference.what for difference in found.differences)


def test_a_ttl_in_the_cold_tier_is_told_whatever_the_hot_one_keeps() -> None:
    ttl = RETENTION.format(259_200)
    found = planned(KEPT, "cold", engine_full=f"MergeTree ORDER BY x TTL {ttl} SETTINGS {settings_of(KEPT)}")
    assert found.changes == ()
    assert [d.blocking for d in found.differences] == [False]
    assert found.fits


# --- differences that a person decides on -------------------------------------------------------------------------------


def with_column(name: str, **changes: str) -> Callable[[dict[str, Any]], None]:
    def change(columns: dict[str, Any]) -> None:
        columns[name] = {
            "type": "String",
            "default_kind": "",
            "default_expression": "",
            **columns.get(name, {}),
            **changes,
        }

    return change


FENCE_OFF = with_column("created_at", default_expression="now()")
DIFFERENCES: list[tuple[str, dict[str, Any], str, bool, str]] = [
    ("narrowed", {"columns": with_column("price", type="Decimal(18, 8)")}, ".price", True, "Decimal(18, 8)"),
    ("a float", {"columns": with_column("price", type="Float64")}, ".price", True, "Float64"),
    ("coarser time", {"columns": with_column("timestamp", type="DateTime64(3, 'UTC')")}, ".timestamp", True, "DateTime64(3"),
    ("not nullable", {"columns": with_column("is_maker", type="Bool")}, ".is_maker", True, "Nullable(Bool)"),
    ("plain text", {"columns": with_column("symbol", type="String")}, ".symbol", True, "LowCardinality(String)"),
    ("materialized", {"columns": with_column("price", default_kind="MATERIALIZED")}, ".price", True, "MATERIALIZED"),
    ("alias no more", {"columns": with_column("notional", default_kind="DEFAULT")}, ".notional", True, "ALIAS"),
    ("stored deadline", {"columns": with_column("_expires", default_kind="DEFAULT")}, "._expires", True, "EPHEMERAL"),
    ("no fence", {"columns": FENCE_OFF}, ".created_at", True, "now()"),
    ("no default", {"columns": with_column("_seq", default_kind="", default_expression="")}, "._seq", False, "absent"),
    ("another default", {"columns": with_column("data_source", default_expression="'mine'")}, ".data_source", False, "'mine'"),
    ("no MergeTree", {"engine": "Memory"}, "", True, "Memory"),
    ("a Log", {"engine": "StripeLog"}, "", True, "MergeTree is needed"),
    ("time first", {"sorting_key": "timestamp, symbol"}, "", False, "ORDER BY is (timestamp, symbol)"),
    ("by month", {"partition_key": "toYYYYMM(timestamp)"}, "", False, "PARTITION BY is toYYYYMM(timestamp)"),
    ("unpartitioned", {"partition_key": ""}, "", False, "PARTITION BY is absent"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "where", "blocking", "words"), [d[1:] for d in DIFFERENCES], ids=[d[0] for d in DIFFERENCES]
)
def test_what_adding_cannot_mend_is_told_and_not_done(
    changes: dict[str, Any], where: str, blocking: bool, words: str
) -> None:
    found = planned(**changes)
    (difference,) = found.differences
    assert found.changes == ()
    assert difference.where == f"marketprism_hot.trades{where}"
    assert difference.blocking is blocking
    assert words in difference.what
    assert found.fits is not blocking


@pytest.mark.parametrize(
    ("kind", "default", "added"),
    [
        ("", "", "String"),
        ("DEFAULT", "'-'", "String DEFAULT '-'"),
        ("MATERIALIZED", "symbol", "String MATERIALIZED symbol"),
    ],
)
def test_a_column_of_the_users_own_is_added_to_cold_and_keeps_nobody_from_storing(
    kind: str, default: str, added: str
) -> None:
    found = planned(columns=with_column("note", default_kind=kind, default_expression=default))
    (change,) = found.changes
    assert change.sql == f"ALTER TABLE `marketprism_cold`.`trades` ADD COLUMN IF NOT EXISTS `note` {added}"
    assert change.convenience
    assert not any(told.blocking for told in found.differences)


def test_a_column_of_the_users_own_with_another_type_in_cold_is_told() -> None:
    existing = everything(PLAIN)
    for tier, type_ in (("hot", "String"), ("cold", "UInt8")):
        changed = there(PLAIN, tier, TRADES, columns=with_column("note", type=type_))  # type: ignore[arg-type]
        existing[PLAIN.database(tier), "trades"] = changed  # type: ignore[arg-type]
    found = plan(PLAIN, existing, DATABASES)
    assert found.changes == ()
    assert [told.where for told in found.differences] == ["marketprism_hot.trades.note", "marketprism_cold.trades.note"]
    assert "its type is UInt8, in marketprism_hot it is String" in found.differences[1].what


@pytest.mark.parametrize("kind", ["ALIAS", "EPHEMERAL"])
def test_a_column_of_the_users_own_that_stores_nothing_stays_where_it_is(kind: str) -> None:
    assert planned(columns=with_column("note", default_kind=kind, default_expression="price")) == Plan((), ())


SAME = [
    ("type", "price", "Decimal(38,18)"),
    ("type", "timestamp", "DateTime64(6,'UTC')"),
    ("default_expression", "notional", "multiplyDecimal(price,quantity,18)"),
    (
        "default_expression",
        "created_at",
        "now64(3, 'UTC') + throwIf((now() > _expires), 'insert came after its _expires')",
    ),
]


@pytest.mark.parametrize(("what", "column", "text"), SAME)
def test_another_spelling_is_no_difference(what: str, column: str, text: str) -> None:
    assert planned(columns=with_column(column, **{what: text})) == Plan((), ())


@pytest.mark.parametrize("engine", ["ReplacingMergeTree", "SharedMergeTree", "ReplicatedReplacingMergeTree"])
def test_other_merge_trees_are_taken(engine: str) -> None:
    assert planned(engine=engine).fits


def test_no_plan_takes_anything_away() -> None:
    broken: list[dict[str, Any]] = [changes for _, changes, *_ in DIFFERENCES]
    broken += [{"columns": lambda columns, name=c.name: columns.pop(name)} for c in TRADES.columns]
    for changes in broken:
        for change in planned(**changes).changes:
            assert not re.search(r"\b(DROP|DELETE|TRUNCATE|RENAME|CLEAR|DETACH|MODIFY COLUMN)\b", change.sql)


# --- views --------------------------------------------------------------------------------------------------------------


def planned_view(create: str | None) -> Plan:
    """The plan for a server that is complete but for the candles."""
    existing = everything(PLAIN)
    del existing["marketprism_hot", "candles_1m"]
    if create is not None:
        existing["marketprism_hot", "candles_1m"] = a_view(create)
    return plan(PLAIN, existing, DATABASES)


def test_a_missing_view_is_made_and_ingest_does_not_wait_for_it() -> None:
    (change,) = planned_view(None).changes
    assert change.sql.startswith("CREATE VIEW IF NOT EXISTS `marketprism_hot`.`candles_1m` AS\n(\nSELECT exchange")
    assert change.convenience
    assert not planned_view(None).fits


def test_a_view_of_an_older_version_is_replaced() -> None:
    (change,) = planned_view("CREATE VIEW x COMMENT 'marketprism view 000000000000' AS SELECT 1").changes
    assert change.sql.startswith("CREATE OR REPLACE VIEW `marketprism_hot`.`candles_1m` AS\n")
    assert change.why == "view marketprism_hot.candles_1m has another definition"


def test_what_a_user_named_like_a_view_is_left_alone() -> None:
    found = planned_view("CREATE VIEW candles_1m AS SELECT 1")
    assert found.changes == ()
    assert [(d.where, d.blocking) for d in found.differences] == [("marketprism_hot.candles_1m", False)]
    assert found.fits


def test_views_come_after_the_tables_and_after_the_views_that_they_read() -> None:
    made = [change.sql for change in render(PLAIN)]
    first = next(number for number, sql in enumerate(made) if "VIEW" in sql)
    assert all("CREATE VIEW" in sql for sql in made[first:])
    known: set[str] = set()
    for sql in made[first:]:
        assert set(re.findall(r"`(all_\w+)`", sql)) - {sql.split("`")[3]} <= known
        known.add(sql.split("`")[3])


# --- whose records count ------------------------------------------------------------------------------------------------

OURS = replace(PLAIN, bucket="OURS")


def noted(target: Target, comment: str) -> Plan:
    """The plan where the table's note is this."""

    def note(columns: dict[str, Any]) -> None:
        columns["_stream"]["comment"] = comment

    existing = {("marketprism_hot", "trades"): there(target, "hot", TRADES, columns=note)}
    return plan(target, existing | {("marketprism_cold", "trades"): there(target, "cold", TRADES)}, DATABASES, [TRADES])


def test_a_table_of_hot_is_made_with_the_bucket_of_its_records() -> None:
    told = "DEFAULT '' COMMENT 'marketprism records in the bucket OURS' CODEC("
    assert told in create_table(OURS, "hot", TRADES)
    assert "COMMENT" not in create_table(OURS, "cold", TRADES)


def of_tables(found: Plan) -> list[str]:
    return [change.sql for change in found.changes if "VIEW" not in change.sql and INCIDENTS not in change.sql]


def test_records_in_another_bucket_are_a_difference_that_only_a_person_decides_on() -> None:
    assert of_tables(noted(OURS, "marketprism records in the bucket OURS")) == []
    found = noted(OURS, "marketprism records in the bucket THEIRS")
    assert of_tables(found) == []
    (difference,) = found.differences
    assert (difference.blocking, difference.reason) == (True, reasons.RECORDED_ELSEWHERE)
    assert difference.where == "marketprism_hot.trades._stream"
    assert difference.what == "its records are in the bucket THEIRS, not in OURS"


def test_a_table_without_a_note_gets_one_and_a_comment_of_somebodys_own_stays() -> None:
    assert of_tables(noted(OURS, "")) == [
        "ALTER TABLE `marketprism_hot`.`trades` COMMENT COLUMN `_stream` 'marketprism records in the bucket OURS'"
    ]
    found = noted(OURS, "where it came from")
    assert of_tables(found) == []
    assert [difference.blocking for difference in found.differences] == [False]
