"""Hot to cold: `algorithm.py` says how and why it is safe, `two_tiers.py` does it on ClickHouse, `run.py` is one run of it."""
