"""The eight data types: a closed set, each with its subject, its table and its batch."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

_MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class BatchLimits:
    """When rows are written. A batch is due at `max_rows`, `max_bytes` or `max_delay`, whichever comes first."""

    max_rows: int
    max_delay: float
    """Seconds since the batch's first row."""
    max_pending: int
    """Messages read and not stored. A batch that is due takes what has piled up, up to this many."""
    max_bytes: int = 8 * _MIB
    """Bytes of payload."""


class DataType(StrEnum):
    """What a message is about: the first token of its subject."""

    ORDERBOOK = "orderbook"
    TRADE = "trade"
    FUNDING_RATE = "funding_rate"
    OPEN_INTEREST = "open_interest"
    LIQUIDATION = "liquidation"
    LSR_TOP_POSITION = "lsr_top_position"
    LSR_ALL_ACCOUNT = "lsr_all_account"
    VOLATILITY_INDEX = "volatility_index"

    @property
    def subject(self) -> str:
        """The subjects that carry it, `trade.>`."""
        return f"{self.value}.>"

    @property
    def table(self) -> str:
        """The table that keeps it, in both databases."""
        return _TABLES[self]

    @property
    def batch(self) -> BatchLimits:
        """The batch that the product promises where a user says nothing."""
        return _BATCHES[self]


_TABLES = {
    DataType.ORDERBOOK: "orderbooks",
    DataType.TRADE: "trades",
    DataType.FUNDING_RATE: "funding_rates",
    DataType.OPEN_INTEREST: "open_interests",
    DataType.LIQUIDATION: "liquidations",
    DataType.LSR_TOP_POSITION: "lsr_top_positions",
    DataType.LSR_ALL_ACCOUNT: "lsr_all_accounts",
    DataType.VOLATILITY_INDEX: "volatility_indices",
}

_BATCHES = {
    DataType.ORDERBOOK: BatchLimits(100, 10, 1000, 16 * _MIB),
    DataType.TRADE: BatchLimits(100, 10, 1000),
    DataType.FUNDING_RATE: BatchLimits(10, 2, 500),
    DataType.OPEN_INTEREST: BatchLimits(50, 10, 500),
    DataType.LIQUIDATION: BatchLimits(5, 10, 200),
    DataType.LSR_TOP_POSITION: BatchLimits(1, 1, 50),
    DataType.LSR_ALL_ACCOUNT: BatchLimits(1, 1, 50),
    DataType.VOLATILITY_INDEX: BatchLimits(1, 1, 50),
}

TABLES: tuple[str, ...] = tuple(_TABLES.values())
"""Every table, in the order of the data types."""
