"""The library of `kernel.zig`: what is done for each message, or level, in one call for many.

It is compiled when the package is installed; where it is not there, the same is done in Python, at a third of the speed.
"""

from __future__ import annotations

import ctypes
from pathlib import Path

_PATH = Path(__file__).with_name("_kernel.so")

library: ctypes.CDLL | None = ctypes.CDLL(str(_PATH)) if _PATH.exists() else None


def address(buffer: bytearray) -> int:
    """Of its bytes, for as long as the caller keeps the buffer, and its size."""
    return ctypes.addressof(ctypes.c_char.from_buffer(buffer))
