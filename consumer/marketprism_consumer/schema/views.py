"""The views that people query: both tiers as one table, and the usual questions about them. Made with the schema, in hot's
database. Plain views and no materialized ones: those would be one more write beside the exactly-once insert.

They multiply prices as Decimal256: `price * quantity` on Decimal(38, 18) overflows silently in ClickHouse.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from marketprism_consumer.schema.tables import (
    FUNDING_RATES,
    LSR_ALL_ACCOUNTS,
    LSR_TOP_POSITIONS,
    OPEN_INTERESTS,
    ORDERBOOKS,
    TABLES,
    TRADES,
    Table,
)

MARK = "marketprism view "
SERIES = "exchange, market_type, symbol"


@dataclass(frozen=True, slots=True)
class View:
    """`select` makes the query of the names of the hot and the cold database, without back-ticks. Made where all of
    `tables` are."""

    name: str
    tables: tuple[Table, ...]
    select: Callable[[str, str], str]

    def mark(self, hot: str, cold: str) -> str:
        """Stands in the view's comment: which definition it has, and that it is ours to replace."""
        return MARK + hashlib.sha256(self.select(hot, cold).encode()).hexdigest()[:12]

    def create(self, hot: str, cold: str, on_cluster: str, *, replace: bool = False) -> str:
        verb = "CREATE OR REPLACE VIEW" if replace else "CREATE VIEW IF NOT EXISTS"
        name = f"`{hot}`.`{self.name}`{on_cluster}"
        return f"{verb} {name} AS\n(\n{self.select(hot, cold)}\n)\nCOMMENT '{self.mark(hot, cold)}'"


# --- both tiers as one table ------------------------------------------------------------------------------------------


def everything(hot: str, cold: str, table: Table, where: str = "1", columns: str = "", before: str = "") -> str:
    """A SELECT of `columns`, else of every one, of both tiers; a row that is in both (copied, not yet deleted) comes once, from cold.
    `before`: a constant that `where` bounds the time by; where hot begins behind it nothing of hot is planned.

    Hot stands first, so that it is looked at first: a row that moves meanwhile is found in cold. What cold holds of hot's
    time is little, and where hot begins is known without reading it; it is asked for before cold is looked at, or a row that is
    copied between the two looks at cold would come twice (docs/tiering.md). Rows without an identity are never taken for equal. GLOBAL
    matters where the tables are spread over shards: what cold has of hot's time is then asked for once, and not by each shard.
    """
    columns = columns or ", ".join(column.name for column in table.columns if column.kind != "EPHEMERAL")
    in_hot, in_cold = f"`{hot}`.`{table.name}`", f"`{cold}`.`{table.name}`"
    begins = f"SELECT if(count() = 0, toDateTime64('2299-12-31 00:00:00', 6, 'UTC'), min(timestamp)) FROM {in_hot}"
    return (
        f"SELECT {columns} FROM {in_hot}\n"
        f"WHERE ({where}) AND ({begins}) {f'< {before}' if before else 'IS NOT NULL'} AND (_seq = 0 OR (_stream, _seq) GLOBAL NOT IN (\n"
        f"    SELECT _stream, _seq FROM {in_cold} WHERE _seq != 0 AND ({where}) AND timestamp >= ({begins})))\n"
        f"UNION ALL\nSELECT {columns} FROM {in_cold} WHERE {where}"
    )


def _both(table: Table) -> View:
    return View(f"all_{table.name}", (table,), lambda hot, cold: everything(hot, cold, table))


# --- trades -----------------------------------------------------------------------------------------------------------

# What came first: by time, then by the venue's number, then by arrival. One number, since tuples are compared far more slowly.
_TRADE_ORDER = (
    "bitShiftLeft(toInt256(toUnixTimestamp64Micro(timestamp)), 128)"
    " + bitShiftLeft(toInt256(toUInt64OrZero(trade_id)), 64) + _seq"
)


def candles(hot: str, cold: str, time: str, where: str = "1", before: str = "", named: Sequence[str] = ()) -> str:
    """A SELECT of the candles of each series and `time`, an expression over `timestamp` with its alias. `before`: of `everything`.
    `named`: those columns of a series that `where` holds to the parameter of the same name.

    It asks the tables, and for nothing that it does not need: most of what an hour's candles cost is parsing and planning, which grow
    with each column, with each function in either tier's half, and with each view in between."""
    names = SERIES.split(", ")
    series = ", ".join(f"{{{name}:String}} AS {name}" if name in named else name for name in names)
    keys = [name for name in names if name not in named]
    needed = ", ".join([*keys, "timestamp, price, quantity, trade_id, _seq"])
    grouped = ", ".join([*keys, time.rpartition(" AS ")[2]])
    return f"""\
SELECT {series}, {time},
    argMin(price, {_TRADE_ORDER} AS place) AS open,
    max(price) AS high, min(price) AS low, argMax(price, place) AS close,
    sum(toDecimal256(quantity, 18)) AS volume, sum(toDecimal256(price, 18) * quantity) AS turnover,
    if(volume = 0, NULL, divideDecimal(turnover, if(volume = 0, toDecimal256(1, 18), volume), 18)) AS vwap,
    count() AS trades
FROM
(
{everything(hot, cold, TRADES, where, needed, before)}
)
GROUP BY {grouped}"""


WITHIN = "timestamp >= {since:DateTime64(6, 'UTC')} AND timestamp < {until:DateTime64(6, 'UTC')}"
"""Of the views with parameters."""


def trade_gaps(hot: str, within: str = WITHIN) -> str:
    """Series whose numbers mostly follow one another; in others a step means nothing."""
    return f"""\
SELECT {SERIES}, last_id, id AS next_id, id - last_id - 1 AS missing, last_time, time AS next_time
FROM
(
    SELECT *, avg(id - last_id <= 1) OVER (PARTITION BY {SERIES}) AS sequential
    FROM
    (
        SELECT {SERIES}, toUInt64OrZero(trade_id) AS id, timestamp AS time,
            lagInFrame(id) OVER one AS last_id, lagInFrame(timestamp) OVER one AS last_time
        FROM `{hot}`.`all_trades`
        WHERE {within} AND id != 0
        WINDOW one AS (PARTITION BY {SERIES} ORDER BY id ROWS BETWEEN 1 PRECEDING AND CURRENT ROW)
    )
    WHERE last_id != 0
)
WHERE sequential >= 0.5 AND id > last_id + 1"""


# --- order books ------------------------------------------------------------------------------------------------------

# By arrival within one time: a venue's numbers may begin anew. They tell only of rows that came from no stream.
_BOOK_ORDER = "(timestamp, _seq, ifNull(last_update_id, 0))"


def book(hot: str, cold: str, at: str = "{at:DateTime64(6, 'UTC')}") -> str:
    """A SELECT of a series' book `at` a time: the last full book of the 24 hours before, with what came since laid over it; a level of
    quantity 0 is gone. Full is what says so: a book that says nothing is laid over, too, and where none is full, `snapshot_at` is NULL.

    A row that is in both tiers is laid over itself, so that nothing has to be compared; hot stands first, as in `everything`.
    """

    def of_both(columns: str, where: str) -> str:
        return " UNION ALL ".join(
            f"""SELECT {columns} FROM `{database}`.`{ORDERBOOKS.name}`
        WHERE exchange = {{exchange:String}} AND market_type = {{market_type:String}} AND symbol = {{symbol:String}}
            AND timestamp <= {at} AND timestamp > {at} - toIntervalDay(1)
            AND {where}
        """
            for database in (hot, cold)
        )

    full = of_both(f"{_BOOK_ORDER} AS moment", "update_type = 'snapshot'")
    # By time alone, the key of the table, before the rest is looked at.
    since = of_both(
        f"{_BOOK_ORDER} AS moment, bid_prices, bid_quantities, ask_prices, ask_quantities",
        "timestamp >= snapshot.1 AND moment >= snapshot",
    )
    return f"""\
WITH (SELECT max(moment) FROM ({full})) AS snapshot
SELECT side, row_number() OVER (PARTITION BY side ORDER BY if(side = 'bid', -price, price)) AS level, price, quantity,
    updated_at, if(toUnixTimestamp(snapshot.1) = 0, NULL, snapshot.1) AS snapshot_at
FROM
(
    SELECT side, price, argMax(amount, moment) AS quantity, max(moment.1) AS updated_at
    FROM
    (
        SELECT moment,
            arrayJoin(arrayConcat(
                arrayMap((price, amount) -> ('bid', price, amount), bid_prices, bid_quantities),
                arrayMap((price, amount) -> ('ask', price, amount), ask_prices, ask_quantities))) AS one,
            one.1 AS side, one.2 AS price, one.3 AS amount
        FROM ({since})
    )
    GROUP BY side, price
    HAVING quantity > 0
)
ORDER BY side DESC, level"""


def book_gaps(hot: str, within: str = WITHIN) -> str:
    """Where a message does not follow the one published before it, by the venue's own numbers. What comes again is no gap."""
    return f"""\
SELECT {SERIES}, last_id, follows_id, id AS next_id, last_time, time AS next_time
FROM
(
    SELECT *, avg(follows_id = last_id) OVER (PARTITION BY {SERIES}) AS sequential
    FROM
    (
        SELECT {SERIES}, last_update_id AS id, ifNull(prev_update_id, toUInt64(first_update_id - 1)) AS follows_id, timestamp AS time,
            lagInFrame(last_update_id) OVER one AS last_id, lagInFrame(timestamp) OVER one AS last_time
        FROM `{hot}`.`all_orderbooks`
        WHERE {within}
        WINDOW one AS
            (PARTITION BY {SERIES} ORDER BY _stream, _seq, timestamp, last_update_id ROWS BETWEEN 1 PRECEDING AND CURRENT ROW)
    )
    WHERE last_id IS NOT NULL AND follows_id IS NOT NULL AND id > last_id
)
WHERE sequential >= 0.5 AND follows_id != last_id"""


def silences(hot: str, within: str = WITHIN) -> str:
    parts = "\n        UNION ALL\n        ".join(
        f"SELECT '{table.data_type}' AS data_type, {SERIES}, timestamp FROM `{hot}`.`all_{table.name}`"
        for table in (TRADES, ORDERBOOKS)
    )
    return f"""\
SELECT data_type, {SERIES}, last_time, time AS next_time, dateDiff('second', last_time, time) AS seconds
FROM
(
    SELECT data_type, {SERIES}, timestamp AS time, lagInFrame(timestamp) OVER
        (PARTITION BY data_type, {SERIES} ORDER BY timestamp ROWS BETWEEN 1 PRECEDING AND CURRENT ROW) AS last_time
    FROM
    (
        {parts}
    )
    WHERE {within}
)
WHERE toUnixTimestamp(last_time) > 0 AND time > last_time + toIntervalSecond({{longer_than:UInt32}})"""


# --- the last of each, and one of each --------------------------------------------------------------------------------


def _latest(table: Table, hot: str) -> str:
    """By when it was collected: a venue may stamp a rate with the time at which it will be settled."""
    head = ("exchange", "market_type", "symbol", "data_source", "created_at", "_stream", "_seq")
    columns = [c.name for c in table.stored if c.name not in head]
    listed = ", ".join(f"latest.{number} AS {name}" for number, name in enumerate(columns, 1))
    return f"""\
SELECT {SERIES}, {listed}
FROM
(
    SELECT {SERIES}, argMax(({", ".join(columns)}), (ifNull(collected_at, timestamp), _seq)) AS latest
    FROM `{hot}`.`all_{table.name}`
    GROUP BY {SERIES}
)"""


def bucket_seconds(period: str) -> str:
    """SQL: `5m`, `1H`, `1d` in seconds; 1 for what is no period."""
    number = f"toUInt32OrZero(substring({period}, 1, length({period}) - 1))"
    unit = f"transform(lower(substring({period}, length({period}), 1)), ['s', 'm', 'h', 'd'], [1, 60, 3600, 86400], 0)"
    return f"greatest(1, {number} * {unit})"


def _buckets(table: Table, hot: str) -> str:
    """The last publication of each source bucket, and how many there were."""
    ratios = [c.name for c in table.inserted if c.name.endswith("_ratio")]
    listed = ", ".join(f"latest.{number} AS {name}" for number, name in enumerate(ratios, 1))
    length = bucket_seconds("ifNull(toString(period), '')")
    return f"""\
SELECT {SERIES}, period, bucket, {listed}, publications, revisions
FROM
(
    SELECT {SERIES}, period,
        toDateTime(intDiv(toUnixTimestamp(timestamp), {length}) * {length}, 'UTC') AS bucket,
        argMax(({", ".join(ratios)}), (ifNull(collected_at, timestamp), _seq)) AS latest,
        count() AS publications, uniqExact({", ".join(ratios)}) - 1 AS revisions
    FROM `{hot}`.`all_{table.name}`
    GROUP BY {SERIES}, period, bucket
)"""


def _of(make: Callable[[Table, str], str], table: Table) -> Callable[[str, str], str]:
    return lambda hot, _: make(table, hot)


_USUAL = (
    View("candles_1m", (TRADES,), lambda hot, cold: candles(hot, cold, "toStartOfMinute(timestamp) AS minute")),
    View("trade_gaps", (TRADES,), lambda hot, _: trade_gaps(hot)),
    View("book_at", (ORDERBOOKS,), book),
    View("book_gaps", (ORDERBOOKS,), lambda hot, _: book_gaps(hot)),
    View("silences", (TRADES, ORDERBOOKS), lambda hot, _: silences(hot)),
    View("latest_funding_rates", (FUNDING_RATES,), _of(_latest, FUNDING_RATES)),
    View("latest_open_interests", (OPEN_INTERESTS,), _of(_latest, OPEN_INTERESTS)),
    View("lsr_top_position_buckets", (LSR_TOP_POSITIONS,), _of(_buckets, LSR_TOP_POSITIONS)),
    View("lsr_all_account_buckets", (LSR_ALL_ACCOUNTS,), _of(_buckets, LSR_ALL_ACCOUNTS)),
)


def views_of(tables: Sequence[Table]) -> tuple[View, ...]:
    """In an order in which each finds what it reads."""
    return (*map(_both, tables), *(view for view in _USUAL if set(view.tables) <= set(tables)))


VIEWS = views_of(TABLES)
"""Of the data types that are built in."""
