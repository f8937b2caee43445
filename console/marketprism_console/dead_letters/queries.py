"""One dead letter, whole."""

from __future__ import annotations

from marketprism_console.sources import Sources
from marketprism_consumer.errors import MessageError
from marketprism_consumer.operations.dlq import DeadLetterStream, Letter, printable_payload

SHOWN = 20_000
"""Of a payload's characters; a book has a hundred thousand."""


async def letter(sources: Sources, seq: int) -> tuple[Letter, str] | None:
    """With its payload as text; None where it is gone. Raises one of `sources.AWAY`."""
    stream = DeadLetterStream(await sources.broker(), sources.settings.dead_letters.stream)
    found = await stream.get(seq)
    if found is None:
        return None
    try:
        payload = printable_payload(await stream.whole(found))
    except MessageError as refusal:
        payload = f"{printable_payload(found.payload)}\n… {refusal}"
    return found, payload if len(payload) <= SHOWN else f"{payload[:SHOWN]}\n… {len(payload) - SHOWN:,} characters more"
