"""Rows over two shards of two replicas, by symbol: nothing is lost, nothing doubled, whatever of it is away."""

from __future__ import annotations

import pytest

from marketprism_consumer.clickhouse.client import ClickHouse
from marketprism_consumer.clickhouse.shards import shard_of
from tests.faults.harness import World
from tests.replicated.conftest import Shards

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
