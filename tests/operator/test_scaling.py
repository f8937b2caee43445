"""How many Pods a consumer gets: up fast while rows come late, down slowly, never beyond what it may have."""

from __future__ import annotations

import pytest

from marketprism_api.pipeline import AutoscaleSpec, ConsumerSpec
from marketprism_operator.conditions import Word
from marketprism_operator.scaling import CALM, SETTLE, STEP, Memory, lag, wanted

SPEC = AutoscaleSpec.model_validate({"min": 1, "max": 6, "targetLag": "30s"})


def course(lags: list[tuple[float, float | None]], present: int = 1) -> list[int]:
    """The number of Pods after each look: at (time, how late)."""
    memory, found = Memory(), []
    for now, late in lags:
        present = wanted(SPEC, present, late, memory, now)
        found.append(present)
    return found


def test_it_doubles_while_rows_come_late_and_gives_new_pods_time_to_begin() -> None:
    looks = [(0.0, 100.0), (15.0, 90.0), (SETTLE, 80.0), (2 * SETTLE, 70.0), (3 * SETTLE, 60.0)]
    assert course(looks) == [2, 2, 4, 6, 6]


def test_it_falls_by_one_a_minute_after_five_minutes_in_time() -> None:
    looks = [(0.0, 1.0), (CALM - 1, 1.0), (CALM, 1.0), (CALM + 15, 1.0), (CALM + STEP, 1.0), (CALM + 2 * STEP, 1.0)]
    assert course(looks, present=4) == [4, 4, 3, 3, 2, 1]


@pytest.mark.parametrize("late", [20.0, 31.0, None])
def test_calm_begins_again_after_anything_else(late: float | None) -> None:
    looks = [(0.0, 1.0), (CALM - 1, late), (CALM + 10, 1.0), (CALM + 11, 1.0)]
    assert course(looks, present=6) == [6, 6, 6, 6]


def test_between_half_the_target_and_the_target_nothing_changes() -> None:
    assert course([(0.0, 20.0), (1000.0, 29.0), (2000.0, 30.0)], present=3) == [3, 3, 3]


def test_where_no_pod_says_anything_nothing_changes() -> None:
    assert course([(0.0, None), (1000.0, None)], present=3) == [3, 3]


@pytest.mark.parametrize(("present", "allowed"), [(0, 1), (9, 6)])
def test_it_stays_within_what_is_allowed_even_if_no_pod_says_anything(present: int, allowed: int) -> None:
    assert course([(0.0, None)], present) == [allowed]


def test_the_latest_of_its_data_types_counts_and_only_of_pods_that_do_their_work() -> None:
    spec = ConsumerSpec.model_validate({"dataTypes": ["trade", "orderbook"], "autoscale": {"max": 2}})
    words = [
        Word(True, "", {"trade": {"lagSeconds": 3}, "orderbook": {"lagSeconds": 40.5}}),
        Word(True, "", {"trade": {"lagSeconds": 0}, "liquidation": {"lagSeconds": 500}}),
        Word(False, "ClickHouse does not answer", {"trade": {"lagSeconds": 900}}),
    ]
    assert lag(spec, words) == 40.5
    assert lag(spec, words[2:]) is None
