"""What counts as wrong in stored data, by data type: limits with defaults, and what a pipeline's file may say of them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated

from pydantic import Field

from .cel import CelRule, one_of
from .data_types import DataType
from .messages import MessageLimits
from .meta import Bool, Int, Model
from .types import Between, Cron, Duration, Quantity, Ratio, TimeZone


@dataclass(frozen=True, slots=True)
class ValidationLimits:
    """Times in seconds. 0 switches a check off."""

    max_silence: float = 0
    """Between two rows of one symbol, and since its last; never less than 20 times its usual pause."""
    max_jump: float = 0
    """A price against the median of the five before and the five after it: 0.1 is a tenth off."""
    max_value: float = 0
    """Of a price, rate, ratio, index or open interest, whichever sign it has."""
    max_quantity: float = 0
    max_ahead: float = 2
    """How far an event's time may lie after its arrival at the collector."""
    max_delay: float = 60
    """How long after its time an event may arrive."""
    max_unknown_sides: float = 0
    """The part of the rows that may have the side `unknown`."""
    max_repeats: float = 0
    """Publications of one source bucket."""
    positive_prices: frozenset[str] = MessageLimits().positive_prices
    """Market types in which no price is zero or less."""


_RATIO = ValidationLimits(max_silence=3 * 3600, max_value=1e4, max_delay=3 * 3600, max_repeats=1000)
DEFAULTS: dict[DataType, ValidationLimits] = {
    DataType.ORDERBOOK: ValidationLimits(max_silence=300, max_jump=0.1, max_value=1e9, max_quantity=1e15),
    DataType.TRADE: ValidationLimits(
        max_silence=300, max_jump=0.1, max_value=1e9, max_quantity=1e15, max_unknown_sides=0.1
    ),
    # A venue may stamp a rate with the time at which it will be settled, hours ahead.
    DataType.FUNDING_RATE: ValidationLimits(max_silence=3600, max_value=0.1, max_ahead=0, max_delay=600),
    DataType.OPEN_INTEREST: ValidationLimits(max_silence=3600, max_value=1e18, max_delay=600),
    DataType.LIQUIDATION: ValidationLimits(max_value=1e9, max_quantity=1e15, max_delay=300, max_unknown_sides=0.1),
    DataType.LSR_TOP_POSITION: _RATIO,
    DataType.LSR_ALL_ACCOUNT: _RATIO,
    DataType.VOLATILITY_INDEX: ValidationLimits(max_silence=3600, max_value=1e3, max_delay=600),
}

_Time = Annotated[Duration, Between("10ms", "720h", or_zero=True)]


class LimitsSpec(Model):
    """What isn't given takes the data type's own default; 0 switches a check off."""

    max_silence: _Time | None = None
    """Between two rows of a symbol, and since its last row. Never less than 20 times its usual pause."""
    max_jump: Ratio | None = None
    """How far a price may be from the median of its neighbours: "0.1" is a tenth."""
    max_value: Quantity | None = None
    """Of a price, rate, ratio, index or open interest."""
    max_quantity: Quantity | None = None
    """Of a trade, liquidation or level."""
    max_ahead: _Time | None = None
    """How far an event's time may lie after its arrival at the collector."""
    max_delay: _Time | None = None
    """How long after its time an event may arrive."""
    max_unknown_sides: Ratio | None = None
    """The part of a symbol's rows that may have the side `unknown`."""
    max_repeats: Annotated[Int, Field(ge=0, le=1_000_000, json_schema_extra={"format": "int32"})] | None = None
    """How often one bucket of a ratio may be published."""


class ValidationSpec(Model):
    """What `marketprism validate` looks for, and when the operator has it look."""

    schedule: Cron | None = None
    """Five cron fields: a CronJob that validates. Not given: none."""
    time_zone: TimeZone | None = None
    """For `schedule`. Not given: the cluster's own, as a rule UTC."""
    suspend: Bool = False
    """true starts no further run."""
    window: Annotated[Duration, Between("1m", "8760h")] = Duration("24h")
    """How far back a run looks."""
    limits: Annotated[
        dict[DataType, LimitsSpec],
        Field(max_length=8),
        CelRule(f"self.all(key, key in {one_of(DataType)})", f"a data type must be one of: {', '.join(DataType)}"),
    ] = Field(default_factory=dict)
    """By data type."""

    def of(self, data_type: DataType, messages: MessageLimits) -> ValidationLimits:
        """What was given, over the data type's defaults."""
        given = self.limits.get(data_type, LimitsSpec())
        values = {name: getattr(given, name) for name in given.model_fields_set}
        return replace(
            DEFAULTS[data_type],
            positive_prices=messages.positive_prices,
            **{name: _plain(value) for name, value in values.items() if value is not None},
        )


def _plain(value: Duration | Quantity | Ratio | int) -> float:
    if isinstance(value, Duration):
        return value.seconds
    return float(value.value) if isinstance(value, Quantity | Ratio) else value
