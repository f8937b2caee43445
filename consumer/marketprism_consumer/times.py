"""Times as text. All are microseconds since 1970, UTC, and exact: none passes through a float."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def moment(micros: int) -> datetime:
    return _EPOCH + timedelta(microseconds=micros)


def iso(micros: int) -> str:
    """`2025-09-24T07:55:51.123456Z`: for machines."""
    return moment(micros).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def micros(text: str) -> int:
    """Of what `iso` wrote. Raises ValueError."""
    since = datetime.fromisoformat(text) - _EPOCH
    return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds


def shown(micros: int) -> str:
    """`2025-09-24 07:55:51`: for people, and for ClickHouse."""
    return moment(micros).strftime("%Y-%m-%d %H:%M:%S")


def exact(micros: int) -> str:
    """The same with its fraction, where it has one."""
    return shown(micros) + (f".{micros % 1_000_000:06d}" if micros % 1_000_000 else "")


def clock(micros: int) -> str:
    """`07:55:51.123`: within a day."""
    return moment(micros).strftime("%H:%M:%S.%f")[:-3]
