"""deletionPolicy: what becomes of the durable consumers, on a real API server and a real nats-server."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import nats
import pytest
from nats.js.api import ConsumerConfig

from marketprism_embedded import process
from tests.operator.controlplane.pipeline_world import World, until

DURABLE = "marketprism-main-trade"
MARKETPRISM = [sys.executable, "-m", "marketprism_consumer.cli"]


async def stored(url: str) -> tuple[set[str], int]:
    """The stream's consumers, and its messages."""
    connection = await nats.connect(url)
    stream = connection.jetstream()
    found = {consumer.name for consumer in await stream.consumers_info("MARKET_DATA")}
    messages = (await stream.stream_info("MARKET_DATA")).state.messages
    await connection.close()
    return found, messages


@pytest.mark.parametrize("policy", ["Delete", "Retain"])
async def test_only_delete_deletes_and_only_the_consumers(world: World, tmp_path: Path, policy: str) -> None:
    with process.start("nats", tmp_path / "nats") as server:
        connection = await nats.connect(server.url)
        stream = connection.jetstream()
        await stream.add_stream(name="MARKET_DATA", subjects=["trade.>"])
        await stream.publish("trade.binance_spot.spot.BTC-USDT", b"{}")
        await stream.add_consumer("MARKET_DATA", ConsumerConfig(durable_name=DURABLE, filter_subject="trade.>"))
        await stream.add_consumer("MARKET_DATA", ConsumerConfig(durable_name="another", filter_subject="trade.>"))
        await connection.close()
        with world.operator():
            await world.pipeline(nats={"url": server.url}, dataTypes={"trade": {}}, deletionPolicy=policy)
            await until(lambda: world.names("Job"))
            await world.delete("StoragePipeline", "main")

            async def goodbyes() -> list[dict[str, Any]]:
                label = {"app.kubernetes.io/component": "goodbye"}
                return await world.cluster.list("Job", world.namespace, label)

            if policy == "Retain":

                async def deleted() -> bool:
                    return await world.get("StoragePipeline", "main") is None

                await until(deleted)
                await world.pipeline("another")  # once this one is reconciled, so is the deletion
                await until(lambda: world.get("ConfigMap", "another-pipeline"))
                assert await goodbyes() == []
                return
            (job,) = await until(goodbyes)
            assert not job["metadata"].get("ownerReferences"), "it would be deleted with the pipeline"
            await until(lambda: told(world))
        await asyncio.to_thread(run_as_the_kubelet_would, job, tmp_path)
        assert await stored(server.url) == ({"another"}, 1)


async def told(world: World) -> bool:
    return any(event["reason"] == "ConsumersDeleting" for event in await world.events())


def run_as_the_kubelet_would(job: dict[str, Any], place: Path) -> None:
    template = job["spec"]["template"]
    (container,) = template["spec"]["containers"]
    (mount,) = [mount["mountPath"] for mount in container["volumeMounts"] if mount["name"] == "config"]
    (volume,) = [volume for volume in template["spec"]["volumes"] if volume["name"] == "config"]
    (item,) = volume["downwardAPI"]["items"]
    annotation = item["fieldRef"]["fieldPath"].removeprefix("metadata.annotations['").removesuffix("']")
    (place / item["path"]).write_text(template["metadata"]["annotations"][annotation])
    assert container["command"] == ["marketprism"]
    arguments = [argument.replace(mount, str(place)) for argument in container["args"]]
    done = subprocess.run(
        [*MARKETPRISM, *arguments, "--output", "json"], capture_output=True, text=True, env={**os.environ}, check=False
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["deleted"] == [{"stream": "MARKET_DATA", "consumer": DURABLE}]


async def test_a_pipeline_that_is_there_again_keeps_its_consumers(world: World) -> None:
    with world.operator():
        await world.pipeline(deletionPolicy="Delete")
        await until(lambda: world.names("Job"))
        await world.delete("StoragePipeline", "main")

        async def goodbye() -> set[str]:
            return {name for name in await world.names("Job") if name.startswith("main-goodbye")}

        await until(goodbye)
        await world.pipeline(deletionPolicy="Delete")

        async def called_off() -> bool:
            return not await goodbye()

        await until(called_off)
