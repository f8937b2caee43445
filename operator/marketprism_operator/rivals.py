"""Pipelines in each other's way: they would store the same messages in the same tables. Pure.

The younger one stands still. Only what is sure by their specs counts: a server under the same name, a login by the same Secrets.
What no spec shows, the tables tell the consumers: in which bucket their records are (`schema/ddl.py` of the consumer).
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple
from urllib.parse import urlsplit

from marketprism_api.pipeline import StoragePipeline
from marketprism_api.subjects import common
from marketprism_operator.builders.network_policy import PORTS
from marketprism_operator.cache import ObjectKey


class TableFeed(NamedTuple):
    """`streams`: none where it is whatever holds the subject."""

    data_type: str
    subject: str
    streams: frozenset[str]

    def meet(self, other: TableFeed) -> bool:
        of_one_stream = not self.streams or not other.streams or self.streams & other.streams
        return bool(of_one_stream and common(self.subject, other.subject))


@dataclass(frozen=True, slots=True)
class Feed:
    """What a pipeline stores, and where."""

    age: tuple[str, str]
    """When it was made, and its uid: less is older."""
    sources: frozenset[tuple[str, ...]]
    """NATS servers, each with its JetStream and the login."""
    databases: frozenset[tuple[str, str]]
    """ClickHouse servers, each with the database."""
    tables: Mapping[str, TableFeed]

    def shared(self, other: Feed) -> tuple[str, ...]:
        """The data types of which both store some message in the same table."""
        if not (self.sources & other.sources and self.databases & other.databases):
            return ()
        both = sorted(self.tables.keys() & other.tables.keys())
        return tuple(self.tables[table].data_type for table in both if self.tables[table].meet(other.tables[table]))


def feed_of(pipeline: StoragePipeline, created: str) -> Feed | None:
    """None where it stores nothing, as while it is suspended."""
    spec, metadata = pipeline.spec, pipeline.metadata
    if spec.suspend:
        return None
    own = str(metadata.namespace or "")
    secrets = (spec.nats.auth_secret_ref, spec.nats.tls_secret_ref)
    login = ",".join(f"{own}/{secret.name}" for secret in secrets if secret)
    return Feed(
        (created, str(metadata.uid or "")),
        frozenset((server, spec.nats.jetstream, login) for server in _servers(spec.nats.url.urls, own)),
        frozenset((server, str(spec.clickhouse.hot_database)) for server in _servers(spec.clickhouse.url.urls, own)),
        {
            each.table: TableFeed(name, each.subject, frozenset(spec.streams(name)))
            for name, each in spec.declarations.items()
        },
    )


def _servers(urls: Iterable[str], own: str) -> list[str]:
    """As any namespace would name them. A Pod's own host is nobody else's."""
    found = []
    for url in urls:
        parts = urlsplit(url)
        host = (parts.hostname or "").rstrip(".")
        try:
            loopback, labels = ipaddress.ip_address(host).is_loopback, [host]
        except ValueError:
            labels = host.split(".")
            loopback = host == "localhost"
            if len(labels) == 1:
                labels.append(own)
            elif "svc" in labels[2:]:
                labels = labels[: labels.index("svc", 2)]
        if not loopback:
            found.append(f"{'.'.join(labels)}:{parts.port or PORTS[parts.scheme]}")
    return found


class Rivals:
    """The feeds of all pipelines that are known."""

    def __init__(self) -> None:
        self._feeds: dict[ObjectKey, Feed] = {}
        self._into: dict[tuple[str, str], set[ObjectKey]] = {}
        """By server and database."""

    def put(self, key: ObjectKey, feed: Feed | None) -> set[ObjectKey]:
        """What it stores from now on; None: nothing. Returns whom it was in the way of, or is."""
        before = self._feeds.pop(key, None)
        if before == feed and feed:
            self._feeds[key] = feed
            return set()
        found = {other for each in (before, feed) if each for other in self._beside(each) if other != key}
        for table in before.databases if before else ():
            self._into[table].discard(key)
            if not self._into[table]:
                del self._into[table]
        if feed:
            self._feeds[key] = feed
            for table in feed.databases:
                self._into.setdefault(table, set()).add(key)
        return found

    def first(self, key: ObjectKey) -> tuple[ObjectKey, tuple[str, ...]] | None:
        """The oldest of those in its way that are older, and the data types that both store."""
        feed = self._feeds.get(key)
        older = [other for other in self._beside(feed) if self._feeds[other].age < feed.age] if feed else []
        if not feed or not older:
            return None
        oldest = min(older, key=lambda other: self._feeds[other].age)
        return oldest, feed.shared(self._feeds[oldest])

    def _beside(self, feed: Feed) -> set[ObjectKey]:
        none: set[ObjectKey] = set()
        there = none.union(*(self._into.get(table, none) for table in feed.databases))
        return {other for other in there if other in self._feeds and feed.shared(self._feeds[other])}
