"""NATS JetStream: the one place that speaks to it."""
