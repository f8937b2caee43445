"""Text to exact values: decimals and times, by grammars of our own.

Python's Decimal takes `1_000`, `１２` and ` 1.5 `, its float rounds, and its datetime reads a form it half knows: none of them
may decide what a price or a time was. The rules are those of the wire: shared by every data type, tested by themselves.
"""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from decimal import Decimal

from marketprism_api import reasons
from marketprism_consumer.errors import MessageError

# --- decimals -------------------------------------------------------------------------------------------------------

_PLAIN = re.compile(r"-?\d{1,19}(?:\.\d{1,18})?", re.ASCII).fullmatch
PLAIN_POSITIVE = re.compile(r"(?=[\d.]*[1-9])\d{1,19}(?:\.\d{1,18})?", re.ASCII).fullmatch
_DECIMAL = re.compile(r"(-?)(\d*)(?:\.(\d*))?(?:[eE]([+-]?\d{1,4}))?", re.ASCII).fullmatch


def decimal(text: str, field: str, scale: int = 18, precision: int = 38) -> str:
    """`text` as a plain decimal that a Decimal(precision, scale) column holds exactly; refused where it does not fit."""
    if scale == 18 and precision == 38 and _PLAIN(text):
        return text
    match = _DECIMAL(text)
    if match is None or not (match[2] or match[3]):
        raise MessageError(reasons.BAD_DECIMAL, field, shown(text))
    sign, whole, fraction, exponent = match[1], match[2], match[3] or "", int(match[4] or 0)
    digits = (whole + fraction).lstrip("0")
    if not digits:
        return "0"
    # value = digits * 10^power, with no zero at either end of `digits`
    power = exponent - len(fraction)
    stripped = digits.rstrip("0")
    power += len(digits) - len(stripped)
    if -power > scale or len(stripped) + power > precision - scale:
        raise MessageError(reasons.DECIMAL_OUT_OF_RANGE, field, shown(text))
    if power >= 0:
        return sign + stripped + "0" * power
    padded = stripped.rjust(-power + 1, "0")
    return f"{sign}{padded[:power]}.{padded[power:]}"


def positive(text: str, field: str, scale: int = 18, precision: int = 38) -> str:
    """A decimal above zero: prices."""
    if scale == 18 and precision == 38 and PLAIN_POSITIVE(text):
        return text
    value = decimal(text, field, scale, precision)
    if Decimal(value) <= 0:
        raise MessageError(reasons.NEGATIVE_OR_ZERO, field, shown(text))
    return value


def not_negative(text: str, field: str, scale: int = 18, precision: int = 38) -> str:
    """A decimal of zero or more: quantities."""
    value = decimal(text, field, scale, precision)
    if value[0] == "-" and Decimal(value) != 0:
        raise MessageError(reasons.NEGATIVE_OR_ZERO, field, shown(text))
    return value


# --- times ----------------------------------------------------------------------------------------------------------

_EPOCH = datetime(1970, 1, 1)
EARLIEST = 1_230_768_000_000_000  # 2009-01-01, before the first crypto trade [µs]
LATEST = 4_102_444_800_000_000  # 2100-01-01 [µs]

_TIME = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)[ T](\d\d):(\d\d):(\d\d)(?:[.,](\d{1,9}))? ?(?:([+-]\d\d):?(\d\d))?(Z?)",
    re.ASCII | re.IGNORECASE,
).fullmatch
_NUMBER = re.compile(r"\d{1,20}(?:\.\d{1,12})?", re.ASCII).fullmatch

# Pieces of the plain form `YYYY-MM-DD HH:MM:SS.` + `mmm`, each looked up whole: a look-up is both the check and the value.
# A second is here only after the full grammar took it and it was in range, whose ends are whole seconds.
_seconds: dict[str, int] = {}
_millis = {f"{milli:03}": milli * 1_000 for milli in range(1000)}


def micros(text: str, field: str) -> int:
    """A time's text as microseconds since 1970 UTC. No offset means UTC; finer digits than a microsecond are cut."""
    try:
        return _seconds[text[:20]] + _millis[text[20:]]
    except KeyError:
        return _parse_time(text, field)


def _parse_time(text: str, field: str) -> int:
    match = _TIME(text)
    if match is None:
        if _NUMBER(text):
            return epoch(text, field)
        raise MessageError(reasons.BAD_TIME, field, shown(text))
    year, month, day, hour, minute, second = (int(match[i]) for i in range(1, 7))
    try:
        start = datetime(year, month, day, hour, minute)
    except ValueError as error:
        raise MessageError(reasons.BAD_TIME, field, f"{shown(text)}: {error}") from None
    if second > 59:
        raise MessageError(reasons.BAD_TIME, field, shown(text))
    minute_micros = (start - _EPOCH) // timedelta(microseconds=1)
    second_micros = second * 1_000_000 + int((match[7] or "").ljust(6, "0")[:6])
    offset = 0
    if match[8]:
        hours, minutes = int(match[8]), int(match[9])
        if abs(hours) > 14 or minutes > 59:
            raise MessageError(reasons.BAD_TIME, field, shown(text))
        offset = (abs(hours) * 60 + minutes) * 60_000_000 * (-1 if match[8][0] == "-" else 1)
    value = in_range(minute_micros + second_micros - offset, field, text)
    if len(text) == 23 and text[10] == " " and match[7] and not match[8]:
        if len(_seconds) > 10_000:
            _seconds.clear()
        _seconds[text[:20]] = minute_micros + second * 1_000_000
    return value


_FINER = {"s": 6, "ms": 3, "us": 0, "ns": -3}
"""Digits between a unit and the microsecond."""


def epoch(text: str, field: str, unit: str = "") -> int:
    """A number's text as microseconds since 1970. Its unit, if not given, is told by its size: seconds, ms, µs and ns have numbers
    of their own from 2001 to 2286. What is finer is cut."""
    return in_range(_scaled(text, field, unit, 0), field, text)


def _scaled(text: str, field: str, unit: str, more: int) -> int:
    """In microseconds, or with so many digits more."""
    if not _NUMBER(text):
        raise MessageError(reasons.BAD_TIME, field, shown(text))
    whole, _, fraction = text.partition(".")
    digits = _FINER[unit or _unit_of(int(whole))] + more
    return int(whole + fraction.ljust(digits, "0")[:digits]) if digits >= 0 else int(whole) // 10**-digits


def _unit_of(number: int) -> str:
    return "s" if number < 10**11 else "ms" if number < 10**14 else "us" if number < 10**17 else "ns"


def nanos(text: str, field: str, unit: str = "") -> int:
    """A time's text, or a number's, as nanoseconds since 1970 UTC."""
    if not unit and (match := _TIME(text)):
        return micros(text, field) * 1000 + int((match[7] or "").ljust(9, "0")[6:9])
    epoch(text, field, unit)
    return _scaled(text, field, unit, 3)


def in_range(value: int, field: str, text: object) -> int:
    if not EARLIEST <= value < LATEST:
        raise MessageError(reasons.TIME_OUT_OF_RANGE, field, shown(str(text)))
    return value


# --- text -----------------------------------------------------------------------------------------------------------


def shown(text: str, limit: int = 80) -> str:
    """A value for a header or a log line: one line of printable ASCII, cut."""
    quoted = ascii(text)
    return quoted if len(quoted) <= limit else f"{quoted[:limit]}… ({len(text)} characters)"
