from .declaration import DECIMAL, TEXT_OR_NULL, BatchLimits, Declaration, Field, ValidationLimits, nullable

OPEN_INTEREST = Declaration(
    name="open_interest",
    table="open_interests",
    description="How much of a derivative is held.",
    fields=(
        Field("open_interest_value", DECIMAL, check="notNegative"),
        Field("open_interest_usd", nullable(DECIMAL)),
        Field("open_interest_unit", TEXT_OR_NULL),
        Field("mark_price", nullable(DECIMAL)),
        Field("index_price", nullable(DECIMAL)),
        Field("change_24h", nullable(DECIMAL)),
        Field("change_24h_percent", nullable(DECIMAL)),
        Field("instrument_id", TEXT_OR_NULL),
    ),
    batch=BatchLimits(max_rows=50, max_delay=10, max_pending=500),
    validation=ValidationLimits(max_silence=3600, max_value=1e18, max_delay=600),
)
