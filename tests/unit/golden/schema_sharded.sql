CREATE DATABASE IF NOT EXISTS `marketprism_hot` ON CLUSTER `main`;

CREATE TABLE IF NOT EXISTS `marketprism_hot`.`orderbooks_local` ON CLUSTER `main`
(
    `timestamp` DateTime64(6, 'UTC') CODEC(Delta, ZSTD(1)),
    `exchange` LowCardinality(String) CODEC(ZSTD(1)),
    `market_type` LowCardinality(String) CODEC(ZSTD(1)),
    `symbol` LowCardinality(String) CODEC(ZSTD(1)),
    `last_update_id` Nullable(UInt64) CODEC(ZSTD(1)),
    `first_update_id` Nullable(UInt64) CODEC(ZSTD(1)),
    `prev_update_id` Nullable(UInt64) CODEC(ZSTD(1)),
    `update_type` LowCardinality(Nullable(String)) CODEC(ZSTD(1)),
    `depth_levels` Nullable(UInt32) CODEC(ZSTD(1)),
    `bids_count` UInt32 CODEC(ZSTD(1)),
    `asks_count` UInt32 CODEC(ZSTD(1)),
    `best_bid_price` Nullable(Decimal(38, 18)) CODEC(ZSTD(1)),
    `best_bid_quantity` Nullable(Decimal(38, 18)) CODEC(ZSTD(1)),
    `best_ask_price` Nullable(Decimal(38, 18)) CODEC(ZSTD(1)),
    `best_ask_quantity` Nullable(Decimal(38, 18)) CODEC(ZSTD(1)),
    `bid_prices` Array(Decimal(38, 18)) CODEC(ZSTD(1)),
    `bid_quantities` Array(Decimal(38, 18)) CODEC(ZSTD(1)),
    `ask_prices` Array(Decimal(38, 18)) CODEC(ZSTD(1)),
    `ask_quantities` Array(Decimal(38, 18)) CODEC(ZSTD(1)),
    `standardized_at` Nullable(DateTime64(6, 'UTC')) CODEC(ZSTD(1)),
    `bids` Array(Tuple(Decimal(38, 18), Decimal(38, 18))) ALIAS arrayZip(bid_prices, bid_quantities),
    `asks` Array(Tuple(Decimal(38, 18), Decimal(38, 18))) ALIAS arrayZip(ask_prices, ask_quantities),
    `data_source` LowCardinality(String) DEFAULT '' CODEC(ZSTD(1)),
    `collected_at` Nullable(DateTime64(6, 'UTC')) DEFAULT NULL CODEC(ZSTD(1)),
    `created_at` DateTime64(3, 'UTC') DEFAULT now64(3, 'UTC') + throwIf(now() > _expires, 'insert came after its _expires') CODEC(Delta, ZSTD(1)),
    `_stream` LowCardinality(String) DEFAULT '' CODEC(ZSTD(1)),
    `_seq` UInt64 DEFAULT 0 CODEC(Delta, ZSTD(1)),
    `_expires` DateTime EPHEMERAL toDateTime('2106-01-01 00:00:00'),
    INDEX _seq_range _seq TYPE minmax GRANULARITY 1
)
ENGINE = ReplicatedMergeTree
PARTITION BY toStartOfHour(timestamp)
ORDER BY (exchange, market_type, symbol, timestamp)
TTL toDateTime(created_at) + toIntervalSecond(259200)
SETTINGS replicated_deduplication_window = 10000, replicated_deduplication_window_seconds = 604800
COMMENT 'marketprism shards 1,2';

CREATE TABLE IF NOT EXISTS `marketprism_hot`.`orderbooks` ON CLUSTER `main` AS `marketprism_hot`.`orderbooks_local`
ENGINE = Distributed('main', 'marketprism_hot', 'orderbooks_local');

CREATE TABLE IF NOT EXISTS `marketprism_hot`.`trades_local` ON CLUSTER `main`
(
    `timestamp` DateTime64(6, 'UTC') CODEC(Delta, ZSTD(1)),
    `exchange` LowCardinality(String) CODEC(ZSTD(1)),
    `market_type` LowCardinality(String) CODEC(ZSTD(1)),
    `symbol` LowCardinality(String) CODEC(ZSTD(1)),
    `trade_id` String CODEC(ZSTD(1)),
    `price` Decimal(38, 18) CODEC(ZSTD(1)),
    `quantity` Decimal(38, 18) CODEC(ZSTD(1)),
    `side` LowCardinality(String) CODEC(ZSTD(1)),
    `is_maker` Nullable(Bool) CODEC(ZSTD(1)),
    `trade_time` DateTime64(6, 'UTC') CODEC(Delta, ZSTD(1)),
    `notional` Decimal(76, 18) ALIAS multiplyDecimal(price, quantity, 18),
    `data_source` LowCardinality(String) DEFAULT '' CODEC(ZSTD(1)),
    `collected_at` Nullable(DateTime64(6, 'UTC')) DEFAULT NULL CODEC(ZSTD(1)),
    `created_at` DateTime64(3, 'UTC') DEFAULT now64(3, 'UTC') + throwIf(now() > _expires, 'insert came after its _expires') CODEC(Delta, ZSTD(1)),
    `_stream` LowCardinality(String) DEFAULT '' CODEC(ZSTD(1)),
    `_seq` UInt64 DEFAULT 0 CODEC(Delta, ZSTD(1)),
    `_expires` DateTime EPHEMERAL toDateTime('2106-01-01 00:00:00'),
    INDEX _seq_range _seq TYPE minmax GRANULARITY 1
)
ENGINE = ReplicatedMergeTree
PARTITION BY toStartOfHour(timestamp)
ORDER BY (exchange, market_type, symbol, timestamp)
TTL toDateTime(created_at) + toIntervalSecond(259200)
SETTINGS replicated_deduplication_window = 10000, replicated_deduplication_window_seconds = 604800
COMMENT 'marketprism shards 1,2';

CREATE TABLE IF NOT EXISTS `marketprism_hot`.`trades` ON CLUSTER `main` AS `marketprism_hot`.`trades_local`
ENGINE = Distributed('main', 'marketprism_hot', 'trades_local');

CREATE TABLE IF NOT EXISTS `marketprism_hot`.`funding_rates_local` ON CLUSTER `main`
(
    `timestamp` DateTime64(6, 'UTC') CODEC(Delta, ZSTD(1)),
    `exchange` LowCardinality(String) CODEC(ZSTD(1)),
    `market_type` LowCardinality(String) CODEC(ZSTD(1)),
    `symbol` LowCardinality(String) CODEC(ZSTD(1)),
    `funding_rate` Decimal(38, 18) CODEC(ZSTD(1)),
    `estimated_funding_rate` Nullable(Decimal(38, 18)) CODEC(ZSTD(1)),
    `next_funding_time` Nullable(DateTime64(6, 'UTC')) CODEC(ZSTD(1)),
    `funding_interval` LowCardinality(Nullable(String)) CODEC(ZSTD(1)),
    `mark_price` Nullable(Decimal(38, 18)) CODEC(ZSTD(1)),
    `index_price` Nullable(Decimal(38, 18)) CODEC(ZSTD(1)),
    `premium_index` Nullable(Decimal(38, 18)) CODEC(ZSTD(1)),
    `instrument_id` LowCardinality(Nullable(String)) CODEC(ZSTD(1)),
    `data_source` LowCardinality(String) DEFAULT '' CODEC(ZSTD(1)),
    `collected_at` Nullable(DateTime64(6, 'UTC')) DEFAULT NULL CODEC(ZSTD(1)),
    `created_at` DateTime64(3, 'UTC') DEFAULT now64(3, 'UTC') + throwIf(now() > _expires, 'insert came after its _expires') CODEC(Delta, ZSTD(1)),
    `_stream` LowCardinality(String) DEFAULT '' CODEC(ZSTD(1)),
    `_seq` UInt64 DEFAULT 0 CODEC(Delta, ZSTD(1)),
    `_expires` DateTime EPHEMERAL toDateTime('2106-01-01 00:00:00'),
    INDEX _seq_range _seq TYPE minmax GRANULARITY 1
)
ENGINE = ReplicatedMergeTree
PARTITION BY toStartOfHour(timestamp)
ORDER BY (exchange, market_type, symbol, timestamp)
TTL toDateTime(created_at) + toIntervalSecond(259200)
SETTINGS replicated_deduplication_window = 10000, replicated_deduplication_window_seconds = 604800
COMMENT 'marketprism shards 1,2';

CREATE TABLE IF NOT EXISTS `marketprism_hot`.`funding_rates` ON CLUSTER `main` AS `marketprism_hot`.`funding_rates_local`
ENGINE = Distributed('main', 'marketprism_hot', 'funding_rates_local');

CREATE TABLE IF NOT EXISTS `marketprism_hot`.`open_interests_local` ON CLUSTER `main`
(
    `timestamp` DateTime64(6, 'UTC') CODEC(Delta, ZSTD(1)),
    `exchange` LowCardinality(String) CODEC(ZSTD(1)),
    `market_type` LowCardinality(String) CODEC(ZSTD(1)),
    `symbol` LowCardinality(String) CODEC(ZSTD(1)),
    `open_interest_value` Decimal(38, 18) CODEC(ZSTD(1)),
    `open_interest_usd` Nullable(Decimal(38, 18)) CODEC(ZSTD(1)),
    `open_interest_unit` LowCardinality(Nullable(String)) CODEC(ZSTD(1)),
    `mark_price` Nullable(Decimal(38, 18)) CODEC(ZSTD(1)),
    `index_price` Nullable(Decimal(38, 18)) CODEC(ZSTD(1)),
    `change_24h` Nullable(Decimal(38, 18)) CODEC(ZSTD(1)),
    `change_24h_percent` Nullable(Decimal(38, 18)) CODEC(ZSTD(1)),
    `instrument_id` LowCardinality(Nullable(String)) CODEC(ZSTD(1)),
    `data_source` LowCardinality(String) DEFAULT '' CODEC(ZSTD(1)),
    `collected_at` Nullable(DateTime64(6, 'UTC')) DEFAULT NULL CODEC(ZSTD(1)),
    `created_at` DateTime64(3, 'UTC') DEFAULT now64(3, 'UTC') + throwIf(now() > _expires, 'insert came after its _expires') CODEC(Delta, ZSTD(1)),
    `_stream` LowCardinality(String) DEFAULT '' CODEC(ZSTD(1)),
    `_seq` UInt64 DEFAULT 0 CODEC(Delta, ZSTD(1)),
    `_expires` DateTime EPHEMERAL toDateTime('2106-01-01 00:00:00'),
    INDEX _seq_range _seq TYPE minmax GRANULARITY 1
)
ENGINE = ReplicatedMergeTree
PARTITION BY toStartOfHour(timestamp)
ORDER BY (exchange, market_type, symbol, timestamp)
TTL toDateTime(created_at) + toIntervalSecond(259200)
SETTINGS replicated_deduplication_window = 10000, replicated_deduplication_window_seconds = 604800
COMMENT 'marketprism shards 1,2';

CREATE TABLE IF NOT EXISTS `marketprism_hot`.`open_interests` ON CLUSTER `main` AS `marketprism_hot`.`open_interests_local`
ENGINE = Distributed('main', 'marketprism_hot', 'open_interests_local');

CREATE TABLE IF NOT EXISTS `marketprism_hot`.`liquidations_local` ON CLUSTER `main`
(
    `timestamp` DateTime64(6, 'UTC') CODEC(Delta, ZSTD(1)),
    `exchange` LowCardinality(String) CODEC(ZSTD(1)),
    `market_type` LowCardinality(String) CODEC(ZSTD(1)),
    `symbol` LowCardinality(String) CODEC(ZSTD(1)),
    `liquidation_id` String CODEC(ZSTD(1)),
    `side` LowCardinality(String) CODEC(ZSTD(1)),
    `status` LowCardinality(Nullable(String)) CODEC(ZSTD(1)),
    `price` Decimal(38, 18) CODEC(ZSTD(1)),
    `quantity` Decimal(38, 18) CODEC(ZSTD(1)),
    `filled_quantity` Nullable(Decimal(38, 18)) CODEC(ZSTD(1)),
    `notional_value` Nullable(Decimal(38, 18)) CODEC(ZSTD(1)),
    `average_price` Nullable(Decimal(38, 18)) CODEC(ZSTD(1)),
    `bankruptcy_price` Nullable(Decimal(38, 18)) CODEC(ZSTD(1)),
    `margin_ratio` Nullable(Decimal(38, 18)) CODEC(ZSTD(1)),
    `liquidation_time` DateTime64(6, 'UTC') CODEC(Delta, ZSTD(1)),
    `aggregation_mode` LowCardinality(Nullable(String)) CODEC(ZSTD(1)),
    `instrument_id` LowCardinality(Nullable(String)) CODEC(ZSTD(1)),
    `notional` Decimal(76, 18) ALIAS multiplyDecimal(price, quantity, 18),
    `data_source` LowCardinality(String) DEFAULT '' CODEC(ZSTD(1)),
    `collected_at` Nullable(DateTime64(6, 'UTC')) DEFAULT NULL CODEC(ZSTD(1)),
    `created_at` DateTime64(3, 'UTC') DEFAULT now64(3, 'UTC') + throwIf(now() > _expires, 'insert came after its _expires') CODEC(Delta, ZSTD(1)),
    `_stream` LowCardinality(String) DEFAULT '' CODEC(ZSTD(1)),
    `_seq` UInt64 DEFAULT 0 CODEC(Delta, ZSTD(1)),
    `_expires` DateTime EPHEMERAL toDateTime('2106-01-01 00:00:00'),
    INDEX _seq_range _seq TYPE minmax GRANULARITY 1
)
ENGINE = ReplicatedMergeTree
PARTITION BY toStartOfHour(timestamp)
ORDER BY (exchange, market_type, symbol, timestamp)
TTL toDateTime(created_at) + toIntervalSecond(259200)
SETTINGS replicated_deduplication_window = 10000, replicated_deduplication_window_seconds = 604800
COMMENT 'marketprism shards 1,2';

CREATE TABLE IF NOT EXISTS `marketprism_hot`.`liquidations` ON CLUSTER `main` AS `marketprism_hot`.`liquidations_local`
ENGINE = Distributed('main', 'marketprism_hot', 'liquidations_local');

CREATE TABLE IF NOT EXISTS `marketprism_hot`.`lsr_top_positions_local` ON CLUSTER `main`
(
    `timestamp` DateTime64(6, 'UTC') CODEC(Delta, ZSTD(1)),
    `exchange` LowCardinality(String) CODEC(ZSTD(1)),
    `market_type` LowCardinality(String) CODEC(ZSTD(1)),
    `symbol` LowCardinality(String) CODEC(ZSTD(1)),
    `long_short_ratio` Decimal(38, 28) CODEC(ZSTD(1)),
    `long_position_ratio` Decimal(38, 28) CODEC(ZSTD(1)),
    `short_position_ratio` Decimal(38, 28) CODEC(ZSTD(1)),
    `period` LowCardinality(Nullable(String)) CODEC(ZSTD(1)),
    `instrument_id` LowCardinality(Nullable(String)) CODEC(ZSTD(1)),
    `data_source` LowCardinality(String) DEFAULT '' CODEC(ZSTD(1)),
    `collected_at` Nullable(DateTime64(6, 'UTC')) DEFAULT NULL CODEC(ZSTD(1)),
    `created_at` DateTime64(3, 'UTC') DEFAULT now64(3, 'UTC') + throwIf(now() > _expires, 'insert came after its _expires') CODEC(Delta, ZSTD(1)),
    `_stream` LowCardinality(String) DEFAULT '' CODEC(ZSTD(1)),
    `_seq` UInt64 DEFAULT 0 CODEC(Delta, ZSTD(1)),
    `_expires` DateTime EPHEMERAL toDateTime('2106-01-01 00:00:00'),
    INDEX _seq_range _seq TYPE minmax GRANULARITY 1
)
ENGINE = ReplicatedMergeTree
PARTITION BY toStartOfHour(timestamp)
ORDER BY (exchange, market_type, symbol, timestamp)
TTL toDateTime(created_at) + toIntervalSecond(259200)
SETTINGS replicated_deduplication_window = 10000, replicated_deduplication_window_seconds = 604800
COMMENT 'marketprism shards 1,2';

CREATE TABLE IF NOT EXISTS `marketprism_hot`.`lsr_top_positions` ON CLUSTER `main` AS `marketprism_hot`.`lsr_top_positions_local`
ENGINE = Distributed('main', 'marketprism_hot', 'lsr_top_positions_local');

CREATE TABLE IF NOT EXISTS `marketprism_hot`.`lsr_all_accounts_local` ON CLUSTER `main`
(
    `timestamp` DateTime64(6, 'UTC') CODEC(Delta, ZSTD(1)),
    `exchange` LowCardinality(String) CODEC(ZSTD(1)),
    `market_type` LowCardinality(String) CODEC(ZSTD(1)),
    `symbol` LowCardinality(String) CODEC(ZSTD(1)),
    `long_short_ratio` Decimal(38, 28) CODEC(ZSTD(1)),
    `long_account_ratio` Decimal(38, 28) CODEC(ZSTD(1)),
    `short_account_ratio` Decimal(38, 28) CODEC(ZSTD(1)),
    `period` LowCardinality(Nullable(String)) CODEC(ZSTD(1)),
    `instrument_id` LowCardinality(Nullable(String)) CODEC(ZSTD(1)),
    `data_source` LowCardinality(String) DEFAULT '' CODEC(ZSTD(1)),
    `collected_at` Nullable(DateTime64(6, 'UTC')) DEFAULT NULL CODEC(ZSTD(1)),
    `created_at` DateTime64(3, 'UTC') DEFAULT now64(3, 'UTC') + throwIf(now() > _expires, 'insert came after its _expires') CODEC(Delta, ZSTD(1)),
    `_stream` LowCardinality(String) DEFAULT '' CODEC(ZSTD(1)),
    `_seq` UInt64 DEFAULT 0 CODEC(Delta, ZSTD(1)),
    `_expires` DateTime EPHEMERAL toDateTime('2106-01-01 00:00:00'),
    INDEX _seq_range _seq TYPE minmax GRANULARITY 1
)
ENGINE = ReplicatedMergeTree
PARTITION BY toStartOfHour(timestamp)
ORDER BY (exchange, market_type, symbol, timestamp)
TTL toDateTime(created_at) + toIntervalSecond(259200)
SETTINGS replicated_deduplication_window = 10000, replicated_deduplication_window_seconds = 604800
COMMENT 'marketprism shards 1,2';

CREATE TABLE IF NOT EXISTS `marketprism_hot`.`lsr_all_accounts` ON CLUSTER `main` AS `marketprism_hot`.`lsr_all_accounts_local`
ENGINE = Distributed('main', 'marketprism_hot', 'lsr_all_accounts_local');

CREATE TABLE IF NOT EXISTS `marketprism_hot`.`volatility_indices_local` ON CLUSTER `main`
(
    `timestamp` DateTime64(6, 'UTC') CODEC(Delta, ZSTD(1)),
    `exchange` LowCardinality(String) CODEC(ZSTD(1)),
    `market_type` LowCardinality(String) CODEC(ZSTD(1)),
    `symbol` LowCardinality(String) CODEC(ZSTD(1)),
    `currency` LowCardinality(Nullable(String)) CODEC(ZSTD(1)),
    `volatility_index` Nullable(Decimal(38, 18)) CODEC(ZSTD(1)),
    `data_source` LowCardinality(String) DEFAULT '' CODEC(ZSTD(1)),
    `collected_at` Nullable(DateTime64(6, 'UTC')) DEFAULT NULL CODEC(ZSTD(1)),
    `created_at` DateTime64(3, 'UTC') DEFAULT now64(3, 'UTC') + throwIf(now() > _expires, 'insert came after its _expires') CODEC(Delta, ZSTD(1)),
    `_stream` LowCardinality(String) DEFAULT '' CODEC(ZSTD(1)),
    `_seq` UInt64 DEFAULT 0 CODEC(Delta, ZSTD(1)),
    `_expires` DateTime EPHEMERAL toDateTime('2106-01-01 00:00:00'),
    INDEX _seq_range _seq TYPE minmax GRANULARITY 1
)
ENGINE = ReplicatedMergeTree
PARTITION BY toStartOfHour(timestamp)
ORDER BY (exchange, market_type, symbol, timestamp)
TTL toDateTime(created_at) + toIntervalSecond(259200)
SETTINGS replicated_deduplication_window = 10000, replicated_deduplication_window_seconds = 604800
COMMENT 'marketprism shards 1,2';

CREATE TABLE IF NOT EXISTS `marketprism_hot`.`volatility_indices` ON CLUSTER `main` AS `marketprism_hot`.`volatility_indices_local`
ENGINE = Distributed('main', 'marketprism_hot', 'volatility_indices_local');

CREATE DATABASE IF NOT EXISTS `marketprism_cold` ON CLUSTER `main`;

CREATE TABLE IF NOT EXISTS `marketprism_cold`.`orderbooks_local` ON CLUSTER `main`
(
    `timestamp` DateTime64(6, 'UTC') CODEC(Delta, ZSTD(3)),
    `exchange` LowCardinality(String) CODEC(ZSTD(3)),
    `market_type` LowCardinality(String) CODEC(ZSTD(3)),
    `symbol` LowCardinality(String) CODEC(ZSTD(3)),
    `last_update_id` Nullable(UInt64) CODEC(ZSTD(3)),
    `first_update_id` Nullable(UInt64) CODEC(ZSTD(3)),
    `prev_update_id` Nullable(UInt64) CODEC(ZSTD(3)),
    `update_type` LowCardinality(Nullable(String)) CODEC(ZSTD(3)),
    `depth_levels` Nullable(UInt32) CODEC(ZSTD(3)),
    `bids_count` UInt32 CODEC(ZSTD(3)),
    `asks_count` UInt32 CODEC(ZSTD(3)),
    `best_bid_price` Nullable(Decimal(38, 18)) CODEC(ZSTD(3)),
    `best_bid_quantity` Nullable(Decimal(38, 18)) CODEC(ZSTD(3)),
    `best_ask_price` Nullable(Decimal(38, 18)) CODEC(ZSTD(3)),
    `best_ask_quantity` Nullable(Decimal(38, 18)) CODEC(ZSTD(3)),
    `bid_prices` Array(Decimal(38, 18)) CODEC(ZSTD(3)),
    `bid_quantities` Array(Decimal(38, 18)) CODEC(ZSTD(3)),
    `ask_prices` Array(Decimal(38, 18)) CODEC(ZSTD(3)),
    `ask_quantities` Array(Decimal(38, 18)) CODEC(ZSTD(3)),
    `standardized_at` Nullable(DateTime64(6, 'UTC')) CODEC(ZSTD(3)),
    `bids` Array(Tuple(Decimal(38, 18), Decimal(38, 18))) ALIAS arrayZip(bid_prices, bid_quantities),
    `asks` Array(Tuple(Decimal(38, 18), Decimal(38, 18))) ALIAS arrayZip(ask_prices, ask_quantities),
    `data_source` LowCardinality(String) DEFAULT '' CODEC(ZSTD(3)),
    `collected_at` Nullable(DateTime64(6, 'UTC')) DEFAULT NULL CODEC(ZSTD(3)),
    `created_at` DateTime64(3, 'UTC') DEFAULT now64(3, 'UTC') + throwIf(now() > _expires, 'insert came after its _expires') CODEC(Delta, ZSTD(3)),
    `_stream` LowCardinality(String) DEFAULT '' CODEC(ZSTD(3)),
    `_seq` UInt64 DEFAULT 0 CODEC(Delta, ZSTD(3)),
    `_expires` DateTime EPHEMERAL toDateTime('2106-01-01 00:00:00'),
    INDEX _seq_range _seq TYPE minmax GRANULARITY 1
)
ENGINE = ReplicatedMergeTree
PARTITION BY toYYYYMMDD(timestamp)
ORDER BY (exchange, market_type, symbol, timestamp)
SETTINGS replicated_deduplication_window = 10000, replicated_deduplication_window_seconds = 604800
COMMENT 'marketprism shards 1,2';

CREATE TABLE IF NOT EXISTS `marketprism_cold`.`orderbooks` ON CLUSTER `main` AS `marketprism_cold`.`orderbooks_local`
ENGINE = Distributed('main', 'marketprism_cold', 'orderbooks_local');

CREATE TABLE IF NOT EXISTS `marketprism_cold`.`trades_local` ON CLUSTER `main`
(
    `timestamp` DateTime64(6, 'UTC') CODEC(Delta, ZSTD(3)),
    `exchange` LowCardinality(String) CODEC(ZSTD(3)),
    `market_type` LowCardinality(String) CODEC(ZSTD(3)),
    `symbol` LowCardinality(String) CODEC(ZSTD(3)),
    `trade_id` String CODEC(ZSTD(3)),
    `price` Decimal(38, 18) CODEC(ZSTD(3)),
    `quantity` Decimal(38, 18) CODEC(ZSTD(3)),
    `side` LowCardinality(String) CODEC(ZSTD(3)),
    `is_maker` Nullable(Bool) CODEC(ZSTD(3)),
    `trade_time` DateTime64(6, 'UTC') CODEC(Delta, ZSTD(3)),
    `notional` Decimal(76, 18) ALIAS multiplyDecimal(price, quantity, 18),
    `data_source` LowCardinality(String) DEFAULT '' CODEC(ZSTD(3)),
    `collected_at` Nullable(DateTime64(6, 'UTC')) DEFAULT NULL CODEC(ZSTD(3)),
    `created_at` DateTime64(3, 'UTC') DEFAULT now64(3, 'UTC') + throwIf(now() > _expires, 'insert came after its _expires') CODEC(Delta, ZSTD(3)),
    `_stream` LowCardinality(String) DEFAULT '' CODEC(ZSTD(3)),
    `_seq` UInt64 DEFAULT 0 CODEC(Delta, ZSTD(3)),
    `_expires` DateTime EPHEMERAL toDateTime('2106-01-01 00:00:00'),
    INDEX _seq_range _seq TYPE minmax GRANULARITY 1
)
ENGINE = ReplicatedMergeTree
PARTITION BY toYYYYMMDD(timestamp)
ORDER BY (exchange, market_type, symbol, timestamp)
SETTINGS replicated_deduplication_window = 10000, replicated_deduplication_window_seconds = 604800
COMMENT 'marketprism shards 1,2';

CREATE TABLE IF NOT EXISTS `marketprism_cold`.`trades` ON CLUSTER `main` AS `marketprism_cold`.`trades_local`
ENGINE = Distributed('main', 'marketprism_cold', 'trades_local');

CREATE TABLE IF NOT EXISTS `marketprism_cold`.`funding_rates_local` ON CLUSTER `main`
(
    `timestamp` DateTime64(6, 'UTC') CODEC(Delta, ZSTD(3)),
    `exchange` LowCardinality(String) CODEC(ZSTD(3)),
    `market_type` LowCardinality(String) CODEC(ZSTD(3)),
    `symbol` LowCardinality(String) CODEC(ZSTD(3)),
    `funding_rate` Decimal(38, 18) CODEC(ZSTD(3)),
    `estimated_funding_rate` Nullable(Decimal(38, 18)) CODEC(ZSTD(3)),
    `next_funding_time` Nullable(DateTime64(6, 'UTC')) CODEC(ZSTD(3)),
    `funding_interval` LowCardinality(Nullable(String)) CODEC(ZSTD(3)),
    `mark_price` Nullable(Decimal(38, 18)) CODEC(ZSTD(3)),
    `index_price` Nullable(Decimal(38, 18)) CODEC(ZSTD(3)),
    `premium_index` Nullable(Decimal(38, 18)) CODEC(ZSTD(3)),
    `instrument_id` LowCardinality(Nullable(String)) CODEC(ZSTD(3)),
    `data_source` LowCardinality(String) DEFAULT '' CODEC(ZSTD(3)),
    `collected_at` Nullable(DateTime64(6, 'UTC')) DEFAULT NULL CODEC(ZSTD(3)),
    `created_at` DateTime64(3, 'UTC') DEFAULT now64(3, 'UTC') + throwIf(now() > _expires, 'insert came after its _expires') CODEC(Delta, ZSTD(3)),
    `_stream` LowCardinality(String) DEFAULT '' CODEC(ZSTD(3)),
    `_seq` UInt64 DEFAULT 0 CODEC(Delta, ZSTD(3)),
    `_expires` DateTime EPHEMERAL toDateTime('2106-01-01 00:00:00'),
    INDEX _seq_range _seq TYPE minmax GRANULARITY 1
)
ENGINE = ReplicatedMergeTree
PARTITION BY toYYYYMMDD(timestamp)
ORDER BY (exchange, market_type, symbol, timestamp)
SETTINGS replicated_deduplication_window = 10000, replicated_deduplication_window_seconds = 604800
COMMENT 'marketprism shards 1,2';

CREATE TABLE IF NOT EXISTS `marketprism_cold`.`funding_rates` ON CLUSTER `main` AS `marketprism_cold`.`funding_rates_local`
ENGINE = Distributed('main', 'marketprism_cold', 'funding_rates_local');

CREATE TABLE IF NOT EXISTS `marketprism_cold`.`open_interests_local` ON CLUSTER `main`
(
    `timestamp` DateTime64(6, 'UTC') CODEC(Delta, ZSTD(3)),
    `exchange` LowCardinality(String) CODEC(ZSTD(3)),
    `market_type` LowCardinality(String) CODEC(ZSTD(3)),
    `symbol` LowCardinality(String) CODEC(ZSTD(3)),
    `open_interest_value` Decimal(38, 18) CODEC(ZSTD(3)),
    `open_interest_usd` Nullable(Decimal(38, 18)) CODEC(ZSTD(3)),
    `open_interest_unit` LowCardinality(Nullable(String)) CODEC(ZSTD(3)),
    `mark_price` Nullable(Decimal(38, 18)) CODEC(ZSTD(3)),
    `index_price` Nullable(Decimal(38, 18)) CODEC(ZSTD(3)),
    `change_24h` Nullable(Decimal(38, 18)) CODEC(ZSTD(3)),
    `change_24h_percent` Nullable(Decimal(38, 18)) CODEC(ZSTD(3)),
    `instrument_id` LowCardinality(Nullable(String)) CODEC(ZSTD(3)),
    `data_source` LowCardinality(String) DEFAULT '' CODEC(ZSTD(3)),
    `collected_at` Nullable(DateTime64(6, 'UTC')) DEFAULT NULL CODEC(ZSTD(3)),
    `created_at` DateTime64(3, 'UTC') DEFAULT now64(3, 'UTC') + throwIf(now() > _expires, 'insert came after its _expires') CODEC(Delta, ZSTD(3)),
    `_stream` LowCardinality(String) DEFAULT '' CODEC(ZSTD(3)),
    `_seq` UInt64 DEFAULT 0 CODEC(Delta, ZSTD(3)),
    `_expires` DateTime EPHEMERAL toDateTime('2106-01-01 00:00:00'),
    INDEX _seq_range _seq TYPE minmax GRANULARITY 1
)
ENGINE = ReplicatedMergeTree
PARTITION BY toYYYYMMDD(timestamp)
ORDER BY (exchange, market_type, symbol, timestamp)
SETTINGS replicated_deduplication_window = 10000, replicated_deduplication_window_seconds = 604800
COMMENT 'marketprism shards 1,2';

CREATE TABLE IF NOT EXISTS `marketprism_cold`.`open_interests` ON CLUSTER `main` AS `marketprism_cold`.`open_interests_local`
ENGINE = Distributed('main', 'marketprism_cold', 'open_interests_local');

CREATE TABLE IF NOT EXISTS `marketprism_cold`.`liquidations_local` ON CLUSTER `main`
(
    `timestamp` DateTime64(6, 'UTC') CODEC(Delta, ZSTD(3)),
    `exchange` LowCardinality(String) CODEC(ZSTD(3)),
    `market_type` LowCardinality(String) CODEC(ZSTD(3)),
    `symbol` LowCardinality(String) CODEC(ZSTD(3)),
    `liquidation_id` String CODEC(ZSTD(3)),
    `side` LowCardinality(String) CODEC(ZSTD(3)),
    `status` LowCardinality(Nullable(String)) CODEC(ZSTD(3)),
    `price` Decimal(38, 18) CODEC(ZSTD(3)),
    `quantity` Decimal(38, 18) CODEC(ZSTD(3)),
    `filled_quantity` Nullable(Decimal(38, 18)) CODEC(ZSTD(3)),
    `notional_value` Nullable(Decimal(38, 18)) CODEC(ZSTD(3)),
    `average_price` Nullable(Decimal(38, 18)) CODEC(ZSTD(3)),
    `bankruptcy_price` Nullable(Decimal(38, 18)) CODEC(ZSTD(3)),
    `margin_ratio` Nullable(Decimal(38, 18)) CODEC(ZSTD(3)),
    `liquidation_time` DateTime64(6, 'UTC') CODEC(Delta, ZSTD(3)),
    `aggregation_mode` LowCardinality(Nullable(String)) CODEC(ZSTD(3)),
    `instrument_id` LowCardinality(Nullable(String)) CODEC(ZSTD(3)),
    `notional` Decimal(76, 18) ALIAS multiplyDecimal(price, quantity, 18),
    `data_source` LowCardinality(String) DEFAULT '' CODEC(ZSTD(3)),
    `collected_at` Nullable(DateTime64(6, 'UTC')) DEFAULT NULL CODEC(ZSTD(3)),
    `created_at` DateTime64(3, 'UTC') DEFAULT now64(3, 'UTC') + throwIf(now() > _expires, 'insert came after its _expires') CODEC(Delta, ZSTD(3)),
    `_stream` LowCardinality(String) DEFAULT '' CODEC(ZSTD(3)),
    `_seq` UInt64 DEFAULT 0 CODEC(Delta, ZSTD(3)),
    `_expires` DateTime EPHEMERAL toDateTime('2106-01-01 00:00:00'),
    INDEX _seq_range _seq TYPE minmax GRANULARITY 1
)
ENGINE = ReplicatedMergeTree
PARTITION BY toYYYYMMDD(timestamp)
ORDER BY (exchange, market_type, symbol, timestamp)
SETTINGS replicated_deduplication_window = 10000, replicated_deduplication_window_seconds = 604800
COMMENT 'marketprism shards 1,2';

CREATE TABLE IF NOT EXISTS `marketprism_cold`.`liquidations` ON CLUSTER `main` AS `marketprism_cold`.`liquidations_local`
ENGINE = Distributed('main', 'marketprism_cold', 'liquidations_local');

CREATE TABLE IF NOT EXISTS `marketprism_cold`.`lsr_top_positions_local` ON CLUSTER `main`
(
    `timestamp` DateTime64(6, 'UTC') CODEC(Delta, ZSTD(3)),
    `exchange` LowCardinality(String) CODEC(ZSTD(3)),
    `market_type` LowCardinality(String) CODEC(ZSTD(3)),
    `symbol` LowCardinality(String) CODEC(ZSTD(3)),
    `long_short_ratio` Decimal(38, 28) CODEC(ZSTD(3)),
    `long_position_ratio` Decimal(38, 28) CODEC(ZSTD(3)),
    `short_position_ratio` Decimal(38, 28) CODEC(ZSTD(3)),
    `period` LowCardinality(Nullable(String)) CODEC(ZSTD(3)),
    `instrument_id` LowCardinality(Nullable(String)) CODEC(ZSTD(3)),
    `data_source` LowCardinality(String) DEFAULT '' CODEC(ZSTD(3)),
    `collected_at` Nullable(DateTime64(6, 'UTC')) DEFAULT NULL CODEC(ZSTD(3)),
    `created_at` DateTime64(3, 'UTC') DEFAULT now64(3, 'UTC') + throwIf(now() > _expires, 'insert came after its _expires') CODEC(Delta, ZSTD(3)),
    `_stream` LowCardinality(String) DEFAULT '' CODEC(ZSTD(3)),
    `_seq` UInt64 DEFAULT 0 CODEC(Delta, ZSTD(3)),
    `_expires` DateTime EPHEMERAL toDateTime('2106-01-01 00:00:00'),
    INDEX _seq_range _seq TYPE minmax GRANULARITY 1
)
ENGINE = ReplicatedMergeTree
PARTITION BY toYYYYMMDD(timestamp)
ORDER BY (exchange, market_type, symbol, timestamp)
SETTINGS replicated_deduplication_window = 10000, replicated_deduplication_window_seconds = 604800
COMMENT 'marketprism shards 1,2';

CREATE TABLE IF NOT EXISTS `marketprism_cold`.`lsr_top_positions` ON CLUSTER `main` AS `marketprism_cold`.`lsr_top_positions_local`
ENGINE = Distributed('main', 'marketprism_cold', 'lsr_top_positions_local');

CREATE TABLE IF NOT EXISTS `marketprism_cold`.`lsr_all_accounts_local` ON CLUSTER `main`
(
    `timestamp` DateTime64(6, 'UTC') CODEC(Delta, ZSTD(3)),
    `exchange` LowCardinality(String) CODEC(ZSTD(3)),
    `market_type` LowCardinality(String) CODEC(ZSTD(3)),
    `symbol` LowCardinality(String) CODEC(ZSTD(3)),
    `long_short_ratio` Decimal(38, 28) CODEC(ZSTD(3)),
    `long_account_ratio` Decimal(38, 28) CODEC(ZSTD(3)),
    `short_account_ratio` Decimal(38, 28) CODEC(ZSTD(3)),
    `period` LowCardinality(Nullable(String)) CODEC(ZSTD(3)),
    `instrument_id` LowCardinality(Nullable(String)) CODEC(ZSTD(3)),
    `data_source` LowCardinality(String) DEFAULT '' CODEC(ZSTD(3)),
    `collected_at` Nullable(DateTime64(6, 'UTC')) DEFAULT NULL CODEC(ZSTD(3)),
    `created_at` DateTime64(3, 'UTC') DEFAULT now64(3, 'UTC') + throwIf(now() > _expires, 'insert came after its _expires') CODEC(Delta, ZSTD(3)),
    `_stream` LowCardinality(String) DEFAULT '' CODEC(ZSTD(3)),
    `_seq` UInt64 DEFAULT 0 CODEC(Delta, ZSTD(3)),
    `_expires` DateTime EPHEMERAL toDateTime('2106-01-01 00:00:00'),
    INDEX _seq_range _seq TYPE minmax GRANULARITY 1
)
ENGINE = ReplicatedMergeTree
PARTITION BY toYYYYMMDD(timestamp)
ORDER BY (exchange, market_type, symbol, timestamp)
SETTINGS replicated_deduplication_window = 10000, replicated_deduplication_window_seconds = 604800
COMMENT 'marketprism shards 1,2';

CREATE TABLE IF NOT EXISTS `marketprism_cold`.`lsr_all_accounts` ON CLUSTER `main` AS `marketprism_cold`.`lsr_all_accounts_local`
ENGINE = Distributed('main', 'marketprism_cold', 'lsr_all_accounts_local');

CREATE TABLE IF NOT EXISTS `marketprism_cold`.`volatility_indices_local` ON CLUSTER `main`
(
    `timestamp` DateTime64(6, 'UTC') CODEC(Delta, ZSTD(3)),
    `exchange` LowCardinality(String) CODEC(ZSTD(3)),
    `market_type` LowCardinality(String) CODEC(ZSTD(3)),
    `symbol` LowCardinality(String) CODEC(ZSTD(3)),
    `currency` LowCardinality(Nullable(String)) CODEC(ZSTD(3)),
    `volatility_index` Nullable(Decimal(38, 18)) CODEC(ZSTD(3)),
    `data_source` LowCardinality(String) DEFAULT '' CODEC(ZSTD(3)),
    `collected_at` Nullable(DateTime64(6, 'UTC')) DEFAULT NULL CODEC(ZSTD(3)),
    `created_at` DateTime64(3, 'UTC') DEFAULT now64(3, 'UTC') + throwIf(now() > _expires, 'insert came after its _expires') CODEC(Delta, ZSTD(3)),
    `_stream` LowCardinality(String) DEFAULT '' CODEC(ZSTD(3)),
    `_seq` UInt64 DEFAULT 0 CODEC(Delta, ZSTD(3)),
    `_expires` DateTime EPHEMERAL toDateTime('2106-01-01 00:00:00'),
    INDEX _seq_range _seq TYPE minmax GRANULARITY 1
)
ENGINE = ReplicatedMergeTree
PARTITION BY toYYYYMMDD(timestamp)
ORDER BY (exchange, market_type, symbol, timestamp)
SETTINGS replicated_deduplication_window = 10000, replicated_deduplication_window_seconds = 604800
COMMENT 'marketprism shards 1,2';

CREATE TABLE IF NOT EXISTS `marketprism_cold`.`volatility_indices` ON CLUSTER `main` AS `marketprism_cold`.`volatility_indices_local`
ENGINE = Distributed('main', 'marketprism_cold', 'volatility_indices_local');

CREATE TABLE IF NOT EXISTS `marketprism_hot`.`incidents` ON CLUSTER `main`
(
    `id` String,
    `noted_at` DateTime64(3, 'UTC'),
    `data_type` LowCardinality(String),
    `exchange` LowCardinality(String),
    `market_type` LowCardinality(String),
    `symbol` LowCardinality(String),
    `since` DateTime64(6, 'UTC'),
    `until` DateTime64(6, 'UTC'),
    `missing` UInt64,
    `healed` UInt64,
    `disagreeing` UInt64,
    `how` LowCardinality(String),
    `source` String,
    `name` String,
    `why` String,
    `ended` Bool
)
ENGINE = ReplicatedReplacingMergeTree(noted_at)
ORDER BY id;

CREATE VIEW IF NOT EXISTS `marketprism_hot`.`all_orderbooks` ON CLUSTER `main` AS
(
SELECT timestamp, exchange, market_type, symbol, last_update_id, first_update_id, prev_update_id, update_type, depth_levels, bids_count, asks_count, best_bid_price, best_bid_quantity, best_ask_price, best_ask_quantity, bid_prices, bid_quantities, ask_prices, ask_quantities, standardized_at, bids, asks, data_source, collected_at, created_at, _stream, _seq FROM `marketprism_hot`.`orderbooks`
WHERE (1) AND (SELECT if(count() = 0, toDateTime64('2299-12-31 00:00:00', 6, 'UTC'), min(timestamp)) FROM `marketprism_hot`.`orderbooks`) IS NOT NULL AND (_seq = 0 OR (_stream, _seq) GLOBAL NOT IN (
    SELECT _stream, _seq FROM `marketprism_cold`.`orderbooks` WHERE _seq != 0 AND (1) AND timestamp >= (SELECT if(count() = 0, toDateTime64('2299-12-31 00:00:00', 6, 'UTC'), min(timestamp)) FROM `marketprism_hot`.`orderbooks`)))
UNION ALL
SELECT timestamp, exchange, market_type, symbol, last_update_id, first_update_id, prev_update_id, update_type, depth_levels, bids_count, asks_count, best_bid_price, best_bid_quantity, best_ask_price, best_ask_quantity, bid_prices, bid_quantities, ask_prices, ask_quantities, standardized_at, bids, asks, data_source, collected_at, created_at, _stream, _seq FROM `marketprism_cold`.`orderbooks` WHERE 1
)
COMMENT 'marketprism view d0a724f1159d';

CREATE VIEW IF NOT EXISTS `marketprism_hot`.`all_trades` ON CLUSTER `main` AS
(
SELECT timestamp, exchange, market_type, symbol, trade_id, price, quantity, side, is_maker, trade_time, notional, data_source, collected_at, created_at, _stream, _seq FROM `marketprism_hot`.`trades`
WHERE (1) AND (SELECT if(count() = 0, toDateTime64('2299-12-31 00:00:00', 6, 'UTC'), min(timestamp)) FROM `marketprism_hot`.`trades`) IS NOT NULL AND (_seq = 0 OR (_stream, _seq) GLOBAL NOT IN (
    SELECT _stream, _seq FROM `marketprism_cold`.`trades` WHERE _seq != 0 AND (1) AND timestamp >= (SELECT if(count() = 0, toDateTime64('2299-12-31 00:00:00', 6, 'UTC'), min(timestamp)) FROM `marketprism_hot`.`trades`)))
UNION ALL
SELECT timestamp, exchange, market_type, symbol, trade_id, price, quantity, side, is_maker, trade_time, notional, data_source, collected_at, created_at, _stream, _seq FROM `marketprism_cold`.`trades` WHERE 1
)
COMMENT 'marketprism view 65d2692a2bb8';

CREATE VIEW IF NOT EXISTS `marketprism_hot`.`all_funding_rates` ON CLUSTER `main` AS
(
SELECT timestamp, exchange, market_type, symbol, funding_rate, estimated_funding_rate, next_funding_time, funding_interval, mark_price, index_price, premium_index, instrument_id, data_source, collected_at, created_at, _stream, _seq FROM `marketprism_hot`.`funding_rates`
WHERE (1) AND (SELECT if(count() = 0, toDateTime64('2299-12-31 00:00:00', 6, 'UTC'), min(timestamp)) FROM `marketprism_hot`.`funding_rates`) IS NOT NULL AND (_seq = 0 OR (_stream, _seq) GLOBAL NOT IN (
    SELECT _stream, _seq FROM `marketprism_cold`.`funding_rates` WHERE _seq != 0 AND (1) AND timestamp >= (SELECT if(count() = 0, toDateTime64('2299-12-31 00:00:00', 6, 'UTC'), min(timestamp)) FROM `marketprism_hot`.`funding_rates`)))
UNION ALL
SELECT timestamp, exchange, market_type, symbol, funding_rate, estimated_funding_rate, next_funding_time, funding_interval, mark_price, index_price, premium_index, instrument_id, data_source, collected_at, created_at, _stream, _seq FROM `marketprism_cold`.`funding_rates` WHERE 1
)
COMMENT 'marketprism view 96900f8b3793';

CREATE VIEW IF NOT EXISTS `marketprism_hot`.`all_open_interests` ON CLUSTER `main` AS
(
SELECT timestamp, exchange, market_type, symbol, open_interest_value, open_interest_usd, open_interest_unit, mark_price, index_price, change_24h, change_24h_percent, instrument_id, data_source, collected_at, created_at, _stream, _seq FROM `marketprism_hot`.`open_interests`
WHERE (1) AND (SELECT if(count() = 0, toDateTime64('2299-12-31 00:00:00', 6, 'UTC'), min(timestamp)) FROM `marketprism_hot`.`open_interests`) IS NOT NULL AND (_seq = 0 OR (_stream, _seq) GLOBAL NOT IN (
    SELECT _stream, _seq FROM `marketprism_cold`.`open_interests` WHERE _seq != 0 AND (1) AND timestamp >= (SELECT if(count() = 0, toDateTime64('2299-12-31 00:00:00', 6, 'UTC'), min(timestamp)) FROM `marketprism_hot`.`open_interests`)))
UNION ALL
SELECT timestamp, exchange, market_type, symbol, open_interest_value, open_interest_usd, open_interest_unit, mark_price, index_price, change_24h, change_24h_percent, instrument_id, data_source, collected_at, created_at, _stream, _seq FROM `marketprism_cold`.`open_interests` WHERE 1
)
COMMENT 'marketprism view ec3f27fe569f';

CREATE VIEW IF NOT EXISTS `marketprism_hot`.`all_liquidations` ON CLUSTER `main` AS
(
SELECT timestamp, exchange, market_type, symbol, liquidation_id, side, status, price, quantity, filled_quantity, notional_value, average_price, bankruptcy_price, margin_ratio, liquidation_time, aggregation_mode, instrument_id, notional, data_source, collected_at, created_at, _stream, _seq FROM `marketprism_hot`.`liquidations`
WHERE (1) AND (SELECT if(count() = 0, toDateTime64('2299-12-31 00:00:00', 6, 'UTC'), min(timestamp)) FROM `marketprism_hot`.`liquidations`) IS NOT NULL AND (_seq = 0 OR (_stream, _seq) GLOBAL NOT IN (
    SELECT _stream, _seq FROM `marketprism_cold`.`liquidations` WHERE _seq != 0 AND (1) AND timestamp >= (SELECT if(count() = 0, toDateTime64('2299-12-31 00:00:00', 6, 'UTC'), min(timestamp)) FROM `marketprism_hot`.`liquidations`)))
UNION ALL
SELECT timestamp, exchange, market_type, symbol, liquidation_id, side, status, price, quantity, filled_quantity, notional_value, average_price, bankruptcy_price, margin_ratio, liquidation_time, aggregation_mode, instrument_id, notional, data_source, collected_at, created_at, _stream, _seq FROM `marketprism_cold`.`liquidations` WHERE 1
)
COMMENT 'marketprism view 8a2842cbac2c';

CREATE VIEW IF NOT EXISTS `marketprism_hot`.`all_lsr_top_positions` ON CLUSTER `main` AS
(
SELECT timestamp, exchange, market_type, symbol, long_short_ratio, long_position_ratio, short_position_ratio, period, instrument_id, data_source, collected_at, created_at, _stream, _seq FROM `marketprism_hot`.`lsr_top_positions`
WHERE (1) AND (SELECT if(count() = 0, toDateTime64('2299-12-31 00:00:00', 6, 'UTC'), min(timestamp)) FROM `marketprism_hot`.`lsr_top_positions`) IS NOT NULL AND (_seq = 0 OR (_stream, _seq) GLOBAL NOT IN (
    SELECT _stream, _seq FROM `marketprism_cold`.`lsr_top_positions` WHERE _seq != 0 AND (1) AND timestamp >= (SELECT if(count() = 0, toDateTime64('2299-12-31 00:00:00', 6, 'UTC'), min(timestamp)) FROM `marketprism_hot`.`lsr_top_positions`)))
UNION ALL
SELECT timestamp, exchange, market_type, symbol, long_short_ratio, long_position_ratio, short_position_ratio, period, instrument_id, data_source, collected_at, created_at, _stream, _seq FROM `marketprism_cold`.`lsr_top_positions` WHERE 1
)
COMMENT 'marketprism view 5335a0e074c4';

CREATE VIEW IF NOT EXISTS `marketprism_hot`.`all_lsr_all_accounts` ON CLUSTER `main` AS
(
SELECT timestamp, exchange, market_type, symbol, long_short_ratio, long_account_ratio, short_account_ratio, period, instrument_id, data_source, collected_at, created_at, _stream, _seq FROM `marketprism_hot`.`lsr_all_accounts`
WHERE (1) AND (SELECT if(count() = 0, toDateTime64('2299-12-31 00:00:00', 6, 'UTC'), min(timestamp)) FROM `marketprism_hot`.`lsr_all_accounts`) IS NOT NULL AND (_seq = 0 OR (_stream, _seq) GLOBAL NOT IN (
    SELECT _stream, _seq FROM `marketprism_cold`.`lsr_all_accounts` WHERE _seq != 0 AND (1) AND timestamp >= (SELECT if(count() = 0, toDateTime64('2299-12-31 00:00:00', 6, 'UTC'), min(timestamp)) FROM `marketprism_hot`.`lsr_all_accounts`)))
UNION ALL
SELECT timestamp, exchange, market_type, symbol, long_short_ratio, long_account_ratio, short_account_ratio, period, instrument_id, data_source, collected_at, created_at, _stream, _seq FROM `marketprism_cold`.`lsr_all_accounts` WHERE 1
)
COMMENT 'marketprism view 1c644642094a';

CREATE VIEW IF NOT EXISTS `marketprism_hot`.`all_volatility_indices` ON CLUSTER `main` AS
(
SELECT timestamp, exchange, market_type, symbol, currency, volatility_index, data_source, collected_at, created_at, _stream, _seq FROM `marketprism_hot`.`volatility_indices`
WHERE (1) AND (SELECT if(count() = 0, toDateTime64('2299-12-31 00:00:00', 6, 'UTC'), min(timestamp)) FROM `marketprism_hot`.`volatility_indices`) IS NOT NULL AND (_seq = 0 OR (_stream, _seq) GLOBAL NOT IN (
    SELECT _stream, _seq FROM `marketprism_cold`.`volatility_indices` WHERE _seq != 0 AND (1) AND timestamp >= (SELECT if(count() = 0, toDateTime64('2299-12-31 00:00:00', 6, 'UTC'), min(timestamp)) FROM `marketprism_hot`.`volatility_indices`)))
UNION ALL
SELECT timestamp, exchange, market_type, symbol, currency, volatility_index, data_source, collected_at, created_at, _stream, _seq FROM `marketprism_cold`.`volatility_indices` WHERE 1
)
COMMENT 'marketprism view a4dade77b904';

CREATE VIEW IF NOT EXISTS `marketprism_hot`.`candles_1m` ON CLUSTER `main` AS
(
SELECT exchange, market_type, symbol, toStartOfMinute(timestamp) AS minute,
    argMin(price, bitShiftLeft(toInt256(toUnixTimestamp64Micro(timestamp)), 128) + bitShiftLeft(toInt256(toUInt64OrZero(trade_id)), 64) + _seq AS place) AS open,
    max(price) AS high, min(price) AS low, argMax(price, place) AS close,
    sum(toDecimal256(quantity, 18)) AS volume, sum(toDecimal256(price, 18) * quantity) AS turnover,
    if(volume = 0, NULL, divideDecimal(turnover, if(volume = 0, toDecimal256(1, 18), volume), 18)) AS vwap,
    count() AS trades
FROM
(
SELECT exchange, market_type, symbol, timestamp, price, quantity, trade_id, _seq FROM `marketprism_hot`.`trades`
WHERE (1) AND (SELECT if(count() = 0, toDateTime64('2299-12-31 00:00:00', 6, 'UTC'), min(timestamp)) FROM `marketprism_hot`.`trades`) IS NOT NULL AND (_seq = 0 OR (_stream, _seq) GLOBAL NOT IN (
    SELECT _stream, _seq FROM `marketprism_cold`.`trades` WHERE _seq != 0 AND (1) AND timestamp >= (SELECT if(count() = 0, toDateTime64('2299-12-31 00:00:00', 6, 'UTC'), min(timestamp)) FROM `marketprism_hot`.`trades`)))
UNION ALL
SELECT exchange, market_type, symbol, timestamp, price, quantity, trade_id, _seq FROM `marketprism_cold`.`trades` WHERE 1
)
GROUP BY exchange, market_type, symbol, minute
)
COMMENT 'marketprism view 6bd657c8bd99';

CREATE VIEW IF NOT EXISTS `marketprism_hot`.`trade_gaps` ON CLUSTER `main` AS
(
SELECT exchange, market_type, symbol, last_id, id AS next_id, id - last_id - 1 AS missing, last_time, time AS next_time
FROM
(
    SELECT *, avg(id - last_id <= 1) OVER (PARTITION BY exchange, market_type, symbol) AS sequential
    FROM
    (
        SELECT exchange, market_type, symbol, toUInt64OrZero(trade_id) AS id, timestamp AS time,
            lagInFrame(id) OVER one AS last_id, lagInFrame(timestamp) OVER one AS last_time
        FROM `marketprism_hot`.`all_trades`
        WHERE timestamp >= {since:DateTime64(6, 'UTC')} AND timestamp < {until:DateTime64(6, 'UTC')} AND id != 0
        WINDOW one AS (PARTITION BY exchange, market_type, symbol ORDER BY id ROWS BETWEEN 1 PRECEDING AND CURRENT ROW)
    )
    WHERE last_id != 0
)
WHERE sequential >= 0.5 AND id > last_id + 1
)
COMMENT 'marketprism view ecda72a1e8b0';

CREATE VIEW IF NOT EXISTS `marketprism_hot`.`book_at` ON CLUSTER `main` AS
(
WITH (SELECT max(moment) FROM (SELECT (timestamp, _seq, ifNull(last_update_id, 0)) AS moment FROM `marketprism_hot`.`orderbooks`
        WHERE exchange = {exchange:String} AND market_type = {market_type:String} AND symbol = {symbol:String}
            AND timestamp <= {at:DateTime64(6, 'UTC')} AND timestamp > {at:DateTime64(6, 'UTC')} - toIntervalDay(1)
            AND update_type = 'snapshot'
         UNION ALL SELECT (timestamp, _seq, ifNull(last_update_id, 0)) AS moment FROM `marketprism_cold`.`orderbooks`
        WHERE exchange = {exchange:String} AND market_type = {market_type:String} AND symbol = {symbol:String}
            AND timestamp <= {at:DateTime64(6, 'UTC')} AND timestamp > {at:DateTime64(6, 'UTC')} - toIntervalDay(1)
            AND update_type = 'snapshot'
        )) AS snapshot
SELECT side, row_number() OVER (PARTITION BY side ORDER BY if(side = 'bid', -price, price)) AS level, price, quantity,
    updated_at, if(toUnixTimestamp(snapshot.1) = 0, NULL, snapshot.1) AS snapshot_at
FROM
(
    SELECT side, price, argMax(amount, moment) AS quantity, max(moment.1) AS updated_at
    FROM
    (
        SELECT moment,
            arrayJoin(arrayConcat(
                arrayMap((price, amount) -> ('bid', price, amount), bid_prices, bid_quantities),
                arrayMap((price, amount) -> ('ask', price, amount), ask_prices, ask_quantities))) AS one,
            one.1 AS side, one.2 AS price, one.3 AS amount
        FROM (SELECT (timestamp, _seq, ifNull(last_update_id, 0)) AS moment, bid_prices, bid_quantities, ask_prices, ask_quantities FROM `marketprism_hot`.`orderbooks`
        WHERE exchange = {exchange:String} AND market_type = {market_type:String} AND symbol = {symbol:String}
            AND timestamp <= {at:DateTime64(6, 'UTC')} AND timestamp > {at:DateTime64(6, 'UTC')} - toIntervalDay(1)
            AND timestamp >= snapshot.1 AND moment >= snapshot
         UNION ALL SELECT (timestamp, _seq, ifNull(last_update_id, 0)) AS moment, bid_prices, bid_quantities, ask_prices, ask_quantities FROM `marketprism_cold`.`orderbooks`
        WHERE exchange = {exchange:String} AND market_type = {market_type:String} AND symbol = {symbol:String}
            AND timestamp <= {at:DateTime64(6, 'UTC')} AND timestamp > {at:DateTime64(6, 'UTC')} - toIntervalDay(1)
            AND timestamp >= snapshot.1 AND moment >= snapshot
        )
    )
    GROUP BY side, price
    HAVING quantity > 0
)
ORDER BY side DESC, level
)
COMMENT 'marketprism view 5093497f22ef';

CREATE VIEW IF NOT EXISTS `marketprism_hot`.`book_gaps` ON CLUSTER `main` AS
(
SELECT exchange, market_type, symbol, last_id, follows_id, id AS next_id, last_time, time AS next_time
FROM
(
    SELECT *, avg(follows_id = last_id) OVER (PARTITION BY exchange, market_type, symbol) AS sequential
    FROM
    (
        SELECT exchange, market_type, symbol, last_update_id AS id, ifNull(prev_update_id, toUInt64(first_update_id - 1)) AS follows_id, timestamp AS time,
            lagInFrame(last_update_id) OVER one AS last_id, lagInFrame(timestamp) OVER one AS last_time
        FROM `marketprism_hot`.`all_orderbooks`
        WHERE timestamp >= {since:DateTime64(6, 'UTC')} AND timestamp < {until:DateTime64(6, 'UTC')}
        WINDOW one AS
            (PARTITION BY exchange, market_type, symbol ORDER BY _stream, _seq, timestamp, last_update_id ROWS BETWEEN 1 PRECEDING AND CURRENT ROW)
    )
    WHERE last_id IS NOT NULL AND follows_id IS NOT NULL AND id > last_id
)
WHERE sequential >= 0.5 AND follows_id != last_id
)
COMMENT 'marketprism view 1d68963e8e9b';

CREATE VIEW IF NOT EXISTS `marketprism_hot`.`silences` ON CLUSTER `main` AS
(
SELECT data_type, exchange, market_type, symbol, last_time, time AS next_time, dateDiff('second', last_time, time) AS seconds
FROM
(
    SELECT data_type, exchange, market_type, symbol, timestamp AS time, lagInFrame(timestamp) OVER
        (PARTITION BY data_type, exchange, market_type, symbol ORDER BY timestamp ROWS BETWEEN 1 PRECEDING AND CURRENT ROW) AS last_time
    FROM
    (
        SELECT 'trade' AS data_type, exchange, market_type, symbol, timestamp FROM `marketprism_hot`.`all_trades`
        UNION ALL
        SELECT 'orderbook' AS data_type, exchange, market_type, symbol, timestamp FROM `marketprism_hot`.`all_orderbooks`
    )
    WHERE timestamp >= {since:DateTime64(6, 'UTC')} AND timestamp < {until:DateTime64(6, 'UTC')}
)
WHERE toUnixTimestamp(last_time) > 0 AND time > last_time + toIntervalSecond({longer_than:UInt32})
)
COMMENT 'marketprism view efedc8ec0844';

CREATE VIEW IF NOT EXISTS `marketprism_hot`.`latest_funding_rates` ON CLUSTER `main` AS
(
SELECT exchange, market_type, symbol, latest.1 AS timestamp, latest.2 AS funding_rate, latest.3 AS estimated_funding_rate, latest.4 AS next_funding_time, latest.5 AS funding_interval, latest.6 AS mark_price, latest.7 AS index_price, latest.8 AS premium_index, latest.9 AS instrument_id, latest.10 AS collected_at
FROM
(
    SELECT exchange, market_type, symbol, argMax((timestamp, funding_rate, estimated_funding_rate, next_funding_time, funding_interval, mark_price, index_price, premium_index, instrument_id, collected_at), (ifNull(collected_at, timestamp), _seq)) AS latest
    FROM `marketprism_hot`.`all_funding_rates`
    GROUP BY exchange, market_type, symbol
)
)
COMMENT 'marketprism view eba921d1502e';

CREATE VIEW IF NOT EXISTS `marketprism_hot`.`latest_open_interests` ON CLUSTER `main` AS
(
SELECT exchange, market_type, symbol, latest.1 AS timestamp, latest.2 AS open_interest_value, latest.3 AS open_interest_usd, latest.4 AS open_interest_unit, latest.5 AS mark_price, latest.6 AS index_price, latest.7 AS change_24h, latest.8 AS change_24h_percent, latest.9 AS instrument_id, latest.10 AS collected_at
FROM
(
    SELECT exchange, market_type, symbol, argMax((timestamp, open_interest_value, open_interest_usd, open_interest_unit, mark_price, index_price, change_24h, change_24h_percent, instrument_id, collected_at), (ifNull(collected_at, timestamp), _seq)) AS latest
    FROM `marketprism_hot`.`all_open_interests`
    GROUP BY exchange, market_type, symbol
)
)
COMMENT 'marketprism view 4cf41864162e';

CREATE VIEW IF NOT EXISTS `marketprism_hot`.`lsr_top_position_buckets` ON CLUSTER `main` AS
(
SELECT exchange, market_type, symbol, period, bucket, latest.1 AS long_short_ratio, latest.2 AS long_position_ratio, latest.3 AS short_position_ratio, publications, revisions
FROM
(
    SELECT exchange, market_type, symbol, period,
        toDateTime(intDiv(toUnixTimestamp(timestamp), greatest(1, toUInt32OrZero(substring(ifNull(toString(period), ''), 1, length(ifNull(toString(period), '')) - 1)) * transform(lower(substring(ifNull(toString(period), ''), length(ifNull(toString(period), '')), 1)), ['s', 'm', 'h', 'd'], [1, 60, 3600, 86400], 0))) * greatest(1, toUInt32OrZero(substring(ifNull(toString(period), ''), 1, length(ifNull(toString(period), '')) - 1)) * transform(lower(substring(ifNull(toString(period), ''), length(ifNull(toString(period), '')), 1)), ['s', 'm', 'h', 'd'], [1, 60, 3600, 86400], 0)), 'UTC') AS bucket,
        argMax((long_short_ratio, long_position_ratio, short_position_ratio), (ifNull(collected_at, timestamp), _seq)) AS latest,
        count() AS publications, uniqExact(long_short_ratio, long_position_ratio, short_position_ratio) - 1 AS revisions
    FROM `marketprism_hot`.`all_lsr_top_positions`
    GROUP BY exchange, market_type, symbol, period, bucket
)
)
COMMENT 'marketprism view db65a51851cc';

CREATE VIEW IF NOT EXISTS `marketprism_hot`.`lsr_all_account_buckets` ON CLUSTER `main` AS
(
SELECT exchange, market_type, symbol, period, bucket, latest.1 AS long_short_ratio, latest.2 AS long_account_ratio, latest.3 AS short_account_ratio, publications, revisions
FROM
(
    SELECT exchange, market_type, symbol, period,
        toDateTime(intDiv(toUnixTimestamp(timestamp), greatest(1, toUInt32OrZero(substring(ifNull(toString(period), ''), 1, length(ifNull(toString(period), '')) - 1)) * transform(lower(substring(ifNull(toString(period), ''), length(ifNull(toString(period), '')), 1)), ['s', 'm', 'h', 'd'], [1, 60, 3600, 86400], 0))) * greatest(1, toUInt32OrZero(substring(ifNull(toString(period), ''), 1, length(ifNull(toString(period), '')) - 1)) * transform(lower(substring(ifNull(toString(period), ''), length(ifNull(toString(period), '')), 1)), ['s', 'm', 'h', 'd'], [1, 60, 3600, 86400], 0)), 'UTC') AS bucket,
        argMax((long_short_ratio, long_account_ratio, short_account_ratio), (ifNull(collected_at, timestamp), _seq)) AS latest,
        count() AS publications, uniqExact(long_short_ratio, long_account_ratio, short_account_ratio) - 1 AS revisions
    FROM `marketprism_hot`.`all_lsr_all_accounts`
    GROUP BY exchange, market_type, symbol, period, bucket
)
)
COMMENT 'marketprism view 3fbee267623c';
