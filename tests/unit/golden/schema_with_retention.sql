CREATE DATABASE IF NOT EXISTS `marketprism_hot`;

CREATE TABLE IF NOT EXISTS `marketprism_hot`.`orderbooks`
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
ENGINE = MergeTree
PARTITION BY toStartOfHour(timestamp)
ORDER BY (exchange, market_type, symbol, timestamp)
TTL toDateTime(created_at) + toIntervalSecond(259200)
SETTINGS non_replicated_deduplication_window = 10000;

CREATE TABLE IF NOT EXISTS `marketprism_hot`.`trades`
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
ENGINE = MergeTree
PARTITION BY toStartOfHour(timestamp)
ORDER BY (exchange, market_type, symbol, timestamp)
TTL toDateTime(created_at) + toIntervalSecond(259200)
SETTINGS non_replicated_deduplication_window = 10000;

CREATE TABLE IF NOT EXISTS `marketprism_hot`.`funding_rates`
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
ENGINE = MergeTree
PARTITION BY toStartOfHour(timestamp)
ORDER BY (exchange, market_type, symbol, timestamp)
TTL toDateTime(created_at) + toIntervalSecond(259200)
SETTINGS non_replicated_deduplication_window = 10000;

CREATE TABLE IF NOT EXISTS `marketprism_hot`.`open_interests`
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
ENGINE = MergeTree
PARTITION BY toStartOfHour(timestamp)
ORDER BY (exchange, market_type, symbol, timestamp)
TTL toDateTime(created_at) + toIntervalSecond(259200)
SETTINGS non_replicated_deduplication_window = 10000;

CREATE TABLE IF NOT EXISTS `marketprism_hot`.`liquidations`
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
ENGINE = MergeTree
PARTITION BY toStartOfHour(timestamp)
ORDER BY (exchange, market_type, symbol, timestamp)
TTL toDateTime(created_at) + toIntervalSecond(259200)
SETTINGS non_replicated_deduplication_window = 10000;

CREATE TABLE IF NOT EXISTS `marketprism_hot`.`lsr_top_positions`
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
ENGINE = MergeTree
PARTITION BY toStartOfHour(timestamp)
ORDER BY (exchange, market_type, symbol, timestamp)
TTL toDateTime(created_at) + toIntervalSecond(259200)
SETTINGS non_replicated_deduplication_window = 10000;

CREATE TABLE IF NOT EXISTS `marketprism_hot`.`lsr_all_accounts`
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
ENGINE = MergeTree
PARTITION BY toStartOfHour(timestamp)
ORDER BY (exchange, market_type, symbol, timestamp)
TTL toDateTime(created_at) + toIntervalSecond(259200)
SETTINGS non_replicated_deduplication_window = 10000;

CREATE TABLE IF NOT EXISTS `marketprism_hot`.`volatility_indices`
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
ENGINE = MergeTree
PARTITION BY toStartOfHour(timestamp)
ORDER BY (exchange, market_type, symbol, timestamp)
TTL toDateTime(created_at) + toIntervalSecond(259200)
SETTINGS non_replicated_deduplication_window = 10000;

CREATE DATABASE IF NOT EXISTS `marketprism_cold`;

CREATE TABLE IF NOT EXISTS `marketprism_cold`.`orderbooks`
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
ENGINE = MergeTree
PARTITION BY toYYYYMMDD(timestamp)
ORDER BY (exchange, market_type, symbol, timestamp)
SETTINGS non_replicated_deduplication_window = 10000;

CREATE TABLE IF NOT EXISTS `marketprism_cold`.`trades`
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
ENGINE = MergeTree
PARTITION BY toYYYYMMDD(timestamp)
ORDER BY (exchange, market_type, symbol, timestamp)
SETTINGS non_replicated_deduplication_window = 10000;

CREATE TABLE IF NOT EXISTS `marketprism_cold`.`funding_rates`
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
ENGINE = MergeTree
PARTITION BY toYYYYMMDD(timestamp)
ORDER BY (exchange, market_type, symbol, timestamp)
SETTINGS non_replicated_deduplication_window = 10000;

CREATE TABLE IF NOT EXISTS `marketprism_cold`.`open_interests`
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
ENGINE = MergeTree
PARTITION BY toYYYYMMDD(timestamp)
ORDER BY (exchange, market_type, symbol, timestamp)
SETTINGS non_replicated_deduplication_window = 10000;

CREATE TABLE IF NOT EXISTS `marketprism_cold`.`liquidations`
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
ENGINE = MergeTree
PARTITION BY toYYYYMMDD(timestamp)
ORDER BY (exchange, market_type, symbol, timestamp)
SETTINGS non_replicated_deduplication_window = 10000;

CREATE TABLE IF NOT EXISTS `marketprism_cold`.`lsr_top_positions`
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
ENGINE = MergeTree
PARTITION BY toYYYYMMDD(timestamp)
ORDER BY (exchange, market_type, symbol, timestamp)
SETTINGS non_replicated_deduplication_window = 10000;

CREATE TABLE IF NOT EXISTS `marketprism_cold`.`lsr_all_accounts`
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
ENGINE = MergeTree
PARTITION BY toYYYYMMDD(timestamp)
ORDER BY (exchange, market_type, symbol, timestamp)
SETTINGS non_replicated_deduplication_window = 10000;

CREATE TABLE IF NOT EXISTS `marketprism_cold`.`volatility_indices`
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
ENGINE = MergeTree
PARTITION BY toYYYYMMDD(timestamp)
ORDER BY (exchange, market_type, symbol, timestamp)
SETTINGS non_replicated_deduplication_window = 10000;
