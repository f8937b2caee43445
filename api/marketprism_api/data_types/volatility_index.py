from .declaration import DECIMAL, TEXT_OR_NULL, BatchLimits, Declaration, DeclaredField, ValidationLimits, nullable

VOLATILITY_INDEX = Declaration(
    name="volatility_index",
    table="volatility_indices",
    description="A venue's index of implied volatility.",
    fields=(
        DeclaredField("currency", TEXT_OR_NULL),
        DeclaredField("volatility_index", nullable(DECIMAL), ("vol_index", "volatility_index")),
    ),
    batch=BatchLimits(max_rows=1, max_delay=1, max_pending=50),
    validation=ValidationLimits(max_silence=3600, max_value=1e3, max_delay=600),
)
