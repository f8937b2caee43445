"""Who gets in: by which name, from which page, with which token."""

from __future__ import annotations

import pytest
from starlette.responses import PlainTextResponse
from starlette.testclient import TestClient
from starlette.types import Receive, Scope, Send
from starlette.websockets import WebSocket, WebSocketDisconnect

from marketprism_console.guard import COOKIE, LOOPBACK, ConsoleGuard, host_name, is_loopback
from marketprism_console.serve import token_for

WS = "ws://localhost:8500/"


async def inside(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "websocket":
        socket = WebSocket(scope, receive, send)
        await socket.accept()
        await socket.close()
    else:
        await PlainTextResponse("inside")(scope, receive, send)


def client(token: str = "", *, name: str = "localhost:8500") -> TestClient:
    return TestClient(ConsoleGuard(inside, {*LOOPBACK, "prism.example.org"}, token), base_url=f"http://{name}")


@pytest.mark.parametrize("name", ["localhost:8500", "127.0.0.1", "[::1]:8500", "PRISM.example.org"])
def test_its_own_names(name: str) -> None:
    answer = client(name=name).get("/")
    assert (answer.status_code, answer.text) == (200, "inside")
    assert answer.headers["x-frame-options"] == "DENY"


@pytest.mark.parametrize("name", ["evil.example", "localhost.evil.example:8500", "169.254.169.254"])
def test_a_foreign_host_is_refused(name: str) -> None:
    assert client(name=name).get("/").status_code == 403


def test_the_page_of_another_site_is_refused() -> None:
    assert client().get("/", headers={"Origin": "http://evil.example"}).status_code == 403
    assert client().get("/", headers={"Origin": "http://localhost:8500"}).status_code == 200
    with pytest.raises(WebSocketDisconnect), client().websocket_connect(WS, headers={"Origin": "http://evil.example"}):
        pass


def test_a_token_is_asked_for_and_kept_in_a_cookie_instead_of_the_address() -> None:
    visitor = client("sesame")
    assert visitor.get("/").status_code == 401
    assert visitor.get("/?token=wrong").status_code == 401
    came = visitor.get("/page?token=sesame", follow_redirects=False)
    assert (came.status_code, came.headers["location"]) == (303, "/page")
    assert "httponly" in came.headers["set-cookie"].lower()
    assert visitor.get("/").text == "inside"
    with visitor.websocket_connect(WS):
        pass


def test_a_websocket_needs_the_token_too() -> None:
    visitor = client("sesame")
    with pytest.raises(WebSocketDisconnect), visitor.websocket_connect(WS):
        pass
    visitor.cookies.set(COOKIE, "wrong")
    with pytest.raises(WebSocketDisconnect), visitor.websocket_connect(WS):
        pass


def test_a_token_is_made_up_where_others_can_reach_it() -> None:
    assert token_for("127.0.0.1", "") == ""
    assert token_for("127.0.0.1", "given") == "given"
    assert len(token_for("0.0.0.0", "")) > 20
    assert [is_loopback(host) for host in ("::1", "127.9.9.9", "localhost", "0.0.0.0", "example.org")] == [
        True,
        True,
        True,
        False,
        False,
    ]


def test_a_host_that_is_none_has_no_name() -> None:
    assert [host_name(header) for header in ("", "[", "a:b", "LOCALHOST:1")] == ["", "", "a", "localhost"]
