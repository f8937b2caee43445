"""Scalars: what parses means what it says, what doesn't is refused."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from marketprism_api.problems import ValueRefusedError, did_you_mean, masked
from marketprism_api.types import Cron, Duration, Quantity, Ratio, endpoints

UNITS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}


@given(st.lists(st.tuples(st.integers(0, 99), st.sampled_from(list(UNITS))), min_size=1, max_size=4))
def test_duration(parts: list[tuple[int, str]]) -> None:
    duration = Duration("".join(f"{number}{unit}" for number, unit in parts))
    expected = sum(number * UNITS[unit] for number, unit in parts)
    assert duration.seconds == pytest.approx(expected, abs=1e-6)
    assert duration.timedelta == timedelta(seconds=duration.seconds)


@given(st.text(max_size=12))
def test_no_text_is_taken_by_chance(text: str) -> None:
    for kind in (Duration, Quantity, Ratio, Cron):
        try:
            made = kind(text)
        except ValueRefusedError:
            continue
        assert made.isascii()
        assert made == made.strip()


def test_known_durations() -> None:
    assert [Duration(text).seconds for text in ("10s", "1h30m", "72h", "500ms", "1.5h", "0s")] == [
        10,
        5400,
        259200,
        0.5,
        5400,
        0,
    ]


def test_quantities() -> None:
    assert [Quantity(text).bytes for text in ("16Mi", "1k", "100", "1.5Ki", "2e3", "1E", "1500m")] == [
        16 * 2**20,
        1000,
        100,
        1536,
        2000,
        10**18,
        2,
    ]
    assert Quantity("500m").value == Decimal("0.5")


def test_masked() -> None:
    assert masked("nats://u:p@h") == "nats://***@h"
    assert masked("u:p@h") == "***@h"
    assert masked("http://h/?password=p") == "http://h/?***"
    assert masked("http://h:1") == "http://h:1"


def test_did_you_mean() -> None:
    assert did_you_mean("maxrow", ["maxRows", "maxDelay"]) == "did you mean `maxRows`?"
    assert did_you_mean("max_rows", ["maxRows", "maxDelay"]) == "did you mean `maxRows`?"
    assert did_you_mean("zzz", ["maxRows"]) == ""


def test_endpoint_repr() -> None:
    assert "canary" not in repr(endpoints("http://u:canary@h", ("http",), 1))
