"""`kubectl marketprism` at a real API server, through a real kubectl."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.commands.command import call
from tests.operator.controlplane.kubelet import node
from tests.operator.controlplane.pipeline_world import World, until
from tests.pipelines import servers

__all__ = ["servers"]

pytestmark = pytest.mark.skipif(not shutil.which("kubectl"), reason="NOT TESTED: kubectl is not installed")

TWO: dict[str, Any] = {
    "dataTypes": {"trade": {}, "orderbook": {}},
    "consumers": {"fast": {"dataTypes": ["trade"]}, "slow": {"dataTypes": ["orderbook"]}},
}
POLICY: dict[str, Any] = {"pipelineRef": {"name": "main"}, "schedule": "0 0 1 1 *"}


@dataclass(frozen=True)
class Said:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


async def started(world: World, *arguments: str, kubeconfig: Path | None = None) -> asyncio.subprocess.Process:
    """`kubectl marketprism …`, in the namespace of `world`."""
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        "from marketprism_consumer.cli import plugin; plugin()",
        *arguments,
        f"--namespace={world.namespace}",
        env={**os.environ, "KUBECONFIG": str(kubeconfig or world.kubeconfig), "COLUMNS": "400"},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )


async def plugin(world: World, *arguments: str, kubeconfig: Path | None = None) -> Said:
    """What it says and how it ends."""
    process = await started(world, *arguments, kubeconfig=kubeconfig)
    out, err = await process.communicate()
    assert process.returncode is not None
    return Said(process.returncode, out.decode(), err.decode())


async def test_status_is_what_the_operator_says_of_pipelines_and_policies(world: World) -> None:
    with world.operator():
        async with world.controllers():
            await world.pipeline(**TWO)
            await world.ready()
            said = await plugin(world, "status", "main")
            assert (said.code, said.err) == (0, "")
            assert f"StoragePipeline {world.namespace}/main  Ready=True" in said.out
            assert "2/2 Pods ready" in said.out
            assert "orderbook" in said.out
            await world.pipeline("broken", nats={"authSecretRef": {"name": "not-there"}})
            await world.apply("TieringPolicy", "cold", spec=POLICY)

            async def told() -> bool:
                found = await world.condition("StoragePipeline", "SpecValid", "broken")
                return bool(found) and bool(await world.condition("TieringPolicy", "Ready", "cold"))

            await until(told)
            said = await plugin(world, "status", "--output", "json")
    assert said.code == 1
    by_name = {each["name"]: each for each in said.json}
    assert by_name.keys() == {"main", "broken", "cold"}
    assert by_name["main"]["ready"] == "True"
    assert "not-there" in by_name["broken"]["message"]


async def test_a_spec_that_the_operator_has_not_seen_is_not_ready(world: World) -> None:
    await world.pipeline()
    said = await plugin(world, "status", "main")
    assert said.code == 1
    assert "Ready=Unknown NotSeenYet" in said.out


@pytest.mark.parametrize(("kind", "name"), [("StoragePipeline", "main"), ("TieringPolicy", "tierp/main")])
async def test_paused_the_operator_leaves_it_alone_until_it_is_resumed(world: World, kind: str, name: str) -> None:
    with world.operator():
        await world.pipeline()
        await world.apply("TieringPolicy", "main", spec=POLICY)
        said = await plugin(world, "pause", name)
        assert (said.code, said.err) == (0, "")
        assert (await world.condition(kind, "Paused"))["status"] == "True"
        said = await plugin(world, "resume", name, "--output=json")
        assert (said.code, said.json) == (0, {"name": "main", "paused": False, "obeyed": True})
        assert not await world.condition(kind, "Paused")


async def test_pause_says_where_no_operator_obeys(world: World) -> None:
    await world.pipeline()
    said = await plugin(world, "pause", "main", "--wait=1s")
    assert said.code == 1
    assert "is it running?" in said.err


async def test_audit_runs_in_a_job_with_the_credentials_of_the_pipeline(
    world: World, servers: dict[str, str], tmp_path: Path
) -> None:
    """The Job's Pod is run here, with its file, its Secrets and its variables: nothing else tells it where the servers are."""
    urls = {
        "nats": {"url": servers["MARKETPRISM_NATS_URL"], "authSecretRef": {"name": "nats-auth"}},
        "clickhouse": {"url": servers["CLICKHOUSE_HTTP_URL"], "hotDatabase": "plugin", "coldDatabase": "plugin_cold"},
        "dataTypes": {"trade": {}},
    }
    await world.apply("Secret", "nats-auth", stringData={"username": "recorder", "password": "x"})
    async with node(world, tmp_path, ("audit",)):
        with world.operator():
            async with world.controllers():
                await world.pipeline(**urls)
                await world.apply("TieringPolicy", "main", spec=POLICY)
                await world.ready()
                file = tmp_path / "pipeline.yaml"
                document = {"apiVersion": "storage.marketprism.io/v1alpha1", "kind": "StoragePipeline"}
                file.write_text(yaml.safe_dump({**document, "metadata": {"name": "main"}, "spec": urls}))
                auth = {"NATS_USER": "recorder", "NATS_PASSWORD": "x"}
                done = await asyncio.to_thread(call, "schema", "ensure", "-f", str(file), environ=auth)
                assert done.returncode == 0, done.stderr
                said = await plugin(world, "audit", "main", "--type=trade", "--output=json")
                assert said.code == 0, said.err
                report = said.json
                assert [each["dataType"] for each in report["types"]] == ["trade"]

                async def no_job() -> bool:
                    return not any("-audit-" in name for name in await world.names("Job"))

                await until(no_job)
                # Its exit code is the audit's: nothing listens there.
                nowhere = {"url": "http://127.0.0.1:1", "hotDatabase": "plugin", "coldDatabase": "plugin_cold"}
                await world.pipeline(**urls | {"clickhouse": nowhere})
                await world.ready()
                said = await plugin(world, "audit", "main")
                assert said.code == 4, said.out


async def test_an_audit_that_can_not_begin_says_why(world: World) -> None:
    with world.operator():
        await world.pipeline()
        said = await plugin(world, "audit", "main", "--wait=0s")
        assert said.code == 1
        assert "no consumer yet" in said.err
        async with world.controllers():
            await world.ready()
            said = await plugin(world, "audit", "main", "--wait=1s")
            assert said.code == 1
            assert "there is none of Job main-audit-" in said.err


async def test_an_audit_that_is_interrupted_leaves_no_job(world: World) -> None:
    with world.operator():
        async with world.controllers():
            await world.pipeline()
            await world.ready()
            asked = await started(world, "audit", "main")

            async def job() -> bool:
                return any("-audit-" in name for name in await world.names("Job"))

            async def no_job() -> bool:
                return not await job()

            await until(job)
            asked.send_signal(signal.SIGINT)
            await asked.communicate()
            assert asked.returncode == 130
            await until(no_job)


async def test_migrate_is_one_run_and_says_how_it_ended(world: World, servers: dict[str, str], tmp_path: Path) -> None:
    urls = {
        "nats": {"url": servers["MARKETPRISM_NATS_URL"]},
        "clickhouse": {"url": servers["CLICKHOUSE_HTTP_URL"], "hotDatabase": "moved", "coldDatabase": "moved_cold"},
        "dataTypes": {"trade": {}},
    }
    async with node(world, tmp_path, ("schema", "migrate")):
        with world.operator():
            async with world.controllers():
                await world.pipeline(**urls)
                await world.apply("TieringPolicy", "main", spec=POLICY)
                await world.ready()

                async def tables() -> bool:
                    pods = await world.cluster.list("Pod", world.namespace, {"app.kubernetes.io/component": "schema"})
                    return any(pod["status"]["phase"] == "Succeeded" for pod in pods)

                await until(tables)
                said = await plugin(world, "migrate", "main", "--output=json")
                assert said.code == 0, said.err
                assert said.json["result"] == "Succeeded"
                await world.apply("TieringPolicy", "main", spec=POLICY | {"suspend": True})
                said = await plugin(world, "migrate", "main")
                assert said.code == 2
                assert "suspend" in said.err


async def test_logs_are_those_of_all_pods_each_line_with_its_pod(world: World, tmp_path: Path) -> None:
    async with node(world, tmp_path) as here:
        with world.operator():
            async with world.controllers():
                await world.pipeline(**TWO)
                await world.ready()
                for consumer in ("fast", "slow"):
                    live = await world.get("Deployment", f"main-{consumer}")
                    assert live
                    name = f"main-{consumer}-0"
                    here.printed[name] = asyncio.get_running_loop().create_future()
                    here.printed[name].set_result(f"1 {consumer}\n2 {consumer}\n")
                    await here.begin(name, live["spec"]["template"], {})
                said = await plugin(world, "logs", "main")
                assert said.code == 0, said.err
                assert sorted(said.out.splitlines()) == [
                    f"[pod/main-{consumer}-0/consumer] {number} {consumer}"
                    for consumer in ("fast", "slow")
                    for number in (1, 2)
                ]
                said = await plugin(world, "logs", "main", "--consumer=slow", "--output=json", "--follow")
                assert [json.loads(line) for line in said.out.splitlines()] == [
                    {"pod": "main-slow-0", "line": f"{number} slow"} for number in (1, 2)
                ]


async def test_render_is_what_the_operator_makes_and_diff_what_of_it_is_not_so(world: World, tmp_path: Path) -> None:
    told = {
        "MARKETPRISM_IMAGE": "registry/consumer:7",
        "MARKETPRISM_EGRESS": "true",
        "MARKETPRISM_PLATFORM_UIDS": "true",
    }
    with world.operator(**told):
        async with world.controllers():
            await world.pipeline(**TWO)
            await world.apply("TieringPolicy", "main", spec=POLICY)
            await world.ready()
            await until(lambda: world.get("CronJob", "main-migrate"))
            said = await plugin(world, "render", "main")
            assert said.code == 0, said.err
            rendered = list(yaml.safe_load_all(said.out))
            made = await world.children("main") | {"CronJob/main-migrate"}
            assert made <= {f"{each['kind']}/{each['metadata']['name']}" for each in rendered}
            assert "image: registry/consumer:7" in said.out
            policy = await world.get("NetworkPolicy", "main-storage")
            assert policy
            assert policy["spec"]["policyTypes"] == ["Ingress", "Egress"]
            assert "runAsUser" not in said.out
            said = await plugin(world, "diff", "main")
            assert (said.code, said.out, said.err) == (0, "", "")
            edited_types = {"trade": {"batch": {"maxRows": 7}}, "orderbook": {}}
            await world.pipeline(**{**TWO, "dataTypes": edited_types})
            await world.ready()
            said = await plugin(world, "diff", "main")
            assert (said.code, said.out, said.err) == (0, "", ""), "what an edit doesn't concern keeps its ConfigMap"

    container = {"name": "consumer", "image": "registry/other:1"}
    edited = {"spec": {"template": {"spec": {"containers": [container]}}}}
    live = await world.get("Deployment", "main-fast")
    assert live
    container |= {key: live["spec"]["template"]["spec"]["containers"][0][key] for key in ("args", "command")}
    await world.edit("Deployment", "main-fast", edited)
    said = await plugin(world, "diff", "main")
    assert said.code == 1
    assert "-        image: registry/other:1\n" in said.out
    assert "+        image: registry/consumer:7\n" in said.out

    file = tmp_path / "one.yaml"
    document = {"apiVersion": "storage.marketprism.io/v1alpha1", "kind": "StoragePipeline"}
    file.write_text(yaml.safe_dump({**document, "metadata": {"name": "main"}, "spec": {"dataTypes": {"trade": {}}}}))
    said = await plugin(world, "diff", "main", "-f", str(file), "--output=json")
    assert said.code == 1
    found = {(each["kind"], each["name"]): each["change"] for each in said.json}
    assert found["Deployment", "main-default"] == "added"
    assert found["Deployment", "main-fast"] == found["Deployment", "main-slow"] == "removed"
    assert [change for (kind, _), change in found.items() if kind == "ConfigMap"] == ["added", "added"]
    assert await world.names("Deployment") == {"main-fast", "main-slow"}, "diff writes nothing"


@pytest.mark.parametrize("command", ["status", "pause", "audit", "logs", "render", "diff"])
async def test_what_is_not_there_is_a_usage_error(world: World, command: str) -> None:
    said = await plugin(world, command, "nobody")
    assert said.code == 2
    assert '"nobody" not found' in said.err


async def test_a_cluster_that_can_not_be_used_is_told_from_what_was_asked_wrongly(world: World, tmp_path: Path) -> None:
    await world.pipeline()
    said = await plugin(world, "status", "--context", "nowhere")
    assert said.code == 2
    assert "nowhere" in said.err
    forbidden = await world.kubeconfig_with([], tmp_path)
    said = await plugin(world, "status", kubeconfig=forbidden)
    assert said.code == 4
    assert "Forbidden" in said.err
    config = yaml.safe_load(world.kubeconfig.read_text())
    config["clusters"][0]["cluster"]["server"] = "https://127.0.0.1:1"
    dead = tmp_path / "dead"
    dead.write_text(yaml.safe_dump(config))
    assert (await plugin(world, "status", kubeconfig=dead)).code == 4
    said = await plugin(world, "pause", "pod/main")
    assert said.code == 2
    assert "tieringpolicy" in said.err
