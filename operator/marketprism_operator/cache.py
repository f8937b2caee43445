"""What is there, as watches tell it and as our own writes were answered: of each object the newer of the two. No I/O.

The higher resourceVersion is the newer one: the API server promises that of one kind they are numbers which grow
(https://kubernetes.io/docs/reference/using-api/api-concepts/#resource-versions).

What is held may be behind what others have done. So it says that there is nothing to do, and what is to be looked at; before a child
is changed it is read (`cluster.py`), and what is deleted is named by its uid.
"""

from __future__ import annotations

import json
from asyncio import Event
from collections.abc import Callable, Iterable, Iterator, Mapping, Set
from dataclasses import dataclass, field
from typing import NamedTuple

from marketprism_operator.naming import PIPELINE, POLICY, Manifest

ObjectKey = tuple[str, str]
"""Namespace and name."""

_IDENTITY = ("name", "namespace", "uid", "resourceVersion")


class Entry(NamedTuple):
    version: int
    since: int
    """The version since which nothing has changed but its status, and who manages what."""
    uid: str
    labels: Mapping[str, str]
    own: bytes
    """As JSON, which takes a tenth of the memory that dicts take: all but the status and metadata.managedFields."""
    status: bytes


@dataclass
class KindCache:
    """The objects of one kind, in one namespace or in all of them."""

    api_version: str
    kind: str
    answered: Event = field(default_factory=Event)
    """Set once the API server has listed them, or refused to."""
    versions_only: bool = False
    """Whether nothing is kept of what they hold."""
    complete: bool = False
    """Whether all are here; before that, and while a watch is refused, the API server is to be asked."""
    _entries: dict[ObjectKey, Entry] = field(default_factory=dict)
    _children: dict[tuple[str, str, str], set[str]] = field(default_factory=dict)
    """By namespace, label and parent: the names."""
    _deleted: set[str] = field(default_factory=set)
    """The uids of what we have deleted, and of which the watch may still tell older news."""

    def get(self, namespace: str, name: str) -> Manifest | None:
        """A copy."""
        entry = self._entries.get((namespace, name))
        return entry and self._manifest(entry)

    def list(self, namespace: str, labels: Mapping[str, str]) -> list[Manifest]:
        """Copies of all with these labels, by name."""
        label = next((key for key in (PIPELINE, POLICY) if key in labels), None)
        places: Iterable[ObjectKey] = self._entries
        if label:
            places = [(namespace, name) for name in self._children.get((namespace, label, labels[label]), ())]
        found = [(place, self._entries[place]) for place in sorted(places) if not namespace or place[0] == namespace]
        return [self._manifest(entry) for _, entry in found if labels.items() <= entry.labels.items()]

    def entry(self, namespace: str, name: str) -> Entry | None:
        return self._entries.get((namespace, name))

    def put(self, found: Manifest) -> bool:
        """Takes it unless something newer is here. Returns whether it was news."""
        if self.versions_only:
            found = {"metadata": {key: found["metadata"][key] for key in _IDENTITY}}
        metadata = found["metadata"]
        place, version, uid = _place(found), int(metadata["resourceVersion"]), metadata["uid"]
        held = self._entries.get(place)
        if uid in self._deleted or (held and version <= held.version):
            return False
        kept = {key: value for key, value in metadata.items() if key not in ("managedFields", "resourceVersion")}
        rest = {key: value for key, value in found.items() if key not in ("apiVersion", "kind", "metadata", "status")}
        if reduce := _REDUCED.get(self.kind):
            rest["spec"] = reduce(rest["spec"])
        own = _packed({"metadata": kept, **rest})
        since = version
        if held and held.own == own:
            own, since = held.own, held.since
        if held:
            self._drop(place)
        labels = metadata.get("labels") or {}
        self._entries[place] = Entry(version, since, uid, labels, own, _packed(found.get("status")))
        for key in self._keys(place, labels):
            self._children.setdefault(key, set()).add(place[1])
        return True

    def remove(self, found: Manifest) -> None:
        """It has gone, as the watch says, or is none of those that are watched any more."""
        self._deleted.discard(found["metadata"]["uid"])
        held = self._entries.get(_place(found))
        if held and held.version <= int(found["metadata"]["resourceVersion"]):
            self._drop(_place(found))

    def deleted(self, namespace: str, name: str, uid: str) -> None:
        """It has gone, as our own request was answered."""
        held = self._entries.get((namespace, name))
        if held and held.uid == uid:
            self._deleted.add(uid)
            self._drop((namespace, name))

    def prune(self, uids: Set[str], version: int) -> Iterator[Manifest]:
        """Takes out what a whole list of that version lacks; yields it."""
        self._deleted &= uids
        for place, entry in list(self._entries.items()):
            if entry.uid not in uids and entry.version <= version:
                self._drop(place)
                yield self._manifest(entry)

    def _drop(self, place: ObjectKey) -> None:
        entry = self._entries.pop(place)
        for key in self._keys(place, entry.labels):
            names = self._children[key]
            names.discard(place[1])
            if not names:
                del self._children[key]

    @staticmethod
    def _keys(place: ObjectKey, labels: Mapping[str, str]) -> Iterator[tuple[str, str, str]]:
        for label in (PIPELINE, POLICY):
            if label in labels:
                yield place[0], label, labels[label]

    def _manifest(self, entry: Entry) -> Manifest:
        made: Manifest = json.loads(entry.own)
        status = json.loads(entry.status)
        made |= {"apiVersion": self.api_version, "kind": self.kind} | ({} if status is None else {"status": status})
        made["metadata"]["resourceVersion"] = str(entry.version)
        return made


@dataclass(frozen=True, slots=True)
class Cache:
    """Stores by kind and namespace; that is empty where one has all namespaces. Without any, the API server is asked for everything."""

    whole: Mapping[tuple[str, str], KindCache] = field(default_factory=dict)
    """Our resources and their children."""
    references: Mapping[tuple[str, str], KindCache] = field(default_factory=dict)
    """Secrets and ConfigMaps of others: which there are, and at which version."""

    def of(self, kind: str, namespace: str) -> KindCache | None:
        """Where to look for objects; None: at the API server."""
        return _complete(self.whole, kind, namespace)

    def reference(self, kind: str, namespace: str) -> KindCache | None:
        return _complete(self.references, kind, namespace)

    async def answered(self) -> None:
        """Until every kind has been listed or refused."""
        for store in (*self.whole.values(), *self.references.values()):
            await store.answered.wait()


def _complete(stores: Mapping[tuple[str, str], KindCache], kind: str, namespace: str) -> KindCache | None:
    store = stores.get((kind, "")) or stores.get((kind, namespace))
    return store if store and store.complete else None


def _place(found: Manifest) -> ObjectKey:
    return found["metadata"]["namespace"], found["metadata"]["name"]


def _where_it_answers(spec: Manifest) -> Manifest:
    """All that is asked of a Pod's spec."""
    return {"containers": [{key: each[key] for key in ("name", "ports") if key in each} for each in spec["containers"]]}


def _what_it_reads(spec: Manifest) -> Manifest:
    """All that is asked of a ReplicaSet's spec."""
    return {"template": {"spec": {"volumes": spec["template"]["spec"].get("volumes") or []}}}


_REDUCED: Mapping[str, Callable[[Manifest], Manifest]] = {"Pod": _where_it_answers, "ReplicaSet": _what_it_reads}
"""Of which there are many."""


def _packed(value: object) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()
