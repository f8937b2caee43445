"""Who may speak to the console: only who addresses it by a name that it has, and, where others can reach it, who has the token.

A foreign Host is how a page of somebody else's reads what listens on loopback (DNS rebinding).
"""

from __future__ import annotations

import hmac
from collections.abc import Iterable, Mapping
from http.cookies import CookieError, SimpleCookie
from ipaddress import ip_address
from urllib.parse import parse_qs, urlsplit

from starlette.responses import PlainTextResponse, RedirectResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

COOKIE = "marketprism_token"
LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
HEADERS = {
    b"x-frame-options": b"DENY",
    b"x-content-type-options": b"nosniff",
    b"referrer-policy": b"no-referrer",
    b"content-security-policy": b"frame-ancestors 'none'; object-src 'none'; base-uri 'self'; connect-src 'self'",
}


def is_loopback(host: str) -> bool:
    """Of an address or name to listen at."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def host_name(header: str) -> str:
    """`[::1]:8080`, `localhost:8080` or `localhost`, without the port; empty where it is none of these."""
    try:
        return (urlsplit(f"//{header}").hostname or "").lower()
    except ValueError:
        return ""


class ConsoleGuard:
    """ASGI. `hosts`: the names that a request may be addressed to. `token`: empty where none is asked for."""

    def __init__(self, app: ASGIApp, hosts: Iterable[str], token: str) -> None:
        self._app, self._token = app, token
        self._hosts = {host.lower() for host in hosts}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        if refusal := self._refusal(headers):
            await _answer(scope, receive, send, 403, refusal)
        elif not self._token or self._has_token(headers):
            await self._app(scope, receive, _with_headers(send))
        elif self._is_token(parse_qs(scope["query_string"].decode("latin-1")).get("token", [""])[0]):
            # Into a cookie, so that it does not stay in the address, which is kept, shown and copied.
            response = RedirectResponse("/" + scope["path"].lstrip("/"), status_code=303)
            response.set_cookie(COOKIE, self._token, httponly=True, samesite="strict")
            await response(scope, receive, send)
        else:
            await _answer(scope, receive, send, 401, "open the address with ?token=…, which the console printed\n")

    def _refusal(self, headers: Mapping[str, str]) -> str:
        name = host_name(headers.get("host", ""))
        if name not in self._hosts:
            return f"this console is not {name!r}: --allow-host names what else it is called\n"
        origin = headers.get("origin", "")
        if origin and host_name(urlsplit(origin).netloc) not in self._hosts:
            return "not from another site's page\n"
        return ""

    def _has_token(self, headers: Mapping[str, str]) -> bool:
        try:
            found = SimpleCookie(headers.get("cookie", "")).get(COOKIE)
        except CookieError:
            return False
        return found is not None and self._is_token(found.value)

    def _is_token(self, given: str) -> bool:
        return hmac.compare_digest(given.encode(), self._token.encode())


async def _answer(scope: Scope, receive: Receive, send: Send, status: int, text: str) -> None:
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": 1008, "reason": ""})
        return
    await PlainTextResponse(text, status_code=status)(scope, receive, send)


def _with_headers(send: Send) -> Send:
    async def sent(message: Message) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message["headers"], *HEADERS.items()]
        await send(message)

    return sent
