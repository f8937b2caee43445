"""/healthz, /readyz, /metrics and /status.json on one port.

Live: the loop turns. Ready: connected, synchronised, the last insert worked. A dead ClickHouse makes a consumer unready and
never restarts it: a restart would fix nothing and cost the messages in hand.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

from marketprism_consumer.errors import PortTakenError


class Probed(Protocol):
    """What a probe may ask. `not_ready`: what is not as it should be, by its place; empty where all is well."""

    registry: CollectorRegistry

    def not_ready(self) -> dict[str, str]: ...

    def status(self) -> dict[str, Any]: ...


Page = Callable[[web.Request], Awaitable[web.StreamResponse]]


def pages(probed: Probed) -> dict[str, Page]:
    """By path: what a process says of itself."""

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

    return {"/healthz": healthz, "/readyz": readyz, "/metrics": metrics, "/status.json": status}


async def listen(pages: Mapping[str, Page], host: str, port: int) -> tuple[web.AppRunner, int]:
    """Port 0 takes a free one. Returns the runner (to clean up) and the port."""
    runner = await _runner(pages)
    try:
        await web.TCPSite(runner, host, port).start()
    except OSError as error:
        await runner.cleanup()
        raise PortTakenError(host, port) from error
    return runner, runner.addresses[0][1]


async def listen_at(pages: Mapping[str, Page], socket: Path) -> web.AppRunner:
    """At a Unix socket, which is made, or made anew where a process that is gone has left it."""
    socket.unlink(missing_ok=True)
    runner = await _runner(pages)
    await web.UnixSite(runner, str(socket)).start()
    return runner


async def serve(probed: Probed, host: str, port: int) -> tuple[web.AppRunner, int]:
    return await listen(pages(probed), host, port)


async def _runner(pages: Mapping[str, Page]) -> web.AppRunner:
    app = web.Application()
    app.add_routes([web.get(path, page) for path, page in pages.items()])
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    return runner
