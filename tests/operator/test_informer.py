"""What goes wrong with a watch, and what the store has afterwards; against a server that says what each test scripts."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from kubernetes.aio.client import ApiClient, Configuration

from marketprism_operator import informer
from marketprism_operator.cache import KindCache

Object = dict[str, Any]


def made(name: str, version: int) -> Object:
    return {"metadata": {"namespace": "n", "name": name, "uid": name, "resourceVersion": str(version)}, "spec": {}}


def a_list(version: int, *items: Object, more: str = "") -> web.Response:
    return web.json_response({"items": list(items), "metadata": {"resourceVersion": str(version), "continue": more}})


class Lines:
    """A watch's answer; it stays open afterwards unless `ends`."""

    def __init__(self, *events: tuple[str, Object], ends: bool = False) -> None:
        self.events = events
        self.ends = ends


class Server:
    """Gives the answers in their order, and then none any more."""

    def __init__(self) -> None:
        self.answers: list[web.Response | Lines] = []
        self.asked: list[dict[str, str]] = []
        self.told: list[str] = []
        self.store = KindCache("v1", "ConfigMap")
        self.closing = asyncio.Event()

    async def answer(self, request: web.Request) -> web.StreamResponse:
        while not self.answers:
            if self.closing.is_set():
                return web.Response(status=500)
            await asyncio.sleep(0.02)
        self.asked.append(dict(request.query))
        given = self.answers.pop(0)
        if isinstance(given, web.Response):
            return given
        response = web.StreamResponse()
        await response.prepare(request)
        for kind, body in given.events:
            await response.write(json.dumps({"type": kind, "object": body}).encode() + b"\n")
        if not given.ends:
            await self.closing.wait()
        return response

    async def until(self, look: Callable[[], object]) -> None:
        async with asyncio.timeout(20):
            while not look():
                await asyncio.sleep(0.02)

    def names(self) -> list[str]:
        return [found["metadata"]["name"] for found in self.store.list("n", {})]


@pytest.fixture
async def server(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Server]:
    monkeypatch.setattr(informer, "_WATCH", aiohttp.ClientTimeout(sock_read=1))
    made_ = Server()
    app = web.Application()
    app.add_routes([web.get("/api/v1/configmaps", made_.answer)])
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    configuration = Configuration(host=f"http://127.0.0.1:{runner.addresses[0][1]}")
    async with ApiClient(configuration) as api:

        def changed(_: str, found: Object) -> None:
            made_.told.append(found["metadata"]["name"])

        task = asyncio.create_task(informer.Informer(api, made_.store, changed, "/api/v1/configmaps").run())
        try:
            yield made_
        finally:
            made_.closing.set()
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
            await runner.cleanup()


async def test_what_has_gone_while_a_watch_was_expired_is_told(server: Server) -> None:
    server.answers = [
        a_list(5, made("a", 3), made("b", 4)),
        Lines(("ERROR", {"kind": "Status", "code": 410, "message": "too old resource version"})),
        a_list(9, made("b", 4), made("c", 8)),
    ]
    await server.until(lambda: server.told == ["a", "b", "c", "a"])
    assert server.names() == ["b", "c"]


async def test_a_watch_that_ends_or_falls_silent_goes_on_where_it_was(server: Server) -> None:
    server.answers = [
        a_list(5),
        Lines(("ADDED", made("a", 6)), ends=True),
        Lines(("BOOKMARK", {"metadata": {"resourceVersion": "12"}})),
        Lines(("DELETED", made("a", 13)), ("ADDED", made("b", 14))),
    ]
    await server.until(lambda: server.told == ["a", "a", "b"])
    assert [asked.get("resourceVersion") for asked in server.asked] == [None, "5", "6", "12"]
    assert server.names() == ["b"]


async def test_a_list_comes_in_pages_and_is_complete_with_the_last(server: Server) -> None:
    server.answers = [a_list(5, made("a", 3), more="next")]
    await server.until(lambda: server.told == ["a"])
    assert not server.store.complete
    server.answers = [a_list(5, made("b", 4))]
    await server.until(lambda: server.store.complete)
    assert server.asked[1]["continue"] == "next"
    assert server.names() == ["a", "b"]


@pytest.mark.parametrize("status", [403, 404])
async def test_what_may_not_be_watched_is_answered_and_not_complete(server: Server, status: int) -> None:
    server.answers = [web.Response(status=status)]
    await server.until(server.store.answered.is_set)
    assert not server.store.complete


async def test_an_api_server_that_fails_is_asked_again(server: Server) -> None:
    server.answers = [web.Response(status=500), web.Response(status=429), a_list(5, made("a", 3))]
    await server.until(lambda: server.store.complete)
    assert server.names() == ["a"]
