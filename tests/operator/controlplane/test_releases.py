"""The chart on a real API server: what helm itself refuses there."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.operator.controlplane.pipeline_world import World

CHART = Path(__file__).parents[3] / "helm"
pytestmark = pytest.mark.skipif(not shutil.which("helm"), reason="helm is not installed")


async def helm(world: World, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = ["helm", f"--kubeconfig={world.kubeconfig}", *arguments]
    return await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, check=False)


async def test_a_release_comes_again_in_another_namespace_and_takes_over_what_was_kept(world: World) -> None:
    first, second = (("marketprism", f"--namespace={world.namespace}-{each}") for each in ("first", "second"))
    new = (str(CHART), "--create-namespace")
    done = await helm(world, "install", *first, *new, "--take-ownership")
    assert done.returncode == 0, done.stderr
    assert (await helm(world, "uninstall", *first)).returncode == 0
    refused = await helm(world, "install", *second, *new)
    assert refused.returncode == 1
    assert "invalid ownership metadata" in refused.stderr
    done = await helm(world, "install", *second, *new, "--take-ownership")
    assert done.returncode == 0, done.stderr
    assert (await helm(world, "uninstall", *second)).returncode == 0
    await world.pipeline()  # the definitions are still there
