"""What was healed, in words. Pure."""

from __future__ import annotations

from marketprism_console.coverage.chart import name
from marketprism_consumer import times
from marketprism_consumer.schema.incidents import Incident


def healed(incident: Incident) -> str:
    """How many rows of which market came back, from where, and why they were missing."""
    market = name((incident.exchange, incident.market_type, incident.symbol))
    rows = f"{incident.healed:,} row{'s' if incident.healed != 1 else ''}"
    if incident.healed != incident.missing:
        rows = f"{incident.healed:,} of {incident.missing:,} rows"
    source = f"from the {'stream' if incident.how == 'replay' else 'file'} {incident.name}"
    first, last = times.shown(incident.since), times.shown(incident.until)
    said = f"{market}, {first if first == last else f'{first} to {last}'}: {rows} {source}"
    if incident.why:
        said += f" ({incident.why})"
    if incident.disagreeing:
        said += f"; {incident.disagreeing:,} of it disagree with what is there, and were left"
    return said if incident.ended else f"{said}; begun and not ended: run `marketprism heal` again"
