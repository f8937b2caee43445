"""The pipeline as boxes: what each says, how it looks, and in words what is not well. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from marketprism_api import reasons
from marketprism_api.reasons import Reason
from marketprism_console.colours import AXIS, BLUE, TEXT, TOOLTIP
from marketprism_consumer.commands.status import age
from marketprism_consumer.operations.status import NO_STREAM, READ, Status, Tier, TypeStatus

Tone = Literal["good", "warn", "bad", "idle"]
LAG = 10.0  # of what is stored in so many seconds, more than that waits: it falls behind [s]


@dataclass(frozen=True, slots=True)
class Box:
    """`name`: which stop of the way; `says`: lines, the first one the largest."""

    name: str
    says: tuple[str, ...]
    tone: Tone


@dataclass(frozen=True, slots=True)
class Trouble:
    data_type: str
    text: str
    hint: str
    tone: Tone = "bad"


def boxes(of_type: TypeStatus) -> tuple[Box, ...]:
    """From where it comes to where it stays."""
    read = of_type.state == READ
    behind = _behind(of_type)
    lag = "no record" if of_type.lag is None else f"{of_type.lag:,} waiting"
    aside = (f"{of_type.set_aside:,} set aside",) if of_type.set_aside else ()
    processes = f"{of_type.processes} process{'es' if of_type.processes != 1 else ''}"
    return (
        Box("stream", (of_type.stream or "-",), "bad" if of_type.state == NO_STREAM else "good"),
        Box("lane", (lag, of_type.state, processes, *aside), "bad" if not read else "warn" if behind else "good"),
        Box("hot", (f"{of_type.rate:,.1f} rows/s", *_tier(of_type.hot), _newest(of_type)), _stored(of_type)),
        Box("cold", _tier(of_type.cold), "good" if of_type.cold.rows else "idle"),
        Box("dead letters", (f"{of_type.dead_letters:,}",), "warn" if of_type.dead_letters else "idle"),
    )


def troubles(found: Status) -> list[Trouble]:
    """What is not well, worst first."""
    said = []
    for each in found.types:
        if each.state == NO_STREAM:
            said.append(_by(each, reasons.STREAM_MISSING))
        elif each.state != READ:
            said.append(
                Trouble(each.data_type, "nobody reads its stream", "start `marketprism ingest`, or look at the Pods")
            )
    for each in found.types:
        if each.state == READ and _behind(each):
            text = f"{each.lag:,} messages wait, more than are stored in {LAG:.0f} s"
            said.append(Trouble(each.data_type, text, "see docs/howto/scaling.md where it goes on", "warn"))
        if each.dead_letters:
            text = f"{_messages(each.dead_letters)} could not become rows"
            said.append(Trouble(each.data_type, text, "`marketprism dlq list` says why", "warn"))
    if found.validation and not found.validation.ok:
        said.append(Trouble("", found.validation.text, "`marketprism validate` says where", "warn"))
    return said


def rates(history: Sequence[tuple[float, Mapping[str, float]]]) -> dict[str, Any]:
    """A chart of rows stored per second, of all types together. `history`: at a time [s since 1970], by data type."""
    return {
        "animation": False,
        "useUTC": True,
        "grid": {"left": 8, "right": 12, "top": 28, "bottom": 4, "containLabel": True},
        "tooltip": {**TOOLTIP, "trigger": "axis"},
        "title": {
            "text": "rows stored per second",
            "left": 2,
            "top": -2,
            "textStyle": {"color": TEXT, "fontSize": 12, "fontWeight": "normal"},
        },
        "xAxis": {**AXIS, "type": "time", "splitLine": {"show": False}},
        "yAxis": {**AXIS, "type": "value", "min": 0},
        "series": [
            {
                "type": "line",
                "name": "rows/s",
                "showSymbol": False,
                "areaStyle": {"opacity": 0.15},
                "itemStyle": {"color": BLUE},
                "data": [[round(at * 1000), round(sum(of_type.values()), 1)] for at, of_type in history],
            }
        ],
    }


def _messages(count: int) -> str:
    return f"{count:,} message{'s' if count > 1 else ''}"


def _by(each: TypeStatus, reason: Reason) -> Trouble:
    return Trouble(each.data_type, f"{reason}: {reason.text}", reason.hint)


def _behind(of_type: TypeStatus) -> bool:
    return (of_type.lag or 0) > max(1000.0, LAG * of_type.rate)


def _stored(of_type: TypeStatus) -> Tone:
    return "good" if of_type.rate else "idle"


def _newest(of_type: TypeStatus) -> str:
    return "nothing yet" if of_type.age is None else f"newest {age(of_type.age)} ago"


def _tier(tier: Tier) -> tuple[str, ...]:
    return (f"{tier.rows:,} rows", f"{tier.bytes / 1e6:,.1f} MB, {tier.parts:,} parts") if tier.rows else ("no rows",)
