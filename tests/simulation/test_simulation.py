"""Thousands of histories, each from a seed: nothing is lost, nothing is double. And the proof that the simulator can fail."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable
from itertools import count
from typing import Any

import pytest

from marketprism_consumer.ingest import encode as encode_module
from marketprism_consumer.ingest import ingest as ingest_module
from marketprism_consumer.ingest.ingest import Ingest
from tests.simulation import clickhouse, jetstream
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


async def no_look_up(self: Ingest, seqs: Any) -> dict[Any, Any]:
    return {}


async def no_waiting(self: Any, table: Any) -> None:
    await self._ask()


async def no_fence(
    self: clickhouse.StorePort, block: Any, deadline: float, real: Any = clickhouse.StorePort.insert
) -> None:
    await real(self, block, 1e9)


async def ack_first(self: Ingest, batch: Any, real: Any = Ingest._unseen) -> Any:
    entries = await real(self, batch)
    self._broker.ack([message.reply for message, _, _ in entries])
    return entries


_tokens = count()


def another_token_each_time(*_: Any) -> str:
    return str(next(_tokens))


def token_of_first_and_last(table: Any, seqs: Any, streams: Any) -> str:
    return f"{seqs[0]}-{seqs[-1]}"


def no_resync(self: Ingest, why: str, still_ours: bool = False) -> None:
    self._source.cancel()


async def cut_anew_blindly(self: Ingest, entries: Any) -> Any:
    return list(entries)


MUTATIONS: dict[str, tuple[Any, str, Callable[..., Any]]] = {
    "no look-up of what may have been seen": (Ingest, "_found", no_look_up),
    "no waiting for inserts that still run": (clickhouse.StorePort, "settle", no_waiting),
    "no fence in ClickHouse": (clickhouse.StorePort, "insert", no_fence),
    "ack before the insert": (Ingest, "_unseen", ack_first),
    "another token at each try": (clickhouse, "token", another_token_each_time),
    "a token of first and last sequence only": (clickhouse, "token", token_of_first_and_last),
    "no resync after a reconnect": (Ingest, "resync", no_resync),
    "no look-up before a batch is cut anew": (Ingest, "_without_stored", cut_anew_blindly),
}


@pytest.mark.timeout(600)
@pytest.mark.parametrize("rule", MUTATIONS)
def test_the_simulator_notices_when_a_rule_is_broken(rule: str, monkeypatch: pytest.MonkeyPatch) -> None:
    owner, name, broken = MUTATIONS[rule]
    monkeypatch.setattr(owner, name, broken)
    for seed in range(SEEDS_TO_NOTICE):
        try:
            World(seed).run()
        except Violation:
            return
    pytest.fail(f"{SEEDS_TO_NOTICE} seeds hold although there is {rule}")


def test_the_models_stand_in_for_what_the_product_calls() -> None:
    assert clickhouse.token is encode_module.token
    assert ingest_module.Ingest is Ingest
    for port, model in ((ingest_module.Broker, jetstream.BrokerPort), (ingest_module.Store, clickhouse.StorePort)):
        missing = {name for name in vars(port) if not name.startswith("_")} - set(dir(model))
        assert not missing, f"the model lacks {missing}"
