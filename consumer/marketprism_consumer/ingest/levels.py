"""The levels of an order book as the bytes of its columns: Decimal(38, 18), 16 bytes little endian each.

Their JSON text is read by a kernel (`levels.zig`), without a Python object for each level. It is compiled when the package is
installed; where it is not there, `read_side` knows nothing, and levels are read in Python, at a third of the speed.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

WIDTH = 16  # bytes of one number
SCALE = 18
MAX_LEVELS = 10_000  # of one side; more are read in Python
KERNEL = Path(__file__).with_name("_levels.so")


class BookSide(NamedTuple):
    """`best_price` is the best one that still has a quantity; None where none has."""

    levels: int
    prices: bytes
    quantities: bytes
    best_price: str | None
    best_quantity: str | None


def packed(texts: Iterable[str]) -> bytes:
    """Of plain decimals that fit the column, as `decode` gives them."""
    return b"".join(_number(text) for text in texts)


def _number(text: str) -> bytes:
    whole, _, fraction = text.partition(".")
    return int(whole + fraction.ljust(SCALE, "0")).to_bytes(WIDTH, "little", signed=True)


class _Best(ctypes.Structure):
    _fields_ = tuple((name, ctypes.c_int64) for name in ("price_start", "price_end", "quantity_start", "quantity_end"))


class _Kernel:
    """Its output has one place, so one call at a time."""

    def __init__(self, path: Path) -> None:
        self._read = ctypes.CDLL(str(path)).marketprism_levels
        self._read.restype = ctypes.c_int64
        pointer = ctypes.c_void_p
        self._read.argtypes = [
            ctypes.c_char_p, ctypes.c_size_t, ctypes.c_bool, pointer, pointer, ctypes.c_size_t, pointer
        ]  # fmt: skip
        self._lock = threading.Lock()
        self._prices, self._quantities = bytearray(WIDTH * MAX_LEVELS), bytearray(WIDTH * MAX_LEVELS)
        self._best = _Best()
        self._out = (
            *(ctypes.addressof(ctypes.c_char.from_buffer(each)) for each in (self._prices, self._quantities)),
            MAX_LEVELS,
            ctypes.addressof(self._best),
        )

    def read(self, text: bytes, *, highest: bool) -> BookSide | None:
        with self._lock:
            count = self._read(text, len(text), highest, *self._out)
            if count < 0:
                return None
            prices, quantities = bytes(self._prices[: WIDTH * count]), bytes(self._quantities[: WIDTH * count])
            best = self._best
            price = text[best.price_start : best.price_end].decode()
            quantity = text[best.quantity_start : best.quantity_end].decode()
        return BookSide(count, prices, quantities, price or None, quantity or None)


kernel = _Kernel(KERNEL) if KERNEL.exists() else None


def read_side(text: bytes, *, highest: bool) -> BookSide | None:
    """Of a JSON array of levels, where it has one of the two plain forms; None where it has another, or there is no kernel.
    `highest`: the best price is the highest one, as of bids."""
    return kernel.read(text, highest=highest) if kernel else None
