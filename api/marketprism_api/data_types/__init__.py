"""The eight data types that are built in, one file each. A pipeline may change where they are found, and declare its own."""

from __future__ import annotations

from collections.abc import Mapping

from .declaration import BatchLimits, Declaration, DeclaredField, Levels, ValidationLimits
from .funding_rate import FUNDING_RATE
from .liquidation import LIQUIDATION
from .lsr_all_account import LSR_ALL_ACCOUNT
from .lsr_top_position import LSR_TOP_POSITION
from .open_interest import OPEN_INTEREST
from .orderbook import ORDERBOOK
from .trade import TRADE
from .volatility_index import VOLATILITY_INDEX

__all__ = ["BUILT_IN", "BatchLimits", "Declaration", "DeclaredField", "Levels", "ValidationLimits"]

BUILT_IN: Mapping[str, Declaration] = {
    each.name: each
    for each in (
        ORDERBOOK,
        TRADE,
        FUNDING_RATE,
        OPEN_INTEREST,
        LIQUIDATION,
        LSR_TOP_POSITION,
        LSR_ALL_ACCOUNT,
        VOLATILITY_INDEX,
    )
}
"""By name, in the order in which they are shown."""
