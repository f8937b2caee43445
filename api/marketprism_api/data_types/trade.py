from .declaration import (
    DECIMAL,
    DELTA,
    NOTIONAL,
    SIDES,
    TEXT,
    TIME,
    BatchLimits,
    Declaration,
    DeclaredField,
    ValidationLimits,
    nullable,
)

TRADE = Declaration(
    name="trade",
    table="trades",
    description="A trade, as the venue executed it.",
    time=DeclaredField(
        "timestamp", TIME, ("trade_ts_ms", "timestamp", "ts_ms"), codec=DELTA, description="When it happened, UTC."
    ),
    fields=(
        DeclaredField("trade_id", "String", description="The venue's own, a text or a whole number."),
        DeclaredField("price", DECIMAL, check="price"),
        DeclaredField("quantity", DECIMAL, check="notNegative"),
        DeclaredField("side", TEXT, words=SIDES, description="Of whoever took."),
        DeclaredField("is_maker", nullable("Bool")),
        DeclaredField(
            "trade_time",
            TIME,
            ("trade_ts_ms", "trade_time"),
            codec=DELTA,
            description="When it happened, by its own field.",
        ),
    ),
    aliases=(NOTIONAL,),
    batch=BatchLimits(max_rows=100, max_delay=10, max_pending=1000),
    validation=ValidationLimits(max_silence=300, max_jump=0.1, max_value=1e9, max_quantity=1e15, max_unknown_sides=0.1),
)
