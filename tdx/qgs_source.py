"""Quotes from the host's Quote Generation Service over a socket, for guests without configfs-tsm.

The TDREPORT comes from the guest device, the quote over AF_VSOCK; a Unix socket stands in where
there is no vsock. Exact reads, one deadline for the whole exchange, bounded sizes. Source: Intel
DCAP ``tdx_attest.c``.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from typing import Final

from tdx.errors import QgsProtocolError, QgsTimeoutError, QgsUnreachableError, errno_text
from tdx.guest_device import TdReportDevice, fresh_report
from tdx.qgs import (
    PREFIX_BYTES,
    QgsAddress,
    decode_quote_response,
    encode_frame,
    encode_quote_request,
    frame_length,
)
from tdx.quote import Quote
from tdx.quote_source import bound_quote
from tdx.report_data import ReportData

EXCHANGE_SECONDS: Final = 30.0  # what the kernel grants the same service


class QgsQuoteSource:
    """Implements :class:`~tdx.quote_source.QuoteSource`: one connection for each quote."""

    def __init__(
        self,
        device: TdReportDevice,
        address: QgsAddress,
        *,
        seconds: float = EXCHANGE_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._device = device
        self._address = address
        self._seconds = seconds
        self._clock = clock

    def describe(self) -> str:
        return str(self._address)

    def take(self, report_data: ReportData) -> Quote:
        """See :class:`~tdx.quote_source.QuoteSource`. Gives up after the configured seconds."""
        raw, _ = fresh_report(self._device, report_data)
        message = self._exchange(encode_quote_request(raw))
        return bound_quote(decode_quote_response(message), report_data)

    def _exchange(self, message: bytes) -> bytes:
        deadline = self._clock() + self._seconds
        try:
            with _connected(self._address, self._seconds) as sock:
                sock.settimeout(self._left(deadline))
                sock.sendall(encode_frame(message))
                length = frame_length(self._receive(sock, PREFIX_BYTES, deadline))
                return self._receive(sock, length, deadline)
        except TimeoutError as error:
            raise QgsTimeoutError(str(self._address), self._seconds) from error
        except OSError as error:
            problem = errno_text(error.errno or 0)
            raise QgsUnreachableError(str(self._address), problem) from error

    def _receive(self, sock: socket.socket, size: int, deadline: float) -> bytes:
        """Return exactly ``size`` bytes; an early end is an error and never waited for again."""
        content = bytearray()
        while len(content) < size:
            sock.settimeout(self._left(deadline))
            chunk = sock.recv(size - len(content))
            if not chunk:
                got = f"the end after {len(content)}"
                raise QgsProtocolError("answer", expected=f"{size} bytes", got=got)
            content += chunk
        return bytes(content)

    def _left(self, deadline: float) -> float:
        left = deadline - self._clock()
        if left <= 0:  # zero would make the socket non-blocking
            raise TimeoutError
        return left


def _connected(address: QgsAddress, seconds: float) -> socket.socket:
    unix = isinstance(address.target, str)
    sock = socket.socket(socket.AF_UNIX if unix else socket.AF_VSOCK, socket.SOCK_STREAM)
    try:
        sock.settimeout(seconds)
        sock.connect(address.target)
    except BaseException:  # cleaned up and passed on, cancellation included
        sock.close()
        raise
    return sock
