"""Structured logs on stderr: lines for people in a terminal, JSON elsewhere."""

from __future__ import annotations

import logging
import sys
from typing import Any

import structlog

from marketprism_api.reasons import Reason


def reason(log: Any, level: str, reason: Reason, **more: object) -> None:
    """One line about what a person should know of: its text, code, name and hint, and whatever belongs to it."""
    getattr(log, level)(reason.text, code=reason.code, reason=reason.name, hint=reason.hint, **more)


def configure(level: str = "info", *, as_json: bool | None = None) -> None:
    """`as_json` None: JSON unless stderr is a terminal."""
    numeric = logging.getLevelNamesMapping()[level.upper()]
    machine = not sys.stderr.isatty() if as_json is None else as_json
    renderer: structlog.typing.Processor = (
        structlog.processors.JSONRenderer() if machine else structlog.dev.ConsoleRenderer()
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(numeric),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr)
    for quiet in ("clickhouse_connect", "nats", "aiohttp.access"):
        logging.getLogger(quiet).setLevel(logging.CRITICAL)
