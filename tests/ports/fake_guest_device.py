"""An in-memory guest device: a small second implementation of the port, without ioctl numbers."""

from __future__ import annotations

import errno
import hashlib
import os
from dataclasses import dataclass, field

from tdx.guest_device import DeviceAbi
from tests.ports.fake_tsm import formed_quote

GIVES_QUOTES = (DeviceAbi.VENDOR, DeviceAbi.VENDOR_V3, DeviceAbi.TDX_1_0)
EXTENDS = (DeviceAbi.VENDOR, DeviceAbi.VENDOR_V3)
HEADER_BYTES = 24


def formed_report(report_data: bytes, *, config_id: bytes, rtmrs: list[bytes]) -> bytes:
    """A TDREPORT whose two hashes hold."""
    tcb_info = (0x1FF).to_bytes(8, "little") + bytes(231)
    td_info = bytes(64) + config_id + bytes(96) + b"".join(rtmrs) + bytes(112)
    head = b"\x81" + bytes(15 + 16)
    head += hashlib.sha384(tcb_info).digest() + hashlib.sha384(td_info).digest()
    return head + report_data + bytes(64) + tcb_info + bytes(17) + td_info


@dataclass
class FakeGuestDevice:
    """Answers like a kernel of ``abi``; ``errnos`` fail the next calls."""

    abi: DeviceAbi = DeviceAbi.MAINLINE
    config_id: bytes = bytes(48)
    rtmrs: list[bytes] = field(default_factory=lambda: [bytes(48)] * 4)
    errnos: list[int] = field(default_factory=list)
    report_data: bytes | None = None  # put into reports instead of what was asked for

    def describe(self) -> str:
        return "/fake/tdx_guest"

    def td_report(self, report_data: bytes) -> bytes:
        if len(report_data) != 64:
            raise ValueError(len(report_data))
        self._fail()
        shown = self.report_data or report_data
        return formed_report(shown, config_id=self.config_id, rtmrs=self.rtmrs)

    def extend_rtmr(self, rtmr: int, digest: bytes) -> None:
        if len(digest) != 48:
            raise ValueError(len(digest))
        self._fail(None if self.abi in EXTENDS else errno.ENOTTY)
        self._fail(errno.EPERM if rtmr < 2 else None)
        self.rtmrs[rtmr] = hashlib.sha384(self.rtmrs[rtmr] + digest).digest()

    def get_quote(self, buffer: bytearray) -> None:
        self._fail(None if self.abi in GIVES_QUOTES else errno.ENOTTY)
        data = buffer[HEADER_BYTES:]
        report = bytes(data[:1024] if self.abi is DeviceAbi.TDX_1_0 else data[28 : 28 + 1024])
        answer = formed_quote(report[128:192], tuple(self.rtmrs))
        if self.abi is not DeviceAbi.TDX_1_0:
            size = 24 + len(answer)
            head = b"\1\0\0\0" + (1).to_bytes(4, "little") + size.to_bytes(4, "little") + bytes(8)
            answer = size.to_bytes(4, "big") + head + len(answer).to_bytes(4, "little") + answer
        buffer[8:16] = bytes(8)
        buffer[20:24] = len(answer).to_bytes(4, "little")
        buffer[HEADER_BYTES : HEADER_BYTES + len(answer)] = answer

    def _fail(self, code: int | None = None) -> None:
        if code is None and self.errnos:
            code = self.errnos.pop(0)
        if code is not None:
            raise OSError(code, os.strerror(code))
