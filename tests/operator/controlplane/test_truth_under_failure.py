"""Ready is never said of what fails: not where a status can't be written, nor where a step of the operator's own fails."""

from __future__ import annotations

from typing import Any

import pytest
from kubernetes.aio.client.exceptions import ApiException

from marketprism_operator.config import Config
from marketprism_operator.events import Events
from marketprism_operator.naming import POLICY
from marketprism_operator.reconcile import POLICY_STEPS, Reconciliation, StepFailedError, reconcile
from tests.operator.controlplane.pipeline_world import World, a_pod_that_says, until

SPEC = {"dataTypes": {"trade": {}}}
GOOD = (
    '{"ok": true, "result": "Succeeded", "rows": 5, "tables": {"trades": {"rows": 5, "bytes": 1, "backlogRows": 0,'
    ' "backlogSeconds": 0}}}'
)
BAD = '{"ok": false, "result": "Failed", "tables": {}, "failures": [], "message": "MP4001 ClickHouseUnreachable: gone"}'


async def run_ended(world: World, name: str, said: str, at: str) -> None:
    """What a migration's Pod leaves."""
    labels = {
        "app.kubernetes.io/managed-by": "marketprism-operator",
        "app.kubernetes.io/component": "migrate",
        POLICY: "tiers",
    }
    container = {"name": "migrate", "image": "none"}
    await world.apply("Pod", name, metadata={"name": name, "labels": labels}, spec={"containers": [container]})
    ended = {"exitCode": 0, "message": said, "finishedAt": at, "startedAt": at, "containerID": "x"}
    status = {"name": "migrate", "image": "none", "imageID": "x", "ready": False, "restartCount": 0}
    await world.edit(
        "Pod", name, {"status": {"containerStatuses": [{**status, "state": {"terminated": ended}}]}}, "/status"
    )


async def last_run(world: World) -> dict[str, Any]:
    return await world.condition("TieringPolicy", "LastRunSucceeded", "tiers")


async def test_a_run_that_fails_after_a_good_one_is_told(world: World) -> None:
    await world.pipeline(**SPEC)
    await world.apply("TieringPolicy", "tiers", spec={"pipelineRef": {"name": "main"}, "schedule": "* * * * *"})
    async with world.controllers():
        with world.operator():
            await world.ready()
            await run_ended(world, "first", GOOD, "2030-01-01T00:00:00Z")

            async def good() -> bool:
                return (await last_run(world)).get("status") == "True"

            await until(good)
            await run_ended(world, "second", BAD, "2030-01-01T00:01:00Z")

            async def told() -> bool:
                found = await last_run(world)
                return found.get("status") == "False" and "ClickHouseUnreachable" in found["message"]

            await until(told)
            ready = await world.condition("TieringPolicy", "Ready", "tiers")
            assert ready["status"] == "False"
            live = await world.get("TieringPolicy", "tiers")
            assert live
            assert live["status"]["lastRun"].get("tables", {}) == {}


class Broken(Exception):
    """Something that nobody thought of."""


@pytest.mark.parametrize("step", ["find_references", "apply_common", "migrate", "observe"])
async def test_a_step_that_fails_is_a_condition_and_ready_is_unknown(
    world: World, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    await world.pipeline(**SPEC)
    await world.apply("TieringPolicy", "tiers", spec={"pipelineRef": {"name": "main"}, "schedule": "* * * * *"})

    async def once() -> None:
        live = await world.get("TieringPolicy", "tiers")
        assert live
        await reconcile(Reconciliation(world.cluster, Config(), Events(live), live, renew=False))

    async def break_(_: Reconciliation) -> None:
        raise Broken("the moon is in the wrong house")

    await once()
    reconciled = await world.condition("TieringPolicy", "Reconciled", "tiers")
    assert reconciled["status"] == "True"
    broken = tuple(break_ if each.__name__ == step else each for each in POLICY_STEPS)
    break_.__name__ = step
    monkeypatch.setattr("marketprism_operator.reconcile.POLICY_STEPS", broken)
    with pytest.raises(StepFailedError, match=step):
        await once()
    reconciled = await world.condition("TieringPolicy", "Reconciled", "tiers")
    assert (reconciled["status"], reconciled["reason"]) == ("False", "ReconcileFailed")
    assert step in reconciled["message"]
    assert "the moon is in the wrong house" in reconciled["message"]
    ready = await world.condition("TieringPolicy", "Ready", "tiers")
    assert (ready["status"], ready["reason"]) == ("Unknown", "ReconcileFailed")

    monkeypatch.undo()
    await once()
    assert (await world.condition("TieringPolicy", "Reconciled", "tiers"))["status"] == "True"


async def test_a_status_that_is_refused_leaves_its_conditions(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    await world.pipeline(**SPEC)
    too_much = "x" * 5000  # the definition allows fewer characters
    monkeypatch.setattr("marketprism_operator.status.of_pipeline", lambda *_: {"stream": too_much})
    live = await world.get("StoragePipeline", "main")
    assert live
    with pytest.raises(StepFailedError, match="report"):
        await reconcile(Reconciliation(world.cluster, Config(), Events(live), live, renew=False))
    reconciled = await world.condition("StoragePipeline", "Reconciled")
    assert (reconciled["status"], reconciled["reason"]) == ("False", "ReconcileFailed")
    assert "stream" in reconciled["message"]
    assert (await world.condition("StoragePipeline", "Ready"))["status"] == "Unknown"
    assert (await world.condition("StoragePipeline", "SpecValid"))["status"] == "True"


async def test_an_api_server_that_fails_is_a_failed_step(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    await world.pipeline(**SPEC)
    live = await world.get("StoragePipeline", "main")
    assert live

    async def fails(*_: object, **__: object) -> None:
        raise ApiException(status=500, reason="etcd is in a bad mood")

    monkeypatch.setattr(world.cluster, "list", fails)
    with pytest.raises(StepFailedError):
        await reconcile(Reconciliation(world.cluster, Config(), Events(live), live, renew=False))
    reconciled = await world.condition("StoragePipeline", "Reconciled")
    assert "etcd is in a bad mood" in reconciled["message"]


TYPO = {"spec": {"tolerationz": [{"operator": "Exists"}]}}
PAIR = {
    "dataTypes": {"trade": {}, "orderbook": {}},
    "consumers": {"fast": {"dataTypes": ["trade"]}, "slow": {"dataTypes": ["orderbook"]}},
}


def with_typo() -> dict[str, Any]:
    consumers = {**PAIR["consumers"], "fast": {"dataTypes": ["trade"], "podTemplate": TYPO}}
    return {**PAIR, "consumers": consumers}


async def replicas(world: World) -> dict[str, int]:
    found = await world.cluster.list("Deployment", world.namespace)
    return {each["metadata"]["name"]: each["spec"]["replicas"] for each in found}


async def told_of_the_typo(world: World) -> bool:
    found = await world.condition("StoragePipeline", "SpecValid")
    return found.get("status") == "False" and "tolerationz" in found["message"]


async def test_a_typo_in_a_pod_template_is_named_and_the_other_consumer_is_there(world: World) -> None:
    async with world.controllers():
        with world.operator():
            await world.pipeline(**with_typo())
            await until(lambda: told_of_the_typo(world))

            async def other() -> bool:
                return await replicas(world) == {"main-slow": 1}

            await until(other)
            ready = await world.condition("StoragePipeline", "Ready")
            assert (ready["status"], ready["reason"]) == ("False", "ApplyRefused")
            await world.pipeline(**PAIR)
            await world.ready()


async def test_suspend_is_obeyed_whatever_else_is_wrong(world: World) -> None:
    async with world.controllers():
        with world.operator():
            await world.pipeline(**PAIR)
            await world.ready()
            await world.pipeline(**with_typo())
            await until(lambda: told_of_the_typo(world))
            await world.pipeline(**with_typo(), suspend=True)

            async def stopped() -> bool:
                return await replicas(world) == {"main-fast": 0, "main-slow": 0}

            await until(stopped)
            await world.pipeline(**PAIR, suspend=False)
            await world.ready()
            assert await replicas(world) == {"main-fast": 1, "main-slow": 1}


async def test_a_policy_is_suspended_whatever_else_is_wrong_with_it(world: World) -> None:
    spec = {"pipelineRef": {"name": "main"}, "schedule": "0 * * * *"}

    async def still() -> bool:
        live = await world.get("CronJob", "tiers-migrate")
        return bool(live and live["spec"]["suspend"])

    async def refused() -> bool:
        return (await world.condition("TieringPolicy", "SpecValid", "tiers")).get("reason") == "ApplyRefused"

    async with world.controllers():
        with world.operator():
            await world.pipeline(**SPEC)
            await world.apply("TieringPolicy", "tiers", spec=spec)
            await until(lambda: world.get("CronJob", "tiers-migrate"))
            assert not await still()
            await world.apply("TieringPolicy", "tiers", spec={**spec, "podTemplate": TYPO})
            await until(refused)
            await world.apply("TieringPolicy", "tiers", spec={**spec, "podTemplate": TYPO, "suspend": True})
            await until(still)
            await world.apply("TieringPolicy", "tiers", spec={**spec, "suspend": False})

            async def resumed() -> bool:
                return not await still()

            await until(resumed)


async def test_tables_that_are_gone_are_named_and_made_again(world: World) -> None:
    async def job() -> str:
        (found,) = await world.cluster.list("Job", world.namespace) or [{"metadata": {"uid": ""}}]
        return str(found["metadata"]["uid"])

    async def schema() -> tuple[str, str]:
        found = await world.condition("StoragePipeline", "SchemaReady")
        return str(found.get("status")), str(found.get("reason"))

    said = ["trade: MP5001 SchemaMissing: marketprism_hot.trades is not there any more"]
    async with world.controllers():
        with world.operator():
            await world.pipeline(**SPEC)
            await world.ready()
            first = await job()
            async with a_pod_that_says(world, {}, "main-default", said):

                async def made_again() -> bool:
                    return await job() not in ("", first)

                await until(made_again)
                told = [event["message"] for event in await world.events() if event["reason"] == "SchemaMissing"]
                assert any("is run again" in each for each in told)
                said.clear()

                async def well() -> bool:
                    return await schema() == ("True", "SchemaDone")

                await until(well)
                await world.ready()


@pytest.mark.parametrize("mode", ["Verify", "Ignore"])
async def test_tables_of_somebody_else_that_are_gone_are_named_alone(world: World, mode: str) -> None:
    async with world.controllers():
        with world.operator():
            await world.pipeline(**SPEC, schema={"mode": mode})
            await world.ready()
            before = await world.names("Job")
            said = ["trade: MP5001 SchemaMissing: marketprism_hot.trades is not there any more"]
            async with a_pod_that_says(world, {}, "main-default", said):

                async def told() -> bool:
                    found = await world.condition("StoragePipeline", "SchemaReady")
                    return (found.get("status"), found.get("reason")) == ("False", "SchemaMissing")

                await until(told)
                assert await world.names("Job") == before


async def test_what_is_added_to_a_pod_template_is_taken_away_again_and_named(world: World) -> None:
    async def env() -> set[str]:
        live = await world.get("Deployment", "main-default")
        assert live
        return {each["name"] for each in live["spec"]["template"]["spec"]["containers"][0].get("env") or []}

    async def edit(patch: dict[str, Any]) -> None:
        """As `kubectl set env`, `kubectl patch` and `kubectl rollout restart` do."""
        path = f"/apis/apps/v1/namespaces/{world.namespace}/deployments/main-default"
        content_type = "application/strategic-merge-patch+json"
        await world.client.request(
            "patch", path, body={"spec": {"template": patch}}, content_type=content_type, field_manager="kubectl"
        )

    async with world.controllers():
        with world.operator():
            await world.pipeline(**SPEC)
            await world.ready()
            before = await env()
            elsewhere = [{"name": "CLICKHOUSE_HOT_DB", "value": "elsewhere"}, {"name": "B", "value": "b"}]
            await edit(
                {"spec": {"nodeSelector": {"zone": "a"}, "containers": [{"name": "consumer", "env": elsewhere}]}}
            )

            async def gone() -> bool:
                live = await world.get("Deployment", "main-default")
                assert live
                return await env() == before and "nodeSelector" not in live["spec"]["template"]["spec"]

            await until(gone)

            async def told() -> bool:
                said = [event["message"] for event in await world.events() if event["reason"] == "DriftCorrected"]
                return any(
                    "containers[consumer].env[CLICKHOUSE_HOT_DB]" in each and "nodeSelector" in each for each in said
                )

            await until(told)

            # A restart by hand is nobody's drift.
            await edit({"metadata": {"annotations": {"kubectl.kubernetes.io/restartedAt": "2030-01-01T00:00:00Z"}}})
            await world.pipeline(**SPEC, suspend=False)
            await edit({"spec": {"nodeSelector": {"zone": "b"}}})
            await until(gone)
            live = await world.get("Deployment", "main-default")
            assert live
            annotations = live["spec"]["template"]["metadata"]["annotations"]
            assert annotations["kubectl.kubernetes.io/restartedAt"] == "2030-01-01T00:00:00Z"
