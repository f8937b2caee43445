"""NATS and ClickHouse for one machine: laptops, demos, tests.

- `nats`: the real nats-server with JetStream in a directory.
- `clickhouse`: the ClickHouse engine (chDB) behind ClickHouse's HTTP interface, so that clickhouse-connect, curl and
  Grafana see an ordinary server. `clickhouse_http` is the protocol, `codecs` its compression, `clickhouse_engine` the
  only place that knows chDB, `clickhouse` the sockets.
- `process`: start either as a child process and wait until it answers.
- `place`: the directory and the port that a server takes; it does not start when another has either.

Nothing here is for production: no users, no replication, one process. Everything talks to it over the network, so that
real servers drop in.
"""
