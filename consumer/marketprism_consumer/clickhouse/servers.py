"""Who is behind the URLs? Rows would be split among servers that are no replicas of each other, and nobody would see it: a block that
is sent again would go to one that does not know its token."""

from __future__ import annotations

from collections.abc import Mapping

from marketprism_api import reasons
from marketprism_consumer.clickhouse.client import ClickHouse, redacted
from marketprism_consumer.errors import Fault, StoreError

LOOKS = 6  # connections to each URL: a balancer that takes turns shows itself at the second
# Not one of these is another one on every server: containers share a UUID's file, replicas a name, and few have macros.
WHO = "SELECT concat(toString(serverUUID()), ' ', hostName(), ' ', (SELECT toString(groupArray((macro, substitution))) FROM system.macros))"
SHARD = "SELECT any(substitution) FROM system.macros WHERE macro = 'shard'"


async def refuse_split(clickhouse: ClickHouse) -> None:
    """Raises StoreError where more than one server answers, or more than one shard of the cluster that the pipeline names. Of a
    cluster's URLs one that answers is enough: a replica may be away."""
    if clickhouse.proven_whole:
        return
    seen: dict[str, str] = {}
    away: StoreError | None = None
    for url in clickhouse.urls:
        try:
            found = await clickhouse.by_new_connections(url, SHARD if clickhouse.cluster else WHO, LOOKS)
        except StoreError as refused:
            if not clickhouse.cluster or refused.reason is not reasons.CLICKHOUSE_UNREACHABLE:
                raise
            away = refused
            continue
        seen |= dict.fromkeys(found, url)
        if len(seen) > 1:
            raise StoreError(0, _split(clickhouse, seen), Fault.SERVER, reason=reasons.SEVERAL_SERVERS)
    if away and not seen:
        raise away
    clickhouse.proven_whole = not away


def _split(clickhouse: ClickHouse, seen: Mapping[str, str]) -> str:
    where = " and ".join(sorted({redacted(url) for url in seen.values()}))
    if not clickhouse.cluster:
        return f"more than one server answers at {where}, and spec.clickhouse.cluster names no cluster"
    return f"more than one shard of {clickhouse.cluster} answers at {where}: {', '.join(sorted(map(str.strip, seen)))}"
