"""Asks Pods at their metrics port how they are. One that doesn't answer is left out; that is no error."""

from __future__ import annotations

import asyncio

import aiohttp

from marketprism_operator.conditions import Word
from marketprism_operator.naming import Manifest

_TIMEOUT = aiohttp.ClientTimeout(total=2)


async def words(pods: list[Manifest]) -> dict[str, Word]:
    """By Pod; only those that run and answer."""
    running = [pod for pod in pods if pod.get("status", {}).get("phase") == "Running" and pod["status"].get("podIP")]
    if not running:
        return {}
    async with aiohttp.ClientSession(timeout=_TIMEOUT, trust_env=False) as session:
        found = await asyncio.gather(*(_ask(session, pod) for pod in running))
    return {pod["metadata"]["name"]: word for pod, word in zip(running, found, strict=True) if word}


async def _ask(session: aiohttp.ClientSession, pod: Manifest) -> Word | None:
    ports = [port for container in pod["spec"]["containers"] for port in container.get("ports") or []]
    number = next((port["containerPort"] for port in ports if port.get("name") == "metrics"), 0)
    address = pod["status"]["podIP"]
    host = f"[{address}]" if ":" in address else address
    try:
        async with session.get(f"http://{host}:{number}/readyz") as answer:
            text, ready = (await answer.text())[:2000], answer.status == 200
        async with session.get(f"http://{host}:{number}/status.json") as answer:
            data_types = (await answer.json()).get("dataTypes")
    except (aiohttp.ClientError, TimeoutError, ValueError, AttributeError):
        return None
    return Word(ready, "" if ready else text, data_types if isinstance(data_types, dict) else {})
