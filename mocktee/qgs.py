"""The host's Quote Generation Service: one message in, one message out. No sockets.

Source: Intel DCAP ``qgs_msg_lib/inc/qgs_msg_lib.h``. Used behind the socket of ``qgs_server``
and behind the quote ioctl of ``guest_device``, as on a real host.
"""

from __future__ import annotations

import struct
from typing import Final

from mocktee.pki import MockPki
from mocktee.quotes import build_quote_v4
from mocktee.td import TdState
from mocktee.tdreport import REPORT_BYTES, report_data_of

HEADER: Final = struct.Struct("<HHIII")  # major, minor, type, size, error code
SIZES: Final = struct.Struct("<II")
QUOTE_REQUEST: Final = 0
QUOTE_RESPONSE: Final = 1
ERROR_PARAMETER: Final = 0x12003
ERROR_VERSION: Final = 0x12004
ERROR_TYPE: Final = 0x12005
ERROR_SIZE: Final = 0x12006


class MockQgs:
    """Signs quotes of one TD under the mock authority."""

    def __init__(self, pki: MockPki, td: TdState) -> None:
        self._pki = pki
        self._td = td
        self.quotes_made = 0

    def quote(self, report: bytes) -> bytes | None:
        """The quote over a TDREPORT, None if that is not well-formed."""
        report_data = report_data_of(report)
        if report_data is None:
            return None
        self.quotes_made += 1
        return build_quote_v4(self._pki, report_data, self._td)

    def answer(self, message: bytes) -> bytes:
        """The response to a request; an error response to anything else."""
        if len(message) < HEADER.size:
            return _error(ERROR_SIZE)
        major, _minor, kind, size, _code = HEADER.unpack_from(message)
        if major != 1:
            return _error(ERROR_VERSION)
        if kind != QUOTE_REQUEST:
            return _error(ERROR_TYPE)
        if size != len(message) or size != HEADER.size + SIZES.size + REPORT_BYTES:
            return _error(ERROR_SIZE)
        quote = self.quote(message[HEADER.size + SIZES.size :])
        if SIZES.unpack_from(message, HEADER.size) != (REPORT_BYTES, 0) or quote is None:
            return _error(ERROR_PARAMETER)
        return response(SIZES.pack(0, len(quote)) + quote)


def response(body: bytes, code: int = 0) -> bytes:
    """A quote response around ``body``."""
    return HEADER.pack(1, 0, QUOTE_RESPONSE, HEADER.size + len(body), code) + body


def _error(code: int) -> bytes:
    return response(SIZES.pack(0, 0), code)
