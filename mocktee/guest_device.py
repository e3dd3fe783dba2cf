"""The TDX guest device at the level of ``ioctl``: a stand-in for ``fcntl.ioctl`` itself.

FUSE cannot serve ioctl to a file system of this kind, so no node appears anywhere: the code under
test opens any character device and gets this function for the system call. Numbers, directions
and sizes are judged as the drivers do. Source: Linux drivers/virt/coco/tdx-guest/tdx-guest.c;
for vendor kernels Intel DCAP ``tdx_attest.c`` and go-tdx-guest ``client/linuxabi``.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from collections import deque
from enum import StrEnum
from typing import Final

from mocktee.qgs import MockQgs
from mocktee.td import TdState
from mocktee.tdreport import REPORT_BYTES, REPORT_DATA_BYTES, build_tdreport

BUFFER_HEADER: Final = struct.Struct("<QQII")  # version, status, in_len, out_len
IN_FLIGHT: Final = 0xFFFFFFFFFFFFFFFF
HOST_ERROR: Final = 0x8000000000000000
UNAVAILABLE: Final = 0x8000000000000001


class GuestKernel(StrEnum):
    """Whose driver is played, by the commands it has."""

    MAINLINE = "mainline"
    VENDOR = "vendor"
    VENDOR_V3 = "vendor-v3"
    TDX_1_0 = "tdx-1.0"


GET_REPORT: Final = 0xC4405401
EXTEND: Final = {GuestKernel.VENDOR: 0x80315403, GuestKernel.VENDOR_V3: 0x40315403}
GET_QUOTE: Final = {
    GuestKernel.VENDOR: 0x80105404,
    GuestKernel.VENDOR_V3: 0xC0105404,
    GuestKernel.TDX_1_0: 0xC0105402,
}


class MockGuestDevice:
    """One TD's device. :meth:`ioctl` has the signature of ``fcntl.ioctl``.

    ``errnos`` fail the next calls, ``statuses`` are what the host writes instead of an answer,
    ``results`` what the call returns without failing, as vendor drivers do with EBUSY, and
    ``sizes`` replaces the size that the host claims for its answer.
    """

    def __init__(self, td: TdState, qgs: MockQgs, kernel: GuestKernel) -> None:
        self.td = td
        self.kernel = kernel
        self._qgs = qgs
        self.errnos: deque[int] = deque()
        self.statuses: deque[int] = deque()
        self.results: deque[int] = deque()
        self.sizes: deque[int] = deque()

    def ioctl(self, fd: int, request: int, argument: bytearray, mutate_flag: bool = True) -> int:
        """Do the command in place. Raises ``OSError``; ENOTTY for a number it does not have."""
        os.fstat(fd)  # EBADF, as the system call would
        if not mutate_flag:
            raise ValueError("a structure that is answered in place needs mutate_flag")
        if self.errnos:
            _fail(self.errnos.popleft())
        if request == GET_REPORT:
            self._report(argument)
        elif request == EXTEND.get(self.kernel):
            self._extend(argument)
        elif request == GET_QUOTE.get(self.kernel):
            return self._quote(argument)
        else:
            _fail(errno.ENOTTY)
        return 0

    def _report(self, argument: bytearray) -> None:
        if len(argument) != REPORT_DATA_BYTES + REPORT_BYTES:
            _fail(errno.EFAULT)
        report = build_tdreport(self.td, bytes(argument[:REPORT_DATA_BYTES]))
        argument[REPORT_DATA_BYTES:] = report

    def _extend(self, argument: bytearray) -> None:
        if len(argument) != 49:
            _fail(errno.EFAULT)
        if argument[48] < 2:
            _fail(errno.EPERM)
        if argument[48] > 3:
            _fail(errno.EINVAL)
        self.td.extend(argument[48], bytes(argument[:48]))

    def _quote(self, argument: bytearray) -> int:
        if self.results:
            return self.results.popleft()
        address, length = struct.unpack("<QQ", argument)
        memory = (ctypes.c_char * length).from_address(address)
        buffer = memoryview(memory).cast("B")
        version, _, in_len, _ = BUFFER_HEADER.unpack_from(buffer)
        if version != 1 or not 0 < in_len <= length - BUFFER_HEADER.size:
            _fail(errno.EINVAL)
        data = bytes(buffer[BUFFER_HEADER.size : BUFFER_HEADER.size + in_len])
        status = self.statuses.popleft() if self.statuses else 0
        answer = b"" if status else self._host(data)
        if answer is None:
            status, answer = HOST_ERROR, b""
        size = self.sizes.popleft() if self.sizes else len(answer)
        BUFFER_HEADER.pack_into(buffer, 0, version, status, in_len, size)
        buffer[BUFFER_HEADER.size : BUFFER_HEADER.size + len(answer)] = answer
        return 0

    def _host(self, data: bytes) -> bytes | None:
        if self.kernel is GuestKernel.TDX_1_0:
            return self._qgs.quote(data)
        if int.from_bytes(data[:4], "big") != len(data) - 4:
            return None
        answer = self._qgs.answer(data[4:])
        return len(answer).to_bytes(4, "big") + answer


def _fail(code: int) -> None:
    raise OSError(code, os.strerror(code))
