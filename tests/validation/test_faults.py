"""Each check finds exactly its fault, where it is; and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest

from marketprism_api.data_types import BUILT_IN, ValidationLimits
from marketprism_consumer.schema.tables import TRADES
from marketprism_consumer.validation import report as told
from tests.validation.clean_days import DAY, FIRST_DAY, SECOND, Day, Row, Site

Make = Callable[..., Day]


@pytest.mark.parametrize("data_type", list(BUILT_IN))
def test_clean_data_has_no_findings(day: Make, data_type: str) -> None:
    clean = day(data_type)
    assert clean.found() == []
    assert clean.validate(slice_rows=100).findings == [], "nor when it is read in many slices"


def change(row: Row, **values: Any) -> None:
    row.update(values)


def drop(rows: list[Row], row: Row, count: int) -> None:
    start = rows.index(row)
    own = [one for one in rows[start:] if one["symbol"] == row["symbol"]][:count]
    rows[:] = [one for one in rows if not any(one is gone for gone in own)]


TRADE, BOOK, FUNDING = "trade", "orderbook", "funding_rate"
RATIO, INTEREST, VOLATILITY = "lsr_top_position", "open_interest", "volatility_index"

# What is done to the row of second 300 of BBB (`day`, `row`) → the one reason that is found, how often, words of its example.
FAULTS: dict[str, tuple[str, Callable[[Day, Row], None], str, int, str]] = {
    "a trade is missing": (TRADE, lambda d, r: drop(d.rows, r, 1), "TradesMissing", 1, "trade_id 1300 missing"),
    "four are": (TRADE, lambda d, r: drop(d.rows, r, 4), "TradesMissing", 4, "trade_id 1300 to 1303 missing"),
    "a trade comes twice": (TRADE, lambda d, r: d.rows.append(dict(r)), "TradeRepeated", 1, "trade_id 1300 more than once"),
    "a price of zero": (VOLATILITY, lambda d, r: change(r, volatility_index="0"), "OutOfBounds", 1, "volatility_index 0"),
    "a quantity of zero": (TRADE, lambda d, r: change(r, quantity="0"), "OutOfBounds", 1, "price 106, quantity 0"),
    "an absurd quantity": (TRADE, lambda d, r: change(r, quantity="1000000000000001"), "OutOfBounds", 1, "1000000000000001"),
    "a price ten times": (TRADE, lambda d, r: change(r, price="1030"), "PriceJump", 1, "price 1030, its neighbours' median 10"),
    "a price a fifth lower": (TRADE, lambda d, r: change(r, price="80"), "PriceJump", 1, "price 80,"),
    "a book's price jumps": (BOOK, lambda d, r: change(r, **book(150)), "PriceJump", 1, "price 150, its neighbours' median 100"),
    "a crossed book": (BOOK, lambda d, r: change(r, best_bid_price="101"), "BookCrossed", 1, "best bid 101, best ask 101"),
    "unsorted bids": (BOOK, lambda d, r: change(r, bid_prices=["99", "97", "98"]), "BookUnsorted", 1, "last_update_id 3010"),
    "a level twice": (BOOK, lambda d, r: change(r, ask_prices=["101", "102", "102"]), "BookUnsorted", 1, ""),
    "a negative level": (BOOK, lambda d, r: change(r, ask_quantities=["1", "-2", "1"]), "OutOfBounds", 1, ""),
    "an absurd level": (BOOK, lambda d, r: change(r, bid_quantities=["1", "2000000000000000", "1"]), "OutOfBounds", 1, ""),
    "an update that calls itself full": (BOOK, lambda d, r: change(r, bid_quantities=["1", "0", "2"]), "BookNotFull", 1, "taken away 1"),
    "a book is missing": (BOOK, lambda d, r: drop(d.rows, r, 1), "BookChainBroken", 1, "it follows 3010, the one before is 3000"),
    "a wrong link": (BOOK, lambda d, r: change(r, prev_update_id=7), "BookChainBroken", 1, "it follows 7, the one before is 3000"),
    "a wild rate": (FUNDING, lambda d, r: change(r, funding_rate="-0.2"), "OutOfBounds", 1, "funding_rate -0.2"),
    "a negative interest": (INTEREST, lambda d, r: change(r, open_interest_value="-1"), "OutOfBounds", 1, "-1"),
    "a negative ratio": (RATIO, lambda d, r: [change(x, long_short_ratio="-1") for x in bucket(d, r)], "OutOfBounds", 60, "-1"),
    "a bucket is missing": (RATIO, lambda d, r: remove(d, bucket(d, r)), "CadenceMissed", 1, "1 without a row, one is due every 1m"),
    "an interval is missing": (FUNDING, lambda d, r: remove(d, minute(d, r)), "CadenceMissed", 1, "every 1m"),
    "a bucket is revised": (RATIO, lambda d, r: change(r, long_short_ratio="1.6"), "BucketRevised", 1, "1.5"),
    "a bucket is repeated": (RATIO, lambda d, r: d.rows.extend([r] * 1000), "BucketRepeated", 1, "publications 1060"),
    "event after arrival": (TRADE, lambda d, r: change(r, collected_at=r["timestamp"] - 3 * SECOND), "ClockAhead", 1, "arrived 2"),
    "a late arrival": (BOOK, lambda d, r: change(r, collected_at=r["timestamp"] + 90 * SECOND), "ArrivedLate", 1, "arrived 2"),
    "a silence": (VOLATILITY, lambda d, r: drop(d.rows, r, 200), "Silence", 1, "nothing for 201 s; usual is one every 1.0 s"),
    "a dead symbol": (VOLATILITY, lambda d, r: drop(d.rows, r, 600), "SymbolDead", 1, "nothing since, for 401 s"),
}  # fmt: skip


def book(mid: int) -> Row:
    bids, asks = [str(mid - n) for n in (1, 2, 3)], [str(mid + n) for n in (1, 2, 3)]
    return {"bid_prices": bids, "ask_prices": asks, "best_bid_price": bids[0], "best_ask_price": asks[0]}


def bucket(day: Day, row: Row) -> list[Row]:
    return [one for one in day.of(row["symbol"]) if one["timestamp"] == row["timestamp"]]


def minute(day: Day, row: Row) -> list[Row]:
    own = row["collected_at"] // (60 * SECOND)
    return [one for one in day.of(row["symbol"]) if one["collected_at"] // (60 * SECOND) == own]


def remove(day: Day, rows: list[Row]) -> None:
    day.rows[:] = [one for one in day.rows if not any(one is gone for gone in rows)]


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_found_where_it_is_and_nothing_else(day: Make, name: str) -> None:
    data_type, plant, reason, count, words = FAULTS[name]
    faulty = day(data_type)
    row = faulty.of("BBB")[300]
    at = row["timestamp"]
    plant(faulty, row)
    limits = {VOLATILITY: ValidationLimits(max_silence=120, max_value=1000)}.get(data_type)
    (finding,) = faulty.found(limits=limits)
    assert (finding.reason.name, finding.count, finding.series) == (reason, count, 1)
    example = finding.examples[0]
    assert example.series[:3] == ("e", "m", "BBB")
    assert example.at - 61 * SECOND <= at <= example.until + 61 * SECOND
    assert words in example.text


@pytest.mark.parametrize("name", [name for name, fault in FAULTS.items() if fault[2] not in ("Silence", "SymbolDead")])
def test_and_also_in_slices_so_small_that_it_falls_between_them(day: Make, name: str) -> None:
    data_type, plant, reason, count, _ = FAULTS[name]
    faulty = day(data_type)
    plant(faulty, faulty.of("BBB")[300])
    # Slices of five minutes: the row is the first of one. Only a local median wants its neighbours.
    (finding,) = faulty.found(slice_rows=150)
    assert (finding.reason.name, finding.count) == (reason, count)


def test_the_query_of_a_finding_shows_it(day: Make) -> None:
    faulty = day(TRADE)
    change(faulty.of("C'C")[300], price="1030")
    faulty.store()
    report = faulty.validate()
    sql = told.query(report, report.types[0], report.findings[0])
    assert "symbol = 'C\\'C'" in sql
    found = faulty.site.loop.run(faulty.site.hot.clickhouse.query(sql))
    assert any(Decimal(1030) in row for row in found)
    assert len(found) == 3


# --- what is learnt from the data -------------------------------------------------------------------------------------


def test_numbers_that_do_not_follow_one_another_are_no_sequence(day: Make) -> None:
    odd = day(TRADE)
    for number, row in enumerate(odd.rows):
        row["trade_id"] = str(number * 7919 % 100_003)
    assert odd.found() == []


def test_ids_that_are_no_numbers_are_no_sequence(day: Make) -> None:
    odd = day(TRADE)
    for row in odd.rows:
        row["trade_id"] = f"x-{row['trade_id']}"
    assert odd.found() == []


def test_a_venue_that_does_not_chain_its_books_is_left_alone(day: Make) -> None:
    odd = day(BOOK)
    for row in odd.rows:
        row["prev_update_id"], row["first_update_id"] = None, row["last_update_id"] - 3
    assert odd.found() == []


def test_a_price_that_moves_for_good_is_no_jump(day: Make) -> None:
    moved = day(TRADE)
    for row in moved.rows[900:]:
        row["price"] = "200"
    assert moved.found() == []


def test_a_quiet_symbol_is_not_silent(day: Make) -> None:
    """One row in a minute is usual for it."""
    quiet = day(VOLATILITY)
    quiet.rows = [row for row in quiet.rows if row["symbol"] != "BBB" or quiet.of("BBB").index(row) % 60 == 0]
    assert quiet.found(limits=ValidationLimits(max_silence=30), tail=600) == []


def test_a_removed_level_does_not_cross_a_book(day: Make) -> None:
    update = day(BOOK)
    change(update.of("BBB")[300], best_bid_price="105", best_bid_quantity="0")
    assert update.found() == []


def test_a_full_book_with_a_fraction_of_the_usual_levels_is_none_and_a_halted_markets_is_empty(day: Make) -> None:
    hollow = day(BOOK)
    for row in hollow.of("BBB"):
        change(row, bids_count=20, asks_count=20)
    change(hollow.of("BBB")[300], bids_count=1, asks_count=1)
    change(hollow.of("BBB")[310], bids_count=1, asks_count=1, update_type="update")
    change(hollow.of("BBB")[320], bids_count=0, asks_count=0)
    (finding,) = hollow.found()
    assert (finding.reason.name, finding.count) == ("BookNotFull", 1)


def test_prices_below_zero_are_wrong_only_in_the_market_types_that_have_none(day: Make) -> None:
    for market_type, wrong in (("spread", set()), ("spot", {"OutOfBounds"})):
        below = day(TRADE)
        for row in below.rows:
            change(row, market_type=market_type, price=f"-{row['price']}")
        assert {finding.reason.name for finding in below.found()} == wrong


def test_a_share_of_unknown_sides_is_usual_and_more_is_not(day: Make) -> None:
    some = day(TRADE)
    for number, row in enumerate(some.of("BBB")):
        row["side"] = "unknown" if number % 15 == 0 else row["side"]
    assert some.found() == []
    many = day(TRADE)
    for number, row in enumerate(many.of("BBB")):
        row["side"] = "unknown" if number % 5 == 0 else row["side"]
    (finding,) = many.found()
    assert (finding.reason.name, finding.count) == ("SideUnknown", 120)


def test_a_funding_rate_may_be_of_the_future(day: Make) -> None:
    ahead = day(FUNDING)
    for row in ahead.rows[::2]:
        row["timestamp"] += 60 * SECOND
    assert ahead.found() == []


def test_what_was_never_published_is_no_value(day: Make) -> None:
    absent = day(VOLATILITY)
    for row in absent.rows[::7]:
        row["volatility_index"] = None
    assert absent.found() == []


# --- symbols and types that are gone ----------------------------------------------------------------------------------


def test_a_symbol_of_the_window_before_is_missed(day: Make) -> None:
    before = day(TRADE)
    before.store()
    now = day(TRADE)
    now.start, shift = before.start + 1300 * SECOND, before.start + 1300 * SECOND - now.start
    now.rows = [row for row in now.rows if row["symbol"] != "AAA"]
    for row in now.rows:
        for name in ("timestamp", "trade_time", "collected_at"):
            row[name] += shift
    (finding,) = now.found()
    assert finding.reason.name == "SymbolDead"
    assert [example.series[2] for example in finding.examples] == ["AAA"]


@pytest.mark.parametrize("data_type", list(BUILT_IN))
def test_a_type_without_rows_is_told_but_for_liquidations(site: Site, data_type: str) -> None:
    nothing = site.validate(FIRST_DAY - 9 * DAY, FIRST_DAY - 8 * DAY, [data_type])
    expected = [] if data_type == "liquidation" else ["NoRows"]
    assert [finding.reason.name for finding in nothing.findings] == expected


# --- two tiers --------------------------------------------------------------------------------------------------------


def both_tiers(day: Make) -> tuple[Day, list[tuple[Any, ...]]]:
    made = day(TRADE)
    rows = [tuple(row.get(c.name) for c in TRADES.inserted) for row in made.rows]
    return made, rows


def test_rows_in_both_tiers_are_the_same_and_count_once(day: Make) -> None:
    made, rows = both_tiers(day)
    seqs = [next(made.site.seq) for _ in rows]
    made.site.insert(TRADES, rows, "hot", seqs)
    made.site.insert(TRADES, rows[:900], "cold", seqs[:900])
    report = made.validate()
    assert report.findings == []
    assert (report.types[0].rows, report.types[0].in_both) == (1800, 900)


def test_a_row_that_cold_has_with_another_value_is_found(day: Make) -> None:
    made, rows = both_tiers(day)
    seqs = [next(made.site.seq) for _ in rows]
    made.site.insert(TRADES, rows, "hot", seqs)
    altered = [*rows[:10], (*rows[10][:6], "2.000000000000000001", *rows[10][7:])]
    made.site.insert(TRADES, altered, "cold", seqs[:11])
    (finding,) = made.validate().findings
    assert (finding.reason.name, finding.count) == ("TiersDiffer", 1)
    assert finding.examples[0].at == rows[10][0]
    assert finding.examples[0].text == f"_stream S@1, _seq {seqs[10]}"


@pytest.mark.parametrize("tier", ["hot", "cold"])
def test_a_row_that_is_there_twice_is_found(day: Make, tier: str) -> None:
    made, rows = both_tiers(day)
    seqs = [next(made.site.seq) for _ in rows]
    made.site.insert(TRADES, rows, tier, seqs)
    made.site.insert(TRADES, rows[10:12], tier, seqs[10:12])
    found = {finding.reason.name: finding.count for finding in made.validate().findings}
    assert found == {"RowDoubled": 2, "TradeRepeated": 2}


# --- what is chosen, and the limits -----------------------------------------------------------------------------------


def test_only_what_is_asked_for_is_looked_at(day: Make) -> None:
    faulty = day(TRADE)
    change(faulty.of("BBB")[300], price="1030")
    faulty.store()
    report = faulty.validate(symbols=["AAA", "C'C"])
    assert report.findings == []
    assert {key[2] for key in report.types[0].series} == {"AAA", "C'C"}
    assert faulty.validate(exchanges=["nobody"]).types[0].rows == 0
    assert len(faulty.validate(exchanges=["e"], symbols=["BBB"]).findings) == 1


def test_a_limit_of_zero_switches_a_check_off(day: Make) -> None:
    faulty = day(TRADE)
    change(faulty.of("BBB")[300], price="1030", collected_at=0)
    off = ValidationLimits(max_ahead=0, max_delay=0)
    assert faulty.found(limits=off) == []


def test_every_reason_of_validation_is_caused_by_a_test_here() -> None:
    from marketprism_api.reasons import ALL

    here = {fault[2] for fault in FAULTS.values()} | {"NoRows", "TiersDiffer", "RowDoubled", "SideUnknown"}
    here.add("SometimesAbsent")  # of types of the user's own: tests/operations/test_own_types.py
    assert here == {reason.name for code, reason in ALL.items() if code.startswith("MP8")}
