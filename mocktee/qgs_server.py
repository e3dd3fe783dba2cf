"""The Quote Generation Service on a Unix socket, where the real one listens on vsock port 4050.

A stand-in at port level: framing, one message for each connection and more, and the ways in which
such a peer can go wrong.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from enum import StrEnum
from pathlib import Path
from typing import Final, Self

from mocktee.qgs import HEADER, SIZES, MockQgs, response

PREFIX_BYTES: Final = 4
MAX_FRAME: Final = 64 * 1024


class QgsFault(StrEnum):
    """What the next connection gets instead of a good answer."""

    CLOSED = "closed"  # nothing, then the end
    HALF_PREFIX = "half_prefix"  # two bytes of the length, then the end
    HALF_ANSWER = "half_answer"  # half of the message, then the end
    TRICKLE = "trickle"  # the good answer, a byte at a time at first
    SILENT = "silent"  # the connection stays open without an answer
    HUGE = "huge"  # a length of 4 GiB
    ZERO = "zero"  # a length of zero
    ERROR_CODE = "error_code"  # an orderly refusal
    UNKNOWN_CODE = "unknown_code"
    WRONG_MAJOR = "wrong_major"
    WRONG_TYPE = "wrong_type"
    WRONG_SIZE = "wrong_size"  # the header's size is one more than the frame
    WRONG_INNER = "wrong_inner"  # the quote's size is one more than what is there
    WITH_ID = "with_id"  # a good answer with a selected id of 16 bytes
    EMPTY_QUOTE = "empty_quote"
    OTHER_REPORT_DATA = "other_report_data"  # the quote of somebody else's report


class MockQgsServer:
    """A listening service. ``faults`` are used up one for each connection."""

    def __init__(self, path: Path, qgs: MockQgs) -> None:
        self.path = path
        self.qgs = qgs
        self.faults: deque[QgsFault] = deque()
        self.other_quote = b""  # what OTHER_REPORT_DATA sends
        self.connections = 0

    @classmethod
    @asynccontextmanager
    async def start(cls, path: Path, qgs: MockQgs) -> AsyncIterator[Self]:
        """Listen for the duration of the block; open connections end with it."""
        server = cls(path, qgs)
        tasks: set[asyncio.Task[None]] = set()

        def accepted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.get_running_loop().create_task(server._serve(reader, writer))
            tasks.add(task)
            task.add_done_callback(tasks.discard)

        listening = await asyncio.start_unix_server(accepted, str(path))
        try:
            yield server
        finally:
            listening.close()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await listening.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        fault = self.faults.popleft() if self.faults else None
        try:
            with suppress(asyncio.IncompleteReadError, ConnectionError):
                while True:
                    length = int.from_bytes(await reader.readexactly(PREFIX_BYTES), "big")
                    if length > MAX_FRAME:
                        return
                    answer = self.qgs.answer(await reader.readexactly(length))
                    if not await self._send(writer, fault, answer):
                        return
        finally:
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()

    async def _send(
        self, writer: asyncio.StreamWriter, fault: QgsFault | None, answer: bytes
    ) -> bool:
        """Send what the fault makes of a good answer. False: the connection ends."""
        if fault is QgsFault.SILENT:
            await asyncio.get_running_loop().create_future()
        data = _frame(self._altered(fault, answer))
        match fault:
            case QgsFault.CLOSED:
                return False
            case QgsFault.HALF_PREFIX:
                data = data[:2]
            case QgsFault.HALF_ANSWER:
                data = data[: len(data) // 2]
            case QgsFault.HUGE:
                data = b"\xff" * PREFIX_BYTES
            case QgsFault.ZERO:
                data = bytes(PREFIX_BYTES)
            case QgsFault.TRICKLE:
                for index in range(40):
                    writer.write(data[index : index + 1])
                    await writer.drain()
                    await asyncio.sleep(0)
                data = data[40:]
            case _:
                pass
        writer.write(data)
        await writer.drain()
        return fault in {None, QgsFault.TRICKLE, QgsFault.WITH_ID}

    def _altered(self, fault: QgsFault | None, answer: bytes) -> bytes:
        quote = answer[HEADER.size + SIZES.size :]
        size = len(quote)
        other = self.other_quote
        altered = {
            QgsFault.ERROR_CODE: response(SIZES.pack(0, 0), 0x12002),
            QgsFault.UNKNOWN_CODE: response(b"", 0xDEAD),
            QgsFault.WRONG_MAJOR: b"\2" + answer[1:],
            QgsFault.WRONG_TYPE: answer[:4] + (3).to_bytes(4, "little") + answer[8:],
            QgsFault.WRONG_SIZE: answer[:8] + (len(answer) + 1).to_bytes(4, "little") + answer[12:],
            QgsFault.WRONG_INNER: response(SIZES.pack(0, size + 1) + quote),
            QgsFault.WITH_ID: response(SIZES.pack(16, size) + bytes(16) + quote),
            QgsFault.EMPTY_QUOTE: response(SIZES.pack(0, 0)),
            QgsFault.OTHER_REPORT_DATA: response(SIZES.pack(0, len(other)) + other),
        }
        return answer if fault is None else altered.get(fault, answer)


def _frame(message: bytes) -> bytes:
    return len(message).to_bytes(PREFIX_BYTES, "big") + message
