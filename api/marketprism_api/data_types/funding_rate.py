from .declaration import (
    DECIMAL,
    TEXT_OR_NULL,
    TIME,
    BatchLimits,
    Declaration,
    DeclaredField,
    ValidationLimits,
    nullable,
)

FUNDING_RATE = Declaration(
    name="funding_rate",
    table="funding_rates",
    description="The funding rate of a perpetual.",
    fields=(
        DeclaredField("funding_rate", DECIMAL, ("current_funding_rate",)),
        DeclaredField("estimated_funding_rate", nullable(DECIMAL)),
        DeclaredField("next_funding_time", nullable(TIME), ("next_funding_ts_ms", "next_funding_time")),
        DeclaredField(
            "funding_interval",
            TEXT_OR_NULL,
            rule="fundingInterval",
            description="Such as 8h. A number is hours, and becomes such a text.",
        ),
        DeclaredField("mark_price", nullable(DECIMAL)),
        DeclaredField("index_price", nullable(DECIMAL)),
        DeclaredField("premium_index", nullable(DECIMAL)),
        DeclaredField("instrument_id", TEXT_OR_NULL),
    ),
    batch=BatchLimits(max_rows=10, max_delay=2, max_pending=500),
    # A venue may stamp a rate with the time at which it will be settled, hours ahead.
    validation=ValidationLimits(max_silence=3600, max_value=0.1, max_ahead=0, max_delay=600),
)
