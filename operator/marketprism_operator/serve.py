"""Runs the operator: alone, or as one of several, with a Lease to choose the leader."""

from __future__ import annotations

import asyncio
import logging
import signal
from contextlib import suppress
from typing import Any

import kopf
from aiohttp import ClientError, web
from kubernetes.aio import config as kube_config
from kubernetes.aio.client import ApiClient
from kubernetes.aio.client.exceptions import ApiException
from kubernetes.aio.leaderelection.electionconfig import Config as ElectionConfig
from kubernetes.aio.leaderelection.leaderelection import LeaderElection
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from marketprism_operator import metrics, triggers
from marketprism_operator.config import Config
from marketprism_operator.lease import LeaderLease
from marketprism_operator.operator import Operator


def run(config: Config) -> int:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    logging.getLogger("kopf.objects").setLevel(logging.WARNING)  # a line for every event of every object
    return asyncio.run(serve(config))


async def serve(config: Config, stop: asyncio.Event | None = None) -> int:
    """Until SIGTERM, or until the Lease is lost: then it returns 1, to be started again as a follower."""
    stop = stop or asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        with suppress(ValueError, RuntimeError, NotImplementedError):
            loop.add_signal_handler(number, stop.set)
    try:
        kube_config.load_incluster_config()  # type: ignore[no-untyped-call]
    except kube_config.ConfigException:
        await kube_config.load_kube_config()  # type: ignore[no-untyped-call]
    async with ApiClient() as api:
        operator = Operator(api, config)
        server = await _serve_metrics(operator, config)
        try:
            leading = _led(api, operator, config, stop) if config.lease else _lead(operator, config, stop)
            work = asyncio.create_task(leading)
            stopping = asyncio.create_task(stop.wait())
            await asyncio.wait([work, stopping], return_when=asyncio.FIRST_COMPLETED)
            stopping.cancel()
            if work.done():
                work.result()
                return 0 if stop.is_set() else 1
            work.cancel()
            with suppress(asyncio.CancelledError):
                await work
            return 0
        finally:
            await server.cleanup()


async def _lead(operator: Operator, config: Config, stop: asyncio.Event) -> None:
    registry, settings = kopf.OperatorRegistry(), kopf.OperatorSettings()
    triggers.register(registry, settings, operator)
    settings.scanning.disabled = bool(config.namespaces)  # a Role is enough then
    settings.watching.server_timeout = 600
    settings.networking.connect_timeout = 10
    settings.networking.request_timeout = 30
    metrics.LEADER.set(1)
    ended = asyncio.Event()
    work = asyncio.create_task(operator.run())
    work.add_done_callback(lambda _: ended.set())

    @kopf.on.cleanup(registry=registry)
    async def end(**_: Any) -> None:
        work.cancel()  # kopf would wait five seconds for a task that still runs

    try:
        await kopf.operator(
            registry=registry,
            settings=settings,
            standalone=True,
            stop_flag=ended,
            # By default kopf uses the user's name, and a container's user has none.
            identity=config.identity,  # type: ignore[arg-type]
            clusterwide=not config.namespaces,
            namespaces=config.namespaces,
        )
        stop.set()  # kopf handles the signals itself, and ends on them
    finally:
        operator.last_resync = None
        metrics.LEADER.set(0)
        work.cancel()
        with suppress(asyncio.CancelledError):
            await work


async def _led(api: ApiClient, operator: Operator, config: Config, stop: asyncio.Event) -> None:
    namespace, _, name = config.lease.partition("/")
    led: asyncio.Task[None] | None = None

    async def lead() -> None:
        nonlocal led
        led = asyncio.current_task()
        await _lead(operator, config, stop)

    lock = LeaderLease(name, namespace, config.identity, api)
    election = LeaderElection(
        ElectionConfig(
            lock, lease_duration=12, renew_deadline=8, retry_period=1, onstarted_leading=lead, onstopped_leading=_lost
        )
    )
    try:
        await election.run()
    finally:
        if led:  # the election leaves it running when it is cancelled itself
            led.cancel()
            with suppress(asyncio.CancelledError):
                await led
            with suppress(ApiException, ClientError, TimeoutError):
                async with asyncio.timeout(2.0):
                    await lock.give_up()


async def _lost() -> None:
    """Nothing more to do: `serve` ends, and the process is started again."""


async def _serve_metrics(operator: Operator, config: Config) -> web.AppRunner:
    """/metrics; /healthz: whether the periodic resync goes on; /readyz: and whether it leads, or stands by for a leader."""

    async def metrics_(_: web.Request) -> web.Response:
        return web.Response(body=generate_latest(metrics.REGISTRY), headers={"Content-Type": CONTENT_TYPE_LATEST})

    async def healthz(_: web.Request) -> web.Response:
        return web.Response(text="ok\n", status=200 if operator.alive else 500)

    async def readyz(_: web.Request) -> web.Response:
        ready = operator.alive and bool(operator.last_resync is not None or config.lease)
        return web.Response(text="ok\n" if ready else "does not lead yet\n", status=200 if ready else 503)

    app = web.Application()
    app.add_routes([web.get("/metrics", metrics_), web.get("/healthz", healthz), web.get("/readyz", readyz)])
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "0.0.0.0", config.port).start()  # noqa: S104 - a Pod's own address
    return runner
