"""What a run does on a real engine when nothing goes wrong, and with what users do meanwhile."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace

import pytest

from marketprism_api import reasons
from marketprism_consumer.clickhouse.store import ClickHouseStore
from marketprism_consumer.ingest.decode import Row
from marketprism_consumer.schema.tables import TABLES, TRADES
from marketprism_consumer.tiering.job import Mode
from marketprism_consumer.tiering.run import Migration
from marketprism_consumer.tiering.slices import Filter
from tests.blocks import block_of, seconds_from_now
from tests.tiering.tiering_place import HOUR, STREAM, USERS_STATEMENT, Place


async def test_old_rows_are_in_cold_bit_for_bit_and_young_ones_stay(place: Place) -> None:
    await place.fill(3000, hours_ago=12.001, span=6 * HOUR)
    before = (await place.rows())["hot"]
    result = await place.migrate()
    assert result.ok, result.failures
    after = await place.rows()
    assert sorted(after["hot"] + after["cold"]) == sorted(before)
    assert await place.counts() == (999, 2001)
    assert await place.value("SELECT min(timestamp) > now() - INTERVAL 8 HOUR FROM {hot}.trades")
    assert await place.value("SELECT max(timestamp) <= now() - INTERVAL 8 HOUR FROM {cold}.trades")
    one = result.tables["trades"]
    assert (one.rows, one.backlog_rows, one.limit_reached) == (2001, 0, False)
    assert one.bytes > 0
    again = await place.migrate()
    assert again.ok
    assert sum(t.rows for t in again.tables.values()) <= 2  # a second later perhaps another row is due


async def test_a_block_that_may_still_be_sent_again_keeps_its_token(place: Place) -> None:
    """Dropping its part would free the token, and a request that comes late would store in hot what cold has."""
    store = ClickHouseStore(place.server, place.hot)
    at = (int(time.time()) - 12 * HOUR) * 1_000_000
    rows: list[Row] = [(at + n, "e", "m", "s", str(n), "1", "2", "buy", None, at, "", None) for n in range(100)]
    block = block_of(TRADES, rows, range(1, 101), [STREAM] * 100)
    await store.insert(block, seconds_from_now())
    result = await place.migrate()
    assert result.ok, result.failures
    assert await place.counts() == (0, 100)
    await store.insert(block, seconds_from_now())
    assert await place.counts() == (0, 100)


async def test_every_table_with_its_own_columns(place: Place) -> None:
    await place.create(TABLES)
    for number, table in enumerate(TABLES):
        books = (
            ", bid_prices, ask_prices" if table.name == "orderbooks" else "",
            ", [1.1, 2.2], arrayMap(x -> toDecimal128(x, 18), range(number % 4))" if table.name == "orderbooks" else "",
        )
        await place.run(
            f"INSERT INTO {{hot}}.{table.name} (timestamp, exchange, market_type, symbol{books[0]}, _stream, _seq)"
            f" SELECT now64(6) - INTERVAL 10 HOUR + number, 'e', 'm', 's'{books[1]}, '{STREAM}', number + {number}"
            " FROM numbers(1, 50)"
        )
    before = {table.name: (await place.rows(table.name))["hot"] for table in TABLES}
    result = await place.migrate(tables=tuple(table.name for table in TABLES))
    assert result.ok, result.failures
    for table in TABLES:
        after = await place.rows(table.name)
        assert (after["hot"], after["cold"]) == ([], before[table.name])


async def test_a_copy_leaves_hot_as_it_is_and_copies_once(place: Place) -> None:
    await place.fill(500, hours_ago=12, span=HOUR)
    before = (await place.rows())["hot"]
    for copied in (500, 0):
        result = await place.migrate(mode=Mode.COPY)
        assert result.ok
        assert result.tables["trades"].rows == copied
        after = await place.rows()
        assert after["hot"] == after["cold"] == before
    assert (await place.migrate()).tables["trades"].rows == 500
    assert (await place.rows())["cold"] == before


async def test_a_dry_run_writes_nothing(place: Place) -> None:
    await place.fill(500, hours_ago=12, span=HOUR)
    result = await place.migrate(mode=Mode.DRY_RUN)
    assert result.tables["trades"].rows == 500
    assert await place.counts() == (500, 0)
    assert not await place.value(
        "SELECT count() FROM system.tables WHERE database = '{cold}' AND startsWith(name, '_')"
    )


async def test_filters_and_times(place: Place) -> None:
    await place.fill(600, hours_ago=12, span=HOUR)
    result = await place.migrate(filter=Filter("okx_spot", "spot", "ETH-USDT"))
    assert result.ok
    assert result.tables["trades"].rows == 100
    assert await place.query("SELECT DISTINCT exchange, symbol FROM {cold}.trades") == [("okx_spot", "ETH-USDT")]
    assert await place.counts() == (500, 100)
    middle = await place.value("SELECT toUnixTimestamp64Micro(min(timestamp)) + 1800000000 FROM {hot}.trades")
    assert (await place.migrate(end=int(middle))).ok
    assert await place.value("SELECT min(toUnixTimestamp64Micro(timestamp)) FROM {hot}.trades") >= middle
    assert (await place.migrate()).ok
    assert await place.counts() == (0, 600)
    assert await place.value("SELECT count() = uniqExact(_seq) FROM {cold}.trades")


async def test_a_run_stops_at_its_limit_and_the_next_goes_on(place: Place) -> None:
    await place.fill(1000, hours_ago=12, span=2 * HOUR)
    moved = []
    while True:
        result = await place.migrate(batch_limit=300)
        assert result.ok
        moved.append(result.tables["trades"].rows)
        if result.result != "LimitReached":
            break
        assert result.tables["trades"].backlog_rows == 1000 - sum(moved)
    assert max(moved) <= 300
    assert sum(moved) == 1000
    assert await place.counts() == (0, 1000)


async def test_a_busy_second_is_cut_finer(place: Place) -> None:
    await place.fill(5000, hours_ago=12, span=1)
    result = await place.migrate(slice_rows=700, batch_limit=2100)
    assert result.ok
    assert 1400 <= result.tables["trades"].rows <= 2100
    assert (await place.migrate(slice_rows=700)).ok
    assert await place.counts() == (0, 5000)


async def test_fractions_of_an_hour(place: Place) -> None:
    await place.fill(100, hours_ago=0.1, span=360)
    result = await place.migrate(older_than=0.05 * HOUR)
    assert result.ok
    assert 48 <= result.tables["trades"].rows <= 60


async def test_late_rows_go_with_the_next_run(place: Place) -> None:
    await place.fill(1000, hours_ago=12, span=HOUR)
    assert (await place.migrate()).ok
    await place.fill(77, hours_ago=12, span=HOUR, first=5000)
    assert (await place.migrate()).tables["trades"].rows == 77
    assert await place.counts() == (0, 1077)
    assert await place.value("SELECT uniqExact(_seq) FROM {cold}.trades") == 1077


async def test_a_message_that_ingest_stored_again_after_it_was_moved(place: Place) -> None:
    await place.fill(100, hours_ago=12, span=HOUR)
    assert (await place.migrate()).ok
    before = (await place.rows())["cold"]
    await place.run("INSERT INTO {hot}.trades SELECT * REPLACE (now64(3) AS created_at) FROM {cold}.trades LIMIT 10")
    await place.run("INSERT INTO {hot}.trades SELECT * FROM {cold}.trades LIMIT 10")
    assert (await place.migrate()).ok
    after = await place.rows()
    assert (after["hot"], after["cold"]) == ([], before)


async def test_rows_without_an_identity_move_and_equal_ones_stay_two(place: Place) -> None:
    await place.fill(100, hours_ago=12, span=HOUR, seq="0")
    equal = "SELECT * FROM {hot}.trades WHERE trade_id = '7'"
    for _ in range(2):
        await place.run(f"INSERT INTO {{hot}}.trades {equal} LIMIT 1 SETTINGS insert_deduplicate = 0")
    before = (await place.rows(identity=False))["hot"]
    assert (await place.migrate()).ok
    after = await place.rows(identity=False)
    assert (after["hot"], after["cold"]) == ([], before)
    assert len(before) == 102
    # One more of the same, later: still a row of its own.
    await place.run("INSERT INTO {hot}.trades SELECT * REPLACE ('' AS _stream, 0 AS _seq) FROM {cold}.trades"
                    " WHERE trade_id = '7' LIMIT 1")  # fmt: skip
    assert (await place.migrate()).ok
    assert await place.value("SELECT count() FROM {cold}.trades WHERE trade_id = '7'") == 4
    assert await place.value("SELECT count() FROM {hot}.trades") == 0


async def test_the_users_statement_before_during_and_after(place: Place) -> None:
    await place.fill(600, hours_ago=12, span=HOUR)
    before = (await place.rows())["hot"]
    await place.run(USERS_STATEMENT)
    by_hand = (await place.rows())["cold"]
    result, _ = await asyncio.gather(place.migrate(), place.run(USERS_STATEMENT))
    assert result.ok
    await place.run(USERS_STATEMENT)
    after = await place.rows()
    assert after["hot"] == []
    theirs = [row for row in after["cold"] if row[-1] == "0"]
    assert sorted(row for row in after["cold"] if row[-1] != "0") == before
    assert len(theirs) in range(len(by_hand), 2 * len(by_hand) + 1)
    code, found = place.cli("tiers", "--table", "trades", "--output", "json")
    assert code == 1
    assert found["tables"]["trades"]["doublesByHand"] == len(theirs)


async def test_one_identity_with_two_contents_is_refused(place: Place) -> None:
    await place.fill(100, hours_ago=12, span=HOUR)
    assert (await place.migrate(mode=Mode.COPY)).ok
    await place.run("ALTER TABLE {cold}.trades UPDATE price = price + 1 WHERE _seq = 42")
    result = await place.migrate()
    assert [failure.reason for failure in result.failures] == [reasons.IDENTITY_CONFLICT]
    assert (
        await place.value("SELECT count() FROM {hot}.trades WHERE _seq = 42") == 1
    )  # an hour without it may have moved
    assert (await place.counts())[1] == 100


@pytest.mark.parametrize("same", [True, False], ids=["everything twice", "a part of it twice"])
async def test_doubles_in_cold_are_repaired_exactly(place: Place, same: bool) -> None:
    await place.fill(500, hours_ago=12, span=HOUR)
    assert (await place.migrate(mode=Mode.COPY)).ok
    before = (await place.rows())["hot"]
    for number in range(2):
        some = "" if same else f"WHERE _seq % 3 = {number}"
        await place.run(
            f"INSERT INTO {{cold}}.trades SELECT * FROM {{hot}}.trades {some} SETTINGS insert_deduplicate = 0"
        )
    assert (await place.counts())[1] > 500
    assert (await place.migrate()).ok
    after = await place.rows()
    assert (after["hot"], after["cold"]) == ([], before)


async def test_one_identity_at_two_times_is_no_double(place: Place) -> None:
    """However many hours are looked at together, neither is taken for the other."""
    await place.fill(40, hours_ago=20, span=10 * HOUR)
    assert (await place.migrate()).ok
    await place.run(
        "INSERT INTO {cold}.trades SELECT * REPLACE (timestamp + INTERVAL 3 HOUR AS timestamp) FROM {cold}.trades WHERE _seq = 7"
    )
    await place.fill(40, hours_ago=20, span=10 * HOUR, first=101)
    assert (await place.migrate()).ok
    assert await place.counts() == (0, 81)


async def test_hours_with_few_rows_are_moved_together(place: Place) -> None:
    """Filled back over days: statements are as many as rows need, not as hours are."""
    await place.fill(900, hours_ago=12 + 150, span=150 * HOUR)
    before = (await place.rows())["hot"]
    assert (await place.migrate()).ok
    assert await place.rows() == {"hot": [], "cold": before}
    assert await place.value("SELECT uniqExact(slice_from) FROM {cold}._migrations") <= 3


async def test_a_column_of_the_users_own_is_taken_along(place: Place) -> None:
    await place.run(
        "ALTER TABLE {hot}.trades ADD COLUMN note Nullable(String) DEFAULT 'none', ADD COLUMN twice UInt64 MATERIALIZED _seq * 2"
    )
    await place.fill(30, hours_ago=12, span=HOUR)
    await place.run(
        "ALTER TABLE {hot}.trades UPDATE note = if(_seq % 2 = 0, NULL, trade_id) WHERE 1 SETTINGS mutations_sync = 2"
    )
    notes = "SELECT groupArray((_seq, note, twice)) FROM (SELECT _seq, note, twice FROM {tier}.trades ORDER BY _seq)"
    before = await place.query(notes.replace("tier", "hot"))
    (refused,) = (await place.migrate()).failures
    assert (refused.reason, await place.counts()) == (reasons.SCHEMA_DRIFT, (30, 0))
    assert "lacks the column note, which hot has: `marketprism schema apply` adds it" in refused.message
    place.cli("schema", "apply", "--output", "json")
    result = await place.migrate()
    assert (result.ok, await place.counts()) == (True, (0, 30)), result.failures
    assert await place.query(notes.replace("tier", "cold")) == before


async def test_daily_partitions_in_hot_work_too(place: Place) -> None:
    create = str(
        await place.value("SELECT create_table_query FROM system.tables WHERE database = '{hot}' AND name = 'trades'")
    )
    await place.run("DROP TABLE {hot}.trades SYNC")
    await place.server.command(create.replace("toStartOfHour(timestamp)", "toYYYYMMDD(timestamp)"))
    await place.fill(900, hours_ago=10.001, span=3 * HOUR)
    before = (await place.rows())["hot"]
    assert (await place.migrate()).ok
    after = await place.rows()
    assert sorted(after["hot"] + after["cold"]) == before
    assert (await place.counts())[1] == 601
    assert (await place.migrate(older_than=60.0)).ok
    assert await place.counts() == (0, 900)
    # What deleted rows took is free, without a merge.
    assert not await place.value("SELECT count() FROM system.parts WHERE active AND database = '{hot}' AND rows > 0")


async def test_cold_keeps_whole_days_as_long_as_the_policy_says(place: Place) -> None:
    await place.fill(10, hours_ago=24 * 10, span=60)
    await place.fill(20, hours_ago=24 * 3, span=60, first=100)
    job = place.job(cold_retention=5 * 24.0 * HOUR)
    counted = await Migration(replace(job, mode=Mode.DRY_RUN), lease=None).run()
    assert counted.ok
    assert (await Migration(job).run()).tables["trades"].expired_rows == 10
    assert await place.counts() == (0, 20)


async def test_a_ttl_that_would_delete_first_is_refused_and_any_other_told(place: Place) -> None:
    await place.fill(10, hours_ago=12, span=60)
    await place.run("ALTER TABLE {hot}.trades MODIFY TTL toDateTime(created_at) + INTERVAL 4 HOUR")
    assert [failure.reason for failure in (await place.migrate()).failures] == [reasons.TTL_BEFORE_MOVE]
    assert await place.counts() == (10, 0)
    await place.run("ALTER TABLE {hot}.trades MODIFY TTL toDateTime(created_at) + INTERVAL 72 HOUR")
    result = await place.migrate()
    assert result.ok
    assert "TTL" in result.tables["trades"].notes[0]
