"""Rows over two shards of two replicas, by symbol: nothing is lost, nothing doubled, whatever of it is away."""

from __future__ import annotations

import json
import os
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from marketprism_consumer.clickhouse.client import ClickHouse
from marketprism_consumer.clickhouse.shards import shard_of
from marketprism_consumer.jetstream.records import NatsRecords
from marketprism_consumer.operations import lanes
from tests.faults.harness import MARKETPRISM, VALID, World
from tests.replicated.conftest import Heal, Shards, lookups
from tests.waiting import wait_for

pytestmark = pytest.mark.timeout(300)


def symbols_at(world: World, node: str) -> set[str]:
    """Those of all rows of the shard of this node."""
    asked = ClickHouse([node])
    try:
        rows = world.call(asked.query(f"SELECT DISTINCT symbol FROM `{world.hot}`.trades_local"))
    finally:
        world.call(asked.close())
    return {str(symbol) for (symbol,) in rows}


def test_each_symbol_is_on_one_shard_and_all_are_read_together(sharded: World, shards: Shards) -> None:
    world = sharded
    world.feed()
    world.several(2)
    world.until_more(2000)
    world.prove()
    for table in ("trades", "orderbooks", "funding_rates"):
        astray = (
            "SELECT countIf(halfMD5(symbol) % 2 != toUInt8(getMacro('shard')) - 1)"
            f" FROM clusterAllReplicas('{shards.cluster}', {{hot}}.{table}_local)"
        )
        assert world.query(astray) == [(0,)]
    first, second = symbols_at(world, shards.nodes[0]), symbols_at(world, shards.second[0])
    assert first
    assert second
    assert {shard_of(symbol, ("1", "2")) for symbol in first} == {"1"}
    assert {shard_of(symbol, ("1", "2")) for symbol in second} == {"2"}
    assert {symbol for (symbol,) in world.query("SELECT DISTINCT symbol FROM {hot}.trades")} == first | second


def test_nothing_is_looked_up_while_all_is_well(sharded: World) -> None:
    sharded.feed()
    ingests = sharded.several(2)
    sharded.until_more(1500)
    sharded.prove()
    assert lookups(ingests) == 0


def test_a_shard_is_away_and_what_is_its_own_waits(sharded: World, shards: Shards, heal: Heal) -> None:
    """What the other shard has of a block already is not stored again with it."""
    world = sharded
    world.feed()
    (one, _) = world.several(2)
    world.until_more(300)
    for node in shards.second:
        heal(lambda node=node: shards.do("node", "start", node))  # type: ignore[misc]
        shards.do("node", "kill", node)
    one.until_alarm("ClickHouseUnreachable")
    for node in shards.second:
        shards.do("node", "start", node)
    world.until_more(800)
    world.prove()


def test_one_shard_has_its_part_of_a_block_and_the_other_has_not_when_its_sender_dies(
    sharded: World, shards: Shards, heal: Heal
) -> None:
    """The block is too old to be sent again when somebody comes: both shards are asked, and the rest is sent."""
    world = sharded
    feed = world.feed(types=["trade"])
    doomed = world.ingest()
    doomed.until_more(300, "trade")
    lane = world.lane("trade")
    assert lane.id
    for node in shards.second:
        heal(lambda node=node: shards.do("node", "start", node))  # type: ignore[misc]
        shards.do("node", "kill", node)
    doomed.until_alarm("ClickHouseUnreachable")
    first = ClickHouse([shards.nodes[0]])
    found = f"SELECT groupUniqArray(_seq) FROM `{world.hot}`.trades_local"
    here = set(world.call(first.value(found)))
    record = world.call(lanes.read(NatsRecords(world.client, world.settings.bucket), lane.id)).record
    assert record is not None
    done = max([record.done, *(claim.done for claim in record.claims)])
    assert any(seq > done for seq in here), "the first shard has its part of what is not recorded"
    doomed.kill()
    feed.stop()
    killed = time.monotonic()
    wait_for(lambda: time.monotonic() - killed > VALID + 2, "its block is too late")
    for node in shards.second:
        shards.do("node", "start", node)
    world.call(first.close())
    again = world.ingest()
    wait_for(lambda: again.metric("marketprism_epochs_total") > 0, "a new epoch")
    world.prove()


def test_answers_cut_and_connections_reset(sharded: World, shards: Shards) -> None:
    sharded.feed()
    ingests = sharded.several(2)
    shards.cut_and_reset(sharded, 4)
    sharded.prove()
    assert lookups(ingests) == 0


def test_a_majority_of_each_shard_is_waited_for(sharded: World, shards: Shards, heal: Heal) -> None:
    """One replica of the second shard is away: that the first has both of its own is not enough."""
    world = sharded
    world.feed()
    one = world.ingest()
    one.until_more(300)
    node = shards.second[0]
    heal(lambda: shards.do("node", "start", node))
    shards.do("node", "kill", node)
    told = one.until_alarm("ReplicasBehind")
    assert "only these have all of it: s2r2; 1 can't be asked" in str(told["error"])
    shards.do("node", "start", node)
    world.until_more(300)
    world.prove()


@pytest.mark.parametrize("quorum", ["none"])
def test_one_replica_of_each_shard_is_enough_where_no_quorum_is_asked_for(
    sharded: World, shards: Shards, heal: Heal
) -> None:
    world = sharded
    world.feed()
    world.several(2)
    away = (shards.nodes[0], shards.second[1])
    for node in away:
        heal(lambda node=node: shards.do("node", "start", node))  # type: ignore[misc]
        shards.do("node", "kill", node)
    world.until_more(800)
    for node in away:
        shards.do("node", "start", node)
    world.until_more(300)
    world.prove()


def test_a_url_of_several_shards_is_refused(sharded: World, shards: Shards) -> None:
    everywhere = os.environ.get("CLICKHOUSE_BALANCED_ALL")
    if not everywhere:
        pytest.skip("NOT TESTED: there is no balancer over all shards (CLICKHOUSE_BALANCED_ALL)")
    file = sharded.write_file("everywhere", clickhouse={**sharded.spec["clickhouse"], "url": everywhere})
    line = sharded.ingest(file=file).until_logged("SeveralServers")
    assert "each URL is of one shard" in str(line["problems"])
    assert sharded.stored() == 0


def test_a_shard_without_a_url_is_told(sharded: World, shards: Shards) -> None:
    file = sharded.write_file("half", clickhouse={**sharded.spec["clickhouse"], "url": shards.nodes[0]})
    line = sharded.ingest(file=file).until_logged("ShardsChanged")
    assert "no URL is of shard 2, only of 1" in str(line["problems"])
    assert sharded.stored() == 0


def test_a_shard_that_came_after_the_tables_gets_no_rows(sharded: World, shards: Shards) -> None:
    """Which shards there are is written in the tables: else a block that is sent again would be taken apart in another way."""
    world = sharded
    for database in (world.hot, world.settings.cold_db):
        for one in world.settings.data_types.values():
            table = f"`{database}`.`{one.table}_local` ON CLUSTER '{shards.cluster}'"
            world.change(f"ALTER TABLE {table} MODIFY COMMENT 'marketprism shards 1'")
    world.feed()
    world.ingest()
    world.until_more(500)
    world.prove()
    assert symbols_at(world, shards.nodes[0])
    assert not symbols_at(world, shards.second[0])


def test_every_command_asks_all_shards(sharded: World, shards: Shards, tmp_path: Path) -> None:
    world = sharded
    feed = world.feed()
    ingest = world.ingest()
    world.until_more(1500)
    feed.stop()
    rows = sum(one.rows for one in world.prove().types)

    def said(*command: str, code: int = 0) -> Any:
        given = [*MARKETPRISM, *command, "-f", str(world.file), "--output", "json"]
        done = subprocess.run(given, capture_output=True, text=True, check=False, timeout=120)
        assert done.returncode == code, done.stdout[-2000:] + done.stderr[-2000:]
        return json.loads(done.stdout)

    def asked(*command: str) -> list[Any]:
        given = [*MARKETPRISM, *command, "-f", str(world.file), "--output", "json"]
        done = subprocess.run(given, capture_output=True, text=True, check=True, timeout=120)
        return [json.loads(line) for line in done.stdout.splitlines()]

    assert sum(each["rows"] for each in said("audit", "--deep")["types"]) == rows
    assert sum(each["hot"]["rows"] for each in said("status")["types"]) == rows
    assert said("schema", "verify")["fits"]
    validated = said("validate", "--since", "1h", code=1)  # the feed's trades are not a venue's
    window = "parseDateTime64BestEffort('{}', 6, 'UTC')"
    since, until = (window.format(validated[name]) for name in ("since", "until"))
    tables = [one.table for one in world.settings.data_types.values()]
    within = [
        world.query(f"SELECT count() FROM {{hot}}.{table} WHERE timestamp >= {since} AND timestamp < {until}")[0][0]
        for table in tables
    ]
    assert 0 < validated["rows"] == sum(within)
    assert all(each["problem"] == "" for each in said("lanes", "list")["lanes"])
    always = ("--from", "2000-01-01", "--to", "2100-01-01")
    assert said("export", "write", str(tmp_path / "files"), *always)["rows"] == rows
    assert said("export", "verify", str(tmp_path / "files"))["ok"]
    of_each = "GROUP BY ALL ORDER BY count() DESC LIMIT 1 BY halfMD5(symbol) % 2"
    traded = world.query(f"SELECT exchange, market_type, symbol, count() FROM {{hot}}.trades {of_each}")
    assert {shard_of(symbol, ("1", "2")) for _, _, symbol, _ in traded} == {"1", "2"}
    for exchange, market_type, symbol, count in traded:
        series = (exchange, symbol, "--market-type", market_type)
        candles = asked("query", "candles", *series, "--since", "24h")
        assert sum(int(each["trades"]) for each in candles) == count
        assert asked("query", "book", *series)
    ingest.process.terminate()
    ingest.ended()


def test_what_was_lost_on_one_shard_is_stored_again_there(sharded: World, shards: Shards) -> None:
    world = sharded
    feed = world.feed(types=["trade"])
    ingest = world.ingest()
    ingest.until_more(500, "trade")
    feed.stop()
    before = world.prove()["trade"].rows
    ingest.process.terminate()
    ingest.ended()
    second = ClickHouse([shards.second[0]])
    own = f"`{world.hot}`.trades_local"
    lost = world.call(second.value(f"SELECT count() FROM {own}"))
    assert 0 < lost < before
    world.call(second.command(f"DELETE FROM {own} WHERE 1", settings={"mutations_sync": 2}))
    world.call(second.close())
    done = subprocess.run(
        [*MARKETPRISM, "replay", "-f", str(world.file), "--type", "trade", "--from-time", "1h", "--output", "json"],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert symbols_at(world, shards.second[0]) == {"ETH-USDT"}
    assert world.prove()["trade"].rows == before
