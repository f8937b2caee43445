"""What an error of JetStream's API means for us, by its code (nats-server's server/errors.json)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from marketprism_api import reasons
from marketprism_api.reasons import Reason
from marketprism_consumer.errors import JetStreamError

STREAM_NOT_FOUND, CONSUMER_NOT_FOUND, NO_MESSAGE, NAME_IN_USE = 10059, 10014, 10037, 10058
WRONG_LAST_SEQUENCE = (10071, 10164)
JETSTREAM_OFF = (10039, 10076)
SUBJECTS_OVERLAP, FORGOTTEN_TOO_LATE = 10065, 10153

_REASONS: Mapping[Reason, tuple[int, ...]] = {
    reasons.STREAM_MISSING: (STREAM_NOT_FOUND,),
    reasons.NO_JETSTREAM: JETSTREAM_OFF,
    reasons.NATS_DENIED: (10035,),  # no such account
    # Of the account, of a stream, of the servers: consumers, streams, memory, storage, messages and their size, peers; and where
    # an account has none for what is to be made, or wants one named.
    reasons.NATS_LIMIT: (
        *(10002, 10005, 10023, 10026, 10027, 10028, 10047, 10053, 10054, 10077),
        *(10113, 10120, 10121, 10122),
    ),
    # A workqueue wants its consumers to acknowledge, to be durable, to share nothing.
    reasons.STREAM_UNFIT: (10084, 10098, 10099, 10100, 10101),
    # No leader yet, not this server's, a part of the cluster away, more requests than it works off.
    reasons.NATS_BUSY: (
        *(10004, 10006, 10007, 10008, 10009, 10041, 10075, 10118, 10119),
        *(10163, 10167, 10194, 10195),
    ),
}
REASONS: Mapping[int, Reason] = {code: reason for reason, codes in _REASONS.items() for code in codes}


def jetstream_error(subject: str, error: Mapping[str, Any]) -> JetStreamError:
    """Of an answer to a request on `subject`. A code that is not in the table keeps its words."""
    code = int(error.get("err_code", 0))
    detail = f"{subject}: {error.get('description')} ({code})"
    return JetStreamError(REASONS.get(code, reasons.NATS_REFUSED), detail, lasting=code in JETSTREAM_OFF, code=code)
