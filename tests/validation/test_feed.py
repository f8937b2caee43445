"""A feed as collectors publish it: nothing is wrong with it; and of forty faults that are planted into it, all are found."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import islice
from typing import Any

from marketprism_api.data_types import BUILT_IN
from marketprism_consumer.feed import messages
from marketprism_consumer.ingest.decode import decode
from marketprism_consumer.schema.tables import BY_DATA_TYPE
from marketprism_consumer.validation.run import Report
from tests.validation.clean_days import DAY, FIRST_DAY, SECOND, Site

MINUTES = 20
OFTEN = ("trade", "orderbook")
SELDOM = ("funding_rate", "open_interest", "liquidation", "lsr_top_position", "lsr_all_account", "volatility_index")
RATES = {OFTEN: 40.0, SELDOM: 10.0}

Row = dict[str, Any]


def feed(start: int) -> dict[str, list[Row]]:
    """Twenty minutes of all types, by data type, in the order of publication."""
    rows: dict[str, list[Row]] = defaultdict(list)
    begin = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=start)
    for types, rate in RATES.items():
        made = messages(seed=3, types=types, rate=rate, book_levels=5, start=begin)
        for message in islice(made, int(rate * 60 * MINUTES)):
            values = decode(BUILT_IN[message.data_type], message.subject, message.payload, 1 << 60)
            names = [column.name for column in BY_DATA_TYPE[message.data_type].inserted]
            rows[message.data_type].append(dict(zip(names, values, strict=True)))
    return rows


def store(site: Site, rows: dict[str, list[Row]]) -> None:
    for data_type, own in rows.items():
        table = BY_DATA_TYPE[data_type]
        site.insert(table, [tuple(row[column.name] for column in table.inserted) for row in own])


def validate(site: Site, start: int) -> Report:
    return site.validate(start - 7200 * SECOND, start + (60 * MINUTES + 10) * SECOND)


def test_on_a_clean_feed_there_are_no_findings(site: Site) -> None:
    start = FIRST_DAY + 8 * 3600 * SECOND
    rows = feed(start)
    store(site, rows)
    report = validate(site, start)
    assert report.findings == []
    assert [one.rows > 100 for one in report.types] == [True] * 8


# --- forty faults -----------------------------------------------------------------------------------------------------


def series(row: Row) -> tuple[str, str, str]:
    return row["exchange"], row["market_type"], row["symbol"]


Plant = Callable[[list[Row], int], None]


def alter(**values: Any) -> Plant:
    def plant(own: list[Row], at: int) -> None:
        own[at].update({name: value(own[at]) if callable(value) else value for name, value in values.items()})

    return plant


def lose(own: list[Row], at: int) -> None:
    own[at]["lost"] = True


def twice(own: list[Row], at: int) -> None:
    own[at]["twice"] = True


def lose_bucket(own: list[Row], at: int) -> None:
    for row in own:
        row["lost"] = row["timestamp"] // (300 * SECOND) == own[at]["timestamp"] // (300 * SECOND) or row.get(
            "lost", False
        )


def unsorted(row: Row) -> list[str]:
    return [row["bid_prices"][1], row["bid_prices"][0], *row["bid_prices"][2:]]


def times(name: str, factor: str) -> Callable[[Row], str]:
    return lambda row: format(Decimal(row[name]) * Decimal(factor), "f")


def shifted(seconds: int) -> Callable[[Row], int]:
    return lambda row: row["timestamp"] + seconds * SECOND


# Data type, reason, how it is planted, how often: forty in all.
KINDS: list[tuple[str, str, Plant, int]] = [
    ("trade", "TradesMissing", lose, 4),
    ("trade", "TradeRepeated", twice, 4),
    ("trade", "PriceJump", alter(price=times("price", "1.5")), 4),
    ("trade", "OutOfBounds", alter(quantity="0"), 3),
    ("trade", "ClockAhead", alter(collected_at=shifted(-5)), 3),
    ("trade", "ArrivedLate", alter(collected_at=shifted(100)), 3),
    ("orderbook", "BookCrossed", alter(best_bid_price=times("best_ask_price", "1.001"), best_bid_quantity="1", best_ask_quantity="1"), 4),
    ("orderbook", "BookUnsorted", alter(bid_prices=unsorted), 4),
    ("orderbook", "BookChainBroken", alter(prev_update_id=1), 3),
    ("funding_rate", "OutOfBounds", alter(funding_rate="0.5"), 2),
    ("open_interest", "OutOfBounds", alter(open_interest_value="-1"), 2),
    ("volatility_index", "OutOfBounds", alter(volatility_index="2000"), 2),
    ("liquidation", "OutOfBounds", alter(quantity="0"), 1),
    ("lsr_top_position", "CadenceMissed", lose_bucket, 1),
]  # fmt: skip


def test_of_forty_planted_faults_all_are_found_and_nothing_else(site: Site) -> None:
    start = FIRST_DAY + 400 * DAY + 8 * 3600 * SECOND
    rows = feed(start)
    planted: dict[tuple[str, str], list[tuple[tuple[str, str, str], int]]] = defaultdict(list)
    for number, (data_type, reason, plant, count) in enumerate(KINDS):
        groups: dict[tuple[str, str, str], list[Row]] = defaultdict(list)
        for row in rows[data_type]:
            if data_type != "orderbook" or (len(row["bid_prices"]) > 1 and row["ask_prices"]):
                groups[series(row)].append(row)
        if data_type.startswith("lsr"):  # the form that carries a bucket's start
            groups = {key: [r for r in own if r["period"] == "5m"] for key, own in groups.items() if "_" in key[0]}
        largest = sorted(groups, key=lambda key: (-len(groups[key]), key))
        for one in range(count):
            key = largest[one % len(largest)]
            at = len(groups[key]) * (number + 2) // (len(KINDS) + 4)
            plant(groups[key], at)
            planted[data_type, reason].append((key, groups[key][at]["timestamp"]))
    assert sum(map(len, planted.values())) == 40
    for data_type, own in rows.items():
        rows[data_type] = [row for row in own if not row.get("lost")] + [row for row in own if row.get("twice")]
    store(site, rows)
    found = {(finding.data_type, finding.reason.name): finding for finding in validate(site, start).findings}
    assert set(found) == set(planted)
    for kind, places in planted.items():
        finding = found[kind]
        assert finding.count == len(places), kind
        for key, at in places:
            (example,) = (one for one in finding.examples if one.series[:3] == key)
            assert example.at - 301 * SECOND <= at <= example.until + 301 * SECOND, kind
