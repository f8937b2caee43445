"""The operator against a real API server."""

from __future__ import annotations

import asyncio
import copy
import json
import signal
from typing import Any

import pytest
from kubernetes.aio.client.exceptions import ApiException

from tests.operator.controlplane.pipeline_world import World, until

TWO: dict[str, Any] = {
    "dataTypes": {"trade": {}, "orderbook": {}},
    "consumers": {"fast": {"dataTypes": ["trade"]}, "slow": {"dataTypes": ["orderbook"]}},
}


async def brought_up(world: World, **spec: Any) -> None:
    await world.pipeline(**spec)
    await world.schema_done()
    wanted = {f"main-{name}" for name in spec.get("consumers", {"default": {}})}

    async def there() -> bool:
        return await world.names("Deployment") == wanted

    await until(there)


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ({"clickhouse": {"hotDatabase": "a", "coldDatabase": "a"}}, "another database"),
        ({"clickhouse": {"sharding": "bySymbol"}}, "sharding needs cluster"),
        ({"dataTypes": {"trade": {}}, "consumers": {"one": {"dataTypes": ["orderbook"]}}}, "exactly one consumer"),
        ({"deadLetters": {"window": "2h"}}, "1s to 1h"),
    ],
)
async def test_the_api_server_refuses_what_we_would(world: World, spec: dict[str, Any], said: str) -> None:
    with pytest.raises(ApiException) as refused:
        await world.pipeline(**spec)
    assert refused.value.status == 422
    assert said in str(refused.value.body)


async def test_children_come_in_order(world: World) -> None:
    with world.operator():
        await world.pipeline()
        await until(lambda: world.names("Job"))
        assert await world.names("Deployment") == set(), "consumers wait for the tables"
        await world.schema_done()
        await until(lambda: world.names("Deployment"))
        assert "main-pipeline" in {name.rpartition("-")[0] for name in await world.names("ConfigMap")}
        assert await world.names("NetworkPolicy") == {"main-storage"}
        live = await world.get("StoragePipeline", "main")
        assert live
        assert not live["metadata"].get("finalizers")
        assert not live["metadata"].get("annotations")

        async def schema_ready() -> bool:
            return bool((await world.condition("StoragePipeline", "SchemaReady")).get("status") == "True")

        await until(schema_ready)


async def test_a_hand_edit_is_put_back_with_an_event_that_names_the_field(world: World) -> None:
    with world.operator():
        await brought_up(world)
        await world.edit("Deployment", "main-default", {"spec": {"revisionHistoryLimit": 5}})

        async def back() -> bool:
            live = await world.get("Deployment", "main-default")
            told = [event["message"] for event in await world.events() if event["reason"] == "DriftCorrected"]
            there = bool(live and live["spec"]["revisionHistoryLimit"] == 3)
            return there and any("spec.revisionHistoryLimit" in text for text in told)

        await until(back)
        await world.delete("Deployment", "main-default")
        await until(lambda: world.get("Deployment", "main-default"))


EDITS: dict[str, tuple[str, dict[str, Any], str]] = {
    "Service": ("main-metrics", {"spec": {"selector": {"app": "other"}}}, "spec.selector.app"),
    "NetworkPolicy": ("main-storage", {"spec": {"policyTypes": ["Ingress", "Egress"]}}, "spec.policyTypes"),
    "ServiceAccount": ("main-storage", {"automountServiceAccountToken": True}, "automountServiceAccountToken"),
    "PodDisruptionBudget": ("main-fast", {"spec": {"maxUnavailable": 2}}, "spec.maxUnavailable"),
}


async def test_every_kind_of_child_is_put_back(world: World) -> None:
    two = {**TWO, "consumers": {**TWO["consumers"], "fast": {"dataTypes": ["trade"], "replicas": 2}}}
    with world.operator():
        await brought_up(world, **two)
        await until(lambda: world.get("PodDisruptionBudget", "main-fast"))
        for kind, (name, edit, field) in EDITS.items():
            before = await world.get(kind, name)
            await world.edit(kind, name, edit)

            async def told(kind: str = kind, name: str = name, field: str = field) -> bool:
                wanted = f"{kind} {name}: {field}"
                return any(
                    event["message"].startswith(wanted)
                    for event in await world.events()
                    if event["reason"] == "DriftCorrected"
                )

            await until(told)
            after = await world.get(kind, name)
            assert before
            assert after
            assert {k: v for k, v in after.items() if k != "metadata"} == {
                k: v for k, v in before.items() if k != "metadata"
            }


async def test_edits_roll_what_they_concern(world: World) -> None:
    await world.apply("Secret", "nats-auth", stringData={"token": "one"})
    spec = {**TWO, "nats": {"authSecretRef": {"name": "nats-auth"}}}
    with world.operator():
        await brought_up(world, **spec)

        async def templates() -> dict[str, Any]:
            found = await world.cluster.list("Deployment", world.namespace)
            return {deployment["metadata"]["name"]: deployment["spec"]["template"] for deployment in found}

        async def schema_job() -> str:
            """By the status, which a reconcile writes last: by then it has replaced what Pods it would."""
            live = await world.get("StoragePipeline", "main")
            return str(((live or {}).get("status") or {}).get("schemaJob", ""))

        before, first_job = await templates(), await until(schema_job)
        await world.apply("Secret", "nats-auth", stringData={"token": "two"})

        async def tried_again() -> bool:
            return await schema_job() != first_job

        await until(tried_again)

        async def rolled(*names: str) -> bool:
            now = await templates()
            return {name for name in now if now[name] != before[name]} == set(names)

        assert await rolled(), "the new password is tried by the schema Job before any Pod is replaced"
        await world.schema_done()
        await until(lambda: rolled("main-fast", "main-slow"))
        before = await templates()
        changed = copy.deepcopy(spec)
        changed["dataTypes"]["trade"] = {"batch": {"maxRows": 7}}
        await world.pipeline(**changed)
        await until(lambda: rolled("main-fast"))


async def test_a_missing_secret_is_named_and_waited_for(world: World) -> None:
    with world.operator():
        await world.pipeline(nats={"authSecretRef": {"name": "nats-auth"}})

        async def told() -> bool:
            return "Secret/nats-auth" in (await world.condition("StoragePipeline", "Ready")).get("message", "")

        await until(told)
        assert await world.names("Job") == set()
        await world.apply("Secret", "nats-auth", stringData={"token": "one"})
        await until(lambda: world.names("Job"))


async def test_suspend_and_a_consumer_removed(world: World) -> None:
    with world.operator():
        await brought_up(world, **TWO)
        await world.pipeline(**TWO, suspend=True)

        async def replicas(wanted: int) -> bool:
            found = await world.cluster.list("Deployment", world.namespace)
            return {deployment["spec"]["replicas"] for deployment in found} == {wanted}

        await until(lambda: replicas(0))
        await world.pipeline(**TWO, suspend=False)
        await until(lambda: replicas(1))
        await world.pipeline(dataTypes=TWO["dataTypes"], consumers={"fast": {"dataTypes": ["trade", "orderbook"]}})

        async def one_left() -> bool:
            return await world.names("Deployment") == {"main-fast"}

        await until(one_left)


@pytest.mark.parametrize("running", [True, False])
async def test_deletion_never_hangs_and_takes_the_children_along(world: World, running: bool) -> None:
    with world.operator() as process:
        await brought_up(world)
        if not running:
            process.terminate()
            await asyncio.to_thread(process.wait, 15)
        await world.delete("StoragePipeline", "main")

        async def gone() -> bool:
            return await world.get("StoragePipeline", "main") is None

        await until(gone, seconds=5)


async def test_what_is_left_of_a_pipeline_is_for_the_garbage_collector(world: World) -> None:
    """It is not there: what it would take is all that there is, and nothing holds it up."""
    with world.operator():
        await brought_up(world)
        uid = ((await world.get("StoragePipeline", "main")) or {})["metadata"]["uid"]
        children = await world.children("main")
        assert {name.partition("/")[0] for name in children} >= {"ConfigMap", "Deployment", "Job", "ServiceAccount"}
        await world.delete("StoragePipeline", "main")
        await world.pipeline("another")  # once this one is reconciled, the deletion has been heard of
        await until(lambda: world.get("ServiceAccount", "another-storage"))
        assert await world.children("main") == children
    for name in children:
        metadata = ((await world.get(*name.split("/"))) or {})["metadata"]
        assert [owner["uid"] for owner in metadata["ownerReferences"]] == [uid], name
        assert not metadata.get("finalizers"), name


async def test_at_rest_nothing_is_written(world: World) -> None:
    with world.operator(MARKETPRISM_RESYNC_SECONDS="1"):
        await brought_up(world, **TWO)

        async def versions() -> dict[str, str]:
            return {
                f"{kind}/{child['metadata']['name']}": child["metadata"]["resourceVersion"]
                for kind in ("StoragePipeline", "ConfigMap", "Deployment", "Job", "Service", "NetworkPolicy")
                for child in await world.cluster.list(kind, world.namespace)
            }

        async def resyncs(count: int) -> None:
            """Waits for this many periodic resyncs."""
            for _ in range(count):
                last = await world.metric("marketprism_operator_last_resync_time")

                async def next_one(last: float = last) -> bool:
                    return await world.metric("marketprism_operator_last_resync_time") > last

                await until(next_one)

        await resyncs(1)
        before = await versions()
        await resyncs(3)
        assert await versions() == before


@pytest.mark.parametrize(
    ("end", "seconds"), [(signal.SIGTERM, 10), (signal.SIGKILL, 30)], ids=["asked to end", "killed"]
)
async def test_of_two_operators_one_works_and_the_other_takes_over(
    world: World, end: signal.Signals, seconds: float
) -> None:
    """A Lease that is not given up expires after 12 s."""
    with world.operator(POD_NAME="one") as first:
        await until(lambda: holder(world))
        with world.operator(POD_NAME="two"):
            await brought_up(world)
            assert await holder(world) == "one"
            first.send_signal(end)
            await asyncio.to_thread(first.wait)
            await world.delete("Deployment", "main-default")
            await until(lambda: world.get("Deployment", "main-default"), seconds)
            assert await holder(world) == "two"


async def holder(world: World) -> str:
    path = f"/apis/coordination.k8s.io/v1/namespaces/{world.namespace}/leases/marketprism-operator"
    try:
        lease = await world.client.request("get", path)
    except ApiException:
        return ""
    return str(lease.to_dict()["spec"].get("holderIdentity", ""))


POD_MONITORS = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": "podmonitors.monitoring.coreos.com"},
    "spec": {
        "group": "monitoring.coreos.com",
        "scope": "Namespaced",
        "names": {"kind": "PodMonitor", "plural": "podmonitors"},
        "versions": [
            {
                "name": "v1",
                "served": True,
                "storage": True,
                "schema": {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}},
            }
        ],
    },
}


async def test_pod_monitors_where_the_cluster_has_them(world: World) -> None:
    path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
    await world.client.request("post", path, body=POD_MONITORS)
    try:

        async def served() -> bool:
            try:
                await world.names("PodMonitor")
            except ApiException:
                return False
            return True

        await until(served)
        loop = {"pipelineRef": {"name": "main"}, "every": "30s"}
        with world.operator():
            await world.pipeline()
            await world.apply("TieringPolicy", "main", spec=loop)

            async def monitored(*names: str) -> bool:
                return await world.names("PodMonitor") == set(names)

            await until(lambda: monitored("main-storage", "main-tiering"))
            await world.apply("TieringPolicy", "main", spec={"pipelineRef": {"name": "main"}, "schedule": "0 * * * *"})
            await until(lambda: monitored("main-storage"))
    finally:
        await world.client.request("delete", f"{path}/podmonitors.monitoring.coreos.com")


async def test_a_tiering_policy_is_a_cron_job_or_a_loop(world: World) -> None:
    with world.operator():
        await world.pipeline()
        await world.apply("TieringPolicy", "main", spec={"pipelineRef": {"name": "main"}, "schedule": "*/5 * * * *"})
        await until(lambda: world.get("CronJob", "main-migrate"))
        await world.apply("TieringPolicy", "main", spec={"pipelineRef": {"name": "main"}, "every": "30s"})
        await until(lambda: world.get("Deployment", "main-migrate"))

        async def no_cron_job() -> bool:
            return await world.get("CronJob", "main-migrate") is None

        await until(no_cron_job)


async def test_consumers_follow_what_policies_say_of_cold(world: World) -> None:
    def policy(url: str, **cold: Any) -> dict[str, Any]:
        return {"pipelineRef": {"name": "main"}, "schedule": "0 0 1 1 *", "cold": {"url": url, **cold}}

    async def env() -> dict[str, str]:
        live = await world.get("Deployment", "main-default")
        assert live
        return {entry["name"]: entry["value"] for entry in live["spec"]["template"]["spec"]["containers"][0]["env"]}

    async def looks_at(url: str | None) -> bool:
        return (await env()).get("CLICKHOUSE_COLD_HTTP_URL") == url

    async def hash_of_secrets() -> str:
        live = await world.get("Deployment", "main-default")
        assert live
        return str(live["spec"]["template"]["metadata"]["annotations"].get("storage.marketprism.io/secrets-hash"))

    await world.apply("Secret", "cold-auth", stringData={"password": "1"})
    with world.operator(MARKETPRISM_RESYNC_SECONDS="600"):
        await brought_up(world)
        assert "CLICKHOUSE_COLD_HTTP_URL" not in await env()
        await world.apply(
            "TieringPolicy", "first", spec=policy("http://cold:8123", authSecretRef={"name": "cold-auth"})
        )
        await until(lambda: looks_at("http://cold:8123"))
        assert "MARKETPRISM_CLICKHOUSE_COLD_AUTH_DIR" in await env()
        before = await hash_of_secrets()
        await world.apply("Secret", "cold-auth", stringData={"password": "2"})

        async def rolled() -> bool:
            return await hash_of_secrets() != before

        await until(rolled)
        await world.apply("TieringPolicy", "second", spec=policy("http://else:8123"))

        async def refused() -> bool:
            found = await world.condition("TieringPolicy", "SpecValid", "second")
            return found.get("status") == "False" and "where policy first moves" in found["message"]

        await until(refused)
        assert await looks_at("http://cold:8123")
        await world.delete("TieringPolicy", "first")
        await until(lambda: looks_at("http://else:8123"))

        async def taken() -> bool:
            return (await world.condition("TieringPolicy", "SpecValid", "second")).get("status") == "True"

        await until(taken)
        await world.delete("TieringPolicy", "second")
        await until(lambda: looks_at(None))


async def test_what_validation_found_is_a_condition_and_an_event(world: World) -> None:
    with world.operator():
        await world.pipeline(validation={"schedule": "15 0 * * *"})
        await until(lambda: world.names("CronJob"))
        assert await world.names("CronJob") == {"main-validate"}
        live = await world.get("CronJob", "main-validate")
        assert live
        # What the Job's controller and the kubelet would do.
        template = live["spec"]["jobTemplate"]["spec"]["template"]
        metadata = {"name": "main-validate-1", "labels": template["metadata"]["labels"]}
        container = {"name": "validate", "image": "image:1"}
        await world.apply("Pod", "main-validate-1", metadata=metadata, spec={"containers": [container]})
        found = [{"code": "MP8001", "reason": "TradesMissing", "dataType": "trade", "count": 7}]
        report = {"ok": False, "verdict": "FINDINGS: 1 kind of fault in 10 rows", "findings": found, "more": 0}
        ended = {"exitCode": 1, "finishedAt": "2030-01-01T00:00:00Z", "message": json.dumps(report)}
        status = {"name": "validate", "image": "image:1", "imageID": "", "ready": False, "restartCount": 0}
        status |= {"state": {"terminated": ended}}
        said = {"status": {"phase": "Failed", "containerStatuses": [status]}}
        await world.edit("Pod", "main-validate-1", said, "/status")

        async def told() -> bool:
            condition = await world.condition("StoragePipeline", "DataValid")
            return condition.get("reason") == "DataWrong" and "MP8001 TradesMissing trade (7)" in condition["message"]

        await until(told)

        async def event() -> bool:
            return any(event.get("reason") == "DataWrong" for event in await world.events())

        await until(event)
        assert await world.metric('marketprism_operator_resource_condition{kind="StoragePipeline"') > 0
        assert (await world.condition("StoragePipeline", "Ready")).get("reason") != "DataWrong", (
            "it is stored all the same"
        )
        await world.pipeline(validation={"window": "24h"})

        async def removed() -> bool:
            return not await world.names("CronJob") and not await world.condition("StoragePipeline", "DataValid")

        await until(removed)
