"""What counts as wrong in stored data, by data type: limits with defaults, and what a pipeline's file may say of them."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

from pydantic import Field

from .data_types import Declaration, ValidationLimits
from .messages import MessageLimits
from .meta import Bool, Int, Model
from .types import Between, Cron, DataTypeName, Duration, Quantity, Ratio, TimeZone

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
        dict[DataTypeName, LimitsSpec],
        Field(max_length=24),
    ] = Field(default_factory=dict)
    """By data type."""

    def of(self, declaration: Declaration, messages: MessageLimits) -> ValidationLimits:
        """What was given, over the data type's defaults."""
        given = self.limits.get(DataTypeName(declaration.name), LimitsSpec())
        values = {name: getattr(given, name) for name in given.model_fields_set}
        return replace(
            declaration.validation,
            positive_prices=messages.positive_prices,
            **{name: _plain(value) for name, value in values.items() if value is not None},
        )


def _plain(value: Duration | Quantity | Ratio | int) -> float:
    if isinstance(value, Duration):
        return value.seconds
    return float(value.value) if isinstance(value, Quantity | Ratio) else value
