from .declaration import RATIO, TEXT_OR_NULL, BatchLimits, Declaration, DeclaredField, ValidationLimits

LSR_ALL_ACCOUNT = Declaration(
    name="lsr_all_account",
    table="lsr_all_accounts",
    description="Longs against shorts, by the number of accounts.",
    fields=(
        DeclaredField("long_short_ratio", RATIO),
        DeclaredField("long_account_ratio", RATIO),
        DeclaredField("short_account_ratio", RATIO),
        DeclaredField("period", TEXT_OR_NULL),
        DeclaredField("instrument_id", TEXT_OR_NULL),
    ),
    batch=BatchLimits(max_rows=1, max_delay=1, max_pending=50),
    validation=ValidationLimits(max_silence=3 * 3600, max_value=1e4, max_delay=3 * 3600, max_repeats=1000),
)
