"""What a scrape sees of migrations that go on for ever."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge

from marketprism_consumer.tiering.job import Mode
from marketprism_consumer.tiering.run import Result


class Metrics:
    """By table where it is about rows; one series for each way in which a run can end."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._rows = Counter("marketprism_migrated_rows", "Rows moved.", ["table"], registry=registry)
        self._bytes = Counter("marketprism_migrated_bytes", "Their bytes in cold.", ["table"], registry=registry)
        self._runs = Counter("marketprism_migrations", "Runs that ended.", ["result"], registry=registry)
        self._backlog = Gauge("marketprism_migration_backlog_rows", "Rows due.", ["table"], registry=registry)
        self._behind = Gauge(
            "marketprism_migration_backlog_seconds",
            "How long the oldest has been due [s].",
            ["table"],
            registry=registry,
        )
        self._failures = Counter(
            "marketprism_migration_failures",
            "Tables that were not finished, by reason.",
            ["table", "reason"],
            registry=registry,
        )
        self._success = Gauge(
            "marketprism_migration_last_success_time", "When a run last succeeded [s since 1970].", registry=registry
        )

    def count(self, result: Result) -> None:
        for name, of_table in result.tables.items():
            self._rows.labels(name).inc(of_table.rows if result.mode != Mode.DRY_RUN else 0)
            self._bytes.labels(name).inc(of_table.bytes)
            self._backlog.labels(name).set(of_table.backlog_rows)
            self._behind.labels(name).set(of_table.backlog_seconds)
        for failure in result.failures:
            self._failures.labels(failure.table, failure.reason.name).inc()
        self._runs.labels(result.result).inc()
        if result.ok:
            self._success.set_to_current_time()
