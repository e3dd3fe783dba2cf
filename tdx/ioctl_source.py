"""Quotes by the GET_QUOTE ioctl of vendor kernels, for guests of 2023.

The buffer is the one of the Guest-Host Communication Interface: version, status, lengths, data.
In the vendor trees the data is a frame of the Quote Generation Service, in the first trees the
bare TDREPORT one way and the bare quote the other. Source: Intel DCAP ``tdx_attest.c``,
go-tdx-guest ``client/client_linux.go``, GHCI specification (TDG.VP.VMCALL<GetQuote>).
"""

from __future__ import annotations

import struct
from typing import Final

from tdx.errno_meaning import device_error
from tdx.errors import DeviceBusyError, DeviceHostError
from tdx.guest_device import DeviceAbi, VendorDevice, fresh_report
from tdx.qgs import decode_frame, decode_quote_response, encode_frame, encode_quote_request
from tdx.quote import Quote
from tdx.quote_source import bound_quote
from tdx.report_data import ReportData

BUFFER_BYTES: Final = 16 * 1024
BUFFER_HEADER: Final = struct.Struct("<QQII")  # version, status, in_len, out_len
BUFFER_VERSION: Final = 1
STATUS_DONE: Final = 0
STATUS_IN_FLIGHT: Final = 0xFFFFFFFFFFFFFFFF
STATUS_TEXTS: Final = {
    0x8000000000000000: "the host reported an error",
    0x8000000000000001: "the host's quote generation service is not available",
}
ATTEMPTED: Final = "take a quote from"


class IoctlQuoteSource:
    """Implements :class:`~tdx.quote_source.QuoteSource` on a device of a named ABI."""

    def __init__(self, device: VendorDevice) -> None:
        self._device = device

    def describe(self) -> str:
        return self._device.describe()

    def take(self, report_data: ReportData) -> Quote:
        """See :class:`~tdx.quote_source.QuoteSource`. The kernel bounds the wait."""
        raw, _ = fresh_report(self._device, report_data)
        if self._device.abi is DeviceAbi.TDX_1_0:
            return bound_quote(self._ask(raw), report_data)
        answer = decode_frame(self._ask(encode_frame(encode_quote_request(raw))))
        return bound_quote(decode_quote_response(answer), report_data)

    def _ask(self, data: bytes) -> bytes:
        buffer = bytearray(BUFFER_BYTES)
        BUFFER_HEADER.pack_into(buffer, 0, BUFFER_VERSION, STATUS_DONE, len(data), 0)
        buffer[BUFFER_HEADER.size : BUFFER_HEADER.size + len(data)] = data
        try:
            self._device.get_quote(buffer)
        except OSError as error:
            raise device_error(ATTEMPTED, self.describe(), error) from error
        return self._answer(buffer)

    def _answer(self, buffer: bytearray) -> bytes:
        """Return ``out_len`` bytes of data. The host wrote header and data: both are judged."""
        _version, status, _in_len, size = BUFFER_HEADER.unpack_from(buffer)
        if status == STATUS_IN_FLIGHT:
            raise DeviceBusyError(ATTEMPTED, self.describe(), "the request is still in flight")
        if status != STATUS_DONE:
            problem = STATUS_TEXTS.get(status, f"the host answered with status {status:#x}")
            raise DeviceHostError(ATTEMPTED, self.describe(), problem)
        limit = BUFFER_BYTES - BUFFER_HEADER.size
        if not 0 < size <= limit:
            problem = f"expected 1 to {limit} bytes from the host, got {size}"
            raise DeviceHostError(ATTEMPTED, self.describe(), problem)
        return bytes(buffer[BUFFER_HEADER.size : BUFFER_HEADER.size + size])
