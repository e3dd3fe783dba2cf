"""Request bodies into files, with MD5 and CRC-64 computed on the way.

While one batch is hashed and written in threads the next is read from the socket, so that the
connection and the MD5, which takes longest, each have a core. Small bodies are handled inline: a
thread switch costs more than they do.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Protocol, Self

from mocktee.oss import crc64
from mocktee.oss.errors import OssAnswerError
from mocktee.oss.objects import discard

BATCH_BYTES: Final = 1 << 20
INLINE_BYTES: Final = 128 << 10
MAX_SINGLE_BYTES: Final = 5 << 30


class ByteSource(Protocol):
    """What is needed of a request body: its pieces as they came, uncopied.

    Empty bytes mark the end, unless the flag says that they end an HTTP chunk. aiohttp's empty
    body is one object for all requests and says so for ever, hence :meth:`at_eof`.
    """

    async def readchunk(self) -> tuple[bytes, bool]: ...

    def at_eof(self) -> bool: ...


@dataclass(frozen=True, slots=True)
class Digest:
    size: int
    md5: bytes
    crc64: int

    @property
    def etag(self) -> str:
        return self.md5.hex().upper()


class BodyFile:
    """A file under construction; removed on exit unless :meth:`keep` was called.

    ``fast`` gives up the MD5: the digest's ``md5`` is then made from size and CRC-64.
    """

    def __init__(self, path: Path, *, fast: bool = False) -> None:
        self.path = path
        self._fd = os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600)
        self._fast = fast
        self._md5 = hashlib.md5(usedforsecurity=False)
        self._crc = 0
        self._size = 0
        self._kept = False

    def add(self, chunks: Sequence[bytes]) -> None:
        """Blocking. Batches are added one after the other."""
        self._hash(chunks)
        self._write(chunks)

    def start_adding(self, chunks: Sequence[bytes]) -> list[asyncio.Future[None]]:
        """As :meth:`add`, hashing and writing at the same time in threads."""
        loop = asyncio.get_running_loop()
        return [loop.run_in_executor(None, step, chunks) for step in (self._hash, self._write)]

    def _hash(self, chunks: Sequence[bytes]) -> None:
        for chunk in chunks:
            if not self._fast:
                self._md5.update(chunk)
            self._crc = crc64.update(self._crc, chunk)
            self._size += len(chunk)

    def _write(self, chunks: Sequence[bytes]) -> None:
        for chunk in chunks:
            view = memoryview(chunk)
            while view:
                view = view[os.write(self._fd, view) :]

    def digest(self) -> Digest:
        if self._fast:
            self._md5.update(f"{self._size}/{self._crc}".encode())
        return Digest(self._size, self._md5.digest(), self._crc)

    def keep(self) -> Path:
        self._kept = True
        return self.path

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        os.close(self._fd)
        if not self._kept:
            discard(self.path)


async def receive(
    source: ByteSource, body: BodyFile, *, pace: Callable[[int], Awaitable[None]] | None = None
) -> Digest:
    """Read ``source`` to its end into ``body``; ``pace`` is awaited with each chunk's size.

    Raises :class:`OssAnswerError` above 5 GB, and whatever the source raises when the client goes
    away. On cancellation the running batch is awaited first, so the file may be closed.
    """
    running: list[asyncio.Future[None]] = []
    batch: list[bytes] = []
    waiting = total = 0
    try:
        while chunk := await _next(source):
            batch.append(chunk)
            waiting += len(chunk)
            total += len(chunk)
            if total > MAX_SINGLE_BYTES:
                raise OssAnswerError("EntityTooLarge", "The object you tried to upload is too big.")
            if pace is not None:
                await pace(len(chunk))
            if waiting >= BATCH_BYTES:
                await _finish(running)
                running = body.start_adding(batch)
                batch, waiting = [], 0
        await _finish(running)
        if waiting <= INLINE_BYTES:
            body.add(batch)
        else:
            running = body.start_adding(batch)
            await _finish(running)
    finally:
        # Cancelled or not: the threads use the file, and must be done before it is closed.
        if running:
            await asyncio.wait(running)
    return body.digest()


async def _finish(running: Sequence[asyncio.Future[None]]) -> None:
    """Wait without cancelling the futures, for their threads could not be stopped."""
    if running:
        await asyncio.wait(running)
    for future in running:
        future.result()


async def _next(source: ByteSource) -> bytes:
    while True:
        piece, ends_chunk = await source.readchunk()
        if piece or not ends_chunk or source.at_eof():
            return piece


async def receive_document(source: ByteSource, limit: int) -> bytes:
    """A whole small body in memory. Raises :class:`OssAnswerError` above ``limit`` bytes."""
    collected = bytearray()
    while chunk := await _next(source):
        collected += chunk
        if len(collected) > limit:
            raise OssAnswerError("EntityTooLarge", f"The request body exceeds {limit} bytes.")
    return bytes(collected)
