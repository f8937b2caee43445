"""After all of it: nothing is lost, nothing is double, and nothing is deleted with the pipeline."""

from __future__ import annotations

from tests.e2e import data
from tests.e2e.cluster import condition, find, get, kubectl, names, patch, ready, until

KINDS = ("pod", "deployment", "job", "cronjob", "configmap", "service", "serviceaccount", "pdb", "networkpolicy")


def test_every_message_is_stored_once_bit_exact() -> None:
    account = data.stop_feed()
    ready("storagepipeline", "main")
    until("nothing is pending", lambda: not sum(one["pending"] for one in data.audit()["types"]))
    kubectl("delete", "tieringpolicy", "--all")
    until("no migration is at work", lambda: not find("pod", component="migrate"))
    report = data.proven("--deep")
    held, dead = (sum(one[key] for one in report["types"]) for key in ("held", "deadLetters"))
    bad = sum(one["bad"] for one in account["types"].values())
    print(f"{held} held = {held - dead} rows + {dead} dead letters; {report['seconds']} s")
    assert (held, dead) == (account["stored"], bad)
    assert not account["refused"]


def test_clickhouse_counts_as_many_by_itself() -> None:
    report = {one["dataType"]: one for one in data.proven()["types"]}
    for kind, table in data.TABLES.items():
        both = " UNION ALL ".join(
            f"SELECT _stream, _seq FROM {db}.{table}" for db in ("marketprism_hot", "marketprism_cold")
        )
        ((count, distinct),) = data.sql(f"SELECT count(), uniqExact(_stream, _seq) FROM ({both})")
        assert int(distinct) == report[kind]["rows"], table
        # Where the last migration was ended, rows may be copied and not deleted yet.
        assert int(count) == report[kind]["rows"] + report[kind]["inBothTiers"], table


def test_a_validation_says_what_it_found_and_rolls_no_consumer() -> None:
    before = names(find("pod", pipeline="main", component="consumer"))
    patch("storagepipeline", "main", {"validation": {"schedule": "0 5 * * *"}})
    ready("storagepipeline", "main")
    (cron,) = until("its CronJob is there", lambda: find("cronjob", pipeline="main", component="validate"))
    kubectl("create", "job", "validate-now", f"--from=cronjob/{cron['metadata']['name']}")

    def verdict() -> str | None:
        found = condition(get("storagepipeline", "main"), "DataValid")
        return found["message"] if found.get("status") in ("True", "False") else None

    message = until("the condition has the verdict", verdict)
    print(message)
    (told,) = data.sql("SELECT rows, verdict FROM marketprism_hot._validations")
    assert int(told[0]) > 0
    assert names(find("pod", pipeline="main", component="consumer")) == before


def test_deleting_the_pipeline_hangs_on_nothing_and_touches_no_row() -> None:
    before = data.rows("marketprism_hot", "marketprism_cold")
    spec = kubectl("get", "storagepipeline", "main", "-o", "yaml")
    lanes = data.lanes(spec)
    assert set(lanes) == set(data.TABLES)
    kubectl("delete", "storagepipeline", "main", "--timeout=120s")
    until("all that was made for it has gone", lambda: not any(find(kind, pipeline="main") for kind in KINDS))
    assert data.rows("marketprism_hot", "marketprism_cold") == before
    left = data.lanes(spec)
    assert all(left[kind]["done"] >= lane["done"] for kind, lane in lanes.items())
