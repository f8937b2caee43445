"""Cuts what was read from NATS into the messages of pulls, many at once, and into the statuses by which the server ends a pull."""

from __future__ import annotations

import ctypes
import threading
from array import array
from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

from marketprism_consumer.ingest import kernel
from marketprism_consumer.ingest.message import Message, from_delivery

ACK_PREFIX = b"$JS.ACK."
ROOM = 4096  # messages in one run
_PLACES = 5  # of a message in `where`


@dataclass(slots=True)
class Messages:
    """What came of a reader at once, in order, with consecutive numbers from `first_number` on: in columns, beside the bytes in which it
    stands. `where`: of each, begin and end of the subject, begin of headers, of payload, end. `pending`: of the last one, what was
    still to come. `shares`: by pull, how many came for it, and how many bytes, as the server counts them."""

    data: bytes
    seqs: array[int]
    arrived: array[int]
    where: array[int]
    first_number: int
    pending: int
    shares: dict[int, tuple[int, int]]

    def __len__(self) -> int:
        return len(self.seqs)

    def __getitem__(self, index: int) -> Message:
        index = range(len(self.seqs))[index]
        subject, subject_end, _, payload, end = self.where[_PLACES * index : _PLACES * (index + 1)]
        return Message(
            self.seqs[index],
            self.arrived[index],
            self.pending + len(self.seqs) - 1 - index,
            self.data[subject:subject_end].decode(),
            self.data[payload:end],
        )

    def __iter__(self) -> Iterator[Message]:
        return map(self.__getitem__, range(len(self.seqs)))

    def arrival(self, seq: int) -> int:
        """Of the message at `seq`, which is one of these [µs]."""
        return self.arrived[bisect_left(self.seqs, seq)]

    @property
    def payload_bytes(self) -> int:
        return sum(self.where[4::_PLACES]) - sum(self.where[3::_PLACES])

    def headers(self, index: int) -> bytes:
        return self.data[self.where[_PLACES * index + 2] : self.where[_PLACES * index + 3]]

    def between(self, start: int, end: int) -> Messages:
        """Those from sequence `start` up to and with `end`."""
        first, stop = bisect_left(self.seqs, start), bisect_left(self.seqs, end + 1)
        if (first, stop) == (0, len(self.seqs)):
            return self
        return Messages(
            self.data,
            self.seqs[first:stop],
            self.arrived[first:stop],
            self.where[_PLACES * first : _PLACES * stop],
            self.first_number + first,
            self.pending + len(self.seqs) - stop,
            self.shares,
        )


@dataclass(frozen=True, slots=True)
class Front:
    """What stands at the front: messages of a reader, or the headers of a status of the pull `sid`; nothing where it is neither, or not
    whole. `end`: where it ends, behind all that there is where it is not whole."""

    end: int
    messages: Messages | None = None
    sid: int = 0
    status: bytes | None = None


def cut(data: bytes, at: int) -> Front:
    """From `at` on."""
    found = _cutter.cut(data, at) if _cutter else None
    return found or _cut(data, at)


_SHARES = 16


class _Run(ctypes.Structure):
    _fields_ = (
        *((name, ctypes.c_uint64) for name in ("count", "end", "next_end", "first_number", "pending", "shares")),
        *((name, ctypes.c_uint64 * _SHARES) for name in ("sids", "counts", "sizes")),
    )


class _Cutter:
    """Its output has one place, so one call at a time."""

    def __init__(self, library: ctypes.CDLL) -> None:
        self._cut: Any = library.marketprism_cut
        self._cut.restype = None
        pointer, size = ctypes.c_void_p, ctypes.c_size_t
        self._cut.argtypes = [ctypes.c_char_p, size, size, pointer, pointer, pointer, size, pointer]
        self._lock = threading.Lock()
        self._seqs, self._arrived, self._where = (bytearray(width * ROOM) for width in (8, 8, 4 * _PLACES))
        self._run = _Run()
        self._out = *map(kernel.address, (self._seqs, self._arrived, self._where)), ROOM, ctypes.addressof(self._run)

    def cut(self, data: bytes, at: int) -> Front | None:
        """None where there is something else."""
        with self._lock:
            run = self._run
            self._cut(data, len(data), at, *self._out)
            if not run.count:
                return Front(run.next_end) if run.next_end else None
            count, shares = run.count, range(run.shares)
            messages = Messages(
                data,
                array("Q", self._seqs[: 8 * count]),
                array("q", self._arrived[: 8 * count]),
                array("I", self._where[: 4 * _PLACES * count]),
                run.first_number,
                run.pending,
                {run.sids[index]: (run.counts[index], run.sizes[index]) for index in shares},
            )
            return Front(run.end, messages)


_cutter = _Cutter(kernel.library) if kernel.library else None


class _Frame(NamedTuple):
    """`end`: behind all that there is where it is not whole; then there is nothing else."""

    end: int
    sid: int = 0
    subject: bytes = b""
    begin: int = 0
    """Of the subject."""
    reply: bytes = b""
    headers: int = 0
    payload: int = 0


def _frame(data: bytes, at: int) -> _Frame:
    """The one rule."""
    line_end = data.find(b"\r\n", at)
    if line_end < 0:
        return _Frame(len(data) + 1)
    line = data[at:line_end].split() or [b""]
    # MSG subject sid [reply] size, or HMSG subject sid [reply] headers' size, size of both
    headed = line[0] == b"HMSG"
    start = line_end + 2
    if not (headed or line[0] == b"MSG") or not 4 + headed <= len(line) <= 5 + headed:
        return _Frame(start)
    reply = line[3] if len(line) == 5 + headed else b""
    subject = data.index(line[1], at + len(line[0]))
    payload = start + int(line[-2]) if headed else start
    return _Frame(start + int(line[-1]) + 2, int(line[2]), line[1], subject, reply, start, payload)


def _cut(data: bytes, start: int) -> Front:
    at, shares = start, dict[int, tuple[int, int]]()
    seqs, arrived, where = array("Q"), array("q"), array("I")
    first = pending = 0
    reader: list[bytes] = []
    while True:
        frame = _frame(data, at)
        acknowledged = frame.reply.startswith(ACK_PREFIX)
        if frame.end > len(data) or not (frame.sid and acknowledged):
            break
        message, number = from_delivery(frame.subject, frame.reply, b"")
        tokens = frame.reply.split(b".")
        its = tokens[2:4] if len(tokens) == 9 else tokens[4:6]
        if seqs and (number != first + len(seqs) or message.seq <= seqs[-1] or its != reader):
            break
        reader, first, pending = its, first or number, message.pending
        seqs.append(message.seq)
        arrived.append(message.arrived)
        end = frame.end - 2
        where.extend((frame.begin, frame.begin + len(frame.subject), frame.headers, frame.payload, end))
        count, size = shares.get(frame.sid, (0, 0))
        shares[frame.sid] = count + 1, size + len(frame.subject) + len(frame.reply) + end - frame.headers
        at = frame.end
    if seqs:
        return Front(at, Messages(data, seqs, arrived, where, first, pending, shares))
    if frame.sid and frame.end <= len(data):
        return Front(frame.end, None, frame.sid, data[frame.headers : frame.payload])
    return Front(frame.end)
