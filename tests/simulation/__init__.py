"""The real `Ingest` in virtual time, against models of JetStream and ClickHouse with their real, unpleasant rules."""
