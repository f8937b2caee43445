"""Runs the operator, while it holds the Leases of its namespaces."""

from __future__ import annotations

import asyncio
import logging
import signal
import time
from contextlib import suppress
from typing import Any

import kopf
from aiohttp import web
from kubernetes.aio import config as kube_config
from kubernetes.aio.client import ApiClient
from kubernetes.aio.client.exceptions import ApiException
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from marketprism_operator import metrics, triggers
from marketprism_operator.cluster import said_by
from marketprism_operator.config import Config
from marketprism_operator.lease import DEADLINE, FAILURES, INTERVAL, Leases
from marketprism_operator.operator import Operator, Standby

log = logging.getLogger(__name__)


def run(config: Config) -> int:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    logging.getLogger("kopf.objects").setLevel(logging.WARNING)  # a line for every event of every object
    return asyncio.run(serve(config))


async def serve(config: Config, stop: asyncio.Event | None = None) -> int:
    """Until SIGTERM, or until another has taken the Lease: then it returns 1, to be started again as a follower."""
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
        operator, leases = Operator(api, config), Leases(api, config.namespaces, config.holder)
        server = await _serve_metrics(operator, config.port)
        try:
            work = asyncio.create_task(_led(leases, operator, config, stop))
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
            with suppress(*FAILURES):  # then they expire
                await leases.release()
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


async def _led(leases: Leases, operator: Operator, config: Config, stop: asyncio.Event) -> None:
    """Works while it holds the Leases. Returns when another has taken one, or the work has ended."""
    await _acquire(leases, operator, config)
    tasks = [asyncio.create_task(work) for work in (_keep(leases, operator), _lead(operator, config, stop))]
    try:
        ended, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in ended:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _acquire(leases: Leases, operator: Operator, config: Config) -> None:
    while True:
        try:
            other = await leases.take()
            if not other:
                operator.leave(await leases.elsewhere())
            standby = _standby(other, config) if other else None
        except FAILURES as error:
            said = said_by(error) if isinstance(error, ApiException) else repr(error)
            standby = Standby(f"can't take its Lease: {said}", ready=False)
        if standby and standby != operator.standby:
            log.log(logging.INFO if standby.ready else logging.WARNING, "%s", standby.why)
        operator.standby = standby
        metrics.STANDBY.set(standby is not None)
        if standby is None:
            return
        await asyncio.sleep(INTERVAL)


def _standby(other: str, config: Config) -> Standby:
    if config.release and other.startswith(f"{config.release}/"):
        return Standby(f"stands by for {other}, of the same release", ready=True)
    namespaces = f"namespaces {', '.join(config.namespaces)}" if config.namespaces else "all namespaces"
    why = f"stands by: another operator, {other}, looks after {namespaces}: remove one of the two, or give each namespaces of its own"
    return Standby(why, ready=False)


async def _keep(leases: Leases, operator: Operator) -> None:
    """Until another has taken one. While they can't be renewed the operator halts."""
    while True:
        await asyncio.sleep(INTERVAL)
        try:
            if other := await leases.take():
                log.warning("a Lease is lost to %s", other)
                return
            if operator.standby:
                log.warning("its Leases are renewed: it goes on")
                operator.go_on()
                metrics.STANDBY.set(0)
            operator.leave(await leases.elsewhere())
        except FAILURES as error:
            if operator.standby is None and time.monotonic() - leases.taken_at >= DEADLINE:
                why = "can't renew its Lease, which another may take soon: it changes nothing until it can"
                log.warning("%s: %r", why, error)
                operator.halt(Standby(why, ready=False))
                metrics.STANDBY.set(1)


async def _serve_metrics(operator: Operator, port: int) -> web.AppRunner:
    """/metrics; /healthz: whether the periodic resync goes on; /readyz: whether it works, or stands by for one of its own release."""

    async def metrics_(_: web.Request) -> web.Response:
        return web.Response(body=generate_latest(metrics.REGISTRY), headers={"Content-Type": CONTENT_TYPE_LATEST})

    async def healthz(_: web.Request) -> web.Response:
        return web.Response(text="ok\n", status=200 if operator.alive else 500)

    async def readyz(_: web.Request) -> web.Response:
        standby = operator.standby
        ready = operator.alive and (standby is None or standby.ready)
        return web.Response(text=f"{standby.why if standby else 'ok'}\n", status=200 if ready else 503)

    app = web.Application()
    app.add_routes([web.get("/metrics", metrics_), web.get("/healthz", healthz), web.get("/readyz", readyz)])
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "0.0.0.0", port).start()  # noqa: S104 - a Pod's own address
    return runner
