"""A cut that somebody left, perhaps this process before a doubt: the same block again, if it can be the same."""

from __future__ import annotations

from marketprism_consumer.errors import BrokerError, MessageError
from marketprism_consumer.ingest.decode import Row
from marketprism_consumer.ingest.epochs import record_done
from marketprism_consumer.ingest.insert import Sent, insert
from marketprism_consumer.ingest.lane import Bad, Lane
from marketprism_consumer.ingest.message import Message
from marketprism_consumer.ingest.ranges import read_range
from marketprism_consumer.ingest.record import Claim, Cut


async def send_again(lane: Lane, claim: Claim, cut: Cut) -> bool:
    """True where it is stored, and recorded so; False where that needs a new epoch. Raises AgainError, BrokerError."""
    if cut.epoch or cut.rules != lane.rules or await lane.patiently(lane.store.clock) > cut.until:
        return False
    messages = await read_range(lane, claim.done, cut.end)
    if not messages or (messages[-1].seq, messages[-1].arrived) != (cut.end, cut.mark):
        return False  # gone: whether it was stored is looked up when nothing of it can be on its way any more
    good: list[Message] = []
    rows: list[Row] = []
    bad: list[Bad] = []
    for message in messages:
        try:
            rows.append(lane.decoded(message))
            good.append(message)
        except MessageError as refusal:
            bad.append((message, refusal))
    if good:
        streams = [lane.present_stream] * len(good)
        sent, _ = await insert(lane, good, rows, streams, cut.token, cut.until, doubt=True)
        if sent is not Sent.STORED:
            return False
    try:
        await lane.bury(bad)
    except BrokerError as refused:
        lane.alarm(refused.reason, seq=bad[0][0].seq, error=str(refused))
        return False
    await record_done(lane, claim.id, cut)
    return True
