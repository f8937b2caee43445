"""Watches Secrets and ConfigMaps for changes, by their metadata alone: their content is never asked for."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable
from typing import Any

import aiohttp
from kubernetes.aio.client import ApiClient

from marketprism_operator.cluster import METADATA_ONLY
from marketprism_operator.naming import Manifest

log = logging.getLogger(__name__)

KINDS = {"Secret": "secrets", "ConfigMap": "configmaps"}
SPAN = 300
"""Seconds that one watch lasts. Each begins with all that is there, so that nothing is missed in between."""
REFUSED = 600.0
"""Seconds until a watch that the API server refused is tried again."""

Changed = Callable[[str, Manifest], None]
"""Kind, and an object with metadata only."""


async def watch(api: ApiClient, namespaces: tuple[str, ...], changed: Changed) -> None:
    """Runs forever; in all namespaces where none is named."""
    async with asyncio.TaskGroup() as group:
        for kind, plural in KINDS.items():
            for namespace in namespaces or ("",):
                path = f"/api/v1/namespaces/{namespace}/{plural}" if namespace else f"/api/v1/{plural}"
                group.create_task(_watch(api, kind, path, changed))


async def _watch(api: ApiClient, kind: str, path: str, changed: Changed) -> None:
    while True:
        pause = 1.0
        try:
            status = await _stream(api, kind, path, changed)
            if status in (401, 403):
                log.warning("%s may not be watched (%d): Pods are not replaced when one changes", path, status)
                pause = REFUSED
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            log.info("the watch of %s ended: %r", path, error)
        await asyncio.sleep(pause)


async def _stream(api: ApiClient, kind: str, path: str, changed: Changed) -> int:
    """One watch. Returns the HTTP status."""
    client: Any = api
    request = await client.param_serialize(
        "GET",
        path,
        query_params=[("watch", "1"), ("timeoutSeconds", SPAN)],
        header_params={"Accept": METADATA_ONLY},
        auth_settings=["BearerToken"],
    )
    timeout = aiohttp.ClientTimeout(total=SPAN + 30, sock_connect=10)
    answer = (await client.call_api(*request, _request_timeout=timeout)).response
    try:
        if answer.status == 200:
            async for line in answer.content:
                event = json.loads(line)
                if event["type"] in ("ADDED", "MODIFIED", "DELETED"):
                    changed(kind, event["object"])
        return int(answer.status)
    finally:
        answer.close()
