"""Rows go from hot to cold while they are written; both policies run since the first chapter."""

from __future__ import annotations

import pytest

from tests.e2e import data
from tests.e2e.cluster import find, get, kubectl, ready, until


@pytest.mark.parametrize(("policy", "table"), [("loop", "trades"), ("cron", "orderbooks")])
def test_a_policy_has_moved_rows_and_says_so(policy: str, table: str) -> None:
    def last_run() -> dict[str, object] | None:
        run = get("tieringpolicy", policy).get("status", {}).get("lastRun", {})
        return run if run.get("tables", {}).get(table, {}).get("rows") else None

    run = until(f"{policy} tells of rows that it moved", last_run)
    assert run["result"] == "Succeeded"
    assert int(data.sql(f"SELECT count() FROM marketprism_cold.{table}")[0][0]) > 0
    ready("tieringpolicy", policy)


def test_a_migration_is_killed_and_the_next_one_goes_on() -> None:
    def moved() -> int:
        return int(data.sql("SELECT count() FROM marketprism_cold.trades")[0][0])

    (pod,) = find("pod", policy="loop", component="migrate")
    before = moved()
    kubectl("delete", "pod", pod["metadata"]["name"], "--grace-period=0", "--force")
    until("more rows are in cold", lambda: moved() > before)
    data.proven("--both-tiers")
