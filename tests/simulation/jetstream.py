"""A model of one JetStream stream with one durable pull consumer, as nats-server 2.10 to 2.15 was seen to behave:

explicit acks, redelivery after ack_wait, stale naks and progress acks heeded, state that a kill -9 rolls back, a stream that
is deleted, discards, or goes backwards.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random
from typing import TYPE_CHECKING

from marketprism_api import reasons
from marketprism_consumer.errors import BrokerError
from marketprism_consumer.ingest.broker import Durable, DurableState, Receive, StreamState
from marketprism_consumer.ingest.dead_letters import DeadLetter, place_of, prefix_of
from tests.simulation.process import Process

if TYPE_CHECKING:
    from tests.simulation.world import World


@dataclass
class Stored:
    seq: int
    key: str
    payload: bytes
    at: float


@dataclass
class Pull:
    number: int
    process: Process
    left: int
    expires: float
    receive: Receive


@dataclass
class ConsumerState:
    """`pending`: seq → (delivered count, when it comes again)."""

    next_seq: int = 1
    pending: dict[int, tuple[int, float]] = field(default_factory=dict)
    delivered: dict[int, int] = field(default_factory=dict)
    again: list[int] = field(default_factory=list)
    deliveries: int = 0

    def copy(self) -> ConsumerState:
        return ConsumerState(self.next_seq, dict(self.pending), dict(self.delivered), list(self.again), self.deliveries)


class JetStream:
    """`acked` collects what our consumers acknowledged: those must be stored, whatever the stream does with them later."""

    def __init__(self, world: World, ack_wait: float) -> None:
        self.world, self.ack_wait = world, ack_wait
        self.random: Random = world.random
        self.up = True
        self.created = 1
        self.messages: dict[int, Stored] = {}
        self.last_seq = 0
        self.first_seq = 1
        self.consumer: ConsumerState | None = ConsumerState()
        self.consumer_created = 0.0
        self.snapshot = ConsumerState()
        self.pulls: list[Pull] = []
        self.acked: dict[tuple[int, int], str] = {}
        self.buried: dict[str, str] = {}
        self.exists = True
        self._pull_number = 0
        self._arrives: dict[Process, float] = {}
        self._snapshots()

    # --- the server ---------------------------------------------------------------------------------------------------

    def publish(self, key: str, payload: bytes) -> bool:
        if not (self.up and self.exists):
            return False
        self.last_seq += 1
        self.messages[self.last_seq] = Stored(self.last_seq, key, payload, self.world.now)
        self.world.soon(self._serve)
        return True

    def _snapshots(self) -> None:
        """What a kill -9 falls back to: the consumer's state is written now and then, not at every ack."""
        if self.consumer and self.up:
            self.snapshot = self.consumer.copy()
        self.world.after(self.random.uniform(0.5, 4), self._snapshots)

    def _serve(self) -> None:
        if not self.up or self.consumer is None:
            return
        state = self.consumer
        now = self.world.now
        for seq, (_, at) in list(state.pending.items()):
            if at <= now and seq not in state.again:
                state.again.append(seq)
        self.pulls = [pull for pull in self.pulls if pull.process.alive and pull.left]
        while self.pulls:
            seq = self._next(state)
            if seq is None:
                break
            pull = self.pulls[0]
            pull.left -= 1
            self.pulls.append(self.pulls.pop(0))
            self.pulls = [one for one in self.pulls if one.left]
            count = state.delivered.get(seq, 0) + 1
            state.delivered[seq] = count
            state.pending[seq] = (count, now + self.ack_wait)
            self.world.after(self.ack_wait + 0.001, self._serve)
            state.deliveries += 1
            message = self.messages[seq]
            arrived = int(message.at * 1e9) + EPOCH_NS
            reply = f"$JS.ACK.S{self.created}.C.{count}.{seq}.{state.deliveries}.{arrived}.0".encode()
            self._send(pull, b"trade.x.spot.A", reply, message.payload, b"")

    def _next(self, state: ConsumerState) -> int | None:
        while state.again:
            seq = state.again.pop(0)
            if seq in state.pending and seq in self.messages:
                return seq
            state.pending.pop(seq, None)
        while state.next_seq <= self.last_seq:
            seq = state.next_seq
            state.next_seq += 1
            if seq in self.messages:
                return seq
        return None

    def _send(self, pull: Pull, *frame: bytes) -> None:
        """One connection keeps the order, whatever the latency."""
        at = max(self.world.now + self.random.uniform(0, 0.02), self._arrives.get(pull.process, 0.0))
        self._arrives[pull.process] = at
        self.world.after(at - self.world.now, self._deliver, pull, *frame)

    def _deliver(self, pull: Pull, subject: bytes, reply: bytes, payload: bytes, headers: bytes) -> None:
        if self.up:
            pull.process.send(pull.receive, pull.number, [(subject, reply, payload, headers)])

    def _expire(self, pull: Pull) -> None:
        if pull in self.pulls:
            self.pulls.remove(pull)
            self._send(pull, b"_INBOX", b"", b"", b"NATS/1.0 408 Request Timeout\r\n\r\n")

    def _heartbeat(self, pull: Pull, every: float) -> None:
        if pull in self.pulls and self.up:
            self._send(pull, b"_INBOX", b"", b"", b"NATS/1.0 100 Idle Heartbeat\r\n\r\n")
        if pull in self.pulls:
            self.world.after(every, self._heartbeat, pull, every)

    def handle(self, kind: str, reply: bytes) -> None:
        """An acknowledgement as it reaches the server, perhaps late and of a delivery that is long over."""
        _, _, stream, _, _, seq_text, *_ = reply.split(b".")
        seq = int(seq_text)
        if not self.up or self.consumer is None or int(stream[1:]) != self.created:
            return
        state = self.consumer
        if kind == "ack":
            if seq in self.messages:
                self.acked[self.created, seq] = self.messages[seq].key
            state.pending.pop(seq, None)
            if seq in state.again:
                state.again.remove(seq)
        elif seq in state.pending:
            if kind == "nak":
                state.again.append(seq) if seq not in state.again else None
                self._serve()
            else:
                state.pending[seq] = (state.pending[seq][0], self.world.now + self.ack_wait)
                self.world.after(self.ack_wait + 0.001, self._serve)

    # --- faults -------------------------------------------------------------------------------------------------------

    def kill(self) -> None:
        """kill -9: pulls are gone, and what the consumer knew since the last snapshot is forgotten, acks as well."""
        self.up = False
        self.pulls.clear()
        if self.consumer is not None:
            self.consumer = self.snapshot.copy()
        self.world.disconnected()

    def restart(self) -> None:
        self.up = True
        self.world.after(0.3, self.world.reconnected)
        self.world.after(0.4, self._serve)

    def delete_consumer(self) -> None:
        self.consumer = None
        self._end_pulls(b"NATS/1.0 409 Consumer Deleted\r\n\r\n")

    def recreate_stream(self) -> None:
        self.delete_consumer()
        self.created += 1
        self.messages, self.last_seq, self.first_seq = {}, 0, 1
        self.snapshot = ConsumerState()

    def go_backwards(self, count: int) -> None:
        """A power cut: the last messages are gone though acknowledged, and their sequences will be given out again."""
        self.kill()
        keep = max(self.last_seq - count, 0)
        self.messages = {seq: message for seq, message in self.messages.items() if seq <= keep}
        self.last_seq = keep
        if self.consumer is not None:
            state = self.consumer
            state.next_seq = min(state.next_seq, keep + 1)
            state.pending = {seq: one for seq, one in state.pending.items() if seq <= keep}
            state.delivered = {seq: one for seq, one in state.delivered.items() if seq <= keep}
            self.snapshot = state.copy()
        self.world.after(self.world.down(), self.restart)

    def discard(self, count: int) -> None:
        for seq in sorted(self.messages)[:count]:
            del self.messages[seq]
        self.first_seq = min(self.messages, default=self.last_seq + 1)

    def _end_pulls(self, status: bytes) -> None:
        for pull in self.pulls:
            self._send(pull, b"_INBOX", b"", b"", status)
        self.pulls.clear()

    def behind(self) -> bool:
        state = self.consumer
        return state is None or bool(state.pending) or state.next_seq <= self.last_seq


EPOCH_NS = 1_758_700_000_000_000_000


class BrokerPort:
    """One process's connection; dead with its process."""

    def __init__(self, world: World, process: Process) -> None:
        self.world, self.process = world, process

    def pull(
        self, durable: Durable, batch: int, max_bytes: int, expires: float, heartbeat: float, receive: Receive
    ) -> int:
        js = self.world.jetstream
        js._pull_number += 1
        pull = Pull(js._pull_number, self.process, batch, expires, receive)
        if self.process.alive and js.up:
            self.world.after(self.world.random.uniform(0, 0.01), self._arrive, pull, heartbeat)
        return pull.number

    def _arrive(self, pull: Pull, heartbeat: float) -> None:
        js = self.world.jetstream
        if not js.up:
            return
        if js.consumer is None:
            js._send(pull, b"_INBOX", b"", b"", b"NATS/1.0 503\r\n\r\n")
            return
        js.pulls.append(pull)
        self.world.after(pull.expires, js._expire, pull)
        self.world.after(heartbeat, js._heartbeat, pull, heartbeat)
        js._serve()

    def cancel(self, pull: int) -> None:
        """The server hears of it when it next has something for that inbox; what it gave meanwhile is lost to us."""

    def ack(self, replies: Sequence[bytes]) -> None:
        self._send("ack", replies)

    def nak(self, replies: Sequence[bytes]) -> None:
        self._send("nak", replies)

    def _send(self, kind: str, replies: Sequence[bytes]) -> None:
        js = self.world.jetstream
        if not self.process.alive or not js.up:
            return
        lost = self.world.random.random() < 0.05
        for reply in replies:
            if not lost:
                self.world.after(self.world.random.uniform(0, 0.02), js.handle, kind, reply)

    async def extend(self, replies: Sequence[bytes]) -> bool:
        js = self.world.jetstream
        if not js.up:
            return False
        self._send_progress(replies)
        return await self.world.answer(self.process, self.world.random.random() > 0.1, 0.01)

    def _send_progress(self, replies: Sequence[bytes]) -> None:
        if self.process.alive:
            for reply in replies:
                self.world.jetstream.handle("progress", reply)

    async def stream(self, name: str) -> StreamState:
        js = self.world.jetstream
        await self.world.answer(self.process, None, 0.01)
        if not js.up or not js.exists:
            raise BrokerError(reasons.NATS_UNREACHABLE, "the model is down")
        return StreamState(str(js.created), js.first_seq, js.last_seq, len(js.messages))

    async def ensure(self, durable: Durable) -> DurableState:
        js = self.world.jetstream
        await self.world.answer(self.process, None, 0.01)
        if not js.up:
            raise BrokerError(reasons.NATS_UNREACHABLE, "the model is down")
        if js.consumer is None:
            js.consumer, js.consumer_created = ConsumerState(), self.world.now
        state, created = js.consumer, js.consumer_created
        pending = js.last_seq - state.next_seq + 1
        return DurableState(state.next_seq - 1, pending, len(state.pending), created, self.world.now - created)


class GraveyardPort:
    """Dead letters: one for each subject, as the real one is."""

    def __init__(self, world: World, process: Process) -> None:
        self.world, self.process = world, process

    async def buried(self, data_type: str, stream: str) -> set[tuple[int, int]]:
        await self.world.answer(self.process, None, 0.01)
        if not self.world.jetstream.up:
            raise BrokerError(reasons.NATS_UNREACHABLE, "the model is down")
        prefix = f"{prefix_of('trade', stream)}."
        return {place_of(subject) for subject in self.world.jetstream.buried if subject.startswith(prefix)}

    async def bury(self, letter: DeadLetter) -> None:
        js = self.world.jetstream
        if not js.up or self.world.random.random() < 0.05:
            await self.world.answer(self.process, None, 0.05)
            raise BrokerError(reasons.DEAD_LETTERS_UNAVAILABLE, "the model is down")
        if self.process.alive:
            payload = letter.message.payload.decode()
            key = json.loads(payload)["trade_id"] if payload.startswith("{") else payload
            js.buried.setdefault(letter.subject(), key)
        await self.world.answer(self.process, None, 0.01)
