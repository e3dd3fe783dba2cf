"""Frames: ten bytes of header, then data. Bytes in any split become frames; no I/O.

Source: containerd/ttrpc PROTOCOL.md, ttrpc-rust 0.9 src/proto.rs. Owns the header and the size
limit. What the data means is the business of :mod:`ttrpc.messages`.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum, IntFlag
from typing import Final

from ttrpc.errors import MessageTooLargeError

MAX_DATA_BYTES: Final = 4 * 1024 * 1024  # the header is not counted; exactly this much is allowed
MAX_STREAM_ID: Final = 0xFFFF_FFFF

_HEADER: Final = struct.Struct(">IIBB")  # data length, stream id, type, flags; big-endian
HEADER_BYTES: Final = _HEADER.size


class FrameType(IntEnum):
    """What the data of a frame is."""

    REQUEST = 1
    RESPONSE = 2
    DATA = 3


class FrameFlags(IntFlag):
    """Bits of streaming calls; a unary exchange has none of them set."""

    REMOTE_CLOSED = 1  # the sender sends no more on this stream
    REMOTE_OPEN = 2  # the sender will send more
    NO_DATA = 4  # the frame carries no message


# The same as plain numbers, because arithmetic on IntFlag is slow.
REMOTE_CLOSED: Final = int(FrameFlags.REMOTE_CLOSED)
REMOTE_OPEN: Final = int(FrameFlags.REMOTE_OPEN)
NO_DATA: Final = int(FrameFlags.NO_DATA)
STREAM_END: Final = REMOTE_CLOSED | NO_DATA  # of a Data frame that ends one direction


@dataclass(slots=True)
class Frame:
    """One frame as received. ``type`` and ``flags`` are raw: a peer may send numbers unknown here.

    Not frozen for speed only (a frozen one costs three times as much to make); nobody changes it.
    """

    stream_id: int
    type: int
    flags: int
    data: bytes


@dataclass(frozen=True, slots=True)
class OversizedFrame:
    """A frame announced more than :data:`MAX_DATA_BYTES`; its data has been read and dropped."""

    stream_id: int
    type: int
    length: int


def encode_frame(stream_id: int, frame_type: FrameType, data: bytes, flags: int = 0) -> bytes:
    """Return header and data as one piece.

    Raises :class:`MessageTooLargeError` if ``data`` is longer than a frame may carry.
    """
    if len(data) > MAX_DATA_BYTES:
        raise MessageTooLargeError(len(data), MAX_DATA_BYTES)
    return _HEADER.pack(len(data), stream_id, frame_type, flags) + data


class FrameDecoder:
    """Turns a byte stream into frames, whatever pieces it arrives in.

    The Rust writer sends header and data in separate writes, so no piece can be assumed whole. No
    input is an error at this level. An oversized frame is skipped without being stored, so at most
    one frame and what was fed since is held in memory.
    """

    __slots__ = ("_buffer", "_oversized", "_position", "_skip")

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._position = 0  # bytes of the buffer already given out
        self._skip = 0  # bytes still to drop of an oversized frame
        self._oversized: OversizedFrame | None = None

    def feed(self, data: bytes) -> None:
        """Append what arrived."""
        if self._position:
            del self._buffer[: self._position]
            self._position = 0
        self._buffer += data

    @property
    def held(self) -> int:
        """How many bytes wait here, of a frame that is incomplete or not yet asked for."""
        return len(self._buffer) - self._position

    @property
    def is_inside_frame(self) -> bool:
        """Whether part of a frame has arrived; asked when :meth:`next_frame` gave ``None``."""
        return self._skip > 0 or len(self._buffer) > self._position

    def next_frame(self) -> Frame | OversizedFrame | None:
        """Return the next complete frame, or ``None`` until more has been fed."""
        if self._oversized is not None:
            return self._drop(self._oversized)
        start = self._position + HEADER_BYTES
        if len(self._buffer) < start:
            if self._position == len(self._buffer):
                # An idle connection must not keep the memory of its longest message.
                self._buffer.clear()
                self._position = 0
            return None
        length, stream_id, frame_type, flags = _HEADER.unpack_from(self._buffer, self._position)
        if length > MAX_DATA_BYTES:
            self._position = start
            self._skip = length
            self._oversized = OversizedFrame(stream_id, frame_type, length)
            return self._drop(self._oversized)
        end = start + length
        if len(self._buffer) < end:
            return None
        # Through a view, because slicing the bytearray itself would copy the data twice.
        with memoryview(self._buffer) as view:
            data = bytes(view[start:end])
        self._position = end
        return Frame(stream_id, frame_type, flags, data)

    def _drop(self, oversized: OversizedFrame) -> OversizedFrame | None:
        dropped = min(self._skip, len(self._buffer) - self._position)
        self._position += dropped
        self._skip -= dropped
        if self._skip:
            return None
        self._oversized = None
        return oversized
