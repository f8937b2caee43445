"""MarketPrism storage: the data path from NATS JetStream to ClickHouse."""
