"""When the simulated world begins."""

EPOCH = 1_758_700_000  # [s since 1970]
