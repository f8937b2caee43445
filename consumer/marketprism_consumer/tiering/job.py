"""What a migration is to do, resolved: options over environment over file over defaults."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from marketprism_api.credentials import ClickHouseAuth, clickhouse_auth
from marketprism_api.load import load
from marketprism_api.pipeline import StoragePipeline
from marketprism_api.problems import Problem, ResourceError
from marketprism_api.settings import Settings, effective
from marketprism_api.tiering import TieringPolicy
from marketprism_consumer.schema.ddl import LOCAL
from marketprism_consumer.tiering.slices import Filter


class Mode(StrEnum):
    MOVE = "move"
    COPY = "copy"
    DRY_RUN = "dry-run"


@dataclass(frozen=True, slots=True)
class Job:
    """`cold_urls` empty: cold is on hot's server. `start` and `end` in µs since 1970. Ages in seconds."""

    hot_urls: tuple[str, ...]
    cold_urls: tuple[str, ...]
    hot_db: str
    cold_db: str
    tables: tuple[str, ...]
    older_than: float
    batch_limit: int
    mode: Mode = Mode.MOVE
    filter: Filter = field(default=Filter())
    start: int | None = None
    end: int | None = None
    cold_retention: float | None = None
    cluster: str = ""
    """Hot's; empty for a single server."""
    sharded: bool = False
    """Are rows spread over the cluster's shards?"""
    shard: str = ""
    """The one that this is about: each shard moves its own rows (`servers.by_shard`)."""
    quorum: bool = True
    """On a cluster: does nothing leave hot before a majority of cold's replicas have it?"""

    @property
    def pair(self) -> str:
        return f"{self.hot_db} → {self.cold_db}" + (f" of shard {self.shard}" if self.shard else "")

    def own(self, table: str) -> str:
        """The name of the table that holds rows."""
        return f"{table}{LOCAL}" if self.shard else table


def read(file: str, environ: Mapping[str, str]) -> tuple[Settings, TieringPolicy | None]:
    """The settings and the policy of a file with either or both; without a file, the environment's. Raises ResourceError."""
    source = file or environ.get("MARKETPRISM_FILE", "").strip()
    resources = load(source) if source else []
    pipelines = [resource for resource in resources if isinstance(resource, StoragePipeline)]
    policies = [resource for resource in resources if isinstance(resource, TieringPolicy)]
    for found, kind in ((pipelines, "StoragePipeline"), (policies, "TieringPolicy")):
        if len(found) > 1:
            names = ", ".join(resource.metadata.name for resource in found)
            raise ResourceError([Problem(f"holds {len(found)} of kind {kind}: {names}", source, allowed="one of each")])
    policy = policies[0] if policies else None
    return effective(pipelines[0] if pipelines else None, environ, policy), policy


def job_of(settings: Settings, policy: TieringPolicy | None) -> Job:
    """What file and environment say."""
    spec = policy.spec if policy else None
    stored = tuple(type_settings.table for type_settings in settings.data_types.values())
    mode = {"Move": Mode.MOVE, "Copy": Mode.COPY, "DryRun": Mode.DRY_RUN}[spec.mode] if spec else Mode.MOVE
    return Job(
        hot_urls=settings.clickhouse_urls,
        cold_urls=settings.cold_urls,
        hot_db=settings.hot_db,
        cold_db=settings.cold_db,
        tables=tuple(table for table in stored if spec is None or spec.tables is None or table in spec.tables),
        older_than=settings.migration_window_hours * 3600,
        batch_limit=settings.migration_batch_limit,
        mode=mode,
        filter=Filter(str(spec.filter.exchange or ""), "", str(spec.filter.symbol or "")) if spec else Filter(),
        cold_retention=(spec.cold.retention.seconds or None) if spec else None,
        cluster=settings.cluster,
        sharded=settings.sharded,
        quorum=settings.insert_quorum,
    )


def cold_auth(environ: Mapping[str, str] = os.environ) -> ClickHouseAuth:
    """CLICKHOUSE_COLD_USER, CLICKHOUSE_COLD_PASSWORD, CLICKHOUSE_COLD_TLS_*, MARKETPRISM_CLICKHOUSE_COLD_AUTH_DIR; where
    none of them is given, what hot's server takes. Raises ResourceError."""
    given = {
        name.replace("CLICKHOUSE_COLD_", "CLICKHOUSE_"): value
        for name, value in environ.items()
        if "CLICKHOUSE_COLD_" in name
    }
    given.pop("CLICKHOUSE_DB", None)
    return clickhouse_auth(given if set(given) - {"CLICKHOUSE_HTTP_URL"} or "@" in "".join(given.values()) else environ)
