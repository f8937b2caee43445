"""What is looked for, by data type, as pieces of one SELECT: it reads a slice of time once and answers with one line per series.

A series is an exchange, market type and symbol, and for buckets also a period. Times are µs since 1970. Statistics are floats;
what is shown of a row is exact.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import NamedTuple

from marketprism_api import reasons
from marketprism_api.data_types import Declaration, ValidationLimits
from marketprism_api.reasons import Reason
from marketprism_consumer.schema.tables import (
    FUNDING_RATES,
    LIQUIDATIONS,
    LSR_ALL_ACCOUNTS,
    LSR_TOP_POSITIONS,
    OPEN_INTERESTS,
    ORDERBOOKS,
    TRADES,
    VOLATILITY_INDICES,
    Table,
    table_of,
)
from marketprism_consumer.schema.views import SERIES, bucket_seconds, everything
from marketprism_consumer.tiering.two_tiers import HashedColumn, hashed

EXAMPLES = 3  # of each finding, per series and slice
MAX_RUNS = 10_000  # more than so many runs of numbers in a slice are no sequence
NEIGHBOURS = 5  # on each side, for a local median
PREVIOUS = "ROWS BETWEEN 1 PRECEDING AND CURRENT ROW"


@dataclass(frozen=True, slots=True)
class Check:
    """`wrong` holds for a row that is wrong. Reported only where such rows are more than the share `above` and at most the
    share `up_to` of those that `among` holds for: what is usual at a venue is read from its data."""

    reason: Reason
    wrong: str
    shows: Mapping[str, str]
    among: str = "1"
    above: float = 0.0
    up_to: float = 1.0


@dataclass(frozen=True, slots=True)
class Shape:
    """How a table is read.

    `before`: names for expressions over a single row. `windows`: names for expressions over `by_time`, a series' rows in the
    order of time, or `by_arrival`, in the order of their publication. `number`: what the venue counts without holes (trade
    ids; buckets); `distinct`: many rows may share one. `link` and `linked`: what a row says that it follows, and what the
    next one should say that it follows.
    """

    table: Table
    value: str
    time: str = "timestamp"
    period: str = "''"
    before: Mapping[str, str] = field(default_factory=dict)
    tie: str = "_seq"
    number: str = "toUInt64(0)"
    distinct: bool = False
    windows: Mapping[str, str] = field(default_factory=dict)
    link: str = "CAST(NULL, 'Nullable(UInt64)')"
    linked: str = "CAST(NULL, 'Nullable(UInt64)')"
    checks: tuple[Check, ...] = ()


_OBSERVED = "ifNull(collected_at, timestamp)"
_TOO_LARGE = "({max_value:Float64} > 0 AND abs(value) > {max_value:Float64})"
_ABOVE_ZERO = "has({positive_prices:Array(String)}, toString(market_type))"
_AMOUNT_WRONG = "(amount <= 0 OR ({max_quantity:Float64} > 0 AND amount > {max_quantity:Float64}))"


def _bounds(wrong: str, *columns: str) -> Check:
    return Check(reasons.OUT_OF_BOUNDS, f"{wrong} OR {_TOO_LARGE}", {name: name for name in columns})


def _sides() -> Check:
    return Check(reasons.SIDE_UNKNOWN, "{max_unknown_sides:Float64} > 0 AND side = 'unknown'", {"side": "side"})


_CLOCKS = (
    Check(
        reasons.CLOCK_AHEAD,
        "{max_ahead:Float64} > 0 AND arrived > 0 AND event > arrived + {max_ahead:Float64} * 1e6",
        {"arrived": "collected_at"},
    ),
    Check(
        reasons.ARRIVED_LATE,
        "{max_delay:Float64} > 0 AND arrived > 0 AND arrived > event + {max_delay:Float64} * 1e6",
        {"arrived": "collected_at"},
    ),
)
_JUMP = Check(
    reasons.PRICE_JUMP,
    # A share of a price means nothing where prices are about zero.
    "{max_jump:Float64} > 0 AND neighbours > 5 AND near > 0 AND abs(value - near) > {max_jump:Float64} * near",
    {"price": "value", "its neighbours' median": "near"},
)
AROUND = {
    "near": f"quantileExact(0.5)(value) OVER (by_time ROWS BETWEEN {NEIGHBOURS} PRECEDING AND {NEIGHBOURS} FOLLOWING)",
    "neighbours": f"count(value) OVER (by_time ROWS BETWEEN {NEIGHBOURS} PRECEDING AND {NEIGHBOURS} FOLLOWING)",
}


def _ratio(table: Table) -> Shape:
    ratios = [column.name for column in table.inserted if column.name.endswith("_ratio")]
    length = bucket_seconds("period_text")
    return Shape(
        table,
        value="toFloat64(long_short_ratio)",
        period="ifNull(toString(period), '')",
        before={"own": f"cityHash64({', '.join(ratios)})"},
        number=f"if(period_text = '', 0, toUInt64(intDiv(toUnixTimestamp(timestamp), {length})))",
        distinct=True,
        windows={
            "previous_own": f"lagInFrame(own) OVER (by_time {PREVIOUS})",
            "publications": f"count() OVER (PARTITION BY {SERIES}, period_text, timed)",
        },
        checks=(
            _bounds("value < 0", *ratios),
            Check(
                reasons.BUCKET_REVISED,
                "previous_time = timed AND previous_own != own",
                {name: name for name in ratios},
            ),
            Check(
                reasons.BUCKET_REPEATED,
                "{max_repeats:Float64} > 0 AND previous_time != timed AND publications > {max_repeats:Float64}",
                {"publications": "publications"},
            ),
            *_CLOCKS,
        ),
    )


SHAPES: Mapping[str, Shape] = {
    shape.table.data_type: shape
    for shape in (
        Shape(
            TRADES,
            value="toFloat64(price)",
            before={"amount": "toFloat64(quantity)"},
            tie="number",
            number="toUInt64OrZero(trade_id)",
            windows=AROUND,
            checks=(
                _bounds(f"(value <= 0 AND {_ABOVE_ZERO}) OR {_AMOUNT_WRONG}", "price", "quantity"),
                replace(_JUMP, shows={"price": "price", "its neighbours' median": "near"}),
                _sides(),
                *_CLOCKS,
            ),
        ),
        Shape(
            ORDERBOOKS,
            value="toFloat64(best_bid_price + best_ask_price) / 2",
            before={
                "crossed": "ifNull(best_bid_price >= best_ask_price AND best_bid_quantity > 0 AND best_ask_quantity > 0, 0)",
                "unsorted": "arrayExists(d -> d >= 0, arrayPopFront(arrayDifference(bid_prices)))"
                " OR arrayExists(d -> d <= 0, arrayPopFront(arrayDifference(ask_prices)))",
                "odd": f"({_ABOVE_ZERO} AND (arrayExists(p -> p <= 0, bid_prices) OR arrayExists(p -> p <= 0, ask_prices)))"
                " OR arrayExists(q -> q < 0, bid_quantities) OR arrayExists(q -> q < 0, ask_quantities)"
                " OR ({max_quantity:Float64} > 0 AND"
                " greatest(toFloat64(arrayMax(arrayPushBack(bid_quantities, toDecimal128(0, 18)))),"
                " toFloat64(arrayMax(arrayPushBack(ask_quantities, toDecimal128(0, 18))))) > {max_quantity:Float64})",
                "full": "ifNull(update_type = 'snapshot', 0)",
                "levels": "toUInt64(bids_count) + asks_count",
                "taken_away": "countEqual(bid_quantities, 0) + countEqual(ask_quantities, 0)",
            },
            link="ifNull(prev_update_id, toUInt64(first_update_id - 1))",
            linked="last_update_id",
            windows={
                **AROUND,
                "previous_linked": f"lagInFrame(linked) OVER (by_arrival {PREVIOUS})",
                "usual": f"round(avgIf(levels, full) OVER (PARTITION BY {SERIES}, period_text))",
            },
            checks=(
                Check(
                    reasons.BOOK_NOT_FULL,
                    "full AND (taken_away > 0 OR (levels > 0 AND levels * 10 < usual))",  # a halted market's book is empty
                    {"levels": "levels", "taken away": "taken_away", "usual": "usual"},
                ),
                Check(reasons.BOOK_CROSSED, "crossed", {"best bid": "best_bid_price", "best ask": "best_ask_price"}),
                Check(reasons.BOOK_UNSORTED, "unsorted", {"last_update_id": "last_update_id"}),
                Check(
                    reasons.OUT_OF_BOUNDS,
                    f"odd OR ifNull({_TOO_LARGE}, 0)",
                    {"best bid": "best_bid_price", "best ask": "best_ask_price"},
                ),
                Check(
                    reasons.BOOK_CHAIN_BROKEN,
                    "link != previous_linked AND ifNull(linked > previous_linked, 1)",  # what comes again breaks nothing
                    {"it follows": "link", "the one before is": "previous_linked"},
                    among="link IS NOT NULL AND previous_linked IS NOT NULL",
                    up_to=0.5,
                ),
                _JUMP,
                *_CLOCKS,
            ),
        ),
        Shape(
            FUNDING_RATES,
            value="toFloat64(funding_rate)",
            time=_OBSERVED,
            period="ifNull(toString(funding_interval), '')",
            number="if(period_text = '', 0, toUInt64(intDiv(intDiv(timed, 1000000), "
            + bucket_seconds("period_text")
            + ")))",
            distinct=True,
            checks=(_bounds("0", "funding_rate"), *_CLOCKS),
        ),
        Shape(
            OPEN_INTERESTS,
            value="toFloat64(open_interest_value)",
            checks=(_bounds("value < 0", "open_interest_value"), *_CLOCKS),
        ),
        Shape(
            LIQUIDATIONS,
            value="toFloat64(price)",
            before={"amount": "toFloat64(quantity)"},
            checks=(
                _bounds(f"(value <= 0 AND {_ABOVE_ZERO}) OR {_AMOUNT_WRONG}", "price", "quantity"),
                _sides(),
                *_CLOCKS,
            ),
        ),
        _ratio(LSR_TOP_POSITIONS),
        _ratio(LSR_ALL_ACCOUNTS),
        Shape(
            VOLATILITY_INDICES,
            value="toFloat64(volatility_index)",
            checks=(_bounds("value <= 0", "volatility_index"), *_CLOCKS),
        ),
    )
}


def shape_of(declaration: Declaration) -> Shape:
    """Of a type of the user's own: whether its series go on, and what usually is there and sometimes is not."""
    if declaration.name in SHAPES:
        return SHAPES[declaration.name]
    table = table_of(declaration)
    optional = [column.name for column in table.stored if "Nullable(" in column.type]
    absent = {f"absent_{number}": f"`{name}` IS NULL" for number, name in enumerate(optional)}
    checks = [
        Check(reasons.SOMETIMES_ABSENT, wrong, {"absent": f"'{name}'"}, up_to=0.5)
        for wrong, name in zip(absent, optional, strict=True)
    ]
    return Shape(table, value="CAST(NULL, 'Nullable(Float64)')", before=absent, checks=(*checks, *_CLOCKS))


# --- the statement ----------------------------------------------------------------------------------------------------


class SeriesLine(NamedTuple):
    """The answer about one series in one slice. After these come, for each check: how many, among how many, examples."""

    exchange: str
    market_type: str
    symbol: str
    period: str
    rows: int
    first: int
    last: int
    silences: Sequence[tuple[int, int]]
    doubles: int
    lowest: int
    highest: int
    repeats: int
    """Numbers beyond the first of their kind."""
    runs: int
    """Stretches of numbers without a hole."""
    starts: Sequence[int]
    """Of each run but the first; empty where there are too many."""
    ends: Sequence[int]
    """Of each run but the last."""
    repeated: Sequence[int]
    first_link: int | None
    last_linked: int | None


def statement(shape: Shape, hot: str, cold: str, where: str) -> str:
    """Answers with `SeriesLine`s and what the checks found. Parameters: those of `parameters` and of `where`."""
    before = {
        "timed": f"toUnixTimestamp64Micro({shape.time})",
        "event": "toUnixTimestamp64Micro(timestamp)",
        "arrived": "ifNull(toUnixTimestamp64Micro(collected_at), 0)",
        "period_text": shape.period,
        "value": shape.value,
        **shape.before,
        "number": shape.number,
        "link": shape.link,
        "linked": shape.linked,
    }
    shown = {expression for check in shape.checks for expression in check.shows.values()}
    windows = {"previous_time": f"lagInFrame(timed) OVER (by_time {PREVIOUS})", **shape.windows}
    stored = [column.name for column in shape.table.stored]
    carried = [name for name in stored if name in shown]
    answers = []
    for number, check in enumerate(shape.checks):
        wrong = f"ifNull({check.wrong}, 0)"
        answers += [
            f"countIf({wrong}) AS wrong_{number}",
            f"countIf({check.among}) AS among_{number}",
            f"groupArrayIf({EXAMPLES})((timed, [{_texts(check)}]), {wrong}) AS examples_{number}",
        ]
    collected = "groupUniqArrayIf" if shape.distinct else "groupArrayIf"
    inner = ", ".join(f"{expression} AS {name}" for name, expression in before.items())
    over = ", ".join(f"{expression} AS {name}" for name, expression in windows.items())
    return f"""\
SELECT {SERIES}, period_text, rows, first, last, silences, doubles,
    numbers[1], numbers[-1], arrayCount(d -> d = 0, steps) - notEmpty(numbers),
    length(starts) + notEmpty(numbers), if(length(starts) > {MAX_RUNS}, [], starts), if(length(starts) > {MAX_RUNS}, [], ends),
    arraySlice(arrayFilter((n, d, i) -> d = 0 AND i > 1, numbers, steps, arrayEnumerate(numbers)), 1, {EXAMPLES}),
    first_link, last_linked, {", ".join(f"wrong_{n}, among_{n}, examples_{n}" for n in range(len(shape.checks)))}
FROM
(
    SELECT {SERIES}, period_text, count() AS rows, min(timed) AS first, max(timed) AS last,
        groupArrayIf(100)((previous_time, timed), previous_time > 0 AND timed - previous_time > {{silence:Int64}}) AS silences,
        countIf(_seq != 0) - uniqExactIf((_stream, _seq), _seq != 0) AS doubles,
        arraySort({collected}(number, number != 0)) AS numbers, arrayDifference(numbers) AS steps,
        arrayFilter((n, d) -> d > 1, numbers, steps) AS starts,
        arrayFilter((n, d) -> d > 1, arrayShiftRight(numbers, 1), steps) AS ends,
        argMin(tuple(link), (_stream, _seq, timed)).1 AS first_link, argMax(tuple(linked), (_stream, _seq, timed)).1 AS last_linked,
        {", ".join(answers)}
    FROM
    (
        SELECT *, {over}
        FROM
        (
            SELECT {", ".join([*SERIES.split(", "), *carried, "_stream", "_seq"])}, {inner}, {shape.tie} AS tie
            FROM ({everything(hot, cold, shape.table, where)})
        )
        WINDOW by_time AS (PARTITION BY {SERIES}, period_text ORDER BY timed, tie),
            by_arrival AS (PARTITION BY {SERIES}, period_text ORDER BY _stream, _seq, timed, tie)
    )
    GROUP BY {SERIES}, period_text
)"""


def _texts(check: Check) -> str:
    return ", ".join(f"ifNull(toString({expression}), 'NULL')" for expression in check.shows.values())


def parameters(limits: ValidationLimits) -> dict[str, float | int | list[str]]:
    return {
        **{name: value for name, value in asdict(limits).items() if name != "max_silence"},
        "positive_prices": sorted(limits.positive_prices),
        "silence": int(limits.max_silence * 1e6) or 1 << 62,
    }


def parity(table: Table, hot: str, cold: str, where: str) -> str:
    """Rows that are in both tiers, and those of them with other values: all but when they were stored."""
    value = hashed([HashedColumn(column.name, column.type) for column in table.stored if column.name != "created_at"])

    def tier(database: str) -> str:
        return (
            f"SELECT {SERIES}, toUnixTimestamp64Micro(timestamp) AS time, _stream, _seq, {value} AS content"
            f" FROM `{database}`.`{table.name}` WHERE {where} AND _seq != 0"
        )

    differ = "h.content != c.content"
    return (
        f"SELECT count(), countIf({differ}),"
        f" groupArrayIf({EXAMPLES})((h.exchange, h.market_type, h.symbol, h.time, h._stream, h._seq), {differ})"
        f" FROM ({tier(hot)}) AS h INNER JOIN ({tier(cold)}) AS c ON h._stream = c._stream AND h._seq = c._seq"
    )
