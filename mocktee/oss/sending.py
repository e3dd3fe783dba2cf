"""Object bodies out of files: sendfile where the transport has it, large reads where not.

Also carries out the faults that act on an answer's body.
"""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass
from typing import BinaryIO, Final

from aiohttp import web

from mocktee.oss.faults import Fault, FaultKind, first
from mocktee.oss.ranges import ByteRange

FIRST_BYTES: Final = 256 << 10  # goes out in one piece with the headers
CHUNK_BYTES: Final = 1 << 20
PACED_BYTES: Final = 16 << 10


class AnswerCutError(ConnectionError):
    """The connection was dropped on purpose; the answer is over."""


@dataclass(frozen=True, slots=True)
class BodyFaults:
    """What goes wrong inside the body; offsets count from the first byte sent."""

    cut_at: int | None = None
    corrupt_at: int | None = None
    bytes_per_second: int | None = None
    delta: int = 0

    @classmethod
    def of(cls, faults: list[Fault]) -> BodyFaults:
        cut = first(faults, FaultKind.CUT)
        corrupt = first(faults, FaultKind.CORRUPT)
        slow = first(faults, FaultKind.BANDWIDTH)
        length = first(faults, FaultKind.WRONG_LENGTH)
        return cls(
            cut_at=cut.at if cut else None,
            corrupt_at=corrupt.at if corrupt else None,
            bytes_per_second=slow.bytes_per_second if slow else None,
            delta=length.delta if length else 0,
        )

    @property
    def any(self) -> bool:
        return self != BodyFaults()


async def send_file(
    request: web.BaseRequest, response: web.StreamResponse, file: BinaryIO, wanted: ByteRange
) -> None:
    """Send the ``wanted`` bytes; the response is prepared here and ended here."""
    await response.prepare(request)
    head = os.pread(file.fileno(), min(wanted.length, FIRST_BYTES), wanted.start)
    await response.write(head)
    sent = len(head)
    if sent < wanted.length:
        await _send_rest(request, response, file, wanted.start + sent, wanted.length - sent)
    await response.write_eof()


async def _send_rest(
    request: web.BaseRequest,
    response: web.StreamResponse,
    file: BinaryIO,
    start: int,
    length: int,
) -> None:
    transport = request.transport
    if transport is None:
        raise ConnectionResetError("client went away")
    loop = asyncio.get_running_loop()
    if transport.get_extra_info("sslcontext") is None:
        try:
            await loop.sendfile(transport, file, start, length, fallback=False)
        except NotImplementedError:  # a loop without sendfile, such as uvloop
            pass
        else:
            return
    while length > 0:
        chunk = os.pread(file.fileno(), min(length, CHUNK_BYTES), start)
        await response.write(chunk)
        start, length = start + len(chunk), length - len(chunk)


async def send_faulty(
    request: web.BaseRequest,
    response: web.StreamResponse,
    file: BinaryIO,
    wanted: ByteRange,
    faults: BodyFaults,
) -> None:
    """As :func:`send_file`, chunk by chunk. Raises :class:`AnswerCutError` after a cut."""
    start, length = wanted.start, wanted.length
    announced = max(0, length + faults.delta)
    response.content_length = announced
    await response.prepare(request)
    await response.write(b"")
    sent = 0
    while sent < announced:
        step = min(PACED_BYTES, announced - sent)
        if faults.cut_at is not None:
            step = min(step, faults.cut_at - sent)
            if step <= 0:
                break
        chunk = bytearray(os.pread(file.fileno(), min(step, max(0, length - sent)), start + sent))
        chunk += bytes(step - len(chunk))  # beyond the real body: zeros
        if faults.corrupt_at is not None and sent <= faults.corrupt_at < sent + step:
            chunk[faults.corrupt_at - sent] ^= 0xFF
        await response.write(bytes(chunk))
        sent += step
        if faults.bytes_per_second is not None:
            await asyncio.sleep(step / faults.bytes_per_second)
    if faults.cut_at is not None:
        drop(request)
    await response.write_eof()


def drop(request: web.BaseRequest) -> None:
    """Close the connection without another byte. Always raises :class:`AnswerCutError`."""
    if request.transport is not None:
        request.transport.close()  # what was written still goes out, then FIN
    raise AnswerCutError("answer cut on purpose")
