"""Everything that is raised on purpose, as one tree.

StorageError
├── MessageError             a message can't be a row
├── StoreError               ClickHouse refused a statement, or gave no usable answer
├── BrokerError              JetStream can't do what was asked
│   └── JetStreamError       … and said so by a code of its own
├── LoginError               there is nothing to log in at NATS with
├── StreamError              a stream is not as the pipeline needs it
│   ├── SubjectsTakenError
│   ├── StreamLackingError
│   └── DomainUnnamedError
├── TieringError             a table, or a slice of it, is left as it is
├── AgainError               what is known of a lane may not be so any more: begin again from its record
│   ├── ConflictError        … somebody wrote it first
│   ├── LostError            … a claim is another's now, or gone
│   ├── DoubtError           … it is missing, or older than it was, or its connection was lost
│   └── ReaderBrokenError    … its messages can't be read on
├── ReaderRunsError
├── NotYetStoredError
├── ExportError              files can't be written, or can't be read
├── HealError                a file can't be read, or is not of what it is to heal
├── HealRunsError
├── KubernetesError          kubectl was refused, or could not ask
└── PortTakenError
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum

from marketprism_api import reasons
from marketprism_api.reasons import Reason


class StorageError(Exception):
    """The root: what a command tells as one line."""


class MessageError(StorageError):
    """`field` and `detail` go to the dead letter's headers; never the whole payload."""

    def __init__(self, reason: Reason, field: str = "", detail: str = "") -> None:
        super().__init__(f"{reason}: {field or reason.text}{': ' + detail if detail else ''}")
        self.reason = reason
        self.field = field
        self.detail = detail


class Fault(Enum):
    """Who is at fault where ClickHouse refuses an insert."""

    PASSING = "passing"  # the same bytes may work in a moment
    SERVER = "server"  # every insert into this table fails until a person acts; no row is at fault
    ROW = "row"  # some row of the batch; its neighbours are fine
    LATE = "late"  # our own fence: the attempt came after its deadline
    TOO_LARGE = "too large"  # something in front of ClickHouse does not let it through
    UNKNOWN = "unknown"


TABLE_GONE = (60, 81, 218)
"""ClickHouse's codes: UNKNOWN_TABLE, UNKNOWN_DATABASE, TABLE_IS_DROPPED."""


class StoreError(StorageError):
    """`code` is ClickHouse's; 0: no usable answer, so the outcome is unknown. `status`: of HTTP, where something answered that was
    not ClickHouse; 0 otherwise. `view`: the materialized view of somebody's own that failed, after the rows were in the table."""

    def __init__(
        self, code: int, message: str, fault: Fault, *, status: int = 0, view: str = "", reason: Reason | None = None
    ) -> None:
        super().__init__(message)
        self.code = code
        self.fault = fault
        self.status = status
        self.view = view
        self._reason = reason

    @property
    def reason(self) -> Reason:
        """Where it keeps something from being stored."""
        if self._reason:
            return self._reason
        if self.status:
            return reasons.NOT_CLICKHOUSE
        if self.view:
            return reasons.VIEW_FAILED
        if not self.code:
            return reasons.CLICKHOUSE_UNREACHABLE
        if self.code in TABLE_GONE:
            return reasons.SCHEMA_MISSING
        return reasons.INSERT_BLOCKED if self.fault is Fault.SERVER else reasons.INSERT_RETRIED


class BrokerError(StorageError):
    """`lasting`: waiting won't help, a person has to act. `code`: the server's, or 0."""

    def __init__(self, reason: Reason, detail: str, *, lasting: bool = False, code: int = 0) -> None:
        super().__init__(f"{reason}: {detail} ({reason.hint})")
        self.reason = reason
        self.detail = detail
        self.lasting = lasting
        self.code = code


class JetStreamError(BrokerError):
    """JetStream's API answered with an error."""


class LoginError(StorageError):
    """Of what a Secret holds, or of a server that does not encrypt. Never shows a secret."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


class StreamError(StorageError):
    pass


class SubjectsTakenError(StreamError):
    """A stream can't be made, because another one already holds its subjects."""

    def __init__(self, stream: str, subject: str, holder: str) -> None:
        self.stream, self.subject, self.holder = stream, subject, holder
        super().__init__(f"stream {stream} can't be created: {subject} already goes to stream {holder}")


class StreamLackingError(StreamError):
    """A stream is there, and does not hold a subject that the pipeline assigns to it."""

    def __init__(self, stream: str, subjects: Sequence[str]) -> None:
        super().__init__(
            f"stream {stream} exists and does not hold {', '.join(subjects)}: add that to its subjects "
            f"(nats stream edit {stream}), or name it in spec.nats.streams.<type> if they come to it from elsewhere; a stream that "
            f"exists is never altered from here"
        )


class DomainUnnamedError(StreamError):
    """A stream is missing on a server beside which there is, or may be, another JetStream that holds it. `where`: on which."""

    def __init__(self, streams: Sequence[str], where: str, here: str) -> None:
        super().__init__(
            f"{', '.join(streams)} is not in {where}, and may be in another: name the domain that holds it in spec.nats.domain, "
            f"or {here} if it is to be made here"
        )


class CopyUnnamedError(StreamError):
    """A stream can't be made: a mirror, or one with sources, has messages of its subject, and is read by its name only."""

    def __init__(self, stream: str, subject: str) -> None:
        super().__init__(
            f"no stream takes {subject}, and {stream} has messages of it from elsewhere: to read that one, name it in "
            f"spec.nats.streams.{subject.removesuffix('.>')}"
        )


class TieringError(StorageError):
    """`detail` is the message without the reason."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


class AgainError(StorageError):
    pass


class ConflictError(AgainError):
    """Nothing was written."""


class LostError(AgainError):
    pass


class DoubtError(AgainError):
    pass


class ReaderBrokenError(AgainError):
    pass


class ReaderRunsError(StorageError):
    """There is a reader of this name already."""


class NotYetStoredError(StorageError):
    """There is no record: ingest has not run, and will store everything when it does."""


class ExportError(StorageError):
    """`unsettled`: the rows went on changing while they were read."""

    def __init__(self, message: str, *, unsettled: bool = False) -> None:
        super().__init__(message)
        self.unsettled = unsettled


class HealError(StorageError):
    """Nothing was stored. `findings`: the file can be read, and the rows that are there speak against it."""

    def __init__(self, message: str, *, findings: bool = False) -> None:
        super().__init__(message)
        self.findings = findings


class HealRunsError(StorageError):
    """Somebody else heals the same table."""


class KubernetesError(StorageError):
    """`usage`: what was asked for is not there, or was asked wrongly; otherwise the cluster can't be used."""

    def __init__(self, message: str, *, usage: bool) -> None:
        super().__init__(message)
        self.usage = usage


class PortTakenError(StorageError):
    def __init__(self, host: str, port: int) -> None:
        super().__init__(f"{reasons.PORT_TAKEN}: {host}:{port}: {reasons.PORT_TAKEN.hint}")
