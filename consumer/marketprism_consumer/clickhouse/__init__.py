"""ClickHouse: the one place that speaks to it."""
