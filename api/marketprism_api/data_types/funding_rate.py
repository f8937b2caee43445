from .declaration import DECIMAL, TEXT_OR_NULL, TIME, BatchLimits, Declaration, Field, ValidationLimits, nullable

FUNDING_RATE = Declaration(
    name="funding_rate",
    table="funding_rates",
    description="The funding rate of a perpetual.",
    fields=(
        Field("funding_rate", DECIMAL, ("current_funding_rate",)),
        Field("estimated_funding_rate", nullable(DECIMAL)),
        Field("next_funding_time", nullable(TIME), ("next_funding_ts_ms", "next_funding_time")),
        Field(
            "funding_interval",
            TEXT_OR_NULL,
            rule="fundingInterval",
            description="Such as 8h. A number is hours, and becomes such a text.",
        ),
        Field("mark_price", nullable(DECIMAL)),
        Field("index_price", nullable(DECIMAL)),
        Field("premium_index", nullable(DECIMAL)),
        Field("instrument_id", TEXT_OR_NULL),
    ),
    batch=BatchLimits(max_rows=10, max_delay=2, max_pending=500),
    # A venue may stamp a rate with the time at which it will be settled, hours ahead.
    validation=ValidationLimits(max_silence=3600, max_value=0.1, max_ahead=0, max_delay=600),
)
