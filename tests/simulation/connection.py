"""NATS as one server or a cluster, and each process's connection to it.

A connection keeps the order while it lasts; what is under way when it breaks arrives nowhere. A client learns later than the
world that it is broken, and a frozen one later still.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from marketprism_api import reasons
from marketprism_consumer.errors import BrokerError, StorageError
from tests.simulation.process import Process

if TYPE_CHECKING:
    from tests.simulation.world import World

T = TypeVar("T")


class NoAnswer(Exception):
    """The server says nothing to this request, or not in time."""


TIMEOUT = 2.0  # of a request to NATS [s]


class Nats:
    """`up`: it takes connections. `leads`: streams and buckets have a leader. `boot`: how often it was started."""

    def __init__(self, world: World, *, cluster: bool) -> None:
        self.world, self.cluster = world, cluster
        self.up = self.leads = True
        self.starts = 1
        self.lost_answers = world.random.choice((0.0, 0.0, 0.02, 0.1))
        self.connections: list[Connection] = []

    @property
    def boot(self) -> str:
        return "" if self.cluster else f"boot-{self.starts}"

    @property
    def serves(self) -> bool:
        return self.up and self.leads

    def kill(self) -> None:
        self.up = False
        for connection in self.connections:
            connection.breaks()

    def restart(self) -> None:
        self.up = True
        self.starts += 1


class Connection:
    """One process's. `line` is what the server has, `known` what the client believes; None where it is broken."""

    def __init__(self, world: World, process: Process) -> None:
        self.world, self.process, self.nats = world, process, world.nats
        self._lines = 1
        self.line: int | None = 1
        self.known: int | None = 1
        self.boot = self.nats.boot
        self._last_sent = self._last_received = 0.0
        self.nats.connections.append(self)
        if not self.nats.up:
            self.line = self.known = None
            world.after(0.1, self._reconnect)

    # --- the line -----------------------------------------------------------------------------------------------------

    def breaks(self) -> None:
        if self.line is not None and self.process.alive:
            self.line = None
            self.world.after(self.world.random.uniform(0, 0.5), self.process.send, self._disconnected)
            self.world.after(self.world.random.uniform(0.6, 2), self._reconnect)

    def _disconnected(self) -> None:
        self.known = None
        self.world.ingests[self.process].disconnected()

    def _reconnect(self) -> None:
        if not self.process.alive:
            return
        if self.process.frozen or not self.nats.up:
            self.world.after(self.world.random.uniform(0.3, 1.5), self._reconnect)
            return
        self._lines += 1
        self.line = self._lines
        self.world.after(self.world.random.uniform(0, 0.1), self.process.send, self._reconnected, self.line)

    def _reconnected(self, line: int) -> None:
        self.known = line
        self.boot = self.nats.boot
        self.world.ingests[self.process].reconnected()

    # --- over it ------------------------------------------------------------------------------------------------------

    async def ask(self, handle: Callable[[], T]) -> T:
        """A request, handled when it arrives; its answer, or BrokerError after a while."""
        await self.world.edge(self.process)
        answer = self.process.loop.create_future()
        if self.known is None:
            self.world.after(0.05, self._fail, answer)
        else:
            self.tell(self._handle, handle, answer)
            self.world.after(TIMEOUT, self._fail, answer)
        found: T = await answer
        return found

    def tell(self, arrive: Callable[..., Any], *arguments: Any) -> None:
        """Something for the server, in order."""
        if self.process.frozen:  # SIGSTOP came first: it leaves when the process goes on
            self.process.send(self.tell, arrive, *arguments)
        elif self.process.alive and self.known is not None:
            self._last_sent = max(self.world.now + self.world.random.uniform(0, 0.01), self._last_sent)
            self.world.at(self._last_sent, self._arrives, self.known, arrive, arguments)

    def hear(self, receive: Callable[..., None], *arguments: Any) -> None:
        """Something from the server, in order."""
        self._last_received = max(self.world.now + self.world.random.uniform(0, 0.02), self._last_received)
        self.world.at(self._last_received, self._received, self.line, receive, arguments)

    def _arrives(self, line: int, arrive: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
        if self.line == line and self.nats.up:
            arrive(*arguments)

    def _received(self, line: int | None, receive: Callable[..., None], arguments: tuple[Any, ...]) -> None:
        if line is not None and self.line == line:
            self.process.send(receive, *arguments)

    def _handle(self, handle: Callable[[], Any], answer: Any) -> None:
        if not self.nats.serves:
            return
        value, error = None, None
        try:
            value = handle()
        except StorageError as refused:
            error = refused
        except NoAnswer:
            return
        if self.world.random.random() >= self.nats.lost_answers:
            self.hear(resolve, answer, value, error)

    def _fail(self, answer: Any) -> None:
        if not answer.done():
            self.process.send(resolve, answer, None, BrokerError(reasons.NATS_UNREACHABLE, "no answer"))


def resolve(answer: Any, value: Any, error: Exception | None) -> None:
    if not answer.done():
        answer.set_exception(error) if error else answer.set_result(value)
