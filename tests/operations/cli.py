"""A command of `marketprism` on a test's pipeline."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from marketprism_consumer.cli import app
from pipelines import Pipeline
from typer.testing import CliRunner


async def cli(pipeline: Pipeline, *arguments: str) -> tuple[int, str]:
    """Its exit code and output."""
    result = await asyncio.to_thread(CliRunner().invoke, app, [*arguments, "-f", str(pipeline.file)])
    return result.exit_code, result.output


async def cli_json(pipeline: Pipeline, *arguments: str) -> tuple[int, dict[str, Any]]:
    result = await asyncio.to_thread(
        CliRunner().invoke, app, [*arguments, "-f", str(pipeline.file), "--output", "json"]
    )
    return result.exit_code, json.loads(result.stdout.splitlines()[-1])
