"""How many servers are behind the URLs? Tables that are not replicated would be split among them, and nobody would see it."""

from __future__ import annotations

from marketprism_api import reasons
from marketprism_consumer.clickhouse.client import ClickHouse, redacted
from marketprism_consumer.errors import Fault, StoreError

LOOKS = 6  # connections to each URL: a balancer that takes turns shows itself at the second
# Not one of these is another one on every server: containers share a UUID's file, replicas a name, and few have macros.
WHO = "SELECT concat(toString(serverUUID()), ' ', hostName(), ' ', (SELECT toString(groupArray((macro, substitution))) FROM system.macros))"


async def refuse_several(clickhouse: ClickHouse) -> None:
    """For a pipeline that names no cluster. Raises StoreError where more than one server answers."""
    if clickhouse.proven_single:
        return
    seen: dict[str, str] = {}
    for url in clickhouse.urls:
        seen |= dict.fromkeys(await clickhouse.by_new_connections(url, WHO, LOOKS), url)
        if len(seen) > 1:
            where = " and ".join(sorted({redacted(each) for each in seen.values()}))
            detail = f"more than one server answers at {where}, and spec.clickhouse.cluster names no cluster"
            raise StoreError(0, detail, Fault.SERVER, reason=reasons.SEVERAL_SERVERS)
    clickhouse.proven_single = True
