"""What can't be a row goes into a JetStream stream of its own, whole, with the reason in its headers.

Each dead letter has a subject of its own, made of the message's identity, and is published only where that subject is still
empty. So a message that is buried twice (a crash before its ack) is one dead letter, however long ago the first was.

NATS gives a subject to one stream only: those of a dead-letter stream have its name, so that an account may have several.

With the headers a payload may be larger than NATS lets through. Then its rest is published before it, in parts; the letter names them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import blake2b
from typing import Protocol

from marketprism_api import reasons
from marketprism_api.reasons import Reason
from marketprism_consumer import times
from marketprism_consumer.errors import MessageError, StoreError
from marketprism_consumer.ingest.message import Message
from marketprism_consumer.ingest.values import shown

SUBJECT_PREFIX = "marketprism.dlq"

REASON = "Marketprism-Reason"
FIELD = "Marketprism-Field"
DETAIL = "Marketprism-Detail"
SUBJECT = "Marketprism-Subject"
STREAM = "Marketprism-Stream"
SEQ = "Marketprism-Seq"
TIME = "Marketprism-Time"
CODE = "Marketprism-Clickhouse-Code"
REST = "Marketprism-Payload-Rest"
"""The parts of the payload that have no place in the letter, each as `<start>-<end>`, separated by blanks."""
PARTS = "rest"  # in the place of the data type: a letter's subject never has it

Span = tuple[int, int]


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """`stream` is the identity that the row would have had (`_stream`); `code` is ClickHouse's, 0 where it had none."""

    message: Message
    data_type: str
    stream: str
    reason: Reason
    field: str = ""
    detail: str = ""
    code: int = 0

    @classmethod
    def of(cls, message: Message, refusal: MessageError, data_type: str, stream: str) -> DeadLetter:
        return cls(message, data_type, stream, refusal.reason, refusal.field, refusal.detail)

    @classmethod
    def refused(cls, message: Message, refused: StoreError, data_type: str, stream: str) -> DeadLetter:
        return cls(message, data_type, stream, reasons.ROW_REFUSED, detail=shown(str(refused), 300), code=refused.code)

    def headers(self) -> dict[str, str]:
        found = {
            REASON: str(self.reason),
            FIELD: self.field,
            DETAIL: self.detail,
            SUBJECT: header_safe(self.message.subject),
            STREAM: self.stream,
            SEQ: str(self.message.seq),
            TIME: times.iso(self.message.arrived),
            CODE: str(self.code) if self.code else "",
        }
        return {name: value for name, value in found.items() if value}

    def subject(self, graveyard: str) -> str:
        """In the dead-letter stream of that name."""
        return f"{prefix_of(graveyard, self.data_type, self.stream)}.{self.message.seq}.{self.message.arrived}"


def subjects_of(graveyard: str, data_type: str = "") -> str:
    """The pattern of all that is in the dead-letter stream of that name; or of a data type's letters there."""
    return f"{SUBJECT_PREFIX}.{graveyard}.{data_type}.>" if data_type else f"{SUBJECT_PREFIX}.{graveyard}.>"


def prefix_of(graveyard: str, data_type: str, stream: str) -> str:
    """Of the subjects `marketprism.dlq.<dead-letter stream>.<data type>.<stream>.<hash of its identity>.<seq>.<arrived, µs>`: one
    message, one subject. The time is there for a stream that went backwards and gives a sequence to another message."""
    name = stream.partition("@")[0]
    return f"{SUBJECT_PREFIX}.{graveyard}.{data_type}.{name}.{blake2b(stream.encode(), digest_size=6).hexdigest()}"


def data_type_of(subject: str) -> str:
    """Of a letter; PARTS of a part of one."""
    return subject.removeprefix(f"{SUBJECT_PREFIX}.").split(".", 2)[1]


def part_subject(letter: str, part: Span) -> str:
    """Of a part of the payload of the letter with that subject."""
    graveyard, _, place = letter.removeprefix(f"{SUBJECT_PREFIX}.").partition(".")
    return f"{SUBJECT_PREFIX}.{graveyard}.{PARTS}.{place}.{part[0]}-{part[1]}"


def spans(headers: Mapping[str, str]) -> list[Span]:
    """Raises ValueError where the header is not ours."""
    found = [each.split("-") for each in headers.get(REST, "").split()]
    return [(int(start), int(end)) for start, end in found]


def place_of(subject: str) -> tuple[int, int]:
    """The (sequence, arrival [µs]) in a dead letter's subject."""
    _, seq, arrived = subject.rsplit(".", 2)
    return int(seq), int(arrived)


def header_safe(text: str) -> str:
    """A header is one line: anything that is not printable ASCII is escaped."""
    return text if text.isascii() and text.isprintable() else shown(text, 1000)


def origin(headers: Mapping[str, str]) -> tuple[str, int]:
    """The identity (stream, sequence) of the message that a dead letter holds."""
    return headers[STREAM], int(headers[SEQ])


class Graveyard(Protocol):
    async def bury(self, letter: DeadLetter) -> None:
        """Returns when the dead letter is surely in its stream. Raises BrokerError where it can't be."""

    async def buried(self, data_type: str, stream: str) -> set[tuple[int, int]]:
        """(sequence, arrival [µs]) of the messages of this origin that are dead letters. Raises BrokerError."""
