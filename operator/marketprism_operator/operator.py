"""From triggers to reconciles: which resource a change concerns, and the periodic resync."""

from __future__ import annotations

import asyncio
import logging
import math
import random
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, NamedTuple

from kubernetes.aio.client import ApiClient

from marketprism_api.meta import API_VERSION
from marketprism_api.pipeline import StoragePipeline
from marketprism_api.problems import ResourceError
from marketprism_operator import metrics, naming, scaling, watches
from marketprism_operator.cluster import Cluster
from marketprism_operator.config import Config
from marketprism_operator.events import Events
from marketprism_operator.naming import Manifest
from marketprism_operator.queue import Queue, ResourceKey
from marketprism_operator.reconcile import Reconciliation, parsed, reconcile
from marketprism_operator.rivals import Rivals, feed_of

log = logging.getLogger(__name__)

SETTLE = 0.2
"""Seconds from a child's change to its reconcile: changes of children come in bursts."""
RENEW = 60.0
"""Seconds for which numbers that change all the time are left as they were written, though Pods are asked more often."""
STALE = 3
"""Resyncs missed until the operator counts as dead."""


class Standby(NamedTuple):
    why: str
    ready: bool
    """Whether that is as it should be."""


class Operator:
    """Knows of a parent only what the last event said."""

    def __init__(self, api: ApiClient, config: Config) -> None:
        self._api = api
        self._cache = watches.cache(config.namespaces)
        self._cluster = Cluster(api, self._cache)
        self._config = config
        self._parents: dict[ResourceKey, _Parent] = {}
        self._renewed: dict[ResourceKey, float] = {}
        self._looks: dict[ResourceKey, int] = {}
        self._scaled: dict[tuple[str, str, str], scaling.Memory] = {}
        self._unused: dict[tuple[str, str], float] = {}
        self._rivals = Rivals()
        self.queue = Queue(self._reconcile)
        self.last_resync: float | None = None
        """None while it stands by."""
        self.standby: Standby | None = Standby("starts", ready=False)
        """Why it does not work."""
        self._may_work = asyncio.Event()
        self._may_work.set()
        self._working: asyncio.Task[None] | None = None
        self._left: Mapping[str, str] = {}
        """Namespaces that another operator looks after → that operator."""

    # --- triggers -----------------------------------------------------------------------------------------------------

    def parent_changed(self, body: Manifest, *, gone: bool) -> None:
        key = _key(body["kind"], body)
        spec, pipeline = body.get("spec"), _pipeline(key, body)
        before = self._parents.pop(key, None)
        changed = before is None or before.spec != spec
        if gone:
            self._forget(key)
        else:
            self._parents[key] = _Parent(spec, pipeline, frozenset(_names(spec)))
            if changed:
                self._feeds(key, body)
            if self._cluster.is_own(body):
                return
            self.queue.add(key)
        # A policy follows its pipeline; and that, and its other policies, what a policy says of where cold is.
        if pipeline == key or gone or changed:
            self._queue_all_of(pipeline)

    def resource_changed(self, kind: str, body: Manifest) -> None:
        """It is in the cache from now on, for those that look at it: a pipeline's policies, a policy's pipeline, its rivals."""
        store = self._cache.of(kind, body["metadata"]["namespace"])
        entry = store.entry(body["metadata"]["namespace"], body["metadata"]["name"]) if store else None
        if entry is None or entry.since == entry.version:  # more than its status
            key = kind, body["metadata"]["namespace"], body["metadata"]["name"]
            self._feeds(key, {} if store and entry is None else body)
            self._queue_all_of(_pipeline(key, body))

    def _feeds(self, key: ResourceKey, body: Manifest) -> None:
        """Queues the pipelines in whose way it is, or was; without a body it has gone."""
        if key[0] != StoragePipeline.KIND:
            return
        feed = None
        with suppress(ResourceError):  # its own reconcile says so
            if body:
                pipeline = parsed({**body, "apiVersion": API_VERSION, "kind": key[0]})
                assert isinstance(pipeline, StoragePipeline)
                feed = feed_of(pipeline, body["metadata"]["creationTimestamp"])
        for namespace, name in self._rivals.put(key[1:], feed):
            self.queue.add((key[0], namespace, name))

    def _queue_all_of(self, pipeline: ResourceKey) -> None:
        for key, parent in self._parents.items():
            if parent.pipeline == pipeline:
                self.queue.add(key)

    def _forget(self, key: ResourceKey) -> None:
        self._cluster.forget(*key)
        self._feeds(key, {})
        self._renewed.pop(key, None)
        self._looks.pop(key, None)
        metrics.conditions(*key, {})

    def child_changed(self, _: str, body: Manifest) -> None:
        """Queues its owner, whatever was done to its labels. A Pod is owned by a ReplicaSet or a Job: there its labels count."""
        metadata = body["metadata"]
        labels = metadata.get("labels") or {}
        owners = {(owner["kind"], owner["name"]) for owner in metadata.get("ownerReferences") or []}
        owners |= {
            ("StoragePipeline", labels.get(naming.PIPELINE, "")),
            ("TieringPolicy", labels.get(naming.POLICY, "")),
        }
        for kind, name in owners:
            if (key := (kind, metadata["namespace"], name)) in self._parents:
                self.queue.add_after(key, SETTLE)

    def reference_changed(self, _: str, body: Manifest) -> None:
        """Queues every parent that names it, in whatever field, and its pipeline: one reconcile too many costs little."""
        namespace, name = body["metadata"]["namespace"], body["metadata"]["name"]
        for key, parent in self._parents.items():
            if key[1] == namespace and name in parent.named:
                self.queue.add(key)
                self.queue.add(parent.pipeline)

    def leave(self, namespaces: Mapping[str, str]) -> None:
        """Leaves these namespaces, and no others, to the operators that look after them."""
        before, self._left = self._left, namespaces
        for namespace in namespaces.keys() - before.keys():
            log.warning("namespace %s is left to the operator %s", namespace, namespaces[namespace])
        for namespace in before.keys() - namespaces.keys():
            log.warning("namespace %s is looked after again: the operator %s has gone", namespace, before[namespace])
        metrics.LEFT.set(len(namespaces))
        for key in self._parents:
            if (key[1] in before) != (key[1] in namespaces):
                self.queue.add(key)

    # --- work ---------------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        self.last_resync = time.monotonic()
        async with asyncio.TaskGroup() as group:
            group.create_task(
                watches.watch(self._api, self._cache, self.child_changed, self.resource_changed, self.reference_changed)
            )
            await self._cache.answered()
            group.create_task(self._work())
            group.create_task(self._resync())

    async def _work(self) -> None:
        """The queue, except while it is halted."""
        while True:
            await self._may_work.wait()
            self._working = asyncio.create_task(self.queue.run())
            try:
                await asyncio.wait([self._working])
            finally:
                self._working.cancel()
            if not self._working.cancelled():
                self._working.result()

    def halt(self, why: Standby) -> None:
        """Nothing is changed until it goes on, also by what is under way. What changes is seen meanwhile."""
        self.standby = why
        self._may_work.clear()
        if self._working:
            self._working.cancel()

    def go_on(self) -> None:
        """With everything: what was under way is not known to be done."""
        self.standby = None
        for key in self._parents:
            self.queue.add(key)
        self._may_work.set()

    async def _resync(self) -> None:
        """Finds whatever was missed: one resource after the other, so that all of them take their turn in one interval."""
        while True:
            keys = list(self._parents)
            pause = self._config.resync * random.uniform(0.9, 1.1) / max(1, len(keys))
            for key in keys:
                await asyncio.sleep(pause)
                self.queue.add(key)
            if not keys:
                await asyncio.sleep(pause)
            self.last_resync = time.monotonic()
            metrics.LAST_RESYNC.set_to_current_time()

    @property
    def alive(self) -> bool:
        return self.last_resync is None or time.monotonic() - self.last_resync < STALE * self._config.resync

    async def _reconcile(self, key: ResourceKey) -> float:
        kind, namespace, name = key
        if namespace in self._left:
            metrics.conditions(*key, {})  # the other tells them
            return 0.0
        known = self._parents.get(key)
        live = await self._cluster.read(kind, namespace, name)
        if live is None and self._parents.get(key) is known:
            self._parents.pop(key, None)  # that it has gone may have been missed
            self._forget(key)
        if live is None or live["metadata"].get("deletionTimestamp"):
            return 0.0  # its children go with it
        events = Events(live)
        began, result = time.monotonic(), "error"
        renew = began - self._renewed.get(key, -math.inf) >= min(RENEW, self._config.resync / 2)
        if renew:
            self._renewed[key] = began
        looks = self._looks.get(key, 0)
        current = Reconciliation(
            self._cluster, self._config, events, live, renew, self._scaled, self._unused, self._rivals, looks=looks
        )
        try:
            again = await reconcile(current)
            result = "ok"
            self._looks[key] = 0 if current.news or not again else looks + 1
        finally:
            metrics.RECONCILES.labels(kind, result).inc()
            metrics.DURATION.labels(kind).observe(time.monotonic() - began)
            await events.post(self._api)
        return again


@dataclass(frozen=True, slots=True)
class _Parent:
    """What is known of a resource: its spec, its pipeline, and all that its spec names."""

    spec: Any
    pipeline: ResourceKey
    named: frozenset[str]


def _key(kind: str, body: Manifest) -> ResourceKey:
    return kind, body["metadata"]["namespace"], body["metadata"]["name"]


def _pipeline(key: ResourceKey, parent: Manifest) -> ResourceKey:
    """A policy's pipeline; a pipeline is its own."""
    ref = (parent.get("spec") or {}).get("pipelineRef") or {}
    return ("StoragePipeline", key[1], ref.get("name", "")) if key[0] == "TieringPolicy" else key


def _names(value: Any) -> set[str]:
    """Every text under a key that names something."""
    if isinstance(value, list):
        return {name for item in value for name in _names(item)}
    if not isinstance(value, dict):
        return set()
    own = {str(value[key]) for key in ("name", "secretName") if key in value}
    return own.union(*(_names(item) for item in value.values()))
