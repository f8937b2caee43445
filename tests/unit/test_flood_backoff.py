"""When too many messages are bad, how long to wait after a failure, and what an error code of ClickHouse asks of us."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from marketprism_consumer.backoff import Backoff, Breaker
from marketprism_consumer.errors import Fault
from marketprism_consumer.ingest.clickhouse_errors import LATE_INSERT, PASSING, ROW, SERVER, fault
from marketprism_consumer.ingest.flood import Flood, exchange_of

# --- flood --------------------------------------------------------------------------------------------------------------


def flood() -> Flood:
    return Flood(max_ratio=0.1, min_messages=100, window=60.0)


FLOODS = [
    ("one bad message alone", [(0, 1, 1)], False),
    ("all bad, but few", [(0, 99, 99)], False),
    ("enough and all bad", [(0, 100, 100)], True),
    ("exactly the ratio", [(0, 100, 10)], False),
    ("just above the ratio", [(0, 100, 11)], True),
    ("added up", [(0, 50, 10), (1, 50, 5)], True),
    ("good ones dilute", [(0, 100, 11), (1, 100, 0)], False),
    ("the good ones are forgotten first", [(0, 1000, 0), (61, 100, 50)], True),
    ("the bad ones are forgotten", [(0, 100, 100), (61, 100, 0)], False),
    ("at the window's edge they still count", [(0, 50, 50), (60, 50, 0)], True),
]


@pytest.mark.parametrize(("records", "floods"), [case[1:] for case in FLOODS], ids=[case[0] for case in FLOODS])
def test_a_flood_is_a_share_of_enough_messages_within_the_window(
    records: list[tuple[float, int, int]], floods: bool
) -> None:
    watch = flood()
    for now, total, bad in records:
        watch.record(now, {"okx": total}, {"okx": bad})
    assert watch.of(records[-1][0]) == ({"okx"} if floods else set())


def test_each_venue_is_counted_by_itself() -> None:
    watch = flood()
    watch.record(0, {"okx": 1000, "deribit": 10_000, "gate": 10}, {"okx": 150, "deribit": 5, "gate": 10})
    assert watch.of(1) == {"okx"}, "of all together 1.5 % are bad, of gate's too few to judge by"


def test_it_is_over_when_a_window_has_passed_though_nothing_comes() -> None:
    watch = flood()
    watch.record(0, {"okx": 100}, {"okx": 100})
    assert watch.of(60) == {"okx"}
    assert watch.of(60.1) == set()


steps = st.lists(st.tuples(st.floats(0, 30), st.sampled_from("ab"), st.integers(0, 200), st.floats(0, 1)), max_size=30)


@given(steps)
def test_it_is_the_plain_sum_over_the_window(steps: list[tuple[float, str, int, float]]) -> None:
    watch, seen, now = flood(), [], 0.0
    for wait, exchange, total, share in steps:
        now += wait
        bad = int(total * share)
        seen.append((now, exchange, total, bad))
        watch.record(now, {exchange: total}, {exchange: bad})
        expected = set()
        for each in "ab":
            inside = [(t, b) for at, e, t, b in seen if at >= now - 60.0 and e == each]
            messages, refused = sum(t for t, _ in inside), sum(b for _, b in inside)
            expected |= {each} if messages >= 100 and refused > 0.1 * messages else set()
        assert watch.of(now) == expected


@pytest.mark.parametrize(
    ("subject", "exchange"), [("trade.okx.spot.BTC-USDT", "okx"), ("trade.okx", "okx"), ("trade", ""), ("trade..x", "")]
)
def test_the_venue_of_what_cannot_be_read_is_in_its_subject(subject: str, exchange: str) -> None:
    assert exchange_of(subject, 2) == exchange


def test_the_venue_may_be_in_another_token() -> None:
    assert [exchange_of("md.trades.okx", token) for token in (1, 3, 4)] == ["md", "okx", ""]


# --- backoff ------------------------------------------------------------------------------------------------------------


@given(st.integers(), st.integers(1, 60))
def test_waits_grow_to_the_cap_are_jittered_and_never_zero(seed: int, tries: int) -> None:
    backoff = Backoff(first=0.2, cap=5.0, random=Random(seed))
    for number in range(tries):
        ceiling = min(5.0, 0.2 * 2**number)
        assert ceiling / 2 <= backoff.next() <= ceiling


def test_two_that_fail_together_do_not_come_back_together() -> None:
    one, other = Backoff(random=Random(1)), Backoff(random=Random(2))
    assert all(one.next() != other.next() for _ in range(20))


def test_a_very_long_outage_is_no_overflow() -> None:
    backoff = Backoff(tries=1000)
    assert backoff.next() <= backoff.cap


# --- breaker ------------------------------------------------------------------------------------------------------------


def test_it_opens_after_five_failures_in_a_row_and_one_success_closes_it() -> None:
    breaker = Breaker(threshold=5, pause=2.0)
    for _ in range(4):
        breaker.failed(10.0)
        assert not breaker.open
        assert breaker.wait(10.0) == 0.0
    breaker.succeeded()
    for _ in range(4):
        breaker.failed(10.0)
    assert not breaker.open
    breaker.failed(10.0)
    assert breaker.open
    breaker.succeeded()
    assert breaker.wait(10.0) == 0.0


def test_while_open_one_try_goes_through_at_a_time() -> None:
    breaker = Breaker(threshold=1, pause=2.0)
    breaker.failed(10.0)
    assert breaker.wait(10.5) == 1.5
    assert breaker.wait(12.0) == 0.0, "the probe"
    assert breaker.wait(12.0) == 2.0, "nobody else meanwhile"
    breaker.failed(12.5)
    assert breaker.wait(13.5) == 1.0
    assert breaker.wait(14.5) == 0.0


# --- error codes --------------------------------------------------------------------------------------------------------

CODES = [
    (60, Fault.SERVER),  # no table
    (16, Fault.SERVER),  # no column
    (115, Fault.SERVER),  # unknown setting
    (516, Fault.SERVER),  # authentication
    (497, Fault.SERVER),  # access
    (252, Fault.PASSING),  # too many parts
    (241, Fault.PASSING),  # memory
    (243, Fault.PASSING),  # disk full
    (242, Fault.PASSING),  # read only
    (159, Fault.PASSING),  # timeout
    (201, Fault.PASSING),  # quota
    (69, Fault.ROW),
    (407, Fault.ROW),
    (469, Fault.ROW),  # a constraint of the user's
    (395, Fault.LATE),
    (123456, Fault.UNKNOWN),
    (1, Fault.UNKNOWN),
]


@pytest.mark.parametrize(("code", "expected"), CODES)
def test_what_a_code_asks_of_us(code: int, expected: Fault) -> None:
    assert fault(code) is expected


def test_no_code_is_in_two_lists() -> None:
    assert not PASSING.keys() & SERVER.keys()
    assert not PASSING.keys() & ROW.keys()
    assert not SERVER.keys() & ROW.keys()
    assert LATE_INSERT not in PASSING | SERVER | ROW


def test_no_name_is_given_twice() -> None:
    names = [*PASSING.values(), *SERVER.values(), *ROW.values()]
    assert len(names) == len(set(names))
