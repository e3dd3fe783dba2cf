"""Messages of Intel's Quote Generation Service (QGS), and where a guest finds it. No I/O.

A frame is a big-endian length and one message, little-endian inside. The other side is the host:
every length is checked against the bytes that are there. Source: Intel DCAP
``qgs_msg_lib/inc/qgs_msg_lib.h`` and ``tdx_attest.c``.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from typing import Final

from tdx.errors import QgsAddressError, QgsProtocolError, QgsRefusedError
from tdx.tdreport import REPORT_BYTES

PREFIX_BYTES: Final = 4
HEADER: Final = struct.Struct("<HHIII")  # major, minor, type, size of the message, error code
SIZES: Final = struct.Struct("<II")
MAJOR: Final = 1
MINOR: Final = 0
QUOTE_REQUEST: Final = 0
QUOTE_RESPONSE: Final = 1
# The buffer of the reference client has 16 KiB, less 24 bytes of GET_QUOTE header and the prefix.
MAX_MESSAGE_BYTES: Final = 16 * 1024 - 24 - PREFIX_BYTES
ERROR_NAMES: Final = {
    0x12001: "unexpected",
    0x12002: "out of memory",
    0x12003: "invalid parameter",
    0x12004: "invalid version",
    0x12005: "invalid type",
    0x12006: "invalid size",
    0x12007: "invalid code",
}
HOST_CID: Final = 2
MAX_UNIX_PATH: Final = 107  # bytes, sun_path without its NUL
# scanf(" port = %10[0-9] %n") with nothing behind; other lines are ignored.
_PORT_LINE: Final = re.compile(r"\s*port\s*=\s*([0-9]{1,10})\s*", re.ASCII)


def encode_frame(message: bytes) -> bytes:
    """Return a message behind its length."""
    return len(message).to_bytes(PREFIX_BYTES, "big") + message


def frame_length(prefix: bytes) -> int:
    """Return the length in a prefix of 4 bytes. Raises :class:`QgsProtocolError`."""
    length = int.from_bytes(prefix, "big")
    if not HEADER.size <= length <= MAX_MESSAGE_BYTES:
        expected = f"{HEADER.size} to {MAX_MESSAGE_BYTES} bytes"
        raise QgsProtocolError("frame length", expected=expected, got=str(length))
    return length


def decode_frame(data: bytes) -> bytes:
    """Return the message of one whole frame. Raises :class:`QgsProtocolError`."""
    message = data[PREFIX_BYTES:]
    length = frame_length(data[:PREFIX_BYTES])
    if length != len(message):
        raise QgsProtocolError("frame", expected=f"{length} bytes", got=str(len(message)))
    return message


def encode_quote_request(tdreport: bytes) -> bytes:
    """Return the message that asks for a quote over a TDREPORT, with the service's own key."""
    if len(tdreport) != REPORT_BYTES:
        raise ValueError(f"a TDREPORT of {len(tdreport)} bytes, not {REPORT_BYTES}")
    body = SIZES.pack(REPORT_BYTES, 0) + tdreport
    return HEADER.pack(MAJOR, MINOR, QUOTE_REQUEST, HEADER.size + len(body), 0) + body


def decode_quote_response(message: bytes) -> bytes:
    """Return the quote in a response.

    Raises :class:`QgsRefusedError` for an error code, :class:`QgsProtocolError` for anything
    whose sizes do not fit exactly, and nothing else on any bytes.
    """
    if len(message) < HEADER.size:
        raise QgsProtocolError("message", expected=f">= {HEADER.size} bytes", got=str(len(message)))
    major, _minor, kind, size, code = HEADER.unpack_from(message)
    if major != MAJOR:
        raise QgsProtocolError("major version", expected=str(MAJOR), got=str(major))
    if kind != QUOTE_RESPONSE:
        raise QgsProtocolError("type", expected=f"{QUOTE_RESPONSE} (quote)", got=str(kind))
    if size != len(message):
        raise QgsProtocolError("size", expected=str(len(message)), got=str(size))
    if code:
        raise QgsRefusedError(code, ERROR_NAMES.get(code, "unknown"))
    if size < HEADER.size + SIZES.size:
        raise QgsProtocolError("sizes", expected=f"{SIZES.size} bytes", got="fewer")
    id_size, quote_size = SIZES.unpack_from(message, HEADER.size)
    start = HEADER.size + SIZES.size + id_size
    if start + quote_size != size:
        got = f"id of {id_size}, quote of {quote_size}"
        raise QgsProtocolError("inner sizes", expected=f"a sum of {size}", got=got)
    return message[start:]


def port_in_attest_conf(text: str) -> int | None:
    """Return the port of ``/etc/tdx-attest.conf``, or None: not configured.

    The first well-formed ``port = N`` counts, as for Intel's library; zero means none. Raises
    :class:`QgsAddressError` for a number that is no port.
    """
    for line in text.splitlines():
        found = _PORT_LINE.fullmatch(line)
        if found:
            port = int(found[1])
            if port >= 2**32:
                raise QgsAddressError(found[1], "not a vsock port")
            return port or None
    return None


@dataclass(frozen=True, slots=True)
class QgsAddress:
    """Where the service listens: CID and port of a vsock, or the path of a Unix socket."""

    target: tuple[int, int] | str

    @classmethod
    def parse(cls, text: str) -> QgsAddress:
        """Read ``vsock:CID:PORT`` or ``unix:/path``. Raises :class:`QgsAddressError`."""
        scheme, _, rest = text.partition(":")
        if scheme == "unix" and rest.startswith("/") and len(rest.encode()) <= MAX_UNIX_PATH:
            return cls(rest)
        cid, _, port = rest.partition(":")
        if scheme == "vsock" and _is_u32(cid) and _is_u32(port):
            return cls((int(cid), int(port)))
        raise QgsAddressError(text, "expected vsock:CID:PORT or unix:/path")

    def __str__(self) -> str:
        if isinstance(self.target, str):
            return f"unix:{self.target}"
        return f"vsock:{self.target[0]}:{self.target[1]}"


def _is_u32(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) <= 10 and int(text) < 2**32
