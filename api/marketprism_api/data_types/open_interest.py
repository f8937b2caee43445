from .declaration import DECIMAL, TEXT_OR_NULL, BatchLimits, Declaration, DeclaredField, ValidationLimits, nullable

OPEN_INTEREST = Declaration(
    name="open_interest",
    table="open_interests",
    description="How much of a derivative is held.",
    fields=(
        DeclaredField("open_interest_value", DECIMAL, check="notNegative"),
        DeclaredField("open_interest_usd", nullable(DECIMAL)),
        DeclaredField("open_interest_unit", TEXT_OR_NULL),
        DeclaredField("mark_price", nullable(DECIMAL)),
        DeclaredField("index_price", nullable(DECIMAL)),
        DeclaredField("change_24h", nullable(DECIMAL)),
        DeclaredField("change_24h_percent", nullable(DECIMAL)),
        DeclaredField("instrument_id", TEXT_OR_NULL),
    ),
    batch=BatchLimits(max_rows=50, max_delay=10, max_pending=500),
    validation=ValidationLimits(max_silence=3600, max_value=1e18, max_delay=600),
)
