"""Where files go: a folder, or a bucket. A file is there whole, or not at all."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Protocol

from marketprism_consumer.errors import ExportError

PIECE = 1 << 20  # bytes
PART = 8 << 20  # bytes of an upload's part


class Destination(Protocol):
    """`path`: below it, with slashes. All raise ExportError where the place can't be used."""

    async def read(self, path: str) -> bytes | None:
        """A small file; None where there is none."""

    def pieces(self, path: str) -> AsyncIterator[bytes]:
        """A file as it is read. Raises FileNotFoundError."""

    async def write(self, path: str, data: AsyncIterator[bytes]) -> None:
        """What `data` gives, in place of what was there. Where `data` raises, nothing is changed."""


async def once(data: bytes) -> AsyncIterator[bytes]:
    yield data


def destination(place: str) -> Destination:
    """Of a folder's path, or of a URL such as s3://bucket/prefix. Raises ExportError."""
    return BucketDestination(place) if "://" in place else FolderDestination(Path(place))


class FolderDestination:
    def __init__(self, root: Path) -> None:
        self._root = root

    async def read(self, path: str) -> bytes | None:
        try:
            return (self._root / path).read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise ExportError(f"{self._root / path}: {error.strerror}") from error

    async def pieces(self, path: str) -> AsyncIterator[bytes]:
        with (self._root / path).open("rb") as file:
            while piece := file.read(PIECE):
                yield piece

    async def write(self, path: str, data: AsyncIterator[bytes]) -> None:
        target = self._root / path
        part = target.with_name(target.name + ".part")
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            with part.open("wb") as file:
                async for piece in data:
                    file.write(piece)
                file.flush()
                os.fsync(file.fileno())
            part.replace(target)
        except OSError as error:
            raise ExportError(f"{target}: {error.strerror or error}") from error
        finally:
            part.unlink(missing_ok=True)


class BucketDestination:
    """By obstore, which takes keys, region and endpoint from the environment (AWS_ACCESS_KEY_ID, AWS_ENDPOINT_URL, …)."""

    def __init__(self, url: str) -> None:
        try:
            import obstore
            from obstore.store import from_url
        except ImportError:
            raise ExportError(f"{url}: a bucket needs obstore: pip install 'marketprism-consumer[s3]'") from None
        self._obstore: Any = obstore
        insecure = os.environ.get("AWS_ENDPOINT_URL", "").startswith("http://")
        try:
            self._store: Any = from_url(url, client_options={"allow_http": insecure})
        except Exception as error:
            raise ExportError(f"{url}: {_said(error)}") from error

    async def read(self, path: str) -> bytes | None:
        try:
            return bytes(await (await self._obstore.get_async(self._store, path)).bytes_async())
        except FileNotFoundError:
            return None
        except Exception as error:
            raise ExportError(f"{path}: {_said(error)}") from error

    async def pieces(self, path: str) -> AsyncIterator[bytes]:
        try:
            async for piece in (await self._obstore.get_async(self._store, path)).stream(min_chunk_size=PIECE):
                yield bytes(piece)
        except FileNotFoundError:
            raise
        except Exception as error:
            raise ExportError(f"{path}: {_said(error)}") from error

    async def write(self, path: str, data: AsyncIterator[bytes]) -> None:
        """An upload that is never completed is no object; what it leaves behind is the bucket's to clean."""
        writer = self._obstore.open_writer_async(self._store, path, buffer_size=PART)
        async for piece in data:
            await self._tried(path, writer.write(piece))
        await self._tried(path, writer.close())

    async def _tried(self, path: str, doing: Any) -> None:
        try:
            await doing
        except Exception as error:
            raise ExportError(f"{path}: {_said(error)}") from error


def _said(error: BaseException) -> str:
    return " ".join(str(error).split())[:300]
