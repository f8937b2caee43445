"""The dead letters: read, and given a second chance under the identity that their message has always had.

A replay is exactly once, whatever is killed: looked up first, inserted under a token, and only then deleted. What is left
in between is found by the next look-up. Only of messages that their lane's record says are done: one that ingest still looks
up would slip through between row and dead letter.
"""

from __future__ import annotations

import base64
import sys
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from marketprism_api import reasons
from marketprism_api.data_types import Declaration
from marketprism_api.messages import MessageLimits
from marketprism_api.reasons import Reason
from marketprism_api.subjects import matches
from marketprism_consumer import times
from marketprism_consumer.clickhouse.store import ClickHouseStore
from marketprism_consumer.errors import BrokerError, MessageError
from marketprism_consumer.ingest import dead_letters
from marketprism_consumer.ingest.decode import Row, decode
from marketprism_consumer.ingest.identity import stream_identity
from marketprism_consumer.ingest.lane_id import lane_of
from marketprism_consumer.ingest.record import Record
from marketprism_consumer.ingest.values import micros, shown
from marketprism_consumer.jetstream.broker import NatsBroker
from marketprism_consumer.jetstream.records import NatsRecords
from marketprism_consumer.jetstream.stream_reader import StreamReader, parse_headers
from marketprism_consumer.operations import lanes
from marketprism_consumer.operations.restore import Restorable, Restore
from marketprism_consumer.schema.tables import Table, table_of

READ_AT_ONCE = 1_000
REPLAYER = "marketprism-dlq-replay"
MESSAGE_NOT_FOUND = 10037


@dataclass(frozen=True, slots=True)
class Letter:
    """A dead letter. `seq` and `buried` [µs UTC] are its place in the dead-letter stream; `payload` is empty where only
    the headers were asked for."""

    seq: int
    buried: int
    subject: str
    data_type: str
    headers: dict[str, str]
    payload: bytes

    @classmethod
    def of(cls, seq: int, buried: int, subject: str, headers: bytes, payload: bytes) -> Letter:
        return cls(seq, buried, subject, dead_letters.data_type_of(subject), parse_headers(headers), payload)

    def header(self, name: str) -> str:
        return self.headers.get(name, "")

    @property
    def code(self) -> str:
        return self.header(dead_letters.REASON).partition(" ")[0]

    @property
    def reason(self) -> Reason | None:
        """None where a later version wrote a reason that this one does not know."""
        return reasons.ALL.get(self.code)

    def origin(self) -> tuple[str, int]:
        """The message's identity: stream and sequence. Raises MessageError where the headers don't have it."""
        try:
            return dead_letters.origin(self.headers)
        except (KeyError, ValueError):
            raise MessageError(
                reasons.MISSING_FIELD, dead_letters.SEQ, "not one of ours: its headers lack an identity"
            ) from None

    @property
    def parts(self) -> list[str]:
        """The subjects of the rest of its payload. Raises MessageError where the header is not ours."""
        try:
            return [dead_letters.part_subject(self.subject, span) for span in dead_letters.spans(self.headers)]
        except ValueError:
            raise MessageError(reasons.BAD_TEXT, dead_letters.REST, shown(self.header(dead_letters.REST))) from None


@dataclass(frozen=True, slots=True)
class LetterFilter:
    """Which dead letters. `since` and `before` are times of burial [µs UTC]."""

    data_type: str = ""
    reason: str = ""
    seqs: frozenset[int] = frozenset()
    since: int | None = None
    before: int | None = None

    def __call__(self, letter: Letter) -> bool:
        return (
            letter.data_type != dead_letters.PARTS
            and (not self.reason or letter.code == self.reason)
            and (not self.data_type or letter.data_type == self.data_type)
            and (not self.seqs or letter.seq in self.seqs)
            and (self.since is None or letter.buried >= self.since)
            and (self.before is None or letter.buried < self.before)
        )


def code_of(text: str) -> str:
    """A reason as people write it, `MP2203` or `baddecimal`, as its code. Raises ValueError."""
    lowered = text.lower()
    for reason in reasons.ALL.values():
        if lowered in (reason.code.lower(), reason.name.lower()):
            return reason.code
    known = ", ".join(
        f"{reason.code} {reason.name}" for reason in reasons.ALL.values() if reason.code.startswith("MP2")
    )
    raise ValueError(f"{text!r} is not a reason; the reasons are {known}")


# --- the stream -------------------------------------------------------------------------------------------------------


class DeadLetterStream:
    """The dead-letter stream of a pipeline. One that does not exist yet has no dead letters."""

    def __init__(self, broker: NatsBroker, name: str) -> None:
        self._broker, self._name = broker, name

    async def batches(
        self, wanted: LetterFilter, *, headers_only: bool = False, alone: bool = False
    ) -> AsyncIterator[list[Letter]]:
        """Those wanted, oldest first. `alone`: as the only replay; raises ReaderRunsError. Raises BrokerError."""
        reader = StreamReader(
            self._broker,
            self._name,
            [dead_letters.subjects_of(self._name, wanted.data_type)],
            first=min(wanted.seqs, default=1),
            headers_only=headers_only,
            name=REPLAYER if alone else "",
        )
        try:
            async with reader:
                async for messages in reader.batches(READ_AT_ONCE):
                    letters = [Letter.of(m.seq, m.arrived, m.subject, m.headers, m.payload) for m in messages]
                    if chosen := [letter for letter in letters if wanted(letter)]:
                        yield chosen
        except BrokerError as refused:
            if refused.reason is not reasons.STREAM_MISSING:
                raise

    async def get(self, seq: int) -> Letter | None:
        found = await raw_message(self._broker, self._name, {"seq": seq})
        if found is None or not matches(dead_letters.subjects_of(self._name), found["subject"]):
            return None
        if dead_letters.data_type_of(found["subject"]) == dead_letters.PARTS:
            return None
        buried = micros(found["time"], "time")
        headers, payload = (base64.b64decode(found.get(part, "")) for part in ("hdrs", "data"))
        return Letter.of(seq, buried, found["subject"], headers, payload)

    async def whole(self, letter: Letter) -> bytes:
        """Its message's payload. Raises MessageError where a part of it is gone."""
        payload = letter.payload
        for subject in letter.parts:
            part = await self._part(subject)
            if part is None:
                raise MessageError(reasons.BAD_JSON, detail=f"the rest of its payload is gone: {subject}")
            payload += base64.b64decode(part.get("data", ""))
        return payload

    async def _part(self, subject: str) -> dict[str, Any] | None:
        return await raw_message(self._broker, self._name, {"last_by_subj": subject})

    async def delete(self, letters: Iterable[Letter]) -> int:
        """How many there still were."""
        deleted = 0
        for letter in letters:
            deleted += await self._delete(letter.seq)
            for subject in letter.parts:
                if part := await self._part(subject):
                    await self._delete(part["seq"])
        return deleted

    async def _delete(self, seq: int) -> bool:
        try:
            await self._broker.api(f"STREAM.MSG.DELETE.{self._name}", {"seq": seq, "no_erase": True})
        except BrokerError as refused:
            if refused.code not in GONE:
                raise
            return False
        return True


GONE = (MESSAGE_NOT_FOUND, 10043, 10057)
"""What JetStream says of a sequence that it does not hold (any more)."""


async def raw_message(broker: NatsBroker, stream: str, which: dict[str, Any]) -> dict[str, Any] | None:
    """None where the stream does not hold it, or does not exist."""
    try:
        found: dict[str, Any] = (await broker.api(f"STREAM.MSG.GET.{stream}", which))["message"]
        return found
    except BrokerError as refused:
        if refused.reason is reasons.STREAM_MISSING or refused.code in GONE:
            return None
        raise


# --- replay -----------------------------------------------------------------------------------------------------------

NOT_NOW = "ingest has not done with its block yet, or another letter of its sequence comes first: again later"

ReplayState = Literal["replayed", "stored before", "stays"]
_STATES: dict[str, ReplayState] = {"stored": "replayed", "stored before": "stored before", "refused": "stays"}


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a replay did, or would do, with a dead letter."""

    letter: Letter
    state: ReplayState
    why: str = ""


Decoded = tuple[Letter, Row]


class Replay:
    """`tiers`: where a row may be already; the first is where rows are inserted. `records`: of the lanes into it."""

    def __init__(
        self,
        broker: NatsBroker,
        records: NatsRecords,
        stream: DeadLetterStream,
        tiers: Sequence[ClickHouseStore],
        declarations: Mapping[str, Declaration],
        limits: MessageLimits,
    ) -> None:
        self._broker, self._records, self._stream, self._hot = broker, records, stream, tiers[0]
        self._declarations, self._limits = declarations, limits
        self._restore: Restore[Letter] = Restore(tiers)

    async def run(self, letters: Sequence[Letter]) -> list[Outcome]:
        """Raises BrokerError, and StoreError where ClickHouse can't be asked."""
        entries, stay = await self.decode(letters)
        outcomes = await self.store(entries)
        await self._stream.delete(outcome.letter for outcome in outcomes if outcome.state != "stays")
        return [*outcomes, *stay]

    async def decode(self, letters: Sequence[Letter]) -> tuple[list[Decoded], list[Outcome]]:
        """Rows, and what still can't be one."""
        entries: list[Decoded] = []
        stay: list[Outcome] = []
        for letter in letters:
            try:
                entries.append((letter, await self._row(letter)))
            except MessageError as refusal:
                stay.append(Outcome(letter, "stays", str(refusal)))
        return entries, stay

    async def store(self, entries: Sequence[Decoded]) -> list[Outcome]:
        """Returns when each is in the table or refused. Nothing is deleted from the stream."""
        groups: dict[tuple[str, str], list[Decoded]] = {}
        for letter, row in entries:
            groups.setdefault((letter.data_type, letter.origin()[0]), []).append((letter, row))
        outcomes: list[Outcome] = []
        for (data_type, stream), group in groups.items():
            table = table_of(self._declarations[data_type])
            until = await self._restore.until()
            record = await self._record(table, stream)
            now: dict[int, Restorable[Letter]] = {}
            for letter, row in group:
                seq = letter.origin()[1]
                if record.is_done(seq) and seq not in now:
                    now[seq] = (letter, seq, row)
                else:
                    outcomes.append(Outcome(letter, "stays", NOT_NOW))
            restored = await self._restore.store(table, stream, list(now.values()), until, generation=record.generation)
            outcomes += [Outcome(letter, _STATES[state], why) for letter, state, why in restored]
        return outcomes

    async def _record(self, table: Table, stream: str) -> Record:
        """Of the lane that the letters come from; one in which all is done where their stream is not there any more, one in
        which nothing is where there is none."""
        name = stream.partition("@")[0]
        gone = Record(name, "", "", "", done=sys.maxsize)
        try:
            id_ = await lane_of(self._broker, self._hot, table, name, self._declarations[table.data_type].subject)
        except BrokerError as refused:
            if refused.reason not in (reasons.STREAM_MISSING, reasons.STREAM_UNFIT):
                raise
            return gone
        if stream_identity(name, id_.created) != stream:
            return gone
        return (await lanes.read(self._records, id_)).record or id_.empty_record()

    async def _row(self, letter: Letter) -> Row:
        declaration = self._declarations.get(letter.data_type)
        if declaration is None:
            detail = f"{letter.data_type} is not a data type of the pipeline"
            raise MessageError(reasons.SUBJECT_MISMATCH, detail=detail)
        letter.origin()  # raises where there is none
        payload = await self._stream.whole(letter)
        arrived = micros(letter.header(dead_letters.TIME), dead_letters.TIME)
        return decode(declaration, letter.header(dead_letters.SUBJECT), payload, arrived, self._limits)


# --- for people -------------------------------------------------------------------------------------------------------


def printable(text: str, keep: Callable[[str], bool] = lambda _: False) -> str:
    """Control characters and the like as `\\x1b`: what comes from a message must not steer a terminal."""
    return "".join(c if c.isprintable() or keep(c) else c.encode("unicode_escape").decode() for c in text)


def printable_payload(payload: bytes) -> str:
    return printable(payload.decode(errors="backslashreplace"), lambda c: c == "\n")


def as_dict(letter: Letter) -> dict[str, Any]:
    reason = letter.reason
    return {
        "seq": letter.seq,
        "buried": times.iso(letter.buried),
        "dataType": letter.data_type,
        "reason": letter.header(dead_letters.REASON),
        "text": reason.text if reason else "",
        "hint": reason.hint if reason else "",
        "field": letter.header(dead_letters.FIELD),
        "detail": letter.header(dead_letters.DETAIL),
        "subject": letter.header(dead_letters.SUBJECT),
        "stream": letter.header(dead_letters.STREAM),
        "streamSeq": letter.header(dead_letters.SEQ),
        "arrived": letter.header(dead_letters.TIME),
        "clickhouseCode": letter.header(dead_letters.CODE),
        "parts": 1 + len(letter.parts),
    }
