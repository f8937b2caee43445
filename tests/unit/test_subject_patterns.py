"""What two patterns of subjects have in common."""

from __future__ import annotations

import pytest

from marketprism_api.subjects import common


@pytest.mark.parametrize(
    ("one", "other", "both"),
    [
        ("trade.>", "trade.okx.>", "trade.okx.>"),
        ("trade.>", "*.okx.>", "trade.okx.>"),
        ("trade.>", ">", "trade.>"),
        ("trade.*.spot", "trade.okx.*", "trade.okx.spot"),
        ("trade.>", "trade.okx.*.BTC", "trade.okx.*.BTC"),
        ("trade.>", "funding_rate.>", ""),
        ("trade.>", "trade", ""),
        ("trade.*", "trade.okx.spot", ""),
        ("trade.okx", "trade.okx", "trade.okx"),
    ],
)
def test_it_is_the_pattern_of_the_subjects_that_both_have(one: str, other: str, both: str) -> None:
    assert common(one, other) == common(other, one) == both
