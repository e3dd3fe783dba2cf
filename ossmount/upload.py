"""A file written in sequence, uploaded while it is being written, in bounded memory.

Data fills a part; a full part goes out while the next one fills, a few at a time. Parts grow with
the file, so that 10,000 of them reach further. Every part's CRC-64 is checked by itself, and their
combination against that of the finished object. The first failure ends the upload.
"""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from ossmount.crc64 import combine, crc64
from ossmount.errors import FileError, OssMountError, UploadFailedError
from ossmount.memory import MIB, MemoryBudget
from ossmount.multipart import MAX_COPY_PART, MAX_PARTS, Upload
from ossmount.objects import ObjectVersion

PART: Final = 8 * MIB
PARTS_PER_STEP: Final = 1000  # after so many parts, the next ones are one PART larger
PARTS_IN_FLIGHT: Final = 4
COPIES_IN_FLIGHT: Final = 4


class UploadApi(Protocol):
    """The multipart calls used here; :class:`ossmount.multipart.MultipartApi` in a mount."""

    async def initiate(self, key: str, headers: Mapping[str, str]) -> Upload: ...

    async def put_part(self, upload: Upload, number: int, content: memoryview, crc: int) -> str: ...

    async def copy_part(
        self, upload: Upload, number: int, version: ObjectVersion, start: int, length: int
    ) -> str: ...

    async def complete(
        self, upload: Upload, etags: Sequence[tuple[int, str]], *, size: int, crc: int | None
    ) -> ObjectVersion: ...

    async def abort(self, upload: Upload) -> None: ...


@dataclass(frozen=True, slots=True)
class PartSizes:
    """How large part N is. Bounded by the memory share, so that two parts always fit."""

    budget: int

    def of(self, number: int) -> int:
        """Return the size of part ``number`` (from 1) in bytes."""
        wanted = PART * (1 + (number - 1) // PARTS_PER_STEP)
        return min(wanted, max(MIB, self.budget // 2))


class StreamUpload:
    """One upload in progress. Used by one writer at a time."""

    def __init__(
        self, api: UploadApi, key: str, headers: Mapping[str, str], budget: MemoryBudget
    ) -> None:
        self.size = 0
        self._api = api
        self._key = key
        self._headers = headers
        self._budget = budget
        self._sizes = PartSizes(budget.total)
        self._upload: Upload | None = None
        self._number = 0  # of the part being filled; also how many were begun
        self._part: bytearray | None = None
        self._filled = 0
        self._etags: dict[int, str] = {}
        self._crc: int | None = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._slots = asyncio.Semaphore(PARTS_IN_FLIGHT)
        self._error: OssMountError | None = None

    async def begin_with(self, version: ObjectVersion, length: int) -> None:
        """Take the first ``length`` bytes from the present object, copied by the server.

        Must be the first call. Raises :class:`~ossmount.errors.OssError`.
        """
        upload = await self._opened()
        count = -(-length // MAX_COPY_PART)
        step = -(-length // count)  # even pieces, so that none falls below the minimum size
        limit = asyncio.Semaphore(COPIES_IN_FLIGHT)

        async def copy(number: int, start: int) -> None:
            async with limit:
                self._etags[number] = await self._api.copy_part(
                    upload, number, version, start, min(step, length - start)
                )

        try:
            async with asyncio.TaskGroup() as group:
                for index in range(count):
                    group.create_task(copy(index + 1, index * step))
        except* OssMountError as errors:
            raise _first(errors) from errors
        self._number = count
        self.size = length
        self._crc = version.crc if length == version.size else None

    async def append(self, data: bytes | memoryview) -> None:
        """Add data at the end. Waits while too many parts are on their way.

        Raises :class:`UploadFailedError` once any part failed, and EFBIG past the last part.
        """
        view = memoryview(data)
        while view:
            self._raise_failure()
            if self._part is None:
                await self._next_part()
                continue
            taken = min(len(self._part) - self._filled, len(view))
            self._part[self._filled : self._filled + taken] = view[:taken]
            self._filled += taken
            self.size += taken
            view = view[taken:]
            if self._filled == len(self._part):
                await self._send_part()

    async def _opened(self) -> Upload:
        if self._upload is None:
            self._upload = await self._api.initiate(self._key, self._headers)
        return self._upload

    async def _next_part(self) -> None:
        await self._opened()
        if self._number >= MAX_PARTS:
            raise FileError(errno.EFBIG, "write", f"more than {MAX_PARTS} parts")
        size = self._sizes.of(self._number + 1)
        # Every part on its way drains or fails within its deadline, so this wait ends.
        await self._budget.acquire(size)
        self._number += 1
        self._part = bytearray(size)
        self._filled = 0

    async def _send_part(self) -> None:
        await self._slots.acquire()
        part, number, filled = self._part, self._number, self._filled
        if part is None:
            raise RuntimeError("no part to send")
        self._part = None
        crc = crc64(memoryview(part)[:filled])
        if self._crc is not None:
            self._crc = combine(self._crc, crc, filled)
        # Awaited by finish() or abort().
        task = asyncio.create_task(self._deliver(number, memoryview(part)[:filled], crc))
        self._tasks.add(task)
        size = len(part)

        def delivered(done: asyncio.Task[None]) -> None:
            # A callback, not "finally": a task cancelled before its first step runs neither.
            self._tasks.discard(done)
            self._slots.release()
            self._budget.release(size)

        task.add_done_callback(delivered)

    async def _deliver(self, number: int, content: memoryview, crc: int) -> None:
        try:
            upload = await self._opened()
            self._etags[number] = await self._api.put_part(upload, number, content, crc)
        except OssMountError as error:
            self._error = self._error or error

    def _raise_failure(self) -> None:
        if self._error is not None:
            raise UploadFailedError(errno.EIO, "write", "a part was not stored") from self._error

    async def finish(self) -> ObjectVersion:
        """Send what is left, complete the upload and return the new version.

        Raises :class:`UploadFailedError` or an :class:`~ossmount.errors.OssError`; the caller
        then calls :meth:`abort`.
        """
        if self._part is not None:
            await self._send_part()
        while self._tasks:
            await asyncio.wait(self._tasks)
        self._raise_failure()
        upload = await self._opened()
        version = await self._api.complete(
            upload, sorted(self._etags.items()), size=self.size, crc=self._crc
        )
        self._upload = None
        return version

    async def abort(self) -> None:
        """End the upload and drop its parts at the server. Idempotent."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._part is not None:
            self._budget.release(len(self._part))
            self._part = None
        upload, self._upload = self._upload, None
        self._error = self._error or UploadFailedError(errno.EIO, "write", "aborted")
        if upload is not None:
            await self._api.abort(upload)


def _first(group: BaseExceptionGroup[OssMountError]) -> OssMountError:
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    if not isinstance(error, OssMountError):
        raise TypeError("a group of our errors holds another one") from error
    return error
