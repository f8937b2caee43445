"""What a message must keep to in order to become a row, where that is a pipeline's to say."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from .meta import Int, Model
from .types import MarketType


@dataclass(frozen=True, slots=True)
class MessageLimits:
    """Two processes with other limits make other rows of a message."""

    max_levels: int = 10_000
    """Of one side of an order book."""
    positive_prices: frozenset[str] = frozenset(("spot", "perpetual", "options"))
    """Market types."""


_USUAL = MessageLimits()


class MessagesSpec(Model):
    """What a message must keep to. One that doesn't is a dead letter."""

    max_levels: Annotated[Int, Field(ge=1, le=1_000_000, json_schema_extra={"format": "int32"})] = _USUAL.max_levels
    """Of one side of an order book: a book with more is a dead letter."""
    positive_prices: Annotated[
        tuple[MarketType, ...], Field(max_length=16, json_schema_extra={"x-kubernetes-list-type": "set"})
    ] = tuple(MarketType(each) for each in sorted(_USUAL.positive_prices))
    """Market types in which a price of zero or less is a dead letter. In others there are such prices: of spreads and combos, of
    futures on power or oil."""

    @property
    def limits(self) -> MessageLimits:
        """As the consumer takes them."""
        return MessageLimits(self.max_levels, frozenset(str(each) for each in self.positive_prices))
