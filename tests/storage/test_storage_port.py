"""The store that ingest talks to, on the real engine: what a retry, a late insert, a look-up and a bad row do there."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from marketprism_consumer.clickhouse.client import ClickHouse
from marketprism_consumer.clickhouse.store import ClickHouseStore, insert_comment
from marketprism_consumer.errors import Fault, StoreError
from marketprism_consumer.ingest.clickhouse_errors import LATE_INSERT, PASSING, ROW, SERVER
from marketprism_consumer.ingest.decode import Row
from marketprism_consumer.ingest.encode import Block
from marketprism_consumer.ingest.identity import content_indexes
from marketprism_consumer.schema.ddl import Target, create_table
from marketprism_consumer.schema.tables import LIQUIDATIONS, ORDERBOOKS, TRADES
from marketprism_embedded.process import EmbeddedServer, start
from tests.blocks import block_of

STREAM = "MARKET_DATA@2025-09-24T07:00:00Z"
AT = 1_758_700_551_123_456
HOUR = 3_600_000_000
MakePlace = Callable[..., Any]


def trade(number: int, at: int = AT, price: str = "1.5") -> Row:
    return (at, "okx", "spot", "BTC-USDT", str(number), price, "2", "buy", None, at, "marketprism", at + 1)


def block(rows: Sequence[Row], first: int = 1, stream: str = STREAM) -> Block:
    return block_of(TRADES, rows, range(first, first + len(rows)), [stream] * len(rows))


def refusal(call: Callable[[], object]) -> StoreError:
    with pytest.raises(StoreError) as caught:
        call()
    return caught.value


# --- once ---------------------------------------------------------------------------------------------------------------


def test_the_same_block_twice_is_stored_once(make_place: MakePlace) -> None:
    """An answer that was lost looks like this: the first try did store it, and the second sends the same bytes."""
    place = make_place(TRADES)
    same = block([trade(n) for n in range(10)])
    for _ in range(3):
        place.insert(same)
    assert place.count(TRADES) == 10


def test_the_same_rows_of_other_messages_are_rows_of_their_own(make_place: MakePlace) -> None:
    place = make_place(TRADES)
    rows = [trade(1)] * 5
    place.insert(block(rows))
    place.insert(block(rows, first=6))
    place.insert(block(rows, stream=f"{STREAM}~1"))
    assert place.count(TRADES) == 15


@pytest.mark.parametrize("end", ["stopped", "killed"])
def test_the_same_block_before_and_after_a_restart_is_stored_once(
    end: str, tmp_path: Path, loop: asyncio.Runner, make_place: MakePlace
) -> None:
    same = block([trade(n) for n in range(10)])
    with start("clickhouse", tmp_path) as server:
        place = make_place(TRADES, url=server.url)
        place.insert(same)
        server.stop() if end == "stopped" else server.kill()
    with start("clickhouse", tmp_path) as server:
        again = replace(place, store=ClickHouseStore(ClickHouse([server.url]), place.database))
        again.insert(same)
        assert again.count(TRADES) == 10
        again.insert(block([trade(n) for n in range(10)], first=11))
        assert again.count(TRADES) == 20
        loop.run(again.store.clickhouse.close())


def test_an_insert_that_was_stored_in_part_is_completed_by_its_retry(make_place: MakePlace) -> None:
    """A block over three hours is three parts, and the first may be there when the server dies."""
    place = make_place(TRADES)
    rows = [trade(n, AT + hour * HOUR) for hour in range(3) for n in range(4)]
    whole = block(rows)
    place.insert(replace(block(rows[:4]), token=whole.token))
    assert place.count(TRADES) == 4
    place.insert(whole)
    place.insert(whole)
    assert place.query(f"SELECT _seq, count() FROM {place.store.table(TRADES)} GROUP BY _seq ORDER BY _seq") == [
        (seq, 1) for seq in range(1, 13)
    ]


def test_a_replay_may_span_more_partitions_than_clickhouse_allows_by_default(make_place: MakePlace) -> None:
    place = make_place(TRADES)
    place.insert(block([trade(n, AT + n * HOUR) for n in range(150)]))
    assert place.count(TRADES) == 150


# --- the fence ----------------------------------------------------------------------------------------------------------


def test_an_insert_after_its_deadline_is_refused_by_clickhouse_and_stores_nothing(make_place: MakePlace) -> None:
    place = make_place(TRADES)
    late = block([trade(1), trade(2)])
    refused = refusal(lambda: place.insert(late, seconds=-5.0))
    assert (refused.code, refused.fault) == (395, Fault.LATE)
    assert place.count(TRADES) == 0
    place.insert(late)  # and its token is not used up
    assert place.count(TRADES) == 2


def test_a_late_block_over_many_partitions_leaves_none_behind(make_place: MakePlace) -> None:
    place = make_place(TRADES)
    rows = [trade(n, AT + n * HOUR) for n in range(5)]
    assert refusal(lambda: place.insert(block(rows), seconds=-5.0)).code == LATE_INSERT
    assert place.count(TRADES) == 0


# --- look-ups -----------------------------------------------------------------------------------------------------------


def test_stored_gives_what_is_there_of_these_messages(make_place: MakePlace) -> None:
    place = make_place(TRADES)
    other = STREAM.replace("2025", "2026")
    place.insert(block([trade(1), trade(2)], first=5))
    place.insert(block([trade(9, at=AT + 7)], first=6, stream=f"{STREAM}~1"))
    place.insert(block([trade(3)], first=7, stream=other))
    place.insert(block([trade(3)], first=8, stream=f"{STREAM}0"))

    found = place.loop.run(place.store.stored(TRADES, STREAM, [4, 5, 6, 7, 8, 2**64 - 1]))

    def content(row: Row) -> tuple[Any, ...]:
        return tuple(row[i] for i in content_indexes(TRADES))

    assert {seq: sorted(rows) for seq, rows in found.items()} == {
        5: [(STREAM, content(trade(1)))],
        6: [(STREAM, content(trade(2))), (f"{STREAM}~1", content(trade(9, at=AT + 7)))],
    }


def test_a_look_up_of_very_many_messages(make_place: MakePlace) -> None:
    place = make_place(TRADES)
    first = 2**64 - 25_000
    place.insert(block([trade(1)] * 25_000, first=first))
    found = place.loop.run(place.store.stored(TRADES, STREAM, range(first - 100, 2**64)))
    assert set(found) == set(range(first, 2**64))


@pytest.mark.parametrize("stream", ["S'; DROP TABLE trades;--", "S\\", "S{x:String}", "S%", "流\U0001f600"])
def test_a_streams_name_is_data(stream: str, make_place: MakePlace) -> None:
    place = make_place(TRADES)
    place.insert(block([trade(1)], first=3, stream=stream))
    assert place.loop.run(place.store.highest(TRADES, stream, 2)) == 3
    assert place.loop.run(place.store.has_all(TRADES, stream, [3]))
    assert list(place.loop.run(place.store.stored(TRADES, stream, [3]))) == [3]
    assert place.loop.run(place.store.stored(TRADES, "S", [3])) == {}


def test_the_highest_sequence_is_that_of_this_very_identity(make_place: MakePlace) -> None:
    place = make_place(TRADES)

    def highest(stream: str, above: int = 0) -> int:
        return place.loop.run(place.store.highest(TRADES, stream, above))

    assert highest(STREAM) == 0
    place.insert(block([trade(1), trade(2)], first=41))
    place.insert(block([trade(1)], first=2**64 - 1, stream="OTHER@1"))
    place.insert(block([trade(1)], first=99, stream=f"{STREAM}~1"))
    assert (highest(STREAM), highest(STREAM, 41), highest(STREAM, 42)) == (42, 42, 0)
    assert (highest("OTHER@1"), highest(f"{STREAM}~1", 50)) == (2**64 - 1, 99)


def test_all_means_each_under_this_very_identity(make_place: MakePlace) -> None:
    place = make_place(TRADES)
    place.insert(block([trade(n) for n in range(25_000)], first=1))
    place.insert(block([trade(1)], first=25_001, stream=f"{STREAM}~1"))

    def has_all(seqs: Sequence[int]) -> bool:
        return place.loop.run(place.store.has_all(TRADES, STREAM, seqs))

    assert has_all(range(1, 25_001))
    assert has_all([7])
    assert not has_all(range(1, 25_002)), "another generation's makes up for nothing"
    assert not has_all([24_999, 30_000])


def test_a_table_that_was_dropped_and_made_again_is_another_one(make_place: MakePlace) -> None:
    place = make_place(TRADES)

    def identity() -> str:
        return place.loop.run(place.store.identity(TRADES))

    first = identity()
    assert first == identity()
    place.command(f"DROP TABLE {place.store.table(TRADES)} SYNC")
    assert refusal(identity).code == 60
    place.command(create_table(Target(place.database, "unused"), "hot", TRADES))
    assert identity() != first


def test_a_cold_tier_without_the_table_has_nothing(make_place: MakePlace) -> None:
    place = make_place()
    cold = ClickHouseStore(place.store.clickhouse, place.database, optional=True)
    for store in (cold, ClickHouseStore(cold.clickhouse, "nowhere", optional=True)):
        assert place.loop.run(store.stored(TRADES, STREAM, [1])) == {}
        assert place.loop.run(store.highest(TRADES, STREAM, 0)) == 0


def test_a_hot_tier_without_the_table_knows_nothing_of_its_rows(make_place: MakePlace) -> None:
    """Such as a replica that is made anew: taken for an empty one, it would be sent what the others have."""
    place = make_place()
    assert refusal(lambda: place.loop.run(place.store.stored(TRADES, STREAM, [1]))).code == 60
    assert refusal(lambda: place.loop.run(place.store.highest(TRADES, STREAM, 0))).code == 60


def test_the_clock_is_the_servers(make_place: MakePlace) -> None:
    place = make_place()
    slowest, fastest = place.loop.run(place.store.clocks())
    assert slowest == fastest
    assert abs(place.loop.run(place.store.clock()) - slowest) < 5


@pytest.mark.parametrize(
    ("table", "row"),
    [
        (ORDERBOOKS, (AT, "e", "m", "s", 7, None, None, None, None, 0, 0, *[None] * 4, [], [], [], [], None, "", None)),
        (LIQUIDATIONS, (AT, "e", "m", "s", "id", "buy", None, "1", "1", *[None] * 5, AT, None, None, "", AT + 3)),
    ],
    ids=["orderbooks", "liquidations"],
)
def test_a_stored_row_is_told_from_another_by_its_types_own_id(table: Any, row: Row, make_place: MakePlace) -> None:
    place = make_place(table)
    place.insert(block_of(table, [row], [1], [STREAM]))
    ((stored,),) = place.loop.run(place.store.stored(table, STREAM, [1])).values()
    assert stored == (STREAM, tuple(row[i] for i in content_indexes(table)))


# --- waiting for others' inserts ------------------------------------------------------------------------------------------


def test_settle_returns_when_the_inserts_that_ran_have_ended(make_place: MakePlace) -> None:
    place = make_place(TRADES)
    table, store = place.store.table(TRADES), place.store
    slow = (
        f"INSERT INTO {table} (timestamp, exchange, market_type, symbol, trade_id, price, quantity, side, trade_time)"
        " SELECT now(), 'e', 'm', 's', toString(number), 1, 1, 'buy', now() FROM numbers(5)"
        " WHERE NOT sleepEachRow(0.1) SETTINGS max_block_size = 1"
    )

    async def run() -> tuple[int, int]:
        ours = asyncio.create_task(
            store.clickhouse.command(slow, settings={"log_comment": insert_comment(store.database, TRADES)})
        )
        running = "SELECT count() FROM system.processes WHERE Settings['log_comment'] = {comment:String}"
        while not (await store.clickhouse.query(running, {"comment": insert_comment(store.database, TRADES)}))[0][0]:
            assert not ours.done()
        before = (await store.clickhouse.query(f"SELECT count() FROM {table}"))[0][0]
        await store.settle(TRADES)
        after = (await store.clickhouse.query(f"SELECT count() FROM {table}"))[0][0]
        await ours
        return before, after

    assert place.loop.run(run()) == (0, 5)


def test_settle_waits_for_no_other_table_and_not_without_need(make_place: MakePlace) -> None:
    place = make_place(TRADES, LIQUIDATIONS)
    store = place.store

    async def run() -> bool:
        other = insert_comment(store.database, LIQUIDATIONS)
        slow = asyncio.create_task(store.clickhouse.query("SELECT sleep(3)", settings={"log_comment": other}))
        while not (
            await store.clickhouse.query("SELECT count() FROM system.processes WHERE query LIKE 'SELECT sleep%'")
        )[0][0]:
            assert not slow.done()
        await store.settle(TRADES)
        done = slow.done()
        await slow
        return done

    assert place.loop.run(run()) is False


# --- what is refused, and whose fault it is -------------------------------------------------------------------------------

SPOILS = [
    ("a constraint of the user's", "ALTER TABLE {t} ADD CONSTRAINT cheap CHECK price < 100", 469, Fault.ROW),
    ("a dropped table", "DROP TABLE {t}", 60, Fault.SERVER),
    ("a dropped column", "ALTER TABLE {t} DROP COLUMN is_maker", 16, Fault.SERVER),
    ("a renamed column", "ALTER TABLE {t} RENAME COLUMN is_maker TO maker", 16, Fault.SERVER),
    ("no window is no fault", "ALTER TABLE {t} RESET SETTING non_replicated_deduplication_window", 0, None),
    ("a dropped database", "DROP DATABASE {d}", 81, Fault.SERVER),
]


@pytest.mark.parametrize(("sql", "code", "fault"), [s[1:] for s in SPOILS], ids=[s[0] for s in SPOILS])
def test_whose_fault_a_refusal_is(sql: str, code: int, fault: Fault | None, make_place: MakePlace) -> None:
    place = make_place(TRADES)
    place.command(sql.format(t=place.store.table(TRADES), d=place.database))
    dear = block([trade(1), trade(2, price="1000")])
    if fault is None:
        place.insert(dear)
        return
    refused = refusal(lambda: place.insert(dear))
    assert (refused.code, refused.fault) == (code, fault)


def test_a_bad_rows_neighbours_are_not_stored_with_it_and_are_fine_without_it(make_place: MakePlace) -> None:
    place = make_place(TRADES)
    place.command(f"ALTER TABLE {place.store.table(TRADES)} ADD CONSTRAINT cheap CHECK price < 100")
    rows = [trade(1), trade(2, price="1000"), trade(3)]
    assert refusal(lambda: place.insert(block(rows))).fault is Fault.ROW
    assert place.count(TRADES) == 0
    place.insert(block([rows[0]], first=1))
    assert refusal(lambda: place.insert(block([rows[1]], first=2))).fault is Fault.ROW
    place.insert(block([rows[2]], first=3))
    assert place.query(f"SELECT _seq FROM {place.store.table(TRADES)} ORDER BY _seq") == [(1,), (3,)]


def test_nobody_there_is_no_answer_and_passes(loop: asyncio.Runner) -> None:
    store = ClickHouse(["http://127.0.0.1:9"])
    refused = refusal(lambda: loop.run(store.query("SELECT 1")))
    assert (refused.code, refused.fault) == (0, Fault.PASSING)
    assert "MP4001" in str(refused)


def test_the_next_endpoint_is_tried_where_one_does_not_answer(
    clickhouse_server: EmbeddedServer, loop: asyncio.Runner
) -> None:
    store = ClickHouse(["http://127.0.0.1:9", clickhouse_server.url])
    assert refusal(lambda: loop.run(store.query("SELECT 1"))).code == 0
    assert loop.run(store.query("SELECT 1")) == [(1,)]
    loop.run(store.close())


@pytest.mark.parametrize("codes", [PASSING, SERVER, ROW], ids=["passing", "server", "row"])
def test_codes_have_the_names_that_clickhouse_gives_them(codes: dict[int, str], make_place: MakePlace) -> None:
    place = make_place()
    assert dict(place.query(f"SELECT arrayJoin({list(codes)}) AS code, errorCodeToName(code)")) == codes


# --- a user's own rows ----------------------------------------------------------------------------------------------------

USERS_INSERT = """
INSERT INTO marketprism_cold.trades (timestamp, exchange, market_type, symbol, trade_id, price, quantity, side, is_maker,
                                     trade_time, data_source, created_at)
SELECT timestamp, exchange, market_type, symbol, trade_id, price, quantity, side, is_maker, trade_time, 'marketprism', now()
FROM marketprism_hot.trades WHERE exchange = 'binance_spot' AND symbol = 'BTC-USDT' AND timestamp >= now() - interval 1 hour
"""


def test_a_users_insert_works_as_written_and_its_rows_are_ordinary(
    make_place: MakePlace, clickhouse_server: EmbeddedServer, loop: asyncio.Runner
) -> None:
    place = make_place()
    target = Target("marketprism_hot", "marketprism_cold")
    hot, cold = (
        replace(place, store=ClickHouseStore(ClickHouse([clickhouse_server.url]), db))
        for db in (target.hot, target.cold)
    )
    for database in (target.hot, target.cold):
        place.command(f"DROP DATABASE IF EXISTS {database}")
        place.command(f"CREATE DATABASE {database}")
    for tier in ("hot", "cold"):
        place.command(create_table(target, tier, TRADES))
    now = (datetime.now(UTC) - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)

    def row(exchange: str, at: int) -> Row:
        return (at, exchange, "spot", "BTC-USDT", str(at), "112345.67", "0.5", "buy", True, at, "api", at)

    recent = [row("binance_spot", now - n * 1_000_000 - 1) for n in range(20)]
    others = [row("okx_spot", now - 1), row("binance_spot", now - 3_700_000_000)]
    hot.insert(block([*recent, *others]))

    place.command(USERS_INSERT)

    names = "timestamp, exchange, market_type, symbol, trade_id, price, quantity, side, is_maker, trade_time, notional"
    condition = "exchange = 'binance_spot' AND timestamp >= now() - interval 1 hour"
    stored = place.query(f"SELECT {names} FROM marketprism_cold.trades ORDER BY timestamp")
    assert stored == place.query(f"SELECT {names} FROM marketprism_hot.trades WHERE {condition} ORDER BY timestamp")
    assert len(stored) == 20
    assert {r[-1] for r in stored} == {Decimal("56172.835")}
    tail = "SELECT DISTINCT data_source, collected_at, _stream, _seq, created_at > now() - 600 FROM marketprism_cold.trades"
    assert place.query(tail) == [("marketprism", None, "", 0, 1)]
    assert loop.run(cold.store.highest(TRADES, "", 0)) == 0
    for store in (hot.store, cold.store):
        loop.run(store.clickhouse.close())
    for database in (target.hot, target.cold):
        place.command(f"DROP DATABASE {database}")


def test_bids_and_asks_are_the_levels_as_pairs(make_place: MakePlace) -> None:
    place = make_place(ORDERBOOKS)
    sides = (["2", "1"], ["0.5", "0"], ["3"], ["7"])
    row = (AT, "e", "m", "s", 1, None, None, None, None, 2, 1, "2", "0.5", "3", "7", *sides, None, "", None)
    place.insert(block_of(ORDERBOOKS, [row], [1], [STREAM]))
    ((bids, asks),) = place.query(f"SELECT bids, asks FROM {place.store.table(ORDERBOOKS)}")
    assert bids == [(Decimal(2), Decimal("0.5")), (Decimal(1), Decimal(0))]
    assert asks == [(Decimal(3), Decimal(7))]
