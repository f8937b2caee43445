"""What is cached: our two resources, their children, and the versions of Secrets and ConfigMaps that a resource may name.

Of children only ours are asked for, by label. Of Secrets and ConfigMaps only the metadata is asked for, and only their versions are
kept. Resources come by kopf, too; they are cached because a reconcile looks at others than its own: a pipeline's policies, a
policy's pipeline, and pipelines in each other's way.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from kubernetes.aio.client import ApiClient

from marketprism_operator.cache import Cache, KindCache
from marketprism_operator.cluster import KINDS, collection
from marketprism_operator.informer import Changed, Informer
from marketprism_operator.naming import FIELD_MANAGER, MANAGED_BY

CHILDREN = (
    "ServiceAccount",
    "ConfigMap",
    "Service",
    "Pod",
    "Deployment",
    "ReplicaSet",
    "Job",
    "CronJob",
    "PodDisruptionBudget",
    "NetworkPolicy",
    "PodMonitor",
)
RESOURCES = ("StoragePipeline", "TieringPolicy")
REFERENCES = ("Secret", "ConfigMap")


def cache(namespaces: Iterable[str]) -> Cache:
    """Empty; in all namespaces where none is named."""
    places = tuple(namespaces) or ("",)
    return Cache(
        whole={(kind, place): KindCache(KINDS[kind][0], kind) for kind in (*RESOURCES, *CHILDREN) for place in places},
        references={
            (kind, place): KindCache(KINDS[kind][0], kind, versions_only=True)
            for kind in REFERENCES
            for place in places
        },
    )


async def watch(api: ApiClient, cache: Cache, child: Changed, resource: Changed, reference: Changed) -> None:
    """Runs forever; tells the kind, and the object that is new, has changed or has gone."""
    ours = f"{MANAGED_BY}={FIELD_MANAGER}"
    informers = [
        Informer(api, store, resource, collection(kind, place))
        if kind in RESOURCES
        else Informer(api, store, child, collection(kind, place), selector=ours)
        for (kind, place), store in cache.whole.items()
    ] + [
        Informer(api, store, reference, collection(kind, place), metadata_only=True)
        for (kind, place), store in cache.references.items()
    ]
    async with asyncio.TaskGroup() as group:
        for informer in informers:
            group.create_task(informer.run())
