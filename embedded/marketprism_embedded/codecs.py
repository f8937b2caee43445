"""HTTP content codings, streaming both ways. The lz4 and zstd bindings have no types: the `Any` ends here."""

from __future__ import annotations

import importlib
import sys
import zlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Protocol

_lz4: Any = importlib.import_module("lz4.frame")
_zstd: Any = importlib.import_module("compression.zstd" if sys.version_info >= (3, 14) else "backports.zstd")


class CodecError(Exception):
    """The bytes are not what the coding says, or end too early."""


class Compressor(Protocol):
    def compress(self, data: bytes, /) -> bytes: ...
    def flush(self) -> bytes: ...


class _Lz4Compressor:
    """lz4's own needs `begin()` first and puts the frame's header into its result."""

    def __init__(self) -> None:
        self._frame = _lz4.LZ4FrameCompressor()
        self._header: bytes = self._frame.begin()

    def compress(self, data: bytes) -> bytes:
        header, self._header = self._header, b""
        return header + bytes(self._frame.compress(data))

    def flush(self) -> bytes:
        header, self._header = self._header, b""
        return header + bytes(self._frame.flush())


# In the order in which ClickHouse prefers them.
_COMPRESSORS: dict[str, Callable[[], Compressor]] = {
    "lz4": _Lz4Compressor,
    "zstd": lambda: _zstd.ZstdCompressor(),
    "gzip": lambda: zlib.compressobj(3, zlib.DEFLATED, 31),
    "deflate": lambda: zlib.compressobj(3, zlib.DEFLATED, 15),
}

_DECOMPRESSORS: dict[str, Callable[[], Any]] = {
    "lz4": _lz4.LZ4FrameDecompressor,
    "zstd": _zstd.ZstdDecompressor,
    "gzip": lambda: zlib.decompressobj(31),
    "deflate": lambda: zlib.decompressobj(15),
}


def choose_coding(accept_encoding: str) -> str | None:
    """The coding for a reply to `Accept-Encoding: ...`, None for none."""
    accepted = {item.partition(";")[0].strip() for item in accept_encoding.lower().split(",")}
    return next((coding for coding in _COMPRESSORS if coding in accepted), None)


def compressor(coding: str) -> Compressor:
    return _COMPRESSORS[coding]()


def decompress(coding: str, chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Inflate a body of one or several frames. Raises CodecError."""
    make = _DECOMPRESSORS.get(coding)
    if make is None:
        raise CodecError(f"unknown Content-Encoding '{coding}': use {', '.join(_DECOMPRESSORS)}")
    frame = None
    try:
        for chunk in chunks:
            data = chunk
            while data:
                if frame is None or frame.eof:
                    frame = make()
                inflated = frame.decompress(data)
                data = (frame.unused_data or b"") if frame.eof else b""
                if inflated:
                    yield inflated
    except (zlib.error, RuntimeError, EOFError, _zstd.ZstdError) as error:
        raise CodecError(f"can't decompress the {coding} body: {error}") from None
    if frame is not None and not frame.eof:
        raise CodecError(f"the {coding} body ends too early")
