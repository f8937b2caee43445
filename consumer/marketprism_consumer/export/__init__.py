"""Tables as files: formatted by ClickHouse, written as they come, written down in a manifest, and proved against the tables."""
