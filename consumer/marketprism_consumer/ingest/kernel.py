"""The library of `kernel.zig`: what is done for each message, or level, in one call for many.

It is compiled when the package is installed; where it is not there, the same is done in Python, at a third of the speed. So it is in
a process whose kernel was ended by one of its own checks: the message that did it comes again, and would end it for ever.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Sequence
from pathlib import Path

_PATH = Path(__file__).with_name("_kernel.so")

WITHOUT = {"MARKETPRISM_WITHOUT_KERNEL": "1"}
"""What tells a process that its kernel has failed."""

failed = WITHOUT.items() <= os.environ.items()
library: ctypes.CDLL | None = ctypes.CDLL(str(_PATH)) if _PATH.exists() and not failed else None
_kept: list[object] = []


def go_on_as(program: str, arguments: Sequence[str]) -> None:
    """If the kernel fails, the program takes the place of this process at once, without the kernel. On Linux; elsewhere it ends."""
    if library is not None:
        environ = [f"{name}={value}" for name, value in {**os.environ, **WITHOUT}.items()]
        _kept[:] = os.fsencode(program), _texts(arguments), _texts(environ)
        library.marketprism_instead(*_kept)


def _texts(texts: Sequence[str]) -> ctypes.Array[ctypes.c_char_p]:
    return (ctypes.c_char_p * (len(texts) + 1))(*map(os.fsencode, texts), None)


def address(buffer: bytearray) -> int:
    """Of its bytes, for as long as the caller keeps the buffer, and its size."""
    return ctypes.addressof(ctypes.c_char.from_buffer(buffer))
