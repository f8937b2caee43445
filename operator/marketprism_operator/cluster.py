"""The API server, for what a reconcile needs of it. Every write is a server-side apply by one field manager.

A child is written only where a dry run says that something would change. So nothing is written at rest; and where a dry run
would change something although we ask for nothing new, somebody else has edited it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

from kubernetes.aio.client import ApiClient
from kubernetes.aio.client.exceptions import ApiException
from kubernetes.aio.dynamic import DynamicClient
from kubernetes.aio.dynamic.resource import Resource

from marketprism_api.meta import API_VERSION
from marketprism_operator.additions import Addition, additions
from marketprism_operator.cache import Cache
from marketprism_operator.informer import METADATA_ONLY
from marketprism_operator.naming import APPLIED_HASH, FIELD_MANAGER, UNREADABLE, Manifest, digest

KINDS = {
    "StoragePipeline": (API_VERSION, "storagepipelines"),
    "TieringPolicy": (API_VERSION, "tieringpolicies"),
    "ServiceAccount": ("v1", "serviceaccounts"),
    "ConfigMap": ("v1", "configmaps"),
    "Secret": ("v1", "secrets"),
    "Service": ("v1", "services"),
    "Pod": ("v1", "pods"),
    "Job": ("batch/v1", "jobs"),
    "CronJob": ("batch/v1", "cronjobs"),
    "Deployment": ("apps/v1", "deployments"),
    "ReplicaSet": ("apps/v1", "replicasets"),
    "PodDisruptionBudget": ("policy/v1", "poddisruptionbudgets"),
    "NetworkPolicy": ("networking.k8s.io/v1", "networkpolicies"),
    "PodMonitor": ("monitoring.coreos.com/v1", "podmonitors"),
}

STANDS_STILL: Mapping[str, tuple[str, Any]] = {"Deployment": ("replicas", 0), "CronJob": ("suspend", True)}
"""What in a workload's spec keeps it from starting Pods."""
SCALER = f"{FIELD_MANAGER}-scaler"
UNTYPED = "failed to create typed patch object"
"""What the API server says, with 500, of an apply that has a field which does not exist (kubernetes/kubernetes#139253)."""


class ApplyRefusedError(Exception):
    """The API server does not take an object, and will not until somebody changes something."""


class StatusRefusedError(Exception):
    """The API server does not take a status: its definition is another one, or a value is more than it allows."""


class Done(Enum):
    UNCHANGED = "unchanged"
    CREATED = "created"
    CHANGED = "changed"
    PUT_BACK = "put back"


@dataclass(frozen=True, slots=True)
class Applied:
    done: Done
    fields: tuple[str, ...] = ()


class _Client(DynamicClient):
    """Its answers stay as they came: the library would make an object of every field, which costs more than the request."""

    def __init__(self, api: ApiClient) -> None:
        super().__init__(api)  # type: ignore[no-untyped-call]

    async def request(self, method: str, path: str, body: Any = None, **params: Any) -> Any:
        return await super().request(method, path, body=body, serializer=lambda _, found: found, **params)


class Cluster:
    """Plain dicts in, plain dicts out. What the cache has is not asked for; what is answered, it gets."""

    def __init__(self, api: ApiClient, cache: Cache | None = None) -> None:
        self._client: Any = _Client(api)
        self._cache = cache or Cache()
        self._fits: dict[tuple[str, str, str], tuple[int, str]] = {}
        """Child → since which resourceVersion it is what the manifest with that hash makes of it, as the API server has answered."""
        self._written: dict[tuple[str, str, str], str] = {}
        """Resource → the resourceVersion that our last write of its status made."""

    async def get(self, kind: str, namespace: str, name: str) -> Manifest | None:
        """None where it is not there. It may be behind what others do, and is never older than what we have done."""
        if store := self._cache.of(kind, namespace):
            return store.get(namespace, name)
        return await self.read(kind, namespace, name)

    async def read(self, kind: str, namespace: str, name: str) -> Manifest | None:
        """As it is now; None where it is not there."""
        try:
            found = await self._client.get(self._resource(kind), name=name, namespace=namespace)
        except ApiException as error:
            if error.status == 404:
                return None
            raise
        return _plain(found)

    async def list(self, kind: str, namespace: str = "", labels: Mapping[str, str] | None = None) -> list[Manifest]:
        """Behind as `get` is."""
        if store := self._cache.of(kind, namespace):
            return store.list(namespace, labels or {})
        selector = ",".join(f"{key}={value}" for key, value in (labels or {}).items()) or None
        found = await self._client.get(self._resource(kind), namespace=namespace or None, label_selector=selector)
        api_version, _ = KINDS[kind]
        return [{"apiVersion": api_version, "kind": kind, **item} for item in _plain(found).get("items") or []]

    async def version(self, kind: str, namespace: str, name: str) -> str | None:
        """What changes with the object; None where it is not there, UNREADABLE where we may not know. Its content is
        never asked for."""
        if store := self._cache.reference(kind, namespace):
            entry = store.entry(namespace, name)
            return entry and f"{entry.uid}/{entry.version}"
        path = self._resource(kind).path(name=name, namespace=namespace)
        try:
            found = await self._client.request("get", path, header_params={"Accept": METADATA_ONLY})
        except ApiException as error:
            if error.status == 404:
                return None
            if error.status == 403:
                return UNREADABLE
            raise
        metadata = _plain(found)["metadata"]
        return f"{metadata['uid']}/{metadata['resourceVersion']}"

    async def warning(self, about: Manifest) -> str:
        """The last Warning among the Events of an object; nothing where there is none, or we may not read them."""
        metadata = about["metadata"]
        path = f"/api/v1/namespaces/{metadata['namespace']}/events"
        selector = f"involvedObject.uid={metadata['uid']},type=Warning"
        try:
            found = _plain(await self._client.request("get", path, field_selector=selector)).get("items") or []
        except ApiException as error:
            if error.status == 403:
                return ""
            raise
        last: Manifest = max(
            found, key=lambda event: str(event.get("lastTimestamp") or event.get("eventTime")), default={}
        )
        return str(last.get("message", ""))

    async def has_pod_monitors(self, namespace: str) -> bool:
        if self._cache.whole:
            return self._cache.of("PodMonitor", namespace) is not None
        try:
            await self._client.request("get", f"/apis/{KINDS['PodMonitor'][0]}")
        except ApiException as error:
            if error.status in (403, 404):
                return False
            raise
        return True

    async def apply(self, manifest: Manifest) -> Applied:
        """Creates or changes it where needed. Raises ApplyRefusedError."""
        kind, metadata = manifest["kind"], manifest["metadata"]
        namespace, name = metadata["namespace"], metadata["name"]
        wanted = digest(manifest)
        body = {
            **manifest,
            "metadata": {**metadata, "annotations": {**metadata.get("annotations", {}), APPLIED_HASH: wanted}},
        }
        key, store = (kind, namespace, name), self._cache.of(kind, namespace)
        known = store.entry(namespace, name) if store else None
        if known and self._fits.get(key) == (known.since, wanted):
            return Applied(Done.UNCHANGED)
        live = await self.read(kind, namespace, name)  # the cache may be behind
        try:
            if live is None:
                self._fit(await self._apply(kind, body), manifest, wanted)
                return Applied(Done.CREATED)
            if not _same_owner(live, manifest):
                raise ApplyRefusedError(
                    f"{kind} {name} exists and belongs to somebody else: delete it, or rename the resource"
                )
            let_go = kind == "Deployment" and "replicas" not in manifest["spec"] and _sets_replicas(live)
            if let_go:
                # Others scale it from now on: left out by us, the number would fall to one.
                live = await self.scale(namespace, name, max(1, live["spec"].get("replicas", 1)))
            if self._fits.get(key) == (self._learn(live), wanted):
                return Applied(Done.UNCHANGED)
            added = additions(live, manifest)
            if added:
                live = await self._remove(live, added)
            fields = tuple(differing(live, await self._apply(kind, body, dry_run="All")))
            if not fields and not added and not let_go:
                self._fit(live, manifest, wanted)
                return Applied(Done.UNCHANGED)
            if fields or let_go:
                self._fit(await self._apply(kind, body), manifest, wanted)
        except ApiException as error:
            if error.status in (400, 403, 422) or (error.status == 500 and UNTYPED in said_by(error)):
                raise ApplyRefusedError(f"{kind} {name}: {said_by(error)}") from error
            raise
        before = (live["metadata"].get("annotations") or {}).get(APPLIED_HASH)
        fields = (*(addition.name for addition in added), *fields)
        return Applied(Done.PUT_BACK if before == wanted else Done.CHANGED, fields)

    def _learn(self, answer: Manifest) -> int:
        """Since which resourceVersion it is what it is, its status aside."""
        namespace, name = answer["metadata"]["namespace"], answer["metadata"]["name"]
        if store := self._cache.of(answer["kind"], namespace):
            store.put(answer)
            entry = store.entry(namespace, name)
            if entry and str(entry.version) == answer["metadata"]["resourceVersion"]:
                return entry.since
        return int(answer["metadata"]["resourceVersion"])

    def _fit(self, answer: Manifest, manifest: Manifest, wanted: str) -> None:
        """Remembers that there is nothing to be done, unless somebody has added to it meanwhile."""
        since = self._learn(answer)
        if not additions(answer, manifest):
            self._fits[answer["kind"], answer["metadata"]["namespace"], answer["metadata"]["name"]] = since, wanted

    async def _remove(self, live: Manifest, added: Sequence[Addition]) -> Manifest:
        """Without what somebody else has added; refused by the API server where it has changed meanwhile."""
        metadata = live["metadata"]
        path = self._resource(live["kind"]).path(name=metadata["name"], namespace=metadata["namespace"])
        unchanged = {"op": "test", "path": "/metadata/resourceVersion", "value": metadata["resourceVersion"]}
        body = [unchanged, *({"op": "remove", "path": addition.pointer} for addition in added)]
        content_type = "application/json-patch+json"
        return _plain(
            await self._client.request("patch", path, body=body, content_type=content_type, field_manager=FIELD_MANAGER)
        )

    async def _apply(
        self, kind: str, body: Manifest, dry_run: str | None = None, manager: str = FIELD_MANAGER
    ) -> Manifest:
        return _plain(
            await self._client.server_side_apply(
                self._resource(kind), body=body, field_manager=manager, force_conflicts=True, dry_run=dry_run
            )
        )

    async def scale(self, namespace: str, name: str, replicas: int) -> Manifest:
        """The number of a Deployment's Pods, as a manager of its own: who scales it afterwards takes it over."""
        body: Manifest = {"apiVersion": KINDS["Deployment"][0], "kind": "Deployment"}
        body |= {"metadata": {"name": name, "namespace": namespace}, "spec": {"replicas": replicas}}
        answer = await self._apply("Deployment", body, manager=SCALER)
        self._learn(answer)
        return answer

    async def stop_pods(self, workload: Manifest) -> None:
        """No more Pods of a Deployment or a CronJob, whatever else is in it."""
        metadata, (field, still) = workload["metadata"], STANDS_STILL[workload["kind"]]
        if workload["spec"].get(field) == still:
            return
        path = self._resource(workload["kind"]).path(name=metadata["name"], namespace=metadata["namespace"])
        self._learn(await self._replace(path, {f"/spec/{field}": still}))

    async def write_status(self, kind: str, namespace: str, name: str, status: Manifest) -> None:
        """All of it at once. Raises StatusRefusedError.

        Not by server-side apply: there a map all of whose entries go becomes null, which the definition refuses.
        """
        path = self._resource(kind).path(name=name, namespace=namespace) + "/status"
        try:
            self._wrote(await self._replace(path, {"/status": status}))
        except ApiException as error:
            if error.status not in (400, 422):
                raise
            raise StatusRefusedError(said_by(error)) from error

    async def write_conditions(self, kind: str, namespace: str, name: str, status: Manifest, live: Manifest) -> None:
        """What a status says at the least, whatever else it holds or held."""
        path = self._resource(kind).path(name=name, namespace=namespace) + "/status"
        told = {key: status[key] for key in ("observedGeneration", "conditions")}
        fields = {f"/status/{key}": value for key, value in told.items()} if live.get("status") else {"/status": told}
        self._wrote(await self._replace(path, fields))

    def _wrote(self, answer: Manifest) -> None:
        metadata = answer["metadata"]
        self._written[answer["kind"], metadata["namespace"], metadata["name"]] = metadata["resourceVersion"]

    def is_own(self, resource: Manifest) -> bool:
        """Whether it is as our last write of its status left it."""
        metadata = resource["metadata"]
        written = self._written.get((resource["kind"], metadata["namespace"], metadata["name"]))
        return bool(written == metadata["resourceVersion"])

    def forget(self, kind: str, namespace: str, name: str) -> None:
        """A resource that has gone."""
        self._written.pop((kind, namespace, name), None)

    async def _replace(self, path: str, fields: Mapping[str, Any]) -> Manifest:
        body = [{"op": "add", "path": field, "value": value} for field, value in fields.items()]
        content_type = "application/json-patch+json"
        return _plain(
            await self._client.request("patch", path, body=body, content_type=content_type, field_manager=FIELD_MANAGER)
        )

    async def delete(self, kind: str, namespace: str, name: str, uid: str = "") -> None:
        """That object and no other of its name, where its uid is given. It is no error that it has gone."""
        self._fits.pop((kind, namespace, name), None)
        options: Manifest = {"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": "Background"}
        options |= {"preconditions": {"uid": uid}} if uid else {}
        try:
            answer = _plain(
                await self._client.delete(self._resource(kind), name=name, namespace=namespace, body=options)
            )
        except ApiException as error:
            if error.status not in (404, 409 if uid else 404):
                raise
            return
        if answer["kind"] == kind:  # something holds it up
            self._learn(answer)
        elif store := self._cache.of(kind, namespace):
            store.deleted(namespace, name, uid)

    def _resource(self, kind: str) -> Any:
        """Our kinds are a closed set: nothing has to be discovered."""
        api_version, plural = KINDS[kind]
        group, _, version = api_version.rpartition("/")
        return Resource(  # type: ignore[no-untyped-call]
            prefix="apis" if group else "api",
            group=group,
            api_version=version,
            kind=kind,
            name=plural,
            namespaced=True,
            client=self._client,
            verbs=[],
        )


def collection(kind: str, namespace: str) -> str:
    """The path of a kind; in all namespaces where it is empty."""
    api_version, plural = KINDS[kind]
    base = f"/{'apis' if '/' in api_version else 'api'}/{api_version}"
    return f"{base}/namespaces/{namespace}/{plural}" if namespace else f"{base}/{plural}"


def _plain(found: Any) -> Manifest:
    plain: Manifest = found
    return plain


def said_by(error: ApiException) -> str:
    """The API server's own words."""
    try:
        return str(json.loads(error.body or "")["message"])
    except (ValueError, KeyError, TypeError):
        return str(error.reason)


def _sets_replicas(deployment: Manifest) -> bool:
    """Is the number of its Pods ours?"""
    return any(
        entry.get("manager") == FIELD_MANAGER and "f:replicas" in entry.get("fieldsV1", {}).get("f:spec", {})
        for entry in deployment["metadata"].get("managedFields") or []
    )


def _same_owner(live: Manifest, manifest: Manifest) -> bool:
    mine = {owner["uid"] for owner in manifest["metadata"].get("ownerReferences", [])}
    theirs = {owner["uid"] for owner in live["metadata"].get("ownerReferences") or [] if owner.get("controller")}
    return not theirs or mine == theirs if mine else True


_OWN = {("metadata", name) for name in ("managedFields", "resourceVersion", "generation")} | {("status",)}


def differing(live: Any, wanted: Any, path: tuple[str, ...] = ()) -> Iterator[str]:
    """The paths of the fields that differ."""
    if path in _OWN or path == ("metadata", "annotations", APPLIED_HASH) or live == wanted:
        return
    if isinstance(live, dict) and isinstance(wanted, dict):
        for key in sorted({*live, *wanted}):
            yield from differing(live.get(key), wanted.get(key), (*path, str(key)))
    elif isinstance(live, list) and isinstance(wanted, list) and len(live) == len(wanted):
        for number, (item, wanted_item) in enumerate(zip(live, wanted, strict=True)):
            name = item.get("name", number) if isinstance(item, dict) else number
            yield from differing(item, wanted_item, (*path[:-1], f"{path[-1]}[{name}]"))
    elif path[:2] == ("metadata", "annotations") and len(path) == 2 and not {**(live or {}), **(wanted or {})}:
        return
    else:
        yield ".".join(path)


def controlled_by(uid: str, manifests: Iterable[Manifest]) -> list[Manifest]:
    return [
        manifest
        for manifest in manifests
        if any(owner.get("uid") == uid for owner in manifest["metadata"].get("ownerReferences") or [])
    ]
