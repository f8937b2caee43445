"""The audits that visitors have asked for: one at a time, for all of them, and the last reports, for as long as the console runs.

An audit writes nothing: statements carry `readonly`, and the stream is read by a consumer that acknowledges nothing.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from marketprism_console.sources import AWAY, Sources
from marketprism_consumer.errors import StoreError
from marketprism_consumer.operations.audit import AuditReport, AuditStep
from marketprism_consumer.operations.audit import audit as run_audit

KEPT = 20


@dataclass(slots=True)
class AskedAudit:
    """`began` [s since 1970]. `since`: only of what arrived from then on [µs since 1970]. Under way while it has neither a `report` nor
    a `refusal`, which says why there is none."""

    data_types: Sequence[str]
    deep: bool
    since: int | None
    began: float
    step: AuditStep | None = None
    report: AuditReport | None = None
    refusal: str = ""

    @property
    def ended(self) -> bool:
        return self.report is not None or bool(self.refusal)


@dataclass
class Audits:
    """`asked`: newest first."""

    sources: Sources
    asked: deque[AskedAudit] = field(default_factory=lambda: deque(maxlen=KEPT))
    _task: asyncio.Task[None] | None = None

    @property
    def running(self) -> AskedAudit | None:
        return self.asked[0] if self.asked and not self.asked[0].ended else None

    def start(self, data_types: Sequence[str], deep: bool, since: int | None = None) -> AskedAudit:
        """The one that runs already goes on instead."""
        if running := self.running:
            return running
        made = AskedAudit(tuple(data_types), deep, since, time.time())
        self.asked.appendleft(made)
        self._task = asyncio.create_task(self._run(made))
        return made

    def stop(self) -> None:
        if self._task:
            self._task.cancel()

    async def close(self) -> None:
        self.stop()
        if self._task:
            await asyncio.wait([self._task])

    async def _run(self, asked: AskedAudit) -> None:
        def heard(step: AuditStep) -> None:
            asked.step = step

        try:
            broker = await self.sources.broker()
            asked.report = await run_audit(
                self.sources.settings,
                self.sources.hot,
                broker.client,
                cold=self.sources.cold,
                data_types=asked.data_types,
                deep=asked.deep,
                since=asked.since,
                progress=heard,
            )
        except AWAY as refused:
            asked.refusal = f"NATS can't be asked, and an audit compares what its streams hold: {refused}"
        except StoreError as refused:
            asked.refusal = str(refused)
        except asyncio.CancelledError:
            asked.refusal = "stopped"
        finally:
            if not asked.ended:
                asked.refusal = "it broke off; the console's log says why"
