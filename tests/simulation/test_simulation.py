"""Thousands of histories, each from a seed: nothing is lost, nothing is double. And the proof that the simulator can fail."""

from __future__ import annotations

import gc
import os
from functools import partial
from itertools import count
from typing import Any

import pytest

from marketprism_consumer.ingest.broker import Broker
from marketprism_consumer.ingest.dead_letters import Graveyard
from marketprism_consumer.ingest.ingest import Ingest
from marketprism_consumer.ingest.store import Store
from tests.simulation.clickhouse import StorePort, sim_encode
from tests.simulation.jetstream import BrokerPort, GraveyardPort
from tests.simulation.world import Violation, World

SEEDS = int(os.environ.get("MARKETPRISM_SIM_SEEDS", "2000"))
CHUNK = 250
SEEDS_TO_NOTICE = 4000  # the rarest broken rule shows itself about once in 500


@pytest.mark.timeout(600)
@pytest.mark.parametrize("first", range(0, SEEDS, CHUNK))
def test_nothing_is_lost_and_nothing_is_double(first: int) -> None:
    gc.collect()  # worlds are cycles of loops and tasks, and asyncio looks through all that are left
    for seed in range(first, first + CHUNK):
        try:
            World(seed).run()
        except Violation as violation:
            pytest.fail(f"{violation}\nreplay: python -m tests.simulation --seed {seed}", pytrace=False)


def test_the_same_seed_is_the_same_history() -> None:
    def rows(seed: int) -> list[Any]:
        world = World(seed)
        world.run()
        return world.clickhouse.rows

    assert rows(5) == rows(5)


# --- each rule of the guarantee, switched off: the simulator must notice -------------------------------------------------


class NoLookUp(Ingest):
    async def _found(self, seqs: Any) -> dict[Any, Any]:
        return {}


class AckFirst(Ingest):
    async def _unseen(self, batch: Any) -> Any:
        entries = await super()._unseen(batch)
        self._broker.ack([message.reply for message, _, _ in entries])
        return entries


class NoResync(Ingest):
    def resync(self, why: str, still_ours: bool = False) -> None:
        self._source.cancel()


class CutAnewBlindly(Ingest):
    async def _without_stored(self, entries: Any) -> Any:
        return list(entries)


class NoWaiting(StorePort):
    async def settle(self, table: Any) -> None:
        await self._ask()


class NoFence(StorePort):
    async def insert(self, block: Any, deadline: float) -> None:
        await super().insert(block, 1e9)


_tokens = count()


def another_token_each_time(*_: Any) -> str:
    return str(next(_tokens))


def token_of_first_and_last(table: Any, seqs: Any, streams: Any) -> str:
    return f"{seqs[0]}-{seqs[-1]}"


BROKEN: dict[str, dict[str, Any]] = {
    "no look-up of what may have been seen": {"ingest": NoLookUp},
    "no waiting for inserts that still run": {"store": NoWaiting},
    "no fence in ClickHouse": {"store": NoFence},
    "ack before the insert": {"ingest": AckFirst},
    "another token at each try": {"encode": partial(sim_encode, token=another_token_each_time)},
    "a token of first and last sequence only": {"encode": partial(sim_encode, token=token_of_first_and_last)},
    "no resync after a reconnect": {"ingest": NoResync},
    "no look-up before a batch is cut anew": {"ingest": CutAnewBlindly},
}


@pytest.mark.timeout(600)
@pytest.mark.parametrize("rule", BROKEN)
def test_the_simulator_notices_when_a_rule_is_broken(rule: str) -> None:
    for seed in range(SEEDS_TO_NOTICE):
        try:
            World(seed, **BROKEN[rule]).run()
        except Violation:
            return
    pytest.fail(f"{SEEDS_TO_NOTICE} seeds hold although there is {rule}")


@pytest.mark.parametrize(("port", "model"), [(Broker, BrokerPort), (Store, StorePort), (Graveyard, GraveyardPort)])
def test_the_models_have_what_the_product_calls(port: type, model: type) -> None:
    missing = {name for name in vars(port) if not name.startswith("_")} - set(dir(model))
    assert not missing, f"the model lacks {missing}"
