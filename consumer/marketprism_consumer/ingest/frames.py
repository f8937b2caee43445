"""Cuts what was read from NATS into the messages of pulls, many at once, and into the statuses by which the server ends a pull."""

from __future__ import annotations

import ctypes
import threading
from array import array
from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from marketprism_consumer.ingest import kernel
from marketprism_consumer.ingest.message import Message, from_delivery

ACK_PREFIX = b"$JS.ACK."
ROOM = 4096  # messages in one run
_PLACES = 5  # of a message in `where`


@dataclass(slots=True)
class Messages:
    """What came for a pull at once, in order, with consecutive numbers from `first_number` on: in columns, beside the bytes in which
    it stands. `where`: of each, begin and end of the subject, begin of headers, of payload, end. `pending`: of the last one, what was
    still to come. `size`: in bytes, as the server counts them."""

    data: bytes
    seqs: array[int]
    arrived: array[int]
    where: array[int]
    first_number: int
    pending: int
    size: int

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
            self.size,
        )


@dataclass(frozen=True, slots=True)
class Cut:
    """What stands at the front: messages of the pull `sid`, or the headers of a status; nothing where it is neither, or not whole.
    `end`: where it ends. `missing`: how many bytes the next one lacks; 0 where that is not known."""

    sid: int
    end: int
    missing: int = 0
    messages: Messages | None = None
    status: bytes | None = None


def cut(data: bytes, at: int) -> Cut:
    """From `at` on."""
    found = _cutter.cut(data, at) if _cutter else None
    return found if found and (found.messages or found.missing) else _cut(data, at)


def single(subject: bytes, reply: bytes, payload: bytes, headers: bytes) -> Messages | bytes:
    """What somebody else has cut already."""
    if not reply.startswith(ACK_PREFIX):
        return headers
    message, number = from_delivery(subject, reply, b"")
    begin, body = len(subject), len(subject) + len(headers)
    data = subject + headers + payload
    where = array("I", (0, begin, begin, body, len(data)))
    size = len(data) + len(reply)
    return Messages(
        data, array("Q", [message.seq]), array("q", [message.arrived]), where, number, message.pending, size
    )


class _Run(ctypes.Structure):
    _fields_ = tuple(
        (name, ctypes.c_uint64) for name in ("count", "sid", "end", "missing", "first_number", "pending", "size")
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

    def cut(self, data: bytes, at: int) -> Cut:
        with self._lock:
            run = self._run
            self._cut(data, len(data), at, *self._out)
            count = run.count
            messages = None
            if count:
                messages = Messages(
                    data,
                    array("Q", self._seqs[: 8 * count]),
                    array("q", self._arrived[: 8 * count]),
                    array("I", self._where[: 4 * _PLACES * count]),
                    run.first_number,
                    run.pending,
                    run.size,
                )
            return Cut(run.sid, run.end, run.missing, messages)


_cutter = _Cutter(kernel.library) if kernel.library else None


def _cut(data: bytes, start: int) -> Cut:
    """The one rule."""
    at, sid, size = start, 0, 0
    seqs, arrived, where = array("Q"), array("q"), array("I")
    first = pending = missing = 0
    while True:
        line_end = data.find(b"\r\n", at)
        line = (data[at:line_end].split() if line_end > 0 else []) or [b""]
        # MSG subject sid [reply] size, or HMSG subject sid [reply] headers' size, size of both
        headed = line[0] == b"HMSG"
        if not (headed or line[0] == b"MSG") or not 4 + headed <= len(line) <= 5 + headed:
            break
        begin = line_end + 2
        end = begin + int(line[-1])
        if seqs and int(line[2]) != sid:
            break
        if end + 2 > len(data):
            missing, sid = end + 2 - len(data), int(line[2])
            break
        payload = begin + int(line[-2]) if headed else begin
        reply = line[3] if len(line) == 5 + headed else b""
        if not reply.startswith(ACK_PREFIX):
            if not seqs:
                return Cut(int(line[2]), end + 2, status=data[begin:payload])
            break
        message, number = from_delivery(line[1], reply, b"")
        if seqs and (number != first + len(seqs) or message.seq <= seqs[-1]):
            break
        sid, first, pending = int(line[2]), first or number, message.pending
        subject = data.index(line[1], at + len(line[0]))
        seqs.append(message.seq)
        arrived.append(message.arrived)
        where.extend((subject, subject + len(line[1]), begin, payload, end))
        size += len(line[1]) + len(reply) + end - begin
        at = end + 2
    messages = Messages(data, seqs, arrived, where, first, pending, size) if seqs else None
    return Cut(sid, at, missing, messages)
