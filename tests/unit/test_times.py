"""Times as text: exact, and the same everywhere."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from marketprism_consumer import times
from marketprism_consumer.ingest.values import EARLIEST, LATEST, micros

AT = 1_758_700_551_123_456


@pytest.mark.parametrize(
    ("form", "text"),
    [
        (times.iso, "2025-09-24T07:55:51.123456Z"),
        (times.shown, "2025-09-24 07:55:51"),
        (times.exact, "2025-09-24 07:55:51.123456"),
        (times.clock, "07:55:51.123"),
    ],
)
def test_forms(form: object, text: str) -> None:
    assert callable(form)
    assert form(AT) == text


def test_a_whole_second_has_no_fraction() -> None:
    assert times.exact(AT - 123_456) == "2025-09-24 07:55:51"


@given(st.integers(EARLIEST, LATEST - 1))
def test_no_microsecond_is_lost(at: int) -> None:
    assert micros(times.iso(at), "f") == at
    assert micros(times.exact(at), "f") == at
