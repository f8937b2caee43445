"""What the benchmarks conclude from what they measured."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from bench import freshness, gate, pairs, queries, upstream
from bench.__main__ import Result
from bench.workload import MESSAGES, Workload
from marketprism_consumer.ingest import kernel

BASE = Result("x", 1000, 1.0, 10.0, 20.0, 10.0, 100, 200, 50, 3, 40.0, [1.0])


def test_a_message_is_as_late_as_the_first_look_that_shows_it() -> None:
    sent = [0.0, 1.0, 2.0, 3.0]
    seen = [(0.5, 0), (1.5, 1), (2.5, 3)]
    assert freshness.delays(sent, seen) == [1.5, 1.5, 0.5]


@pytest.mark.parametrize(("at", "expected"), [(0.5, 50), (0.99, 99), (1.0, 100), (0.0, 1)])
def test_a_quantile_is_one_of_the_values(at: float, expected: int) -> None:
    assert freshness.quantile(list(range(1, 101)), at) == expected


def test_pairs_fail_by_their_median_and_not_by_one_bad_pair() -> None:
    same, slow, costly = BASE, replace(BASE, seconds=1.25), replace(BASE, clickhouse_us=40.0)
    assert pairs.verdict({"trade": pairs.losses([(BASE, same), (BASE, slow), (BASE, same)])}, 0.15) == []
    assert pairs.verdict({"trade": pairs.losses([(BASE, slow), (BASE, slow), (BASE, same)])}, 0.15) == [
        "trade: messages per second is 20% worse than before, 15% are allowed"
    ]
    assert pairs.verdict({"trade": pairs.losses([(BASE, costly)])}, 0.15) == [
        "trade: CPU per message is 33% worse than before, 15% are allowed"
    ]
    assert pairs.verdict({"trade": pairs.losses([(slow, BASE)])}, 0.15) == []


@pytest.mark.parametrize("data_type", MESSAGES)
def test_the_gates_work_is_the_consumers(data_type: str) -> None:
    """All of its messages are rows of one block, trades by the columns; the same in every turn."""
    work = Workload(data_type)
    batch = work.batch()
    assert (batch.stored, batch.refused) == (MESSAGES[data_type], [])
    assert bool(batch.columns) == (data_type == "trade" and kernel.library is not None)
    assert work() == work()


def test_the_gate_fails_where_a_message_costs_more_than_it_may() -> None:
    found = {"trade": (1.0, 1.14), "orderbook": (50.0, 60.0)}
    assert gate.verdict(found, 0.15) == ["orderbook: 20% more CPU a message than before, 15% are allowed"]
    assert gate.verdict({"trade": (1.2, 1.0)}, 0.15) == []


def test_what_is_promised_of_a_query_is_judged_and_what_both_are_asked_is_compared() -> None:
    asked = queries.asked(queries.PAGE.read_text())
    assert queries.TARGETS.keys() | upstream.QUERIES.keys() <= asked.keys()
    assert "00:00:00' AND minute < '2025-09-25 00:00:00'" in asked["candles-of-one-day"].sql
    for one in asked.values():
        assert set(re.findall(r"\{(\w+):", one.sql)) == set(one.parameters)
    assert queries.told("query book", queries.Cost(20, 0.04, 0.03, 0.2)).endswith("(5.0x)  target 50 ms: met")
    assert queries.told("query book", queries.Cost(20, 0.06, 0.05)).endswith("target 50 ms: MISSED")
    assert queries.told("spread", queries.Cost(60, 0.06, 0.05)) == ""
