"""The product's own statements and bytes on ClickHouse engines of three years.

Each engine comes from PyPI's chdb into a virtual environment of its own, made once. What is prepared here is what ingest
and `schema apply` send; a small script runs it there.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import ROUND_DOWN, Decimal, localcontext
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from marketprism_api.data_types import BUILT_IN
from marketprism_consumer.clickhouse.schema import DDL_SETTINGS, existing
from marketprism_consumer.clickhouse.store import INSERT_SETTINGS
from marketprism_consumer.errors import MessageError
from marketprism_consumer.feed import messages
from marketprism_consumer.ingest.decode import Row, decode
from marketprism_consumer.ingest.encode import Block
from marketprism_consumer.operations.questions import QUESTIONS
from marketprism_consumer.schema.ddl import SEQ_INDEX, Plan, Target, column_ddl, plan, render
from marketprism_consumer.schema.tables import BY_DATA_TYPE, TABLES, TRADES, Column, Table
from marketprism_consumer.schema.views import VIEWS, View
from marketprism_consumer.validation.checks import SHAPES, parameters, parity, statement
from tests.blocks import block_of
from tests.environments import NotInstalledError, interpreter
from tests.stored_rows import comparable, expected, select

pytestmark = pytest.mark.timeout(600)

CACHE = Path(os.environ.get("MARKETPRISM_ENGINES", Path.home() / ".cache" / "marketprism-engines"))
SCRIPT = Path(__file__).with_name("engine_script.py")

# Requirement → the engine in it. "" is the engine that this environment has.
ENGINES = {
    "chdb==1.0.2": "23.10.1.1",
    "chdb==2.0.4": "24.5.1.1",
    "chdb==3.7.2": "25.8.2.1",
    "chdb-core==26.3.0": "26.3.9.1",
    "": "26.9.2.1",
}
TARGET = Target("mp_hot", "mp_cold", retention=259_200)
STREAM = "MARKET_DATA@2025-09-24T07:00:00.000000000Z"
WINDOW = "timestamp >= fromUnixTimestamp64Micro({since:Int64}, 'UTC') AND timestamp < fromUnixTimestamp64Micro({until:Int64}, 'UTC')"
DAY = "since = '2025-09-24 00:00:00', until = '2025-09-25 00:00:00'"
PARAMETERS = {
    "trade_gaps": f"({DAY})",
    "book_gaps": f"({DAY})",
    "silences": f"({DAY}, longer_than = 60)",
    "book_at": "(exchange = 'okx', market_type = 'futures', symbol = 'BTC-USDT', at = '2025-09-25 07:56:00')",
}
ONE_SERIES = {"exchange": "binance_spot", "market_type": "spot", "symbol": "BTC-USDT"}
NUMBERS = {"seconds": 300, "levels": 10, "longer_than": 60}
NAMED = (tuple(ONE_SERIES), ("exchange", "symbol"))
"""What of a series a question may name; a book's names all of it."""
NO_SUCH_ENGINE: dict[str, str] = {}

USER_INSERT = """
INSERT INTO mp_cold.trades (timestamp, exchange, market_type, symbol, trade_id, price, quantity, side, is_maker, trade_time,
                            data_source, created_at)
SELECT timestamp, exchange, market_type, symbol, trade_id, price, quantity, side, is_maker, trade_time, 'marketprism', now()
FROM mp_hot.trades WHERE exchange = 'binance_spot' AND symbol = 'BTC-USDT'
"""


# --- an interpreter for each engine -----------------------------------------------------------------------------------


def python_with(requirement: str) -> str:
    """The Python that has this engine, installed now if need be. Skips, with the reason, where it can't be had."""
    if not requirement:
        return sys.executable
    if requirement not in NO_SUCH_ENGINE:
        try:
            return str(interpreter(CACHE / requirement.replace("==", "-"), requirement))
        except NotInstalledError as why:
            NO_SUCH_ENGINE[requirement] = (
                f"{requirement} ({ENGINES[requirement]}) can't be installed here, so this engine is NOT TESTED: {why}"
            )
    pytest.skip(NO_SUCH_ENGINE[requirement])


# --- what is run on each ----------------------------------------------------------------------------------------------


@dataclass
class Script:
    """Statements with a name each, in order."""

    directory: Path
    names: list[str] = field(default_factory=list)
    steps: list[str] = field(default_factory=list)

    def add(self, name: str, sql: str) -> None:
        self.names.append(name)
        self.steps.append(sql)

    def change(self, name: str, sql: str) -> None:
        """As `schema apply` does it; a SET of numbers is all that every engine takes with any statement."""
        self.add(name, "".join(f"SET {setting} = {value}; " for setting, value in DDL_SETTINGS.items()) + sql)

    def insert(self, name: str, block: Block, expires: float) -> None:
        """As `ClickHouse.insert` does it: a column list, every setting, the token, Native."""
        file = self.directory / f"{name}.native"
        file.write_bytes(b"".join(block.expiring(int(expires))))
        given = {**INSERT_SETTINGS, "insert_deduplication_token": f"'{block.token}'"}
        settings = ", ".join(f"{setting} = {value}" for setting, value in given.items())
        self.add(
            name,
            f"INSERT INTO mp_hot.{block.table.name} ({', '.join(block.columns)})"
            f" FROM INFILE '{file}' SETTINGS {settings} FORMAT Native",
        )

    def run(self, python: str) -> dict[str, dict[str, Any]]:
        plan_file = self.directory / "steps.json"
        plan_file.write_text(json.dumps(self.steps))
        answers: dict[int, dict[str, Any]] = {}
        first = 0
        while first < len(self.steps):
            command = [python, str(SCRIPT), str(self.directory / "data"), str(plan_file), str(first)]
            ran = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
            lines = [json.loads(line) for line in ran.stdout.splitlines() if line.startswith('{"step"')]
            answers |= {answer["step"]: answer for answer in lines}
            after = lines[-1]["step"] + 1 if lines else first
            if after == first:  # it died without a word
                answers[first] = {"step": first, "code": 0, "error": f"exit code {ran.returncode}: {ran.stderr[-500:]}"}
                after += 1
            first = after
        return {name: answers[number] for number, name in enumerate(self.names)}


@dataclass(frozen=True)
class Outcome:
    answers: dict[str, dict[str, Any]]
    rows: dict[str, list[Row]]
    catalogue: list[str]

    def result(self, name: str) -> list[list[Any]]:
        answer = self.answers[name]
        assert "error" not in answer, f"{name}: {answer}"
        rows: list[list[Any]] = answer["rows"]
        return rows

    def code(self, name: str) -> int:
        code: int = self.answers[name].get("code", -1)
        return code


def _literal(sql: str, parameters: Mapping[str, Any]) -> str:
    """With what would be sent as parameters written into it."""
    given = {"since": 0, "until": 4_000_000_000_000_000, **parameters}

    def literal(found: re.Match[str]) -> str:
        value = given[found[1]]
        return f"CAST({value if isinstance(value, list) else repr(str(value))}, '{found[2]}')"

    return re.sub(r"\{(\w+):([\w()]+)\}", literal, sql)


def decoded() -> dict[str, list[Row]]:
    """Rows of all eight types, from the feed, and one at the edge of every decimal."""
    rows: dict[str, list[Row]] = {table.data_type: [] for table in TABLES}
    for message in islice(messages(seed=7), 3000):
        try:
            rows[message.data_type].append(
                decode(BUILT_IN[message.data_type], message.subject, message.payload, 1 << 60)
            )
        except MessageError:
            continue
    for table in TABLES:
        rows[table.data_type].append(tuple(_extreme(column, i) for i, column in enumerate(table.inserted)))
    return rows


def _extreme(column: Column, index: int) -> Any:
    if column.type.startswith("Array"):
        return ["9" * 20 + "." + "9" * 18, "0.000000000000000001"]
    if "Decimal(38, 28)" in column.type:
        return "0." + "0123456789" * 2 + "01234567"
    if "Decimal" in column.type:
        return "12345678901234567890.123456789012345678"
    if "DateTime64" in column.type:
        return 1_758_700_551_123_456 + index
    if "UInt64" in column.type:
        return 2**64 - 1
    if "UInt32" in column.type:
        return 2**32 - 1
    if "Bool" in column.type:
        return True
    return 'it\'s \x00 \U0001f600 \\ "quoted"'


class Catalogue:
    """Stands where the server does: notes what `existing` asks, or answers it with what an engine said."""

    def __init__(self, answers: Sequence[list[list[Any]]] = ()) -> None:
        self.asked: list[str] = []
        self._answers = list(answers)

    async def query(self, sql: str, parameters: dict[str, list[str]]) -> list[tuple[Any, ...]]:
        (databases,) = parameters.values()
        listed = ", ".join(f"'{database}'" for database in databases)
        self.asked.append(sql.replace("{databases:Array(String)}", f"({listed})"))
        return [tuple(row) for row in self._answers.pop(0)] if self._answers else []


@pytest.fixture(scope="module", params=ENGINES, ids=lambda requirement: requirement or "installed")
def engine(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    python = python_with(request.param)
    script = Script(tmp_path_factory.mktemp("engine"))
    rows = decoded()
    asked = Catalogue()
    asyncio.run(existing(asked, TARGET))  # type: ignore[arg-type]
    now = time.time()

    script.add("version", "SELECT version()")
    for number, change in enumerate(render(TARGET)):
        script.change(f"ddl {number}", change.sql)
    for number, change in enumerate(render(TARGET)):
        script.change(f"ddl again {number}", change.sql)
    for number, sql in enumerate(asked.asked):
        script.add(f"catalogue {number}", sql)

    for data_type, own in rows.items():
        table = BY_DATA_TYPE[data_type]
        block = block_of(table, own, range(1, len(own) + 1), [STREAM] * len(own))
        count = f"SELECT toString(count()) FROM mp_hot.{table.name}"
        script.insert(f"late {data_type}", block, now - 600)
        script.add(f"after late {data_type}", count)
        script.insert(f"insert {data_type}", block, now + 600)
        script.add(f"rows {data_type}", select(table, f"mp_hot.{table.name}"))
        script.insert(f"same {data_type}", block, now + 600)
        script.add(f"after same {data_type}", count)
        moved = block_of(table, own, range(100_001, 100_001 + len(own)), [STREAM] * len(own))
        script.insert(f"other {data_type}", moved, now + 600)
        script.add(f"after other {data_type}", count)
        script.add(
            f"created_at {data_type}",
            f"SELECT DISTINCT created_at > now() - 600 AND created_at < now() + 600 FROM mp_hot.{table.name}",
        )

    script.add("notional", "SELECT toString(price), toString(quantity), toString(notional) FROM mp_hot.trades")
    script.add(
        "levels",
        "SELECT arrayMap(l -> (toString(l.1), toString(l.2)), bids), arrayMap(d -> toString(d), bid_prices),"
        " arrayMap(d -> toString(d), bid_quantities) FROM mp_hot.orderbooks",
    )
    script.add("user insert", USER_INSERT)
    script.add(
        "user rows",
        "SELECT toString(count()), toString(countIf(_stream = '' AND _seq = 0 AND created_at > now() - 600)),"
        " toString(countIf(notional = multiplyDecimal(price, quantity, 18))),"
        " (SELECT toString(count()) FROM mp_hot.trades WHERE exchange = 'binance_spot' AND symbol = 'BTC-USDT')"
        " FROM mp_cold.trades",
    )
    for data_type, shape in SHAPES.items():
        limits = parameters(BUILT_IN[data_type].validation)
        script.add(f"validate {data_type}", _literal(statement(shape, "mp_hot", "mp_cold", WINDOW), limits))
        script.add(f"parity {data_type}", _literal(parity(shape.table, "mp_hot", "mp_cold", WINDOW), limits))
    for view in VIEWS:
        script.add(
            f"view {view.name}", f"SELECT toString(count()) FROM mp_hot.{view.name}{PARAMETERS.get(view.name, '')}"
        )
    for name, question in QUESTIONS.items():
        for named in NAMED:
            asked_of = question("mp_hot", "mp_cold", list(named)).sql
            script.add(f"query {name} {' '.join(named)}", _literal(asked_of, {**ONE_SERIES, **NUMBERS}))
    of_series = " AND ".join(f"{name} = '{value}'" for name, value in ONE_SERIES.items())
    script.add("trades of it", f"SELECT toString(count()) FROM mp_hot.all_trades WHERE {of_series}")
    script.add("vwap", "SELECT toString(turnover), toString(volume), toString(vwap) FROM mp_hot.candles_1m")
    script.add(
        "look-up", f"SELECT toString(_seq) FROM mp_hot.trades WHERE _seq IN (1, 2, 999999) AND _stream = '{STREAM}'"
    )
    script.add("high water", f"SELECT toString(max(_seq)) FROM mp_hot.trades WHERE _stream = '{STREAM}'")

    # The ways in which `plan` mends a table, on one that has none of what it adds.
    script.add(
        "bare table",
        "CREATE TABLE mp_cold.bare (timestamp DateTime, price Decimal(38, 18)) ENGINE = MergeTree ORDER BY timestamp",
    )
    script.add("old row", "INSERT INTO mp_cold.bare VALUES (now(), 2)")
    for name, sql in {
        "add column": "ADD COLUMN IF NOT EXISTS `quantity` Decimal(38, 18) CODEC(ZSTD(3)) AFTER `price`",
        "add column first": "ADD COLUMN IF NOT EXISTS `zero` UInt8 CODEC(ZSTD(3)) FIRST",
        "add alias": "ADD COLUMN IF NOT EXISTS `notional` Decimal(76, 18) ALIAS multiplyDecimal(price, quantity, 18)",
        "add seq": "ADD COLUMN IF NOT EXISTS `_seq` UInt64 DEFAULT 0 CODEC(Delta, ZSTD(3)) AFTER `quantity`",
        "add ephemeral": "ADD COLUMN IF NOT EXISTS `_expires` DateTime EPHEMERAL toDateTime('2106-01-01 00:00:00')",
        "add created_at": f"ADD COLUMN IF NOT EXISTS {column_ddl(TRADES.column('created_at'), 'cold')} AFTER `quantity`",
        "add index": f"ADD INDEX IF NOT EXISTS {SEQ_INDEX}",
        "window": "MODIFY SETTING non_replicated_deduplication_window = 10000",
        "retention": "MODIFY TTL timestamp + toIntervalSecond(259200)",
    }.items():  # fmt: skip
        script.add(name, f"ALTER TABLE mp_cold.bare {sql}")
    script.add("old row read", "SELECT toString(notional), toString(_seq), created_at > now() - 600 FROM mp_cold.bare")
    script.add("mended", "SELECT name, default_kind FROM system.columns WHERE table = 'bare' ORDER BY position")

    return Outcome(script.run(python), rows, asked.asked)


# --- what must hold on each -------------------------------------------------------------------------------------------


def by_table(test: Any) -> Any:
    return pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)(test)


def test_the_engine_is_the_one_named(engine: Outcome, request: pytest.FixtureRequest) -> None:
    assert engine.result("version") == [[ENGINES[request.node.callspec.params["engine"]]]]


def test_the_whole_schema_is_created_and_creating_it_again_is_nothing(engine: Outcome) -> None:
    for number in range(len(render(TARGET))):
        engine.result(f"ddl {number}")
        engine.result(f"ddl again {number}")


def test_what_the_server_tells_of_a_created_table_needs_no_change(engine: Outcome) -> None:
    answers = [engine.result(f"catalogue {number}") for number in range(len(engine.catalogue))]
    found, databases = asyncio.run(existing(Catalogue(answers), TARGET))  # type: ignore[arg-type]
    assert plan(TARGET, found, databases) == Plan((), ())


@by_table
def test_every_value_comes_back_exactly(engine: Outcome, table: Table) -> None:
    engine.result(f"insert {table.data_type}")
    stored = engine.result(f"rows {table.data_type}")
    sent = engine.rows[table.data_type]
    assert [comparable(table, row[:-2]) for row in stored] == expected(table, sent)
    assert [row[-2:] for row in stored] == [[STREAM, str(seq)] for seq in range(1, len(sent) + 1)]


@by_table
def test_an_insert_after_its_deadline_is_refused_by_the_server_and_stores_nothing(
    engine: Outcome, table: Table
) -> None:
    assert engine.code(f"late {table.data_type}") == 395
    assert engine.result(f"after late {table.data_type}") == [["0"]]


@by_table
def test_the_same_block_twice_is_stored_once_and_the_same_rows_of_other_messages_twice(
    engine: Outcome, table: Table
) -> None:
    count = len(engine.rows[table.data_type])
    engine.result(f"same {table.data_type}")
    assert engine.result(f"after same {table.data_type}") == [[str(count)]]
    engine.result(f"other {table.data_type}")
    assert engine.result(f"after other {table.data_type}") == [[str(2 * count)]]


@by_table
def test_created_at_is_the_time_of_the_insert(engine: Outcome, table: Table) -> None:
    assert [bool(int(row[0])) for row in engine.result(f"created_at {table.data_type}")] == [True]


def test_notional_is_price_times_quantity_cut_after_18_digits(engine: Outcome) -> None:
    with localcontext(prec=120):
        for price, quantity, notional in engine.result("notional"):
            product = Decimal(price) * Decimal(quantity)
            assert Decimal(notional) == product.quantize(Decimal("1e-18"), ROUND_DOWN)


def test_bids_are_pairs_of_the_level_columns(engine: Outcome) -> None:
    for bids, prices, quantities in engine.result("levels"):
        assert [list(level) for level in bids] == [list(level) for level in zip(prices, quantities, strict=True)]


def test_a_users_own_insert_makes_ordinary_rows(engine: Outcome) -> None:
    engine.result("user insert")
    ((count, with_defaults, with_notional, expected_count),) = engine.result("user rows")
    assert int(count) > 0
    assert count == with_defaults == with_notional == expected_count


@pytest.mark.parametrize("view", VIEWS, ids=lambda view: view.name)
def test_every_view_answers(engine: Outcome, view: View) -> None:
    ((count,),) = engine.result(f"view {view.name}")
    if view.name.startswith(("all_", "candles", "latest_", "lsr_")):
        assert int(count) > 0


@pytest.mark.parametrize("name", QUESTIONS)
def test_every_question_answers(engine: Outcome, name: str) -> None:
    answers = [engine.result(f"query {name} {' '.join(named)}") for named in NAMED]
    assert answers[0] == answers[1]
    if name == "candles":
        assert [[str(sum(int(row[-1]) for row in answers[0]))]] == engine.result("trades of it")


@by_table
def test_validation_answers(engine: Outcome, table: Table) -> None:
    lines = engine.result(f"validate {table.data_type}")
    doubled = sum(int(line[4]) for line in lines)
    in_cold = int(engine.result("user rows")[0][0]) if table is TRADES else 0
    assert doubled == 2 * len(engine.rows[table.data_type]) + in_cold
    ((both, differ, _),) = engine.result(f"parity {table.data_type}")
    assert (int(both), int(differ)) == (0, 0)


def test_both_tiers_are_one_table(engine: Outcome) -> None:
    ((by_hand,),) = ([row[0]] for row in engine.result("user rows"))
    assert engine.result("view all_trades") == [[str(2 * len(engine.rows["trade"]) + int(by_hand))]]


def test_a_volume_weighted_price_is_exact(engine: Outcome) -> None:
    with localcontext(prec=120):
        for turnover, volume, vwap in engine.result("vwap"):
            exact = (Decimal(turnover) / Decimal(volume)).quantize(Decimal("1e-18"), ROUND_DOWN)
            assert Decimal(vwap) == exact


def test_rows_are_found_by_their_sequence(engine: Outcome) -> None:
    assert sorted(engine.result("look-up")) == [["1"], ["2"]]
    assert engine.result("high water") == [[str(100_000 + len(engine.rows["trade"]))]]


@pytest.mark.parametrize(
    "change",
    [
        *("add column", "add column first", "add alias", "add seq", "add ephemeral", "add created_at", "add index"),
        *("window", "retention"),
    ],
)
def test_a_table_is_mended_in_place(engine: Outcome, change: str) -> None:
    engine.result(change)


def test_what_was_added_stands_at_its_place(engine: Outcome) -> None:
    assert engine.result("mended") == [
        ["zero", ""],
        ["timestamp", ""],
        ["price", ""],
        ["quantity", ""],
        ["created_at", "DEFAULT"],
        ["_seq", "DEFAULT"],
        ["notional", "ALIAS"],
        ["_expires", "EPHEMERAL"],
    ]


def test_a_row_from_before_has_values_for_what_was_added(engine: Outcome) -> None:
    assert [[str(value) for value in row] for row in engine.result("old row read")] == [["0", "0", "1"]]
