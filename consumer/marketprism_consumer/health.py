"""/healthz, /readyz, /metrics and /status.json on one port.

Live: the loop turns. Ready: connected, synchronised, the last insert worked. A dead ClickHouse makes a consumer unready and
never restarts it: a restart would fix nothing and cost the messages in hand.
"""

from __future__ import annotations

from typing import Any, Protocol

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

from marketprism_consumer.errors import PortTakenError


class Probed(Protocol):
    """What a probe may ask. `not_ready`: what is not as it should be, by its place; empty where all is well."""

    registry: CollectorRegistry

    def not_ready(self) -> dict[str, str]: ...

    def status(self) -> dict[str, Any]: ...


async def serve(probed: Probed, host: str, port: int) -> tuple[web.AppRunner, int]:
    """Port 0 takes a free one. Returns the runner (to clean up) and the port."""

    async def healthz(_: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def readyz(_: web.Request) -> web.Response:
        problems = probed.not_ready()
        text = "".join(f"{name}: {why}\n" for name, why in problems.items())
        return web.Response(text=text or "ok\n", status=503 if problems else 200)

    async def metrics(_: web.Request) -> web.Response:
        return web.Response(body=generate_latest(probed.registry), headers={"Content-Type": CONTENT_TYPE_LATEST})

    async def status(_: web.Request) -> web.Response:
        return web.json_response({"ready": not probed.not_ready(), "dataTypes": probed.status()})

    app = web.Application()
    app.add_routes(
        [
            web.get("/healthz", healthz),
            web.get("/readyz", readyz),
            web.get("/metrics", metrics),
            web.get("/status.json", status),
        ]
    )
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port).start()
    except OSError as error:
        await runner.cleanup()
        raise PortTakenError(host, port) from error
    return runner, runner.addresses[0][1]
