"""Thousands of histories, each from a seed: nothing is lost, nothing is double. And the proof that the simulator can fail."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from typing import Any

import pytest

from marketprism_consumer.errors import LostError
from marketprism_consumer.ingest.broker import Broker, Records
from marketprism_consumer.ingest.dead_letters import Graveyard
from marketprism_consumer.ingest.ingest import Ingest
from marketprism_consumer.ingest.store import Store
from tests.simulation.broken import BROKEN
from tests.simulation.bucket import RecordsPort
from tests.simulation.clickhouse import StorePort
from tests.simulation.faults import heal
from tests.simulation.jetstream import BrokerPort, GraveyardPort
from tests.simulation.world import Crash, Parts, Violation, World

SEEDS = int(os.environ.get("MARKETPRISM_SIM_SEEDS", "2000"))
CHUNK = 250
SEEDS_TO_NOTICE = 2000  # the rarest broken rule shows itself about once in 500


@pytest.fixture(autouse=True)
def _collected() -> Iterator[None]:
    """Worlds are cycles of loops and tasks, and asyncio looks through all that are left."""
    yield
    gc.collect()


@pytest.mark.timeout(600)
@pytest.mark.parametrize("first", range(0, SEEDS, CHUNK))
def test_nothing_is_lost_and_nothing_is_double(first: int) -> None:
    for seed in range(first, first + CHUNK):
        try:
            World(seed).run()
        except Violation as violation:
            pytest.fail(f"{violation}\nreplay: python -m tests.simulation --seed {seed}", pytrace=False)


def test_the_same_seed_is_the_same_history() -> None:
    def end(seed: int) -> Any:
        world = World(seed)
        world.run()
        return world.now, world.clickhouse.rows(), world.bucket.entries

    assert end(5) == end(5)


def test_where_nothing_breaks_nobody_loses_a_claim() -> None:
    """Work in hand is not given up, and done again, because others claim what follows, or since what is set aside is written of."""
    lost: list[str] = []

    class Tells(Ingest):
        async def _session(self) -> None:
            try:
                await super()._session()
            except LostError as error:
                lost.append(str(error))
                raise

    for seed in range(CHUNK):
        world = World(seed, Parts(ingest=Tells, faults=(heal,)))
        world.fault_rate = world.edge_rate = 0.0
        world.replicas, world.flood = 3, 1.0
        heal(world)
        world.run()
        assert not lost, f"seed {seed}"


@pytest.mark.timeout(600)
@pytest.mark.parametrize("rule", BROKEN)
def test_the_simulator_notices_when_a_rule_is_broken(rule: str) -> None:
    with BROKEN[rule].applied() as parts:
        for seed in range(SEEDS_TO_NOTICE):
            try:
                World(seed, parts).run()
            except Crash:
                raise  # the broken rule is broken code
            except Violation as violation:
                print(f"seed {seed}: {violation}")
                return
    pytest.fail(f"{SEEDS_TO_NOTICE} seeds hold although there is {rule}")


@pytest.mark.parametrize(
    ("port", "model"),
    [(Broker, BrokerPort), (Records, RecordsPort), (Store, StorePort), (Graveyard, GraveyardPort)],
)
def test_the_models_have_what_the_product_calls(port: type, model: type) -> None:
    missing = {name for name in vars(port) if not name.startswith("_")} - set(dir(model))
    assert not missing, f"the model lacks {missing}"
