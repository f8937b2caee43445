"""Keeps a store what the API server has: a list, a watch that goes on from there for as long as the API server can, a list again.

Our two resources come by kopf (`triggers.py`). What is cached comes from here: a cache has to know when it is complete, and what
has gone while nobody watched, and kopf tells neither.
"""

from __future__ import annotations

import asyncio
import json
import logging
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import aiohttp
from kubernetes.aio.client import ApiClient
from kubernetes.aio.client.exceptions import ApiException

from marketprism_operator.cache import KindCache
from marketprism_operator.naming import Manifest

log = logging.getLogger(__name__)

PAGE = 200
"""Objects asked for at once: a list of thousands takes little memory then."""
SPAN = 600
"""Seconds that one watch lasts."""
SILENCE = 100.0
"""Seconds without a line after which a watch is dead: there is a bookmark about once a minute."""
REFUSED = 600.0
"""Seconds until what the API server refused is tried again."""
UNKNOWN = 60.0
"""Seconds until a kind is asked for again that the API server doesn't have."""
LONGEST = 30.0
"""Seconds between two tries at the most, where the API server can't be reached."""

METADATA_ONLY = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"
METADATA_LIST = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"

_ORDINARY = aiohttp.ClientTimeout(total=30)
_WATCH = aiohttp.ClientTimeout(sock_connect=10, sock_read=SILENCE)

Changed = Callable[[str, Manifest], None]
"""Kind, and an object that is new, has changed or has gone."""


class ExpiredError(Exception):
    """The API server can't go on from there: it is to be listed again."""


@dataclass(slots=True)
class Informer:
    """Of one kind: its path, and the label selector."""

    api: ApiClient
    store: KindCache
    changed: Changed
    path: str
    selector: str = ""
    metadata_only: bool = False
    _version: str = ""
    """How far the store is; empty: it is to be listed."""
    _failures: int = 0

    async def run(self) -> None:
        """Forever."""
        while True:
            pause = 0.5
            try:
                if not self._version:
                    await self._list()
                await self._watch()
            except (ApiException, ExpiredError, aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
                log.info("the watch of %s ended: %r", self.path, error)
                if isinstance(error, ApiException | ExpiredError):
                    self._version = ""
                self._failures += 1
                pause = min(2.0 ** (self._failures - 2), LONGEST)
                if isinstance(error, ApiException) and error.status in (403, 404):
                    pause = self._refused(error.status)
            await asyncio.sleep(pause * random.uniform(0.75, 1.25))

    def _refused(self, status: int) -> float:
        if self.store.complete or not self.store.answered.is_set():
            level = logging.INFO if status == 404 else logging.WARNING
            log.log(
                level, "%s may not be watched (%d): that something has changed there is not noticed", self.path, status
            )
        self.store.complete = False
        self.store.answered.set()
        return UNKNOWN if status == 404 else REFUSED

    async def _list(self) -> None:
        uids: set[str] = set()
        query = [("limit", str(PAGE))]
        while True:
            answer = await self._get(query, METADATA_LIST, _ORDINARY)
            try:
                page = await answer.json()
            finally:
                answer.close()
            for found in page.get("items") or []:
                uids.add(found["metadata"]["uid"])
                if self.store.put(found):
                    self.changed(self.store.kind, found)
            version, more = page["metadata"]["resourceVersion"], page["metadata"].get("continue")
            if not more:
                break
            query = [("limit", str(PAGE)), ("continue", more)]
        for gone in list(self.store.prune(uids, int(version))):
            self.changed(self.store.kind, gone)
        self._version = version
        self.store.complete = True
        self.store.answered.set()

    async def _watch(self) -> None:
        """Until its time is over."""
        query = {"watch": "1", "allowWatchBookmarks": "true", "timeoutSeconds": SPAN, "resourceVersion": self._version}
        answer = await self._get([(key, str(value)) for key, value in query.items()], METADATA_ONLY, _WATCH)
        try:
            async for line in answer.content:
                event = json.loads(line)
                found = event["object"]
                if event["type"] == "ERROR":
                    raise ExpiredError(found.get("message"))
                if event["type"] == "DELETED":
                    self.store.remove(found)
                    self.changed(self.store.kind, found)
                elif event["type"] != "BOOKMARK" and self.store.put(found):
                    self.changed(self.store.kind, found)
                self._version = found["metadata"]["resourceVersion"]
                self._failures = 0
        finally:
            answer.close()

    async def _get(
        self, query: list[tuple[str, str]], metadata: str, patience: aiohttp.ClientTimeout
    ) -> aiohttp.ClientResponse:
        """An answer of 200. Raises ExpiredError, ApiException."""
        client: Any = self.api
        if self.selector:
            query = [*query, ("labelSelector", self.selector)]
        headers = {"Accept": metadata if self.metadata_only else "application/json"}
        request = await client.param_serialize(
            "GET", self.path, query_params=query, header_params=headers, auth_settings=["BearerToken"]
        )
        answer: aiohttp.ClientResponse = (await client.call_api(*request, _request_timeout=patience)).response
        if answer.status == 200:
            return answer
        try:
            if answer.status == 410:
                raise ExpiredError("its version is too old")
            raise ApiException(status=answer.status, reason=answer.reason)
        finally:
            answer.close()
