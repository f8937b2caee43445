from .declaration import (
    DECIMAL,
    MIB,
    TEXT_OR_NULL,
    TIME,
    Alias,
    BatchLimits,
    Declaration,
    DeclaredField,
    Levels,
    ValidationLimits,
    Words,
    nullable,
)

BOOK_TYPES: Words = (
    *((word, "snapshot") for word in ("snapshot", "partial", "full")),
    *((word, "update") for word in ("update", "delta", "change", "diff", "incremental", "l2update", "depthupdate")),
)
"""Venues' words, in lower case: a full book, or one to be laid over it. Taking one for the other wipes a book, or keeps what is gone."""

NO_UPDATE_BEFORE = ("-1", '"-1"')  # OKX's prevSeqId of a full book

ORDERBOOK = Declaration(
    name="orderbook",
    table="orderbooks",
    description="An order book: all of it, or what changed.",
    fields=(
        DeclaredField("last_update_id", nullable("UInt64")),
        DeclaredField("first_update_id", nullable("UInt64")),
        DeclaredField("prev_update_id", nullable("UInt64"), nothing=NO_UPDATE_BEFORE),
        DeclaredField(
            "update_type",
            TEXT_OR_NULL,
            words=BOOK_TYPES,
            rule="bookType",
            description="snapshot: all of the book. update: to be laid over it. Where nothing is said, nothing is guessed.",
        ),
        DeclaredField("depth_levels", nullable("UInt32")),
        Levels(),
        DeclaredField("standardized_at", nullable(TIME)),
    ),
    aliases=(
        Alias("bids", f"Array(Tuple({DECIMAL}, {DECIMAL}))", "arrayZip(bid_prices, bid_quantities)"),
        Alias("asks", f"Array(Tuple({DECIMAL}, {DECIMAL}))", "arrayZip(ask_prices, ask_quantities)"),
    ),
    batch=BatchLimits(max_rows=100, max_delay=10, max_pending=1000, max_bytes=16 * MIB),
    validation=ValidationLimits(max_silence=300, max_jump=0.1, max_value=1e9, max_quantity=1e15),
)
