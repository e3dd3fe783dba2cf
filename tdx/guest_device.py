"""The TDX guest device: a TDREPORT from every kernel, more by ioctl from kernels of 2023.

Mainline has one command, at every version: the TDREPORT. Extending an RTMR and taking a quote by
ioctl exist in vendor kernels only, under numbers that clash with each other, so they are used
when configuration names the kernel's ABI and never tried out. Source: Linux
include/uapi/linux/tdx-guest.h; Intel DCAP ``tdx_attest.c``; go-tdx-guest ``client/linuxabi``.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import stat
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final, Protocol

from tdx.errno_meaning import device_error
from tdx.errors import DeviceAbsentError, GuestDeviceError
from tdx.report_data import REPORT_DATA_BYTES, ReportData
from tdx.tdreport import REPORT_BYTES, TdReport, parse_tdreport

# Mainline since 6.2, then the names of vendor kernels of 2023 and 2022.
DEVICE_PATHS: Final = (
    Path("/dev/tdx_guest"),
    Path("/dev/tdx-guest"),
    Path("/dev/tdx-attest"),
)
GET_REPORT0: Final = 0xC4405401  # _IOWR('T', 1, 1088)
REQUEST_BYTES: Final = REPORT_DATA_BYTES + REPORT_BYTES
DIGEST_BYTES: Final = 48
Ioctl = Callable[[int, int, bytearray, bool], int]


class DeviceAbi(StrEnum):
    """Which commands beyond the TDREPORT the kernel has. The names are ours."""

    MAINLINE = "mainline"  # none
    VENDOR = "vendor"  # Intel's trees, OpenEuler, Anolis and ACK of 2023
    VENDOR_V3 = "vendor-v3"  # the same with the direction bits put right
    TDX_1_0 = "tdx-1.0"  # the first trees: a quote from the bare TDREPORT

    @property
    def gives_quotes(self) -> bool:
        """Whether there is a quote ioctl."""
        return COMMANDS[self].get_quote is not None

    @property
    def extends_registers(self) -> bool:
        """Whether there is an ioctl that extends an RTMR."""
        return COMMANDS[self].extend_rtmr is not None


@dataclass(frozen=True, slots=True)
class CommandNumbers:
    """ioctl request numbers; None where the ABI has no such command."""

    extend_rtmr: int | None
    get_quote: int | None


COMMANDS: Final = {
    DeviceAbi.MAINLINE: CommandNumbers(None, None),
    DeviceAbi.VENDOR: CommandNumbers(0x80315403, 0x80105404),
    DeviceAbi.VENDOR_V3: CommandNumbers(0x40315403, 0xC0105404),
    DeviceAbi.TDX_1_0: CommandNumbers(None, 0xC0105402),
}


class TdReportDevice(Protocol):
    """Something that gives TDREPORTs of this TD. Calls block and raise plain ``OSError``."""

    def td_report(self, report_data: bytes) -> bytes:
        """Return the 1024 bytes of a TDREPORT over 64 bytes of report data."""

    def describe(self) -> str:
        """Return the path for messages."""


class VendorDevice(TdReportDevice, Protocol):
    """A guest device with the commands of vendor kernels.

    Where the ABI lacks a command, the call raises ``OSError`` (ENOTTY) without asking the kernel.
    """

    @property
    def abi(self) -> DeviceAbi:
        """The ABI that is spoken."""

    def extend_rtmr(self, rtmr: int, digest: bytes) -> None:
        """Extend RTMR ``rtmr`` by 48 bytes. Vendor kernels refuse 0 and 1 with EPERM."""

    def get_quote(self, buffer: bytearray) -> None:
        """Hand the quote buffer to the host and wait; the answer replaces its content."""


class LinuxGuestDevice:
    """ioctl on one device node. Each call opens and closes it."""

    def __init__(
        self, path: Path, abi: DeviceAbi = DeviceAbi.MAINLINE, *, ioctl: Ioctl = fcntl.ioctl
    ) -> None:
        self._path = path
        self._abi = abi
        self._ioctl = ioctl

    @property
    def abi(self) -> DeviceAbi:
        return self._abi

    def describe(self) -> str:
        return str(self._path)

    def td_report(self, report_data: bytes) -> bytes:
        if len(report_data) != REPORT_DATA_BYTES:
            raise ValueError(f"report data has {len(report_data)} bytes, not {REPORT_DATA_BYTES}")
        # A bytearray: fcntl refuses immutable arguments above 1024 bytes.
        request = bytearray(report_data.ljust(REQUEST_BYTES, b"\0"))
        self._call(os.O_RDONLY, GET_REPORT0, request)
        return bytes(request[REPORT_DATA_BYTES:])

    def extend_rtmr(self, rtmr: int, digest: bytes) -> None:
        if len(digest) != DIGEST_BYTES:
            raise ValueError(f"a digest of {len(digest)} bytes cannot extend an RTMR")
        command = _known(COMMANDS[self._abi].extend_rtmr)
        self._call(os.O_RDWR, command, bytearray(digest + bytes([rtmr])))

    def get_quote(self, buffer: bytearray) -> None:
        command = _known(COMMANDS[self._abi].get_quote)
        memory = (ctypes.c_char * len(buffer)).from_buffer(buffer)
        request = bytearray(ctypes.addressof(memory).to_bytes(8, "little"))
        request += len(buffer).to_bytes(8, "little")
        self._call(os.O_RDWR, command, request)

    def _call(self, flags: int, command: int, request: bytearray) -> None:
        fd = os.open(self._path, flags | os.O_CLOEXEC)
        try:
            result = self._ioctl(fd, command, request, True)
        finally:
            os.close(fd)
        if result != 0:
            # Vendor drivers return EBUSY as a value instead of failing with it.
            raise OSError(result, os.strerror(result))


def _known(command: int | None) -> int:
    if command is None:
        raise OSError(errno.ENOTTY, os.strerror(errno.ENOTTY))
    return command


def find_guest_device(paths: Sequence[Path] = DEVICE_PATHS) -> Path | None:
    """Return the first path that is there, or None. Blocks.

    Only "no such file" means absent. Raises :class:`~tdx.errors.GuestDeviceError` for any other
    error, and for a node that is no character device.
    """
    for path in paths:
        try:
            mode = os.stat(path).st_mode
        except FileNotFoundError:
            continue
        except OSError as error:
            raise device_error("look for", str(path), error) from error
        if not stat.S_ISCHR(mode):
            raise DeviceAbsentError("use", str(path), "expected a character device, got another")
        return path
    return None


def fresh_report(device: TdReportDevice, report_data: ReportData) -> tuple[bytes, TdReport]:
    """Take a TDREPORT; return its bytes and its parsed form. Blocks for microseconds.

    Type, hashes and report data are checked. Raises :class:`~tdx.errors.GuestDeviceError` and
    :class:`~tdx.errors.ReportFormatError`.
    """
    try:
        raw = device.td_report(report_data.value)
    except OSError as error:
        raise device_error("take a TDREPORT from", device.describe(), error) from error
    report = parse_tdreport(raw)
    if report.report_data != report_data.value:
        problem = "the TDREPORT carries other report data than was given"
        raise GuestDeviceError("take a TDREPORT from", device.describe(), problem)
    return raw, report
