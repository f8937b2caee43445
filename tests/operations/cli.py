"""A command of `marketprism` on a test's pipeline."""

from __future__ import annotations

import asyncio
import json
import sys
from asyncio.subprocess import PIPE, STDOUT
from typing import Any

from typer.testing import CliRunner

from marketprism_consumer.cli import app
from tests.pipelines import Pipeline


async def cli(pipeline: Pipeline, *arguments: str) -> tuple[int, str]:
    """Its exit code and output."""
    result = await asyncio.to_thread(CliRunner().invoke, app, [*arguments, "-f", str(pipeline.file)])
    return result.exit_code, result.output


async def cli_json(pipeline: Pipeline, *arguments: str) -> tuple[int, dict[str, Any]]:
    result = await asyncio.to_thread(
        CliRunner().invoke, app, [*arguments, "-f", str(pipeline.file), "--output", "json"]
    )
    return result.exit_code, json.loads(result.stdout.splitlines()[-1])


async def alone(pipeline: Pipeline, *arguments: str) -> tuple[int, str]:
    """The same in a process of its own, as commands that handle signals want it."""
    child = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "marketprism_consumer.cli",
        *arguments,
        "-f",
        str(pipeline.file),
        stdout=PIPE,
        stderr=STDOUT,
    )
    output, _ = await child.communicate()
    return int(child.returncode or 0), output.decode()
