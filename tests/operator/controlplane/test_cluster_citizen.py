"""What the operator is to a cluster: its rights, what GitOps sees of it, what it reports of itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from aiohttp import ClientError

from marketprism_operator.cluster import differing
from tests.operator.controlplane.pipeline_world import World, until

EXAMPLES = Path(__file__).parents[3] / "examples"


def rule(group: str, resources: str, *verbs: str) -> dict[str, Any]:
    return {"apiGroups": [group], "resources": resources.split(), "verbs": list(verbs)}


READ, WRITE = ("get", "list", "watch"), ("create", "patch", "delete")
RULES = [
    rule("storage.marketprism.io", "storagepipelines tieringpolicies", *READ),
    rule("storage.marketprism.io", "storagepipelines/status tieringpolicies/status", "patch"),
    rule("", "serviceaccounts services configmaps", *READ, *WRITE),
    rule("apps", "deployments", *READ, *WRITE),
    rule("apps", "replicasets", "list", "watch"),
    rule("batch", "jobs cronjobs", *READ, *WRITE),
    rule("policy", "poddisruptionbudgets", *READ, *WRITE),
    rule("networking.k8s.io", "networkpolicies", *READ, *WRITE),
    rule("", "pods", *READ),
    rule("coordination.k8s.io", "leases", "get", "create", "update"),
    rule("", "events", "create", "list", "patch"),
]
SECRETS = rule("", "secrets", *READ)
"""The only rule that lets it see that a Secret is there, or has changed."""


@pytest.mark.parametrize("secrets", [True, False], ids=["with Secrets", "without Secrets"])
async def test_a_role_in_its_namespace_is_enough(world: World, tmp_path: Path, secrets: bool) -> None:
    kubeconfig = await world.kubeconfig_with([*RULES, *([SECRETS] if secrets else [])], tmp_path)
    await world.apply("Secret", "c", stringData={"username": "u", "password": "one"})
    with world.operator(KUBECONFIG=str(kubeconfig)) as process:
        async with world.controllers():
            await world.pipeline(clickhouse={"authSecretRef": {"name": "c"}})
            await world.ready()
            before = await world.get("Deployment", "main-default")
            await world.apply("Secret", "c", stringData={"password": "two"})
            await world.delete("Service", "main-metrics")
            await until(lambda: world.get("Service", "main-metrics"))

            async def rolled() -> bool:
                now = await world.get("Deployment", "main-default")
                assert now
                assert before
                return bool(now["spec"]["template"] != before["spec"]["template"])

            if secrets:
                await until(rolled)
            else:
                await world.pipeline("second", clickhouse={"authSecretRef": {"name": "not-there"}})
                await world.ready("second")  # real Pods would say that it is missing; here there are none
                assert not await rolled()
            assert process.poll() is None


async def test_an_operator_that_begins_or_ceases_to_see_secrets_rolls_nothing(world: World, tmp_path: Path) -> None:
    """As with the switch from all namespaces to given ones, where it has a right to Secrets, and back."""
    blind = await world.kubeconfig_with(RULES, tmp_path)
    await world.apply("Secret", "c", stringData={"username": "u", "password": "one"})

    async def template() -> Any:
        live = await world.get("Deployment", "main-default")
        assert live
        return live["spec"]["template"]

    async def looked(seconds: float = 30) -> None:
        before = await world.metric("marketprism_operator_reconciles_total", 'result="ok"')

        async def again() -> bool:
            return await world.metric("marketprism_operator_reconciles_total", 'result="ok"') > before + 2

        await until(again, seconds)
        await world.ready()

    async with world.controllers():
        with world.operator(KUBECONFIG=str(blind)):
            await world.pipeline(clickhouse={"authSecretRef": {"name": "c"}})
            await world.ready()
            first = await template()
        with world.operator():
            await until(lambda: _answers(world))
            await looked()
            assert await template() == first
        with world.operator(KUBECONFIG=str(blind)):
            await until(lambda: _answers(world))
            await looked()
            assert await template() == first
        with world.operator():
            await until(lambda: _answers(world))
            await world.apply("Secret", "c", stringData={"password": "two"})

            async def rolled() -> bool:
                return await template() != first

            await until(rolled)


async def _answers(world: World) -> bool:
    try:
        return await world.metric("marketprism_operator_leader") == 1
    except ClientError:
        return False


async def test_without_a_namespace_it_looks_after_all_of_them(world: World) -> None:
    """Those of earlier tests among them, which are being deleted and take nothing new."""
    await world.apply("Secret", "c", stringData={"username": "u", "password": "one"})
    with world.operator(MARKETPRISM_NAMESPACES=""):
        async with world.controllers():
            await world.pipeline(clickhouse={"authSecretRef": {"name": "c"}})
            await world.ready(seconds=90)
            before = await world.get("Deployment", "main-default")
            await world.apply("Secret", "c", stringData={"password": "two"})

            async def rolled() -> bool:
                return await world.get("Deployment", "main-default") != before

            await until(rolled)


@pytest.mark.parametrize("example", sorted(EXAMPLES.glob("*.yaml")), ids=lambda path: path.stem)
async def test_nothing_is_to_be_ignored_in_a_diff(world: World, example: Path) -> None:
    """As `kubectl diff --server-side` and Argo CD ask: what would change if the same file were applied again?"""
    (manifest,) = yaml.safe_load_all(example.read_text())
    for name in ("nats-auth", "clickhouse-auth"):
        await world.apply("Secret", name, stringData={"username": "u", "password": "p"})
    if manifest["kind"] == "TieringPolicy":
        await world.pipeline(manifest["spec"]["pipelineRef"]["name"])
    with world.operator():
        async with world.controllers():
            await world.apply(manifest["kind"], manifest["metadata"]["name"], spec=manifest["spec"])

            async def settled() -> bool:
                kind, name = manifest["kind"], manifest["metadata"]["name"]
                return (await world.condition(kind, "Ready", name)).get("status") == "True"

            await until(settled)
            live = await world.get(manifest["kind"], manifest["metadata"]["name"])
            again = await world.dry_run(manifest["kind"], manifest["metadata"]["name"], spec=manifest["spec"])
            assert list(differing(live, again)) == []
            assert live
            assert set(live["metadata"]) <= {
                "name",
                "namespace",
                "uid",
                "generation",
                "resourceVersion",
                "creationTimestamp",
                "managedFields",
            }, "neither label, annotation nor finalizer of ours is on what the user wrote"


async def test_it_tells_of_itself(world: World) -> None:
    with world.operator(MARKETPRISM_RESYNC_SECONDS="1"):
        async with world.controllers():
            await world.pipeline()
            await world.ready()
            await world.edit("Deployment", "main-default", {"spec": {"revisionHistoryLimit": 5}})

            async def counted() -> bool:
                return await world.metric('marketprism_operator_drift_corrections_total{kind="Deployment"}') == 1

            await until(counted)

            async def true() -> bool:
                labels = f'kind="StoragePipeline",name="main",namespace="{world.namespace}",status="True",type="Ready"'
                return await world.metric(f"marketprism_operator_resource_condition{{{labels}}}") == 1

            await until(true)
            assert await world.metric('marketprism_operator_reconciles_total{kind="StoragePipeline",result="ok"}') >= 2
            assert await world.metric("marketprism_operator_reconcile_seconds_count") >= 2
            await until(lambda: world.metric("marketprism_operator_last_resync_time"))
            await world.delete("StoragePipeline", "main")

            async def forgotten() -> bool:
                return await world.metric("marketprism_operator_resource_condition") == 0

            await until(forgotten)


async def test_a_run_is_made_when_it_is_asked_for_and_only_once(world: World) -> None:
    async def ask(value: str) -> None:
        await world.edit(
            "TieringPolicy", "main", {"metadata": {"annotations": {"storage.marketprism.io/run-now": value}}}
        )

    async def runs() -> set[str]:
        return {name for name in await world.names("Job") if name.startswith("main-migrate-now-")}

    async def followed(value: str) -> bool:
        live = await world.get("TieringPolicy", "main")
        return bool(live and (live.get("status") or {}).get("runNow") == value)

    with world.operator():
        await world.pipeline()
        await world.apply("TieringPolicy", "main", spec={"pipelineRef": {"name": "main"}, "schedule": "0 0 1 1 *"})
        await until(lambda: world.get("CronJob", "main-migrate"))
        assert await runs() == set()
        await ask("one")
        await until(lambda: followed("one"))
        (first,) = await runs()
        await world.delete("Job", first)
        await ask("two")
        await until(lambda: followed("two"))
        (second,) = await runs()
        assert second != first
        live = await world.get("TieringPolicy", "main")
        assert live
        assert live["status"]["nextRunTime"].endswith("-01-01T00:00:00Z")


async def test_a_child_of_somebody_else_is_left_alone_and_said(world: World) -> None:
    owner = {"apiVersion": "v1", "kind": "Namespace", "name": "x", "uid": "11111111-1111-1111-1111-111111111111"}
    other = {"apiVersion": "v1", "kind": "Service", "spec": {"clusterIP": "None", "selector": {"theirs": "yes"}}}
    path = f"/api/v1/namespaces/{world.namespace}/services"
    metadata = {"name": "main-metrics", "ownerReferences": [{**owner, "controller": True}]}
    await world.client.request("post", path, body={**other, "metadata": metadata})
    with world.operator():
        await world.pipeline()

        async def said() -> bool:
            return "belongs to somebody else" in (await world.condition("StoragePipeline", "SpecValid")).get(
                "message", ""
            )

        await until(said)
        live = await world.get("Service", "main-metrics")
        assert live
        assert live["spec"]["selector"] == {"theirs": "yes"}
