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
from marketprism_operator.naming import APPLIED_HASH, FIELD_MANAGER, Manifest, digest

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
METADATA_ONLY = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"


SCALER = f"{FIELD_MANAGER}-scaler"
UNREADABLE = "unreadable"
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


class Cluster:
    """Plain dicts in, plain dicts out."""

    def __init__(self, api: ApiClient) -> None:
        self._client: Any = DynamicClient(api)  # type: ignore[no-untyped-call]
        self._fits: dict[tuple[str, str, str], tuple[str, str]] = {}
        """Child → the resourceVersion and the manifest's hash at which a dry run last found no difference."""

    async def get(self, kind: str, namespace: str, name: str) -> Manifest | None:
        """None where it is not there."""
        try:
            found = await self._client.get(self._resource(kind), name=name, namespace=namespace)
        except ApiException as error:
            if error.status == 404:
                return None
            raise
        return _plain(found)

    async def list(self, kind: str, namespace: str = "", labels: Mapping[str, str] | None = None) -> list[Manifest]:
        selector = ",".join(f"{key}={value}" for key, value in (labels or {}).items()) or None
        found = await self._client.get(self._resource(kind), namespace=namespace or None, label_selector=selector)
        api_version, _ = KINDS[kind]
        return [{"apiVersion": api_version, "kind": kind, **item} for item in _plain(found).get("items") or []]

    async def version(self, kind: str, namespace: str, name: str) -> str | None:
        """What changes with the object; None where it is not there, UNREADABLE where we may not know. Its content is
        never asked for."""
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

    async def has_pod_monitors(self) -> bool:
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
        live = await self.get(kind, namespace, name)
        try:
            if live is None:
                await self._apply(kind, body)
                return Applied(Done.CREATED)
            if not _same_owner(live, manifest):
                raise ApplyRefusedError(
                    f"{kind} {name} exists and belongs to somebody else: delete it, or rename the resource"
                )
            let_go = kind == "Deployment" and "replicas" not in manifest["spec"] and _sets_replicas(live)
            if let_go:
                # Others scale it from now on: left out by us, the number would fall to one.
                await self.scale(namespace, name, max(1, live["spec"].get("replicas", 1)))
                live = await self.get(kind, namespace, name) or live
            key, fit = (kind, namespace, name), (live["metadata"]["resourceVersion"], wanted)
            if self._fits.get(key) == fit:
                return Applied(Done.UNCHANGED)
            added = additions(live, manifest)
            if added:
                live = await self._remove(live, added)
            fields = tuple(differing(live, await self._apply(kind, body, dry_run="All")))
            if not fields and not added and not let_go:
                self._fits[key] = fit
                return Applied(Done.UNCHANGED)
            if fields or let_go:
                await self._apply(kind, body)
        except ApiException as error:
            if error.status in (400, 403, 422) or (error.status == 500 and UNTYPED in said_by(error)):
                raise ApplyRefusedError(f"{kind} {name}: {said_by(error)}") from error
            raise
        before = (live["metadata"].get("annotations") or {}).get(APPLIED_HASH)
        fields = (*(addition.name for addition in added), *fields)
        return Applied(Done.PUT_BACK if before == wanted else Done.CHANGED, fields)

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

    async def scale(self, namespace: str, name: str, replicas: int) -> None:
        """The number of a Deployment's Pods, as a manager of its own: who scales it afterwards takes it over."""
        body: Manifest = {"apiVersion": KINDS["Deployment"][0], "kind": "Deployment"}
        body |= {"metadata": {"name": name, "namespace": namespace}, "spec": {"replicas": replicas}}
        await self._apply("Deployment", body, manager=SCALER)

    async def stop_pods(self, deployment: Manifest) -> None:
        """No more Pods of a Deployment, whatever else is in it."""
        metadata = deployment["metadata"]
        path = self._resource("Deployment").path(name=metadata["name"], namespace=metadata["namespace"])
        await self._replace(path, {"/spec/replicas": 0})

    async def write_status(self, kind: str, namespace: str, name: str, status: Manifest) -> None:
        """All of it at once. Raises StatusRefusedError.

        Not by server-side apply: there a map all of whose entries go becomes null, which the definition refuses.
        """
        path = self._resource(kind).path(name=name, namespace=namespace) + "/status"
        try:
            await self._replace(path, {"/status": status})
        except ApiException as error:
            if error.status not in (400, 422):
                raise
            raise StatusRefusedError(said_by(error)) from error

    async def write_conditions(self, kind: str, namespace: str, name: str, status: Manifest, live: Manifest) -> None:
        """What a status says at the least, whatever else it holds or held."""
        path = self._resource(kind).path(name=name, namespace=namespace) + "/status"
        told = {key: status[key] for key in ("observedGeneration", "conditions")}
        fields = {f"/status/{key}": value for key, value in told.items()} if live.get("status") else {"/status": told}
        await self._replace(path, fields)

    async def _replace(self, path: str, fields: Mapping[str, Any]) -> None:
        body = [{"op": "add", "path": field, "value": value} for field, value in fields.items()]
        content_type = "application/json-patch+json"
        await self._client.request("patch", path, body=body, content_type=content_type, field_manager=FIELD_MANAGER)

    async def delete(self, kind: str, namespace: str, name: str) -> None:
        self._fits.pop((kind, namespace, name), None)
        try:
            await self._client.delete(
                self._resource(kind), name=name, namespace=namespace, propagation_policy="Background"
            )
        except ApiException as error:
            if error.status != 404:
                raise

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


def _plain(found: Any) -> Manifest:
    plain: Manifest = found.to_dict()
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
