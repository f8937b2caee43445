"""The console's process: one port, one guard, one set of sources for all visitors."""

from __future__ import annotations

import secrets
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import date

import uvicorn
from fastapi import FastAPI
from nicegui import ui

from marketprism_api.settings import Settings
from marketprism_console.coverage.page import SPANS, CoveragePage
from marketprism_console.coverage.queries import Coverage
from marketprism_console.dead_letters.page import DeadLettersPage
from marketprism_console.guard import LOOPBACK, ConsoleGuard, is_loopback
from marketprism_console.letters import Letters
from marketprism_console.market.page import MarketPage, asked_window
from marketprism_console.market.queries import MarketRows
from marketprism_console.pipeline.page import PipelinePage
from marketprism_console.pipeline.queries import Watch
from marketprism_console.proof.audits import Audits
from marketprism_console.proof.page import ProofPage
from marketprism_console.sources import Sources
from marketprism_console.tiering.page import TieringPage
from marketprism_consumer.errors import PortTakenError

RECONNECT = 5.0  # for how long a visitor whose connection broke finds the page as it was [s]
HISTORY = 20  # messages kept for that; a map is half a megabyte


def token_for(host: str, given: str) -> str:
    """Where others than this machine can reach it, a token is asked for: the one given, or one made up."""
    return given or ("" if is_loopback(host) else secrets.token_urlsafe(24))


def listening(host: str, port: int) -> socket.socket:
    """Raises PortTakenError."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family)
    except OSError as error:
        raise PortTakenError(host, port) from error


def application(settings: Settings, hosts: Sequence[str], token: str) -> ConsoleGuard:
    """All pages. `hosts`: what the console is called, besides loopback's names."""
    sources = Sources.of(settings)
    audits = Audits(sources)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        await audits.close()
        await sources.close()

    app = FastAPI(lifespan=lifespan, openapi_url=None)

    @app.get("/healthz")
    async def healthz() -> str:
        return "ok"

    coverage, letters = Coverage(sources), Letters(sources)

    @ui.page("/", title="Coverage · MarketPrism")
    async def index(type: str = "", days: int = 7, to: date | None = None) -> None:
        data_type = type if type in settings.data_types else next(iter(settings.data_types))
        await CoveragePage(sources, coverage, letters).show(data_type, days if days in SPANS else 7, to)

    watch = Watch(sources)

    @ui.page("/pipeline", title="Pipeline · MarketPrism")
    async def pipeline() -> None:
        await PipelinePage(watch).show()

    rows = MarketRows(sources, coverage)

    @ui.page("/market", title="Market · MarketPrism")
    async def market(exchange: str = "", type: str = "", symbol: str = "", since: str = "", until: str = "") -> None:
        named = (exchange, type, symbol) if exchange and type and symbol else None
        await MarketPage(rows).show(named, asked_window(since, until))

    @ui.page("/tiering", title="Tiering · MarketPrism")
    async def tiering() -> None:
        await TieringPage(sources).show()

    @ui.page("/proof", title="Proof · MarketPrism")
    async def proof() -> None:
        await ProofPage(audits).show()

    @ui.page("/dead-letters", title="Dead letters · MarketPrism")
    async def dead_letters() -> None:
        await DeadLettersPage(letters).show()

    ui.run_with(
        app,
        title="MarketPrism",
        dark=None,  # as the browser asks
        favicon="◮",
        tailwind=False,
        reconnect_timeout=RECONNECT,
        message_history_length=HISTORY,
        show_welcome_message=False,
    )
    return ConsoleGuard(app, {*LOOPBACK, *hosts}, token)


def serve(
    settings: Settings, host: str, port: int, hosts: Sequence[str], token: str, tell: Callable[[str], None]
) -> None:
    """Until SIGINT or SIGTERM. `tell` gets the address. Raises PortTakenError."""
    token = token_for(host, token)
    with listening(host, port) as listener:
        named = f"[{host}]" if ":" in host else host
        tell(f"http://{named}:{listener.getsockname()[1]}/" + (f"?token={token}" if token else ""))
        app = application(settings, [*hosts, host], token)
        config = uvicorn.Config(
            app, log_level="error", access_log=False, ws_max_size=1 << 20, timeout_graceful_shutdown=2
        )
        uvicorn.Server(config).run(sockets=[listener])
